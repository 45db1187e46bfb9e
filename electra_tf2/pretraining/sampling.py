"""Samples tokens from the generator's distribution."""

from __future__ import annotations

import math

import tensorflow as tf

from electra_tf2.modeling.fused import compiled_if_large

_BLOCK = 256


@compiled_if_large
def sample_tokens(
    logits: tf.Tensor,
    uniform: tf.Tensor,
    temperature: float | tf.Tensor,
    disallowed: tf.Tensor | None,
) -> tf.Tensor:
    """Draws one token for every slot from softmax(logits / temperature).

    The distribution is that of argmax(logits / temperature + Gumbel noise), but two uniform
    numbers a slot are enough instead of one for every entry of the vocabulary: the cumulative
    distribution is inverted, first over blocks of 256 entries and then within the block, which
    also keeps float32 sums accurate.

    Args:
        logits: float32 [batch, n, vocab_size].
        uniform: float32 [batch, n, 2] in [0, 1).
        temperature: over 0, a number or a float32 scalar; higher is closer to uniform.
        disallowed: int32 [batch, n], a token that must not come, or None. (Officially its logit is
            lowered by 1000, which is too little at a low temperature.)

    Returns:
        int32 [batch, n].
    """
    vocab_size = logits.shape[-1]
    assert vocab_size is not None  # known when the graph is built
    if disallowed is not None:
        is_disallowed = tf.range(vocab_size) == disallowed[:, :, tf.newaxis]
        logits = tf.where(is_disallowed, -math.inf, logits)
    # The largest is subtracted first: divided by a low temperature it could be infinite.
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    weights = tf.exp((logits - highest) / temperature)
    n_blocks = -(-vocab_size // _BLOCK)
    weights = tf.pad(weights, [[0, 0], [0, 0], [0, n_blocks * _BLOCK - vocab_size]])
    shape = tf.shape(weights)
    weights = tf.reshape(weights, [shape[0], shape[1], n_blocks, _BLOCK])
    block = _invert(tf.reduce_sum(weights, axis=-1), uniform[:, :, 0])
    within = tf.gather(weights, block, batch_dims=2)
    return block * _BLOCK + _invert(within, uniform[:, :, 1])


def _invert(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Index [batch, n] at which the running sum of weights [batch, n, m] passes uniform x total.

    It is one of positive weight.
    """
    cumulative = tf.cumsum(weights, axis=-1)
    # A hair below the total, so that rounding up cannot step past the last positive weight.
    target = (uniform * (1.0 - 2.0**-22))[:, :, tf.newaxis] * cumulative[:, :, -1:]
    return tf.reduce_sum(tf.cast(cumulative <= target, tf.int32), axis=-1)
