"""Masked language modelling, BERT's objective without next-sentence prediction."""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from electra_tf2.pretraining.losses import softmax_cross_entropy
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.objective import (
    Prepared,
    PretrainingObjective,
    masked_lm_metrics,
)
from electra_tf2.pretraining.protocol import GeneratorNetwork
from electra_tf2.randomness import StepRandomness


class MaskedLMOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        mlm_logits: float32 [batch, n, vocab_size].
        mlm_nll: float32 [batch, n], negative log-likelihood of the true tokens, in nats.
        mlm_predictions: int32 [batch, n], likeliest tokens.
    """

    mlm_logits: tf.Tensor
    mlm_nll: tf.Tensor
    mlm_predictions: tf.Tensor


class MaskedLM(PretrainingObjective):
    """Predicts the hidden tokens: loss = Σ weight x nll / (Σ weight + 1e-6).

    Args:
        generator: a Keras model that meets the generator's `protocol`.
        masking: how tokens are hidden.
        gen_weight: factor of the loss.
    """

    def __init__(self, generator: keras.Model, masking: Masking, *, gen_weight: float = 1.0):
        super().__init__(masking, {"generator": generator})
        self.generator = GeneratorNetwork(generator)
        self.loss_weights = {"generator_loss": gen_weight}

    def denominators(self, prepared: Prepared) -> dict[str, tf.Tensor]:
        return {"generator_loss": tf.reduce_sum(prepared.masked.weights)}

    def forward(
        self, prepared: Prepared, randomness: StepRandomness | None, training: bool
    ) -> MaskedLMOutput:
        masked = prepared.masked
        logits = self.generator.logits(
            prepared.inputs._replace(input_ids=masked.input_ids),
            masked.positions,
            training=training,
            seed=randomness.dropout_seed() if training else None,
        )
        return MaskedLMOutput(logits, *softmax_cross_entropy(logits, masked.ids))

    def contribution(self, prepared: Prepared, output: MaskedLMOutput):
        masked = prepared.masked
        numerators = {"generator_loss": tf.reduce_sum(masked.weights * output.mlm_nll)}
        return numerators, masked_lm_metrics(masked, output.mlm_nll, output.mlm_predictions)
