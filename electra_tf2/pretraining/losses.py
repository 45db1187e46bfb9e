"""Cross-entropy over the vocabulary and over replaced / original."""

from __future__ import annotations

import tensorflow as tf

from electra_tf2.modeling.fused import compiled_if_large


@compiled_if_large
def _forward(logits, labels):
    highest = tf.reduce_max(logits, axis=-1, keepdims=True)
    total = tf.reduce_sum(tf.exp(logits - highest), axis=-1)
    log_normalizer = tf.math.log(total) + highest[..., 0]
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

    return apply(logits)


def binary_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood of 0/1 `labels` under sigmoid(logits), in nats, element by element.

    Args:
        logits: float32, any shape.
        labels: 0/1, the same shape, any type.

    Returns:
        float32, the same shape.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(
        logits=logits, labels=tf.cast(labels, tf.float32)
    )
