"""The learning rate as a function of the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

Schedule = Callable[[int | tf.Tensor], tf.Tensor]
"""The number of an update, from 1 -> its learning rate."""


@dataclasses.dataclass(frozen=True)
class PolynomialDecay:
    """Polynomial decay times linear warm-up.

    rate(step) = (end + (start - end) (1 - step / steps)^power) x min(1, step / warm-up). The two
    factors multiply (official): the rate is 0 at step 0, and the decay counts from step 0, not
    from the end of the warm-up.

    The first update is step 1: the official program counts the step before it reads the rate, so
    its first update has the rate of step 1 and its last one, step `num_train_steps`, the end rate.

    Attributes:
        learning_rate: the rate before decay and warm-up.
        num_train_steps: the step at which the decay ends.
        num_warmup_steps: length of the warm-up, may be fractional; 0 or less means none.
        power: exponent of the decay; 1 is linear.
        end_learning_rate: the rate at the end.
    """

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: float = 0
    power: float = 1.0
    end_learning_rate: float = 0.0

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the rate of an update, a float32 scalar.

        Args:
            step: the update's number, from 1; an int or a scalar tensor.
        """
        step = tf.cast(step, tf.float32)
        done = tf.minimum(step / float(max(self.num_train_steps, 1)), 1.0)
        span = self.learning_rate - self.end_learning_rate
        rate = self.end_learning_rate + span * tf.pow(1.0 - done, self.power)
        if self.num_warmup_steps > 0:
            rate *= tf.minimum(1.0, step / float(self.num_warmup_steps))
        return rate
