"""The trainer with an objective of one variable: the engine knows nothing about networks."""

import dataclasses
import json
import math
import os
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.console import Progress
from electra_tf2.errors import UserError
from electra_tf2.randomness import StepRandomness
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.loop import Evaluator, LoopSettings
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import (
    Hooks,
    Interrupted,
    NonFiniteLoss,
    StopRequest,
    Trainer,
    TrainingRun,
)

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
    settings = {"log_every": 4, "save_every": 5} | settings
    return Trainer(
        TrainingRun(
            objective=objective,
            strategy=strategy,
            optimizer=AdamW(
                strategy, objective.named_variables(), OptimizerSettings(weight_decay_rate=0.0)
            ),
            schedule=PolynomialDecay(0.1, 100, 2),
            settings=LoopSettings(
                n_steps, BATCH, 5, **({"log_every": 4, "save_every": 5} | settings)
            ),
            store=store or CheckpointStore(str(folder), None),
            log=RunLog(str(folder)),
        )
    )


def log_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weight(trainer):
    return float(trainer.run.objective.weight.numpy()[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A trainer that has trained 12 steps."""
    trainer = make_trainer(tmp_path_factory.mktemp("undisturbed"))
    trainer.train(numbers)
    return trainer


def test_steps_are_logged_and_saved_in_time(tmp_path, capsys):
    trainer = make_trainer(tmp_path, iterations_per_loop=3)
    trainer.train(numbers)
    assert trainer.step == 12 and trainer.examples_seen == 48
    assert trainer.run.store.steps() == [5, 10, 12]
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
    assert "loss " in shown[0] and "learning_rate" not in shown[0]
    assert shown[-1].startswith("training: step 12/12 (100.0 %), ")


def test_graph_calls_are_short(tmp_path, monkeypatch):
    """At most `iterations_per_loop` steps, up to the next event, and within the time limit."""
    trainer = make_trainer(tmp_path, n_steps=40, log_every=20, save_every=15, iterations_per_loop=8)
    calls = []
    call = trainer._loop.__call__

    def recorded(iterator, first, n, *, seed):
        calls.append((first, n))
        return call(iterator, first, n, seed=seed)

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
def test_resumed_is_undisturbed(tmp_path, undisturbed, iterations):
    halted = make_trainer(tmp_path, n_steps=5, iterations_per_loop=iterations)
    halted.train(numbers)
    resumed = make_trainer(tmp_path, iterations_per_loop=iterations)
    resumed.restore(resumed.run.store.load(resumed.run.store.latest()))
    assert (resumed.step, resumed.examples_seen) == (5, 20)
    resumed.train(numbers)
    assert weight(resumed) == weight(undisturbed) > 0
    assert resumed.run.store.load(resumed.run.store.latest()).state == (
        undisturbed.run.store.load(undisturbed.run.store.latest()).state
    )


def test_finished_run_does_nothing(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.step = 12
    trainer.train(lambda *_: pytest.fail("the data was opened"))
    assert os.listdir(tmp_path) == []


def test_another_trainer_continues(tmp_path, undisturbed):
    """As in a run of several phases: the same weights and slots, another trainer."""
    first = make_trainer(tmp_path, n_steps=5)
    first.train(numbers)
    settings = dataclasses.replace(first.run.settings, num_train_steps=12)
    second = Trainer(dataclasses.replace(first.run, settings=settings))
    second.skipped = 3
    second.continue_from(first)
    assert (second.step, second.examples_seen, second.skipped) == (5, 20, 0)
    second.train(numbers)
    assert weight(second) == weight(undisturbed)


@pytest.mark.parametrize("rate, graphs", [(0.1, 0), (0.2, 1)])
def test_the_programs_of_an_earlier_trainer(tmp_path, undisturbed, rate, graphs):
    """Trained afresh, the same variables end with the same weights, without another graph."""
    first = make_trainer(tmp_path / "first")
    first.train(numbers)
    before = first._loop._many_steps.experimental_get_tracing_count()
    first.run.objective.weight.assign([0.0])
    first.run.optimizer.reset_slots()
    run = dataclasses.replace(
        first.run,
        schedule=PolynomialDecay(rate, 100, 2),
        store=CheckpointStore(str(tmp_path / "second"), None),
    )
    second = Trainer(run, first)
    second.train(numbers)
    if graphs:
        assert second._loop is not first._loop
        assert weight(second) != weight(undisturbed)
    else:
        assert second._loop is first._loop
        assert second._loop._many_steps.experimental_get_tracing_count() == before
        assert weight(second) == weight(undisturbed)


class Drawn(Line):
    """A loss that is a random number of the step."""

    def compute(self, x, randomness, training):
        draw = randomness.uniform("sample", 1, 1)[0, 0] + 0.0 * self.weight[0]
        return {"squared_error": draw * BATCH}, {"rows": tf.zeros([1])}


@pytest.mark.parametrize("seed", [0, 7])
def test_the_seed_decides_what_is_drawn(tmp_path, seed):
    """In training as in an evaluation."""

    def draw(step):
        at = (tf.constant(n, tf.int64) for n in (step, 0, 0))
        return float(StepRandomness(seed, *at).uniform("sample", 1, 1)[0, 0])

    trainer = make_trainer(tmp_path, n_steps=3, objective=Drawn(), log_every=1, seed=seed)
    trainer.train(numbers)
    assert [line["loss"] for line in log_lines(tmp_path)] == pytest.approx([*map(draw, range(3))])
    evaluator = Evaluator(trainer.run.objective, trainer.run.strategy, seed=seed)
    figures = evaluator.evaluate(lambda context: numbers(0, context), 3)
    assert figures["loss"] == pytest.approx(sum(map(draw, range(3))) / 3)


class Filled(Line):
    """Rows of 0 only fill up a batch."""

    loss_weights = {"squared_error": 2.0}

    def prepare(self, batch, randomness):
        rows = tf.reduce_sum(tf.cast(batch["x"] > 0, tf.float32))
        return batch["x"], {"squared_error": rows}


def test_a_last_batch_with_fewer_rows_counts_for_less(tmp_path):
    rows = tf.constant([1.0, 2.0, 3.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    batches = tf.data.Dataset.from_tensor_slices({"x": rows}).batch(BATCH, drop_remainder=True)
    run = make_trainer(tmp_path, objective=Filled()).run
    figures = Evaluator(run.objective, run.strategy, seed=0).evaluate(lambda context: batches, 2)
    mean = np.mean(np.square(3.0 * rows[:5]))  # at a weight of 0
    assert figures == pytest.approx({"loss": 2.0 * mean, "squared_error": mean, "rows": 2 * BATCH})


def test_evaluations_come_in_time(tmp_path):
    trainer = make_trainer(tmp_path, eval_every=3)
    steps = []
    trainer.train(numbers, Hooks(evaluate=lambda: steps.append(trainer.step)))
    assert steps == [3, 6, 9, 12]


@pytest.mark.parametrize("last_good, bad", [(5, 8), (None, 3)])
def test_stops_at_a_loss_that_is_not_finite(tmp_path, last_good, bad):
    trainer = make_trainer(tmp_path)
    with pytest.raises(NonFiniteLoss) as info:
        trainer.train(bad_at(bad))
    error = info.value
    assert error.exit_code != 0
    assert error.where == f"step {bad}, learning rate {float(trainer.run.schedule(bad)):.3g}"
    assert error.received == "loss nan, gradient norm nan"
    assert "Lower learning_rate" in error.remedy and '"skip"' in error.remedy
    assert math.isfinite(weight(trainer))
    if last_good is None:
        assert "No checkpoint was saved" in error.remedy
        assert trainer.run.store.latest() is None
    else:
        assert trainer.run.store.latest() in error.remedy
        assert trainer.run.store.steps() == [last_good]
        saved = trainer.run.store.load(trainer.run.store.latest()).weights["line/weight"]
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
    state = trainer.run.store.load(trainer.run.store.latest()).state
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
def test_signal_saves_and_stops(tmp_path, undisturbed, number, monkeypatch):
    shown, update = [], Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda bar, done, *more: (shown.append(done), update(bar, done, *more))
    )
    trainer = make_trainer(tmp_path, eval_every=3)
    with pytest.raises(Interrupted) as info:
        trainer.train(numbers, Hooks(evaluate=lambda: os.kill(os.getpid(), number)))
    assert shown == [3], "no report of the steps was due"
    assert trainer.run.store.steps() == [3]
    assert info.value.where == trainer.run.store.latest()
    resumed = make_trainer(tmp_path)
    resumed.restore(resumed.run.store.load(resumed.run.store.latest()))
    resumed.train(numbers)
    assert weight(resumed) == weight(undisturbed)


def test_signal_at_the_last_step_is_no_interruption(tmp_path):
    trainer = make_trainer(tmp_path, eval_every=12)
    trainer.train(numbers, Hooks(evaluate=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert trainer.run.store.steps() == [5, 10, 12]
    assert trainer.late_signal == signal.SIGTERM


def test_errors_of_the_input_can_be_explained(tmp_path):
    def broken(position, context):
        dataset = numbers(position, context)

        def refuse(batch):
            tf.debugging.assert_less(batch["x"], 0.0, "the sixth batch")
            return batch

        return dataset.take(5).concatenate(dataset.map(refuse))

    explained = NonFiniteLoss("explained")
    trainer = make_trainer(tmp_path)
    with pytest.raises(NonFiniteLoss, match="explained"):
        trainer.train(broken, Hooks(explain=lambda error: explained))
    assert trainer.run.store.steps() == [5]
    trainer = make_trainer(tmp_path / "again")
    with pytest.raises(tf.errors.InvalidArgumentError, match="the sixth batch"):
        trainer.train(broken)


@pytest.mark.parametrize("bad", [1, 3, 6])
def test_a_bad_batch_is_located(tmp_path, bad):
    """Whether it is the first of its graph call or not, and after a resume."""
    trainer = make_trainer(tmp_path, log_every=100, save_every=2)
    with pytest.raises(NonFiniteLoss) as info:
        trainer.train(bad_at(bad), Hooks(locate=lambda position: f"from {position}"))
    assert info.value.where.startswith(f"step {bad}, learning rate ")
    assert info.value.where.endswith(f", from {BATCH * (bad - 1)}")


def test_reports_are_watched_and_warnings_printed(tmp_path, capsys):
    seen = []

    def watch(step, figures):
        seen.append((step, figures["learning_rate"]))
        return "Warning: eight." if step == 8 else None

    trainer = make_trainer(tmp_path)
    trainer.train(numbers, Hooks(watch=watch))
    assert seen == [(step, pytest.approx(float(trainer.run.schedule(step)))) for step in (4, 8, 12)]
    assert capsys.readouterr().err.splitlines().count("Warning: eight.") == 1


@pytest.fixture
def usual_ctrl_c():
    """Python's own handling, also where a shell started the tests with SIGINT ignored (`&`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_flag(usual_ctrl_c, number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_acts_as_usual(usual_ctrl_c):
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stop_request_outside_of_the_main_thread_does_nothing():
    entered = []

    def enter():
        with StopRequest() as stop:
            entered.append(stop.signal)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [None]


def test_message_of_an_interruption():
    error = Interrupted(signal.SIGTERM, 57, "/m/checkpoints/step-00000057")
    assert error.exit_code == 75
    assert "step 57" in error.what and error.received == "SIGTERM"
    assert error.where == "/m/checkpoints/step-00000057"
    assert "Run the same command again" in error.remedy


@pytest.mark.parametrize(
    ("weights", "said"),
    [({"line_1/weight": np.zeros(1)}, "is missing"), ({"line/weight": np.zeros(2)}, "shape (2,)")],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, weights, said):
    trainer = make_trainer(tmp_path)
    checkpoint = trainer.run.store.load(trainer.save())
    with pytest.raises(UserError, match="not of this network") as error:
        trainer.restore(checkpoint._replace(weights=weights))
    assert "line/weight" in error.value.received and said in error.value.received
    assert error.value.where == checkpoint.path


@pytest.mark.parametrize("field", ["examples_seen", "skipped_updates"])
def test_a_position_below_zero_is_refused(tmp_path, field):
    trainer = make_trainer(tmp_path)
    checkpoint = trainer.run.store.load(trainer.save())
    state = {**checkpoint.state, field: -1}
    with pytest.raises(UserError, match="can't be read") as error:
        trainer.restore(checkpoint._replace(state=state))
    assert error.value.where.endswith(f"state.json, field {field}")
