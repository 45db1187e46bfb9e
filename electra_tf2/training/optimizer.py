"""AdamW as the official program has it, updated by one compiled function."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.training.replica_variables import ReplicaVariables

# Variables whose names match are not decayed. The vocabulary head's output_bias matches "bias".
NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")
SLOTS = ("adam_m", "adam_v")


@dataclasses.dataclass(frozen=True)
class AdamWSettings:
    """Constants of the update.

    Attributes:
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the root of the second moment.
        weight_decay_rate: decoupled decay, relative to the learning rate.
        bias_correction: divide the moments by 1 - beta^t, which the official program does not.
        max_grad_norm: global gradient norm to clip to.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    weight_decay_rate: float = 0.01
    bias_correction: bool = False
    max_grad_norm: float = 1.0

    @classmethod
    def from_hparams(cls, config: Any) -> AdamWSettings:
        """Takes the constants from a configuration's `adam_…`, `weight_decay_rate` and so on."""
        return cls(
            beta_1=config.adam_beta_1,
            beta_2=config.adam_beta_2,
            epsilon=config.adam_epsilon,
            weight_decay_rate=config.weight_decay_rate,
            bias_correction=config.adam_bias_correction,
            max_grad_norm=config.max_grad_norm,
        )


@tf.function(jit_compile=True, autograph=False)
def global_norm(gradients: list[tf.Tensor]) -> tf.Tensor:
    """Root of the sum of squares over all gradients, float32 scalar; the gradients are dense."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradients]))


class AdamW:
    """w -= lr (m / (√v + epsilon) + decay w), m and v running means of gradient and its square.

    Source: the official program's optimizer; decoupled decay is arXiv:1711.05101.

    Args:
        strategy: the strategy under whose scope the slots are made.
        variables: name -> trainable variable.
        settings: constants.
        learning_rate_factors: name -> factor of the learning rate; 1 for names not in it.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        variables: Mapping[str, keras.Variable],
        settings: AdamWSettings,
        learning_rate_factors: Mapping[str, float] | None = None,
    ):
        self.settings = settings
        factors = learning_rate_factors or {}
        self._factors = [factors.get(name, 1.0) for name in variables]
        self._decayed = [
            settings.weight_decay_rate > 0 and not NOT_DECAYED.search(name) for name in variables
        ]
        self.variables = ReplicaVariables(strategy, variables)
        slots = {}
        with strategy.scope():
            for slot in SLOTS:
                for name, variable in variables.items():
                    slots[f"{name}/{slot}"] = tf.Variable(
                        tf.zeros(variable.shape), trainable=False, name=slot
                    )
        self.slots = ReplicaVariables(strategy, slots)
        self._update = tf.function(self._new_values, jit_compile=True, autograph=False)

    def apply(
        self,
        replica_id: int,
        gradients: list[tf.Tensor],
        norm: tf.Tensor,
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        """Updates one replica's copies of all variables and slots.

        Args:
            replica_id: whose copies.
            gradients: dense float32 gradients of the global batch, in the variables' order.
            norm: their global norm, float32 scalar; gradients are scaled down to `max_grad_norm`.
            learning_rate: float32 scalar.
            step: updates made so far, int64 scalar (used by bias correction).
        """
        variables = self.variables.local(replica_id)
        slots = self.slots.local(replica_id)
        n = len(variables)
        clip = self.settings.max_grad_norm / tf.maximum(norm, self.settings.max_grad_norm)
        values = self._update(
            [v.read_value() for v in variables],
            [s.read_value() for s in slots[:n]],
            [s.read_value() for s in slots[n:]],
            gradients,
            clip,
            learning_rate,
            *self._corrections(step),
        )
        for variable, value in zip([*variables, *slots], values, strict=True):
            variable.assign(value)

    def _corrections(self, step):
        """What the two moments are divided by: 1 - beta^t, t the number of this update, or 1."""
        if not self.settings.bias_correction:
            return tf.ones([]), tf.ones([])
        t = tf.cast(step + 1, tf.float32)
        return 1.0 - tf.pow(self.settings.beta_1, t), 1.0 - tf.pow(self.settings.beta_2, t)

    def _new_values(self, variables, ms, vs, gradients, clip, rate, first, second):
        s = self.settings
        new_variables, new_ms, new_vs = [], [], []
        for variable, m, v, gradient, factor, decayed in zip(
            variables, ms, vs, gradients, self._factors, self._decayed, strict=True
        ):
            gradient = gradient * clip
            m = s.beta_1 * m + (1.0 - s.beta_1) * gradient
            v = s.beta_2 * v + (1.0 - s.beta_2) * tf.square(gradient)
            change = (m / first) / (tf.sqrt(v / second) + s.epsilon)
            if decayed:
                change += s.weight_decay_rate * variable
            new_variables.append(variable - rate * factor * change)
            new_ms.append(m)
            new_vs.append(v)
        return [*new_variables, *new_ms, *new_vs]
