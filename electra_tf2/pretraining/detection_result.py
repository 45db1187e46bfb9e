"""What replaced-token detection gives for a batch, in one record."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from electra_tf2.pretraining import metrics


class DetectionResult(NamedTuple):
    """Losses, accuracies and samples of a batch.

    Attributes:
        loss: float32 scalar, gen_weight x generator_loss + disc_weight x discriminator_loss: what
            is to be minimized.
        generator_loss: float32 scalar, mean negative log-likelihood of the hidden tokens, in nats.
        discriminator_loss: float32 scalar, mean binary cross-entropy over all tokens, in nats.
        masked_lm_accuracy: float32 scalar, share of the hidden tokens that are the generator's
            likeliest.
        disc_accuracy: float32 scalar, share of all tokens that the discriminator judges rightly.
        masked_ids: int32 [batch, length], what the generator saw.
        positions: int32 [batch, n], where tokens were hidden.
        weights: float32 [batch, n], 1 for slots in use and 0 for others.
        sampled_ids: int32 [batch, n], the generator's samples there.
        corrupted_ids: int32 [batch, length], what the discriminator saw.
        labels: int32 [batch, length], 1 for replaced tokens.
        predictions: int32 [batch, length], 1 where the discriminator's logit is over 0.
        generator_logits: float32 [batch, n, vocab_size].
        discriminator_logits: float32 [batch, length].
        input_mask: int32 [batch, length], 1 for tokens and 0 for padding.
        sums: name -> sums of the metrics that the training log has, see `metrics`. They can be
            added over batches; `figures` turns them into numbers.
    """

    loss: tf.Tensor
    generator_loss: tf.Tensor
    discriminator_loss: tf.Tensor
    masked_lm_accuracy: tf.Tensor
    disc_accuracy: tf.Tensor
    masked_ids: tf.Tensor
    positions: tf.Tensor
    weights: tf.Tensor
    sampled_ids: tf.Tensor
    corrupted_ids: tf.Tensor
    labels: tf.Tensor
    predictions: tf.Tensor
    generator_logits: tf.Tensor
    discriminator_logits: tf.Tensor
    input_mask: tf.Tensor
    sums: dict[str, tf.Tensor]

    def figures(self) -> dict[str, float]:
        """Returns metric name -> figure of this batch, the discriminator's AUC among them."""
        return metrics.summarize({name: value.numpy() for name, value in self.sums.items()})
