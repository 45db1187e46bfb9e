"""The parts that all pre-training objectives share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.pretraining import metrics
from electra_tf2.pretraining.batch import Inputs, MaskedInputs, as_inputs
from electra_tf2.pretraining.logits import softmax_cross_entropy
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.protocol import GeneratorNetwork, named_variables
from electra_tf2.randomness import StepRandomness

# Added to every loss denominator (official value).
DENOMINATOR_EPSILON = 1e-6
# Added to the seed in evaluations: they draw other masks and samples than training does.
EVALUATION_SEED_OFFSET = 1 << 32


class Prepared(NamedTuple):
    """A batch with its masks drawn.

    Attributes:
        inputs: the original tokens.
        masked: what is hidden.
    """

    inputs: Inputs
    masked: MaskedInputs


# Loss name -> the hparam that is its weight.
_WEIGHTS = {"generator_loss": "gen_weight", "discriminator_loss": "disc_weight"}


class PretrainingObjective:
    """Base of the objectives: masking, variables, and figures from sums.

    A subclass sets `loss_weights` and implements `denominators`, `forward` and `contribution`.

    Args:
        masking: how tokens are hidden.
        models: role -> Keras model, whose trainable variables are trained.

    Attributes:
        loss_weights: loss name -> its weight in the total.
        denominator_epsilon: added to every denominator.
    """

    loss_weights: Mapping[str, float]
    denominator_epsilon = DENOMINATOR_EPSILON
    _values: Mapping[str, Any] = {}  # see `with_values`

    def __init__(self, masking: Masking, models: Mapping[str, keras.Model]):
        self.masking = masking
        self._models = dict(models)

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable; see `protocol.named_variables`."""
        return named_variables(self._models)

    def named_constants(self) -> dict[str, keras.Variable]:
        """Returns name -> variable of what a checkpoint holds beside the trained variables."""
        return {}

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Returns the same objective with the values that ramps have at a step.

        Args:
            values: name -> float32 scalar, of `mask_prob`, `temperature`, `gen_weight` and
                `disc_weight`; what is not there stays.
        """
        own = copy.copy(self)
        own._values = values
        own.loss_weights = {
            name: values.get(_WEIGHTS.get(name, ""), weight)
            for name, weight in self.loss_weights.items()
        }
        return own

    def prepare(
        self, batch: Mapping[str, tf.Tensor], randomness: StepRandomness
    ) -> tuple[Prepared, dict[str, tf.Tensor]]:
        """Draws the masks, all that a loss's denominator depends on.

        Args:
            batch: `input_ids` and perhaps `input_mask` and `segment_ids`, int [batch, length]; see
                `as_inputs`.
            randomness: the step's random numbers for these rows.

        Returns:
            The prepared batch, and loss name -> denominator (float32 scalar) of these rows.
        """
        inputs = as_inputs(batch, self.masking.pad_id)
        mask_prob = self._values.get("mask_prob")
        prepared = Prepared(inputs, self.masking.mask(inputs, randomness, mask_prob))
        return prepared, self.denominators(prepared)

    def compute(
        self, prepared: Prepared, randomness: StepRandomness, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs the networks.

        Args:
            prepared: from `prepare`.
            randomness: the step's random numbers for these rows.
            training: whether dropout is on.

        Returns:
            loss name -> numerator (float32 scalar), and metric name -> sums (`metrics`).
        """
        return self.contribution(prepared, self.forward(prepared, randomness, training))

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns metric name -> figure; see `metrics.summarize`."""
        return metrics.summarize(sums)

    def denominators(self, prepared: Prepared) -> dict[str, tf.Tensor]:
        """Returns loss name -> float32 scalar, a sum over these rows."""
        raise NotImplementedError

    def forward(self, prepared: Prepared, randomness: StepRandomness | None, training: bool):
        """Runs the networks and returns the objective's output record."""
        raise NotImplementedError

    def contribution(self, prepared: Prepared, output):
        """Returns the losses' numerators and the metrics' sums of an output record."""
        raise NotImplementedError


def dropout_seed(randomness: StepRandomness | None, training: bool) -> tf.Tensor | None:
    """Returns the seed of the networks' dropout; None where it is off."""
    if not training:
        return None
    assert randomness is not None
    return randomness.dropout_seed()


def masked_lm_metrics(masked: MaskedInputs, nll: tf.Tensor, best: tf.Tensor) -> dict:
    """Accuracy and loss of the masked LM over the used slots.

    Args:
        masked: the slots.
        nll: float32 [batch, n], negative log-likelihood of the true token.
        best: int32 [batch, n], likeliest token.

    Returns:
        Sums of `masked_lm_accuracy` and `masked_lm_loss`.
    """
    return {
        "masked_lm_accuracy": metrics.ratio(best == masked.ids, masked.weights),
        "masked_lm_loss": metrics.ratio(nll, masked.weights),
    }


# Masked language modelling, BERT's objective without next-sentence prediction.


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
            seed=dropout_seed(randomness, training),
        )
        return MaskedLMOutput(logits, *softmax_cross_entropy(logits, masked.ids))

    def contribution(self, prepared: Prepared, output: MaskedLMOutput):
        masked = prepared.masked
        numerators = {"generator_loss": tf.reduce_sum(masked.weights * output.mlm_nll)}
        return numerators, masked_lm_metrics(masked, output.mlm_nll, output.mlm_predictions)
