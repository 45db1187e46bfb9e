"""What blocks are made of: LayerNorm, activations, the initializer, dropout masks."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.randomness import random_words

EPSILON = 1e-12
MODERN_EPSILON = 1e-5
"""What LayerNorm adds to the variance, in ELECTRA's and in modern encoders."""


class LayerNorm(keras.layers.Layer):
    """Normalizes the last axis to mean 0 and variance 1, then scales and shifts it.

    The weights stay float32 under mixed precision, and so does the arithmetic.

    Args:
        modern: whether it is ModernBERT's, which doesn't shift.

    Variables:
        gamma: float32 [width], ones at first.
        beta: float32 [width], zeros at first; not in a modern one.
    """

    def __init__(self, modern: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = MODERN_EPSILON if modern else EPSILON
        self.beta = None
        self._shifts = not modern

    def build(self, input_shape):
        width = input_shape[-1]
        self.gamma = self.add_weight(
            shape=(width,), initializer="ones", name="gamma", autocast=False
        )
        if self._shifts:
            self.beta = self.add_weight(
                shape=(width,), initializer="zeros", name="beta", autocast=False
            )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Args: x: [..., width]. Returns the same shape and type."""
        z = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(z, axis=-1, keepdims=True)
        centered = z - mean
        variance = tf.reduce_mean(centered * centered, axis=-1, keepdims=True)
        scaled = centered * tf.math.rsqrt(variance + self.epsilon) * self.gamma
        return tf.cast(scaled if self.beta is None else scaled + self.beta, x.dtype)


# Activation functions by their official names.


def _exact_gelu(x):
    return keras.activations.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable] = {
    "gelu": _exact_gelu,
    "relu": keras.activations.relu,
    "tanh": keras.activations.tanh,
    "linear": keras.activations.linear,
}


def activation(name: str) -> Callable:
    """Returns the activation function called `name`.

    Args:
        name: "gelu" (exact, with erf), "relu", "tanh" or "linear".

    Raises:
        UserError: the name is unknown.
    """
    try:
        return ACTIVATIONS[name.lower()]
    except (KeyError, AttributeError):
        raise UserError(
            "Unknown activation function.",
            where="model_hparam_overrides, hidden_act",
            received=name,
            remedy="Choose one of " + ", ".join(ACTIVATIONS),
        ) from None


# What weights begin with.


_weights_follow = contextvars.ContextVar("weights_follow", default=False)


def truncated_normal(stddev: float) -> Any:  # Keras's layers say that they only take names
    """BERT's initializer: normal with `stddev`, redrawn beyond two standard deviations."""
    return _TruncatedNormal(stddev=stddev)


@contextlib.contextmanager
def weights_follow() -> Iterator[None]:
    """Within it, layers are built with zeros: for those that are given other weights at once.

    Drawing the 110 million numbers of ELECTRA-base would take longer than reading its file.
    """
    token = _weights_follow.set(True)
    try:
        yield
    finally:
        _weights_follow.reset(token)


@keras.saving.register_keras_serializable(package="electra_tf2")
class _TruncatedNormal(keras.initializers.TruncatedNormal):
    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if _weights_follow.get():
            return keras.ops.zeros(shape, dtype)
        return super().__call__(shape, dtype, **kwargs)


# Stateless dropout with eight random bits a decision.


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
        The mask, or None if nothing is dropped.
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
