"""The learning rate as a function of the step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import tensorflow as tf

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

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


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """Linear warm-up, then half a cosine.

    rate(step) = end + (start - end) (1 + cos(π t)) / 2, t = (step - warm-up) / (steps - warm-up) in
    0..1; before it, start x step / warm-up. Unlike `PolynomialDecay`, the decay counts from the end
    of the warm-up, so the rate reaches its start.

    Source: arXiv:1608.03983 (Loshchilov and Hutter 2017), equation 5 without restarts; warm-up and
    count as in arXiv:2203.15556 (Hoffmann et al. 2022).

    Attributes:
        learning_rate: the rate at the end of the warm-up.
        num_train_steps: the step at which the decay ends.
        num_warmup_steps: length of the warm-up; 0 means none.
        end_learning_rate: the rate at the end.
    """

    learning_rate: float
    num_train_steps: int
    num_warmup_steps: int = 0
    end_learning_rate: float = 0.0

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the rate of an update, a float32 scalar; argument as `PolynomialDecay`."""
        length = self.num_train_steps - self.num_warmup_steps
        done = _share(step, self.num_warmup_steps, length)
        span = self.learning_rate - self.end_learning_rate
        rate = self.end_learning_rate + span * 0.5 * (1.0 + tf.cos(math.pi * done))
        return rate * _warmup(step, self.num_warmup_steps)


@dataclasses.dataclass(frozen=True)
class InverseSqrtDecay:
    """Linear warm-up, then the inverse square root of the step; it knows no last step.

    rate(step) = max(end, start x √(w / step)), w = max(warm-up, 1); before it, start x step / w.

    Source: arXiv:1706.03762 (Vaswani et al. 2017), section 5.3, with the rate at the end of the
    warm-up in place of the factor from the width.

    Attributes:
        learning_rate: the rate at the end of the warm-up.
        num_warmup_steps: length of the warm-up; 0 means none.
        end_learning_rate: the lowest rate after the warm-up.
    """

    learning_rate: float
    num_warmup_steps: int = 0
    end_learning_rate: float = 0.0

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the rate of an update, a float32 scalar; argument as `PolynomialDecay`."""
        start = float(max(self.num_warmup_steps, 1))
        past = tf.maximum(tf.cast(step, tf.float32), start)
        rate = tf.maximum(self.learning_rate * tf.sqrt(start / past), self.end_learning_rate)
        return rate * _warmup(step, self.num_warmup_steps)


DecayShape = Literal["1-sqrt", "linear"]


@dataclasses.dataclass(frozen=True)
class WarmupStableDecay:
    """Linear warm-up, a constant rate, and a decay over the last steps (WSD).

    rate(step) = end + (start - end) d(t), t = (step - (steps - decay)) / decay in 0..1, d(t) = 1 -
    √t ("1-sqrt") or 1 - t ("linear"); in the warm-up it is start x step / warm-up. Up to the step
    `num_train_steps - num_decay_steps` the rate does not depend on the length of the run.

    Source: arXiv:2404.06395 (Hu et al. 2024, MiniCPM), section 4, which names it and decays in a
    tenth of the steps; 1 - √t is the best of the shapes in arXiv:2405.18392 (Hägele et al. 2024),
    section 3.

    Attributes:
        learning_rate: the rate between warm-up and decay.
        num_train_steps: the step at which the decay ends.
        num_decay_steps: length of the decay; 0 means none.
        num_warmup_steps: length of the warm-up; 0 means none.
        end_learning_rate: the rate at the end of the decay.
        shape: of the decay.
    """

    learning_rate: float
    num_train_steps: int
    num_decay_steps: int
    num_warmup_steps: int = 0
    end_learning_rate: float = 0.0
    shape: DecayShape = "1-sqrt"

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the rate of an update, a float32 scalar; argument as `PolynomialDecay`."""
        rate = tf.constant(self.learning_rate, tf.float32)
        if self.num_decay_steps:
            done = _share(step, self.num_train_steps - self.num_decay_steps, self.num_decay_steps)
            left = 1.0 - (tf.sqrt(done) if self.shape == "1-sqrt" else done)
            end = self.end_learning_rate
            # At t = 0 exactly the rate that a run without decay has: branches rest on it.
            rate = tf.where(done > 0.0, end + (self.learning_rate - end) * left, rate)
        return rate * _warmup(step, self.num_warmup_steps)


def _share(step: int | tf.Tensor, start: int, length: int) -> tf.Tensor:
    """The share in 0..1 of `length` steps after `start` that is done, float32 scalar."""
    # Integers first: float32 does not tell steps beyond 2^24 apart.
    past = tf.cast(tf.cast(step, tf.int64) - start, tf.float32)
    return tf.clip_by_value(past / float(max(length, 1)), 0.0, 1.0)


def _warmup(step: int | tf.Tensor, num_warmup_steps: int) -> tf.Tensor:
    """The factor of a linear warm-up, float32 scalar."""
    return _share(step, 0, num_warmup_steps) if num_warmup_steps > 0 else tf.ones([])


@dataclasses.dataclass(frozen=True)
class LinearRamp:
    """A number that goes from point to point in a straight line, and stays after the last one.

    Attributes:
        points: (steps done, value), by rising step. Before the first the value is the first.
    """

    points: tuple[tuple[int, float], ...]

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """Returns the value of a step, a float32 scalar.

        Args:
            step: the steps done before it, an int or a scalar tensor.
        """
        steps, values = zip(*self.points, strict=True)
        step = tf.cast(step, tf.float64)
        value = tf.constant(values[0], tf.float64)
        for index in range(1, len(steps)):
            start, rise = steps[index - 1], values[index] - values[index - 1]
            share = (step - start) / (steps[index] - start)
            value = tf.where(step > start, values[index - 1] + rise * tf.minimum(share, 1.0), value)
        return tf.cast(value, tf.float32)


def pretraining_schedule(config: PretrainingConfig) -> Schedule:
    """Returns the schedule that a configuration, or a phase's, asks for."""
    rate, end = config.learning_rate, config.end_learning_rate
    steps, warmup = config.num_train_steps, config.num_warmup_steps
    if config.lr_schedule == "cosine":
        return CosineDecay(rate, steps, warmup, end)
    if config.lr_schedule == "inverse_sqrt":
        return InverseSqrtDecay(rate, warmup, end)
    if config.lr_schedule == "wsd":
        decay, shape = config.decay_length, config.lr_decay_shape
        return WarmupStableDecay(rate, steps, decay, warmup, end, shape)
    return PolynomialDecay(rate, steps, warmup, config.lr_decay_power, end)
