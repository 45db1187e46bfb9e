"""Hparams that may change over a run: a number, or a ramp [[step, value], …].

`mask_prob`, `temperature`, `gen_weight` and `disc_weight` go from point to point in a straight
line; `train_batch_size` jumps at each. The first point is at step 0, and after the last one the
value stays. A point's step is a number of steps done: the value at 1000 begins with the 1001st
step.

`electra_tf2.hparams.types` checks the points.
"""

from __future__ import annotations

from typing import Any, TypeVar

from electra_tf2.hparams.types import Ramp

Number = TypeVar("Number", int, float)

LINEAR = ("mask_prob", "temperature", "gen_weight", "disc_weight")
"""The hparams whose ramps are straight lines; their values are inputs of a training step."""


def values_of(value: Number | Ramp) -> list[Number]:
    """Returns all values that are stated: those of a ramp's points, or the number itself."""
    found: list[Any] = [own for _, own in value] if isinstance(value, list) else [value]
    return found


def largest(value: Number | Ramp) -> Number:
    """Returns the largest value that is reached."""
    return max(values_of(value))


def last(value: Number | Ramp) -> Number:
    """Returns the value that a ramp ends with, or the number itself."""
    return values_of(value)[-1]


def points_of(value: Number | Ramp, first_step: int) -> list[tuple[int, Number]]:
    """Returns the points with their steps counted in the whole run.

    Args:
        value: a number counts as a ramp of one point.
        first_step: the step that those of the points count from.
    """
    steps = [int(step) for step, _ in value] if isinstance(value, list) else [0]
    return [(first_step + s, own) for s, own in zip(steps, values_of(value), strict=True)]


def shown(value: float | Ramp, form: str = "g") -> str:
    """Returns a value in words, such as "0.3 to 0.15"; `form` is the format of a number."""
    return " to ".join(format(own, form) for own in values_of(value))
