"""AdamW as the official program has it."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from electra_tf2.training.replica_optimizer import (
    OptimizerSettings,
    ReplicaOptimizer,
    global_norm,
)

__all__ = ["AdamW", "AdamWSettings", "global_norm"]


@dataclasses.dataclass(frozen=True)
class AdamWSettings(OptimizerSettings):
    """AdamW's constants: the moments are not bias-corrected by default, as officially."""


class AdamW(ReplicaOptimizer):
    """w -= lr (m / (√v + epsilon) + decay w), m and v running means of gradient and its square.

    LayerNorm and biases are not decayed. Arguments as `ReplicaOptimizer`.

    Source: the official program's optimizer; decoupled decay is arXiv:1711.05101.
    """

    settings_type = AdamWSettings

    def change(self, variable: tf.Tensor, update: tf.Tensor, *, excluded: bool) -> tf.Tensor:
        """Returns update + decay x variable; see `ReplicaOptimizer.change`."""
        if excluded or not self.settings.weight_decay_rate:
            return update
        return update + self.settings.weight_decay_rate * variable
