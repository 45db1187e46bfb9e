"""Micro-batches of the real objective give the gradient of the one batch."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.loop import StepLoop
from electra_tf2.training.step import ReplicaStep
from tests.pretraining import tiny

BATCH, LENGTH = 8, 16
STEP = 5


class Recorder:
    """An optimizer that keeps what it is given."""

    def __init__(self, variables):
        self.variables = [tf.Variable(tf.zeros(v.shape)) for v in variables.values()]
        self.rate = tf.Variable(0.0)

    def apply(self, replica_id, gradients, norm, learning_rate, active):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.assign(gradient)
        self.rate.assign(learning_rate)


def batch():
    """Rows of different lengths, so that micro-batches have different denominators."""
    generator = np.random.default_rng(0)
    ids = generator.integers(5, len(tiny.PIECES), (BATCH, LENGTH), np.int32)
    mask = (np.arange(LENGTH) < np.arange(5, 5 + BATCH)[:, None]).astype(np.int32)
    segments = (np.arange(LENGTH) > 3).astype(np.int32) * mask
    return {"input_ids": ids * mask, "input_mask": mask, "segment_ids": segments}


def train_step(objective, micro_batches, jit_compile=False):
    """(result, gradients) of one step."""
    recorder = Recorder(objective.named_variables())
    step = ReplicaStep(
        objective,
        recorder,
        micro_batches=micro_batches,
        jit_compile=jit_compile,
    )
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    loop = StepLoop(
        strategy, step.train, lambda step: tf.cast(step, tf.float32), stop_at_nonfinite=True
    )
    dataset = tf.data.Dataset.from_tensors(batch())
    window = loop(iter(strategy.experimental_distribute_dataset(dataset)), STEP, 1, seed=3)
    gradients = dict(
        zip(objective.named_variables(), (v.numpy() for v in recorder.variables), strict=True)
    )
    assert float(recorder.rate) == STEP + 1  # the first update has the rate of step 1
    return window.last, gradients


@pytest.fixture(scope="module")
def whole(objective):
    return train_step(objective, 1)


def assert_same_step(found, expected, tolerance):
    (result, gradients), (wanted, wanted_gradients) = found, expected
    assert float(result.loss) == pytest.approx(float(wanted.loss), rel=tolerance)
    assert float(result.gradient_norm) == pytest.approx(float(wanted.gradient_norm), rel=tolerance)
    for name, sums in wanted.metrics.items():
        if sums.shape.rank == 1:
            np.testing.assert_allclose(result.metrics[name], sums, rtol=tolerance, err_msg=name)
    norm = float(wanted.gradient_norm)
    for name, gradient in wanted_gradients.items():
        # Relative to the whole gradient, which is what clipping scales to 1.
        np.testing.assert_allclose(
            gradients[name] / norm, gradient / norm, rtol=0, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("micro_batches", [4])
def test_micro_batches_equal_one_batch(objective, whole, micro_batches):
    assert_same_step(train_step(objective, micro_batches), whole, 1e-6)


@pytest.mark.slow
def test_xla_gives_the_same_step(objective, whole):
    assert_same_step(train_step(objective, 1, jit_compile=True), whole, 1e-5)


def test_every_variable_has_a_gradient(whole):
    without = [name for name, gradient in whole[1].items() if not np.abs(gradient).max() > 0]
    assert without == []


def test_evaluation_keeps_what_is_not_finite(objective):
    """A NaN in the weights has to show in the figures."""
    step = ReplicaStep(objective, None)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    loop = StepLoop(strategy, step.evaluate, stop_at_nonfinite=False)
    dataset = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch()))
    weight = objective.named_variables()["electra/embeddings/layer_norm/gamma"]
    before = weight.numpy()
    assert np.isfinite(loop(iter(dataset), 0, 1).loss)
    weight.assign(before * np.nan)
    window = loop(iter(dataset), 0, 1)
    weight.assign(before)
    assert np.isnan(window.loss) and window.updates == 1
