import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.schedule import PolynomialDecay


def expected(step, rate, steps, warmup, power, end):
    """The formula in float64."""
    decayed = end + (rate - end) * (1 - min(step, steps) / steps) ** power
    return decayed * (min(1.0, step / warmup) if warmup > 0 else 1.0)


@pytest.mark.parametrize("warmup", [0, 1, 7, 12.5, 200])
@pytest.mark.parametrize("power, end", [(1.0, 0.0), (0.5, 0.0), (2.0, 1e-5), (1.0, 2e-4)])
def test_against_the_formula(warmup, power, end):
    schedule = PolynomialDecay(5e-4, 100, warmup, power, end)
    steps = range(0, 105)
    found = [float(schedule(step)) for step in steps]
    wanted = [expected(step, 5e-4, 100, warmup, power, end) for step in steps]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-11)


def test_factors_multiply():
    """Decay counts from step 0, not from the end of the warm-up."""
    assert float(PolynomialDecay(1.0, 100, 50)(25)) == pytest.approx(0.75 * 0.5)
    assert float(PolynomialDecay(1.0, 100, 50)(0)) == 0.0


def test_no_warmup_is_no_nan():
    assert float(PolynomialDecay(1.0, 100, 0)(0)) == 1.0
    assert float(PolynomialDecay(1.0, 100, -3)(1)) == pytest.approx(0.99)


@pytest.mark.parametrize("step", [100, 1000])
def test_end_of_the_decay(step):
    schedule = PolynomialDecay(1e-3, 100, 10, end_learning_rate=1e-5)
    assert float(schedule(step)) == pytest.approx(1e-5)


def test_same_inside_a_graph():
    schedule = PolynomialDecay(5e-4, 100, 7, 0.5)
    graph = tf.function(schedule, input_signature=[tf.TensorSpec([], tf.int64)])
    for step in (1, 7, 99, 100):
        assert float(graph(step)) == pytest.approx(float(schedule(step)), rel=1e-5)
