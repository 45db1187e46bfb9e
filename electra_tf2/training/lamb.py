"""LAMB: Adam whose steps are as long as the weights they change, for large batches."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from electra_tf2.training.replica_optimizer import OptimizerSettings, ReplicaOptimizer


@dataclasses.dataclass(frozen=True)
class LambSettings(OptimizerSettings):
    """LAMB's constants: the moments are bias-corrected by default, as in the publication."""

    bias_correction: bool = True


class Lamb(ReplicaOptimizer):
    """w -= lr ‖w‖ / ‖r‖ r, r = m / (√v + epsilon) + decay w, for each variable by itself.

    The trust ratio ‖w‖ / ‖r‖ is 1 where one of the two is 0. LayerNorm and biases are neither
    decayed nor scaled: they take Adam's step. Arguments as `ReplicaOptimizer`.

    Source: arXiv:1904.00962 (You et al. 2020), algorithm 2 with φ the identity. Clipping by the
    global gradient norm comes before the moments, as with AdamW.
    """

    settings_type = LambSettings

    def change(self, variable: tf.Tensor, update: tf.Tensor, *, excluded: bool) -> tf.Tensor:
        """Returns r times the trust ratio; see `ReplicaOptimizer.change`."""
        if excluded:
            return update
        r = update + self.settings.weight_decay_rate * variable
        length, step_length = tf.norm(variable), tf.norm(r)
        usable = (length > 0) & (step_length > 0)
        return r * tf.where(usable, length / tf.where(usable, step_length, 1.0), 1.0)
