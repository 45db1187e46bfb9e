"""Stateless dropout with eight random bits a decision."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from electra_tf2.randomness import random_words


class DropoutMask(NamedTuple):
    """Which elements to keep: those with `keep >= threshold`; kept ones are multiplied by `scale`.

    Attributes:
        keep: uint8, the shape of the tensor to drop from.
        threshold: uint8 scalar.
        scale: float32 scalar, 1 / (1 - rate).
    """

    keep: tf.Tensor
    threshold: tf.Tensor
    scale: tf.Tensor


def dropout_mask(shape, rate: float, seed: tf.Tensor | None) -> DropoutMask | None:
    """Draws a dropout mask.

    One 32-bit Philox word decides four elements, a third of the cost of 32 bits each. Eight bits
    know only rates of n/256, so the threshold is dithered: for a rate of .1 = 25.6 / 256 it is 26
    for six seeds of ten and 25 for the others, which makes the expected rate exact to 2**-16.

    Args:
        shape: int32 [rank], the shape of the tensor to drop from.
        rate: probability of dropping an element, from 0 to 255/256.
        seed: int64 [2] (see `electra_tf2.randomness`), or None for no dropout.

    Returns:
        The mask, or None if nothing is to be dropped.
    """
    if seed is None or rate == 0.0:
        return None
    size = tf.reduce_prod(shape)
    n_words = (size + 3) // 4
    words = random_words(seed[0], tf.stack([tf.zeros([], tf.int64), seed[1]]), n_words)
    keep = tf.reshape(tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size], shape)
    # A multiplicative (Weyl) hash of the seed: equally distributed over 0..65535.
    dither = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(seed[1] * 0x9E3779B1, tf.constant(16, tf.int64)),
        tf.constant(0xFFFF, tf.int64),
    )
    whole, fraction = divmod(rate * 256.0, 1.0)
    threshold = int(whole) + tf.cast(dither < round(fraction * 65536), tf.int32)
    return DropoutMask(keep, tf.cast(threshold, tf.uint8), tf.constant(1.0 / (1.0 - rate)))


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
    """Drops elements of `x` at `rate` and scales the others by 1 / (1 - rate).

    Args:
        x: any shape, any float type.
        rate: probability of dropping an element, from 0 to 255/256.
        seed: int64 [2], or None for no dropout.

    Returns:
        The shape and type of `x`.
    """
    mask = dropout_mask(tf.shape(x), rate, seed)
    if mask is None:
        return x
    return tf.where(
        mask.keep >= mask.threshold, x * tf.cast(mask.scale, x.dtype), tf.zeros([], x.dtype)
    )
