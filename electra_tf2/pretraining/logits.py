"""What is made of logits: the losses of both networks, and the generator's samples.

Losses come element by element. An objective's `contribution` sums them to numerators, its
`denominators` counts what they are divided by, and the engine divides the sums over all replicas
(`electra_tf2.training.step`), adding 1e-6 to the denominator as the official program does.
"""

from __future__ import annotations

import math

import tensorflow as tf

from electra_tf2.modeling.fused import compiled_if_large


@compiled_if_large
def _forward(logits, labels):
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    total = tf.reduce_sum(tf.exp(logits - highest), axis=-1)
    log_normalizer = tf.math.log(total) + tf.squeeze(highest, -1)
    vocabulary = tf.range(logits.shape[-1])
    at_label = vocabulary == labels[..., tf.newaxis]
    label_logits = tf.reduce_sum(tf.where(at_label, logits, 0.0), axis=-1)
    best = tf.where(logits >= highest, vocabulary, logits.shape[-1])
    return log_normalizer - label_logits, tf.reduce_min(best, axis=-1), log_normalizer


@compiled_if_large
def _backward(logits, labels, log_normalizer, upstream):
    probs = tf.exp(logits - log_normalizer[..., tf.newaxis])
    at_label = tf.range(logits.shape[-1]) == labels[..., tf.newaxis]
    return (probs - tf.cast(at_label, tf.float32)) * upstream[..., tf.newaxis]


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Negative log-likelihood of `labels` under softmax(logits), and the likeliest entry.

    One compiled pass each way: the table of probabilities is never stored.

    Args:
        logits: float32 [..., vocab_size], the last axis known when the graph is built.
        labels: int32 [...].

    Returns:
        float32 [...] in nats, and int32 [...], the first index of the largest logit.
    """

    @tf.custom_gradient
    def apply(logits):
        nll, best, log_normalizer = _forward(logits, labels)

        def gradient(d_nll, _):
            return _backward(logits, labels, log_normalizer, d_nll)

        return (nll, best), gradient

    return apply(logits)  # pyright: ignore[reportReturnType] # custom_gradient has no stub


def discriminator_losses(logits: tf.Tensor, labels: tf.Tensor, input_mask: tf.Tensor) -> tf.Tensor:
    """The discriminator's loss for every token: -log sigmoid(±logit), + where it was replaced.

    Source: Clark et al. 2020, section 2, L_Disc.

    Args:
        logits: float32 [batch, length]; positive means "replaced".
        labels: int32 [batch, length], 1 for replaced tokens.
        input_mask: int32 [batch, length], 1 for tokens and 0 for padding.

    Returns:
        float32 [batch, length] in nats, 0 at padding.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(
        logits=logits, labels=tf.cast(labels, tf.float32)
    )
    return losses * tf.cast(input_mask, tf.float32)


# Samples from the generator's distribution.


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
