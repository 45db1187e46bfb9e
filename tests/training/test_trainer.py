"""The training loop with an objective of one variable: the engine knows nothing of networks."""

import json
import math
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.optimizers import AdamW, AdamWSettings
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Interrupted, LoopSettings, NonFiniteLoss, Trainer

BATCH = 4


class Line:
    """Mean squared error of weight * x against 3 x."""

    loss_weights = {"squared_error": 1.0}
    denominator_epsilon = 0.0

    def __init__(self):
        self.weight = keras.Variable(np.float32([0.0]), name="weight")

    def named_variables(self):
        return {"line/weight": self.weight}

    def prepare(self, batch, randomness):
        return batch["x"], {"squared_error": tf.cast(tf.shape(batch["x"])[0], tf.float32)}

    def compute(self, x, randomness, training):
        error = tf.square(self.weight * x - 3.0 * x)
        return {"squared_error": tf.reduce_sum(error)}, {"rows": tf.cast(tf.shape(x), tf.float32)}

    def summarize(self, sums):
        return {"rows": float(sums["rows"][0])}


def numbers(position, context, *, bad=()):
    """Example n is x = 1 + n % 3; those in `bad` are NaN."""
    marked = tf.constant([-1, *bad], tf.int64)

    def x(n):
        value = tf.cast(1 + n % 3, tf.float32)
        return {"x": tf.where(tf.reduce_any(n == marked), math.nan, value)}

    return tf.data.Dataset.range(position, 1 << 40).map(x).batch(BATCH, drop_remainder=True)


def bad_at(*steps):
    """The data with a NaN in the batch of these updates, counted from 1."""
    bad = [BATCH * (step - 1) + 1 for step in steps]
    return lambda position, context: numbers(position, context, bad=bad)


class Root(Line):
    """The root of the weight: 0 at first, with a gradient that is infinite."""

    def compute(self, x, randomness, training):
        return {"squared_error": tf.reduce_sum(tf.sqrt(self.weight) * x)}, {"rows": tf.zeros([1])}


def make_trainer(folder, n_steps=12, objective=None, store=None, **settings):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    objective = objective or Line()
    return Trainer(
        objective,
        strategy,
        AdamW(strategy, objective.named_variables(), AdamWSettings(weight_decay_rate=0.0)),
        PolynomialDecay(0.1, 100, 2),
        LoopSettings(n_steps, BATCH, 5, **({"log_every": 4, "save_every": 5} | settings)),
        store or CheckpointStore(str(folder), None),
        RunLog(str(folder)),
    )


def log_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weight(trainer):
    return float(trainer.objective.weight.numpy()[0])


