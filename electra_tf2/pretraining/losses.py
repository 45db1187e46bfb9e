"""The losses of both networks: of the generator over the vocabulary, of the discriminator.

Both come element by element. An objective's `contribution` sums them to numerators, its
`denominators` counts what they are divided by, and the engine divides the sums over all replicas
(`electra_tf2.training.step`), adding 1e-6 to the denominator as the official program does.
"""

from __future__ import annotations

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
