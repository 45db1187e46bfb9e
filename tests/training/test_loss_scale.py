"""How the loss scale finds itself."""

import math

import pytest
import tensorflow as tf

from electra_tf2.training import loss_scale as module
from electra_tf2.training.loss_scale import LossScale

GOOD, OVERFLOW, BAD_LOSS = (1.0, 1.0), (1.0, math.inf), (math.nan, math.nan)


def scales(outcomes, **options):
    """The state after each of the outcomes, (loss, gradient norm)."""
    scale = LossScale(tf.distribute.OneDeviceStrategy("/cpu:0"), **options)
    found = []
    for loss, norm in outcomes:
        scale.update(0, tf.constant(loss), tf.constant(norm))
        assert float(scale.value(0)) == scale.to_numpy()["loss_scale"]
        found.append(tuple(v.item() for v in scale.to_numpy().values()))
    return found


def test_constants_are_the_usual_ones():
    (first,) = scales([GOOD])
    assert first == (2.0**15, 1)
    assert module.GROWTH_STEPS == 2000


def test_doubles_after_good_steps_in_a_row():
    found = scales([GOOD] * 7, initial=8.0, growth_steps=3)
    assert found == [(8, 1), (8, 2), (16, 0), (16, 1), (16, 2), (32, 0), (32, 1)]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_halves_at_an_overflow_and_counts_anew(norm):
    found = scales([GOOD, GOOD, (1.0, norm), GOOD, GOOD, GOOD], initial=8.0, growth_steps=3)
    assert found == [(8, 1), (8, 2), (4, 0), (4, 1), (4, 2), (8, 0)]


def test_stays_within_its_bounds():
    assert scales([OVERFLOW] * 3, initial=2.0) == [(1, 0)] * 3
    found = scales([GOOD] * 2, initial=module.MAX / 2, growth_steps=1)
    assert found == [(module.MAX, 0)] * 2


def test_a_bad_loss_says_nothing_of_the_scale():
    found = scales([GOOD, BAD_LOSS, (math.inf, 1.0), GOOD], initial=8.0, growth_steps=2)
    assert found == [(8, 1), (8, 1), (8, 1), (16, 0)]