def test_steps_are_logged_and_saved_in_time(tmp_path, capsys):
    trainer = make_trainer(tmp_path, iterations_per_loop=3)
    trainer.train(numbers)
    assert trainer.step == 12 and trainer.examples_seen == 48
    assert trainer.store.steps() == [5, 10, 12]
    lines = log_lines(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert [line["rows"] for line in lines] == [4 * BATCH] * 3
    first = lines[0]
    assert first["loss"] == pytest.approx(first["squared_error"])
    assert first["learning_rate"] == pytest.approx(0.1 * 0.96)
    assert lines[0]["loss"] > lines[2]["loss"] > 0
    assert all(line["tokens_per_second"] > 0 and line["gradient_norm"] > 0 for line in lines)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("training: step 4/12 (33.3 %), ")
    assert "loss " in shown[0] and "learning_rate 0.096" in shown[0]
    assert shown[-1].startswith("training: step 12/12 (100.0 %), ")


def test_graph_calls_are_short(tmp_path, monkeypatch):
    """At most `iterations_per_loop` steps, up to the next event, and within the time limit."""
    trainer = make_trainer(tmp_path, n_steps=40, log_every=20, save_every=15, iterations_per_loop=8)
    calls = []
    call = trainer._loop.__call__

    def recorded(iterator, first, n):
        calls.append((first, n))
        return call(iterator, first, n)

    monkeypatch.setattr(trainer, "_loop", recorded)
    monkeypatch.setattr(
        "electra_tf2.training.trainer.time.perf_counter", iter(range(1000)).__next__
    )  # each call takes "a second"
    trainer.train(numbers)
    firsts = [first for first, _ in calls]
    assert firsts == [sum(n for _, n in calls[:i]) for i in range(len(calls))]
    assert all(n <= 8 for _, n in calls)
    ends = {first + n for first, n in calls}
    assert {15, 20, 30, 40} <= ends
    # A first call of one step; then as many steps as the last call's speed lets into 5 seconds.
    assert calls[:2] == [(0, 1), (1, 5)]


@pytest.mark.parametrize("iterations", [1, 7])
def test_resumed_is_undisturbed(tmp_path, iterations):
    undisturbed = make_trainer(tmp_path / "a")
    undisturbed.train(numbers)
    halted = make_trainer(tmp_path / "b", n_steps=5, iterations_per_loop=iterations)
    halted.train(numbers)
    resumed = make_trainer(tmp_path / "b", iterations_per_loop=iterations)
    resumed.restore(resumed.store.load(resumed.store.latest()))
    assert (resumed.step, resumed.examples_seen) == (5, 20)
    resumed.train(numbers)
    assert weight(resumed) == weight(undisturbed) > 0
    assert resumed.store.load(resumed.store.latest()).state == (
        undisturbed.store.load(undisturbed.store.latest()).state
    )


def test_finished_run_does_nothing(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.step = 12
    trainer.train(lambda *_: pytest.fail("the data was opened"))
    assert os.listdir(tmp_path) == []


def test_evaluations_come_in_time(tmp_path):
    trainer = make_trainer(tmp_path, eval_every=3)
    steps = []
    trainer.train(numbers, evaluate=lambda: steps.append(trainer.step))
    assert steps == [3, 6, 9, 12]


@pytest.mark.parametrize("last_good, bad", [(5, 8), (None, 3)])
def test_stops_at_a_loss_that_is_not_finite(tmp_path, last_good, bad):
    trainer = make_trainer(tmp_path)
    with pytest.raises(NonFiniteLoss) as info:
        trainer.train(bad_at(bad))
    error = info.value
    assert error.exit_code != 0
    assert error.where == f"step {bad}, learning rate {float(trainer.schedule(bad)):.3g}"
    assert error.received == "loss nan, gradient norm nan"
    assert "Lower learning_rate" in error.remedy and '"skip"' in error.remedy
    assert math.isfinite(weight(trainer))
    if last_good is None:
        assert "No checkpoint had been saved yet" in error.remedy
        assert trainer.store.latest() is None
    else:
        assert trainer.store.latest() in error.remedy
        assert trainer.store.steps() == [last_good]
        saved = trainer.store.load(trainer.store.latest()).weights["line/weight"]
        assert np.isfinite(saved).all()


def test_stops_where_only_the_gradient_is_not_finite(tmp_path):
    trainer = make_trainer(tmp_path, objective=Root())
    with pytest.raises(NonFiniteLoss, match="step 1, ") as info:
        trainer.train(numbers)
    assert info.value.received == "loss 0.0, gradient norm inf"
    assert weight(trainer) == 0.0


def test_skips_and_counts(tmp_path):
    trainer = make_trainer(tmp_path, on_nonfinite="skip")
    trainer.train(bad_at(2, 3, 9))
    assert (trainer.step, trainer.skipped) == (12, 3)
    assert [line.get("skipped_updates") for line in log_lines(tmp_path)] == [2, 2, 3]
    assert all(math.isfinite(line["loss"]) for line in log_lines(tmp_path))
    state = trainer.store.load(trainer.store.latest()).state
    assert state["skipped_updates"] == 3 and state["examples_seen"] == 48
    # A skipped update changes nothing.
    other = make_trainer(tmp_path / "other", n_steps=3, on_nonfinite="skip")
    other.train(bad_at(2, 3))
    alone = make_trainer(tmp_path / "alone", n_steps=1)
    alone.train(numbers)
    assert weight(other) == weight(alone)


def test_log_of_skipped_steps_only_has_no_numbers(tmp_path):
    trainer = make_trainer(tmp_path, n_steps=4, on_nonfinite="skip")
    trainer.train(bad_at(1, 2, 3, 4))
    (line,) = log_lines(tmp_path)
    assert line["loss"] is None and line["squared_error"] is None
    assert line["skipped_updates"] == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_stops(tmp_path, number):
    trainer = make_trainer(tmp_path, eval_every=3)
    with pytest.raises(Interrupted) as info:
        trainer.train(numbers, evaluate=lambda: os.kill(os.getpid(), number))
    assert trainer.store.steps() == [3]
    assert info.value.where == trainer.store.latest()
    resumed = make_trainer(tmp_path)
    resumed.restore(resumed.store.load(resumed.store.latest()))
    resumed.train(numbers)
    undisturbed = make_trainer(tmp_path / "other")
    undisturbed.train(numbers)
    assert weight(resumed) == weight(undisturbed)


def test_signal_at_the_last_step_is_no_interruption(tmp_path):
    trainer = make_trainer(tmp_path, eval_every=12)
    trainer.train(numbers, evaluate=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert trainer.store.steps() == [5, 10, 12]
    assert trainer.late_signal == signal.SIGTERM


def test_errors_of_the_input_can_be_explained(tmp_path):
    def broken(position, context):
        dataset = numbers(position, context)
        check = lambda x: tf.debugging.assert_less(x, 0.0, "the sixth batch")  # noqa: E731
        bad = dataset.map(lambda b: (check(b["x"]), b)[1])
        return dataset.take(5).concatenate(bad)

    explained = NonFiniteLoss("explained")
    trainer = make_trainer(tmp_path)
    with pytest.raises(NonFiniteLoss, match="explained"):
        trainer.train(broken, explain=lambda error: explained)
    assert trainer.store.steps() == [5]
    trainer = make_trainer(tmp_path / "again")
    with pytest.raises(tf.errors.InvalidArgumentError, match="the sixth batch"):
        trainer.train(broken)
