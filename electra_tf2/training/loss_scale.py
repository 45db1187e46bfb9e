"""The dynamic loss scale of float16."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from electra_tf2.training.devices import ReplicaVariables

INITIAL = 2.0**15
GROWTH_STEPS = 2000
MIN = 1.0
# Without a limit, a loss that is always 0 would double the scale to infinity.
MAX = 2.0**24


class LossScale:
    """What the loss is multiplied by, so that small gradients don't vanish in float16.

    float16 has no numbers between 0 and 6e-8, and none above 65504. The gradients of a scaled loss
    use that range better; they are divided by the scale before anything else is done with them.
    The scale adapts: it halves when the gradient of the global batch is not finite (that update is
    skipped), and doubles after `growth_steps` updates in a row without that. All scales are powers
    of two, so that scaling adds no rounding.

    Source: arXiv:1710.03740 (Micikevicius et al. 2018), section 3.2, with the usual constants.

    Args:
        strategy: the strategy under whose scope the state is made; each replica has a copy.
        initial: the scale at the start.
        growth_steps: updates in a row until it doubles.

    Attributes:
        variables: the state by its names in checkpoints: `loss_scale`, float32, and
            `loss_scale_good_steps`, int64, updates since the scale last changed.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        *,
        initial: float = INITIAL,
        growth_steps: int = GROWTH_STEPS,
    ):
        self._growth_steps = growth_steps
        with strategy.scope():
            self.variables = {
                "loss_scale": tf.Variable(tf.constant(initial, tf.float32), trainable=False),
                "loss_scale_good_steps": tf.Variable(tf.zeros([], tf.int64), trainable=False),
            }
        self._state = ReplicaVariables(strategy, self.variables)

    def value(self, replica_id: int | tf.Tensor) -> tf.Tensor:
        """Returns the present scale from a replica's copy, float32 scalar."""
        return self._state.local(replica_id)[0].read_value()

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Returns the state by name."""
        return self._state.to_numpy()

    def update(self, replica_id: int | tf.Tensor, loss: tf.Tensor, norm: tf.Tensor) -> None:
        """Adapts a replica's copy to a step's outcome.

        A loss that is not finite leaves the scale as it is: the loss is computed without it.

        Args:
            loss: float32 scalar, of the global batch.
            norm: float32 scalar, of the global batch's gradient.
        """
        scale_variable, count_variable = self._state.local(replica_id)
        scale, count = scale_variable.read_value(), count_variable.read_value() + 1
        good = tf.math.is_finite(norm)
        grown = count >= self._growth_steps
        after_good = tf.where(grown, tf.minimum(2.0 * scale, MAX), scale)
        new_scale = tf.where(good, after_good, tf.maximum(0.5 * scale, MIN))
        new_count = tf.where(good & ~grown, count, tf.zeros_like(count))
        valid = tf.math.is_finite(loss)
        scale_variable.assign(tf.where(valid, new_scale, scale))
        count_variable.assign(tf.where(valid, new_count, count - 1))
