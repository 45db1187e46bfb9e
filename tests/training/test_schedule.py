import numpy as np
import pytest
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.training.schedule import (
    CosineDecay,
    InverseSqrtDecay,
    PolynomialDecay,
    WarmupStableDecay,
    pretraining_schedule,
)


def expected(step, rate, steps, warmup, power, end):
    """The formula in float64; decay counts from step 0, not from the end of the warm-up."""
    decayed = end + (rate - end) * (1 - min(step, steps) / steps) ** power
    return decayed * (min(1.0, step / warmup) if warmup > 0 else 1.0)


@pytest.mark.parametrize("warmup", [-3, 0, 1, 7, 12.5, 200])
@pytest.mark.parametrize("power, end", [(1.0, 0.0), (0.5, 0.0), (2.0, 1e-5), (1.0, 2e-4)])
def test_against_the_formula(warmup, power, end):
    schedule = PolynomialDecay(5e-4, 100, warmup, power, end)
    steps = (*range(0, 105), 1000)
    found = [float(schedule(step)) for step in steps]
    wanted = [expected(step, 5e-4, 100, warmup, power, end) for step in steps]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-11)


def test_same_inside_a_graph():
    schedule = PolynomialDecay(5e-4, 100, 7, 0.5)
    graph = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int64)])
    for step in (1, 7, 99, 100):
        assert float(graph(step)) == pytest.approx(float(schedule(step)), rel=1e-5)


def test_cosine_against_the_formula():
    warmup, steps, peak, end = 20, 120, 5e-4, 1e-5
    schedule = CosineDecay(peak, steps, warmup, end)
    at = np.arange(0, 130)
    done = np.clip((at - warmup) / (steps - warmup), 0, 1)
    wanted = (end + (peak - end) * (1 + np.cos(np.pi * done)) / 2) * np.minimum(1, at / warmup)
    np.testing.assert_allclose([schedule(step) for step in at], wanted, rtol=2e-6, atol=1e-11)
    assert float(schedule(warmup)) == np.float32(peak)
    assert float(schedule(70)) == pytest.approx((peak + end) / 2)  # half way


@pytest.mark.parametrize("warmup", [0, 1, 16])
def test_inverse_square_root_against_the_formula(warmup):
    schedule = InverseSqrtDecay(2e-3, warmup, 7e-4)
    at = np.arange(1, 200)
    w = max(warmup, 1)
    # Vaswani et al. 2017, equation 3, scaled to the peak, and with a floor after the warm-up.
    wanted = 2e-3 * np.sqrt(w) * np.minimum(at**-0.5, at * w**-1.5)
    wanted = np.where(at >= w, np.maximum(wanted, 7e-4), wanted)
    np.testing.assert_allclose([schedule(step) for step in at], wanted, rtol=2e-6)


@pytest.mark.parametrize(
    "shape, left", [("1-sqrt", lambda t: 1 - t**0.5), ("linear", lambda t: 1 - t)]
)
def test_warmup_stable_decay_against_the_formula(shape, left):
    peak, end, warmup, decay, steps = 1e-3, 1e-5, 10, 40, 100
    schedule = WarmupStableDecay(peak, steps, decay, warmup, end, shape)
    wanted = [peak * step / warmup for step in range(warmup)]
    wanted += [peak] * (steps - decay + 1 - warmup)
    wanted += [end + (peak - end) * left((step - 60) / 40) for step in range(61, 101)]
    wanted += [end] * 5
    found = [float(schedule(step)) for step in range(106)]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-11)
    longer = WarmupStableDecay(peak, 900, 0, warmup, end, shape)
    assert found[:61] == [float(longer(step)) for step in range(61)]


def test_far_steps_are_told_apart():
    """Beyond 2^24 float32 holds even numbers only."""
    start = 1 << 25
    schedule = WarmupStableDecay(1.0, start + 10, 10, shape="linear")
    assert [float(schedule(start + n)) for n in (1, 3)] == pytest.approx([0.9, 0.7])


SCHEDULES = {
    "cosine": CosineDecay(1e-3, 100, 10),
    "inverse_sqrt": InverseSqrtDecay(1e-3, 10),
    "wsd": WarmupStableDecay(1e-3, 100, 30, 10),
    "polynomial": PolynomialDecay(1e-3, 100, 10),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_hparam_chooses_the_schedule(name):
    decay = {"lr_decay_steps": 30} if name == "wsd" else {}
    given = {"num_train_steps": 100, "num_warmup_steps": 10, "learning_rate": 1e-3, **decay}
    config = PretrainingConfig("m", "d", lr_schedule=name, **given)
    assert pretraining_schedule(config) == SCHEDULES[name]
    graph = tf.function(SCHEDULES[name], input_signature=[tf.TensorSpec([], tf.int64)])
    for step in (1, 10, 85, 100):
        assert float(graph(step)) == pytest.approx(float(SCHEDULES[name](step)), rel=1e-5)


def test_a_tenth_of_the_steps_decays_by_default():
    config = PretrainingConfig("m", "d", lr_schedule="wsd", num_train_steps=25001)
    schedule = pretraining_schedule(config)
    assert isinstance(schedule, WarmupStableDecay)
    assert (schedule.num_decay_steps, schedule.shape) == (2501, "1-sqrt")
