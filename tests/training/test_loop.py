"""Sums over the steps of a graph call, and the figures made of them."""

import math

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.loop import Average, StepLoop
from electra_tf2.training.step import StepResult
from tests.programs import run_python

NAN = math.nan


def result(batch, inputs, active):
    """Loss: the batch's value; a NaN is not finite."""
    loss = batch["value"][0]
    return StepResult(
        loss=loss,
        losses={"part": loss / 2},
        metrics={"ratio": tf.stack([loss, 2.0])},
        gradient_norm=tf.cast(inputs.step, tf.float32),
        finite=tf.math.is_finite(loss),
    )


def looped(values, first_step, n_steps, *, stop, calls=1):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    loop = StepLoop(strategy, result, stop_at_nonfinite=stop)
    dataset = tf.data.Dataset.from_tensor_slices({"value": np.float32(values)[:, None]})
    iterator = iter(strategy.experimental_distribute_dataset(dataset))
    windows = []
    for _ in range(calls):
        window = loop(iterator, first_step, n_steps)
        windows.append(tf.nest.map_structure(lambda t: t.numpy(), window))
        first_step += n_steps
    return windows


@pytest.mark.slow
def test_computing_is_not_waiting():
    """Where one thread gives out all work, too, and the batch is there long before it is needed."""
    program = """
import tensorflow as tf
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.step import StepResult

def step(batch, inputs, active):
    x = batch["x"]
    for _ in range(300):
        x = tf.tanh(tf.matmul(x, x) / 500.0)
    loss = tf.reduce_mean(x)
    return StepResult(loss, {}, {}, loss, tf.constant(True))

strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
data = tf.data.Dataset.from_tensors({"x": tf.ones([1, 200])}).repeat()
data = data.map(lambda b: {"x": tf.ones([200, 1]) * b["x"]})
iterator = iter(strategy.experimental_distribute_dataset(data))
loop = StepLoop(strategy, step, stop_at_nonfinite=True)
loop(iterator, 0, 1)
start = float(tf.timestamp())
waited = float(loop(iterator, 1, 5).waited)
print(waited / (float(tf.timestamp()) - start))
"""
    threads = dict.fromkeys(("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    printed = run_python("-c", program, **threads).stdout
    assert float(printed) < 0.8  # far less, unless other processes keep the data waiting


def test_many_loops_are_no_reason_to_warn(caplog):
    for _ in range(6):
        looped([1, 2], 0, 2, stop=True)
    assert not caplog.records


def averaged(windows):
    average = Average(lambda sums: {"mean": float(sums["ratio"][0] / sums["ratio"][1])})
    for window in windows:
        average.add(window, 0.5)
    return average


def test_sums():
    (window,) = looped([1, 2, 4, 8], 10, 3, stop=True)
    assert (window.steps, window.updates, window.loss) == (3, 3, 7.0)
    assert window.losses == {"part": 3.5}
    assert window.metrics["ratio"].tolist() == [7.0, 6.0]
    assert (window.last.loss, window.last.gradient_norm) == (4.0, 12.0)


def test_one_element_a_step():
    windows = looped([1, 2, 4, 8], 0, 2, stop=True, calls=2)
    assert [window.loss for window in windows] == [3.0, 12.0]


def test_sums_are_float64():
    (window,) = looped([1e8, 1.0], 0, 2, stop=True)
    assert window.loss == 100000001.0


def test_stops_after_a_step_that_is_not_finite():
    (window,) = looped([1, NAN, 4, 8], 0, 4, stop=True)
    assert (window.steps, window.updates, window.loss) == (2, 1, 1.0)
    assert math.isnan(window.last.loss) and not window.last.finite


def test_skips_steps_that_are_not_finite():
    (window,) = looped([1, NAN, 4, math.inf], 0, 4, stop=False)
    assert (window.steps, window.updates, window.loss) == (4, 2, 5.0)
    assert window.metrics["ratio"].tolist() == [5.0, 4.0]


def test_figures():
    average = averaged(looped([1, 2, 4, 8], 0, 2, stop=True, calls=2))
    assert (average.steps, average.updates, average.seconds) == (4, 4, 1.0)
    assert average.figures() == {"loss": 3.75, "part": 1.875, "mean": 15 / 8}


def test_figures_are_over_finite_steps():
    average = averaged(looped([1, NAN, 4, 1], 0, 2, stop=False, calls=2))
    assert (average.steps, average.updates) == (4, 3)
    assert average.figures() == {"loss": 2.0, "part": 1.0, "mean": 1.0}


@pytest.mark.filterwarnings("ignore:invalid value")
def test_figures_of_nothing_are_no_numbers():
    figures = averaged(looped([NAN, NAN], 0, 2, stop=False)).figures()
    assert figures.keys() == {"loss", "part", "mean"}
    assert all(math.isnan(value) for value in figures.values())
