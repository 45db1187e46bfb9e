"""The loss of fine-tuning, in the form that the engine trains."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.randomness import StepRandomness
from finetune.model import FinetuningModel


class FinetuningObjective:
    """The sum (not the mean) of the examples' losses, over the batch and over the tasks.

    That is the official program's loss. Gradients are clipped to norm 1, which a sum over a batch
    nearly always exceeds: so in effect every step has the same length.

    Args:
        model: encoder and heads.
    """

    denominator_epsilon = 0.0

    def __init__(self, model: FinetuningModel):
        self.model = model
        self.loss_weights = {f"{name}_loss": 1.0 for name in model.task_names}

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable; see `FinetuningModel.named_variables`."""
        return self.model.named_variables()

    def prepare(
        self, batch: Mapping[str, tf.Tensor], randomness: StepRandomness
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Returns the batch as it is, and denominators that add up to 1 over all replicas."""
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        share = tf.constant(1.0 / replicas)
        return dict(batch), {name: share for name in self.loss_weights}

    def compute(
        self, prepared: Mapping[str, tf.Tensor], randomness: StepRandomness, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs the network.

        Args:
            prepared: rows of a batch.
            randomness: the step's random numbers for these rows.
            training: whether dropout is on.

        Returns:
            `<task>_loss` -> sum of the losses of the task's examples; and the sums behind
            `mean_loss`, the loss per example.
        """
        seed = randomness.dropout_seed() if training else None
        results = self.model(prepared, training=training, seed=seed)
        numerators, count = {}, tf.zeros([])
        for i, (name, result) in enumerate(results.items()):
            own = prepared["task_id"] == i
            # Not a product with 0 or 1: a row of another task may have any loss.
            losses = tf.where(own, result.losses, 0.0)
            numerators[f"{name}_loss"] = tf.reduce_sum(losses)
            count += tf.reduce_sum(tf.cast(own, tf.float32))
        total = tf.add_n(list(numerators.values()))
        return numerators, {"mean_loss": tf.stack([total, count])}

    def summarize(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the loss per example."""
        total, count = sums["mean_loss"]
        return {"mean_loss": float(total / max(count, 1.0))}
