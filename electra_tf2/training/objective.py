"""The protocol that an objective follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.randomness import StepRandomness


class Objective(Protocol):
    """A loss over the variables of some networks, in a form that can be summed over replicas.

    The total loss of a batch is Σ over names of weight x numerator / (denominator + epsilon), all
    sums being over the global batch. Denominators must not depend on the weights: the engine
    reduces them first, so that the gradient of a replica (or micro-batch) is its share of the
    gradient of the whole.
    """

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Loss name -> its weight in the total."""
        ...

    @property
    def denominator_epsilon(self) -> float:
        """What is added to every global denominator."""
        ...

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable; the names are those in checkpoints."""
        ...

    def prepare(
        self, batch: Mapping[str, tf.Tensor], randomness: StepRandomness
    ) -> tuple[Any, dict[str, tf.Tensor]]:
        """Draws what the denominators depend on.

        Args:
            batch: one replica's rows; the first axis of every tensor is the row.
            randomness: the step's random numbers for these rows.

        Returns:
            A nest of tensors whose first axis is the row (it may be cut into micro-batches), and
            loss name -> denominator of these rows, float32 scalar.
        """
        ...

    def compute(
        self, prepared: Any, randomness: StepRandomness, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs the networks.

        Args:
            prepared: from `prepare`, or some rows of it.
            randomness: the step's random numbers for these rows.
            training: whether dropout is on.

        Returns:
            loss name -> numerator of these rows (float32 scalar), and metric name -> sums over
            these rows (float32, any shape).
        """
        ...

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns metric name -> figure from metric name -> sums over many batches."""
        ...


class RampedObjective(Objective, Protocol):
    """An objective whose settings may change from step to step."""

    def with_values(self, values: Mapping[str, tf.Tensor]) -> Objective:
        """Returns the same objective with other values of its settings.

        Args:
            values: name -> float32 scalar, the names those of `TrainingRun.ramps`.
        """
        ...
