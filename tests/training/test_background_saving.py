"""Saving in the background: order, errors and ends of saves, by themselves and in training."""

import os
import signal
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.background_saving import BackgroundSaver
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Hooks, NonFiniteLoss
from tests.programs import run_python
from tests.training.test_trainer import bad_at, make_trainer, numbers

TIME_LIMIT = 60.0


class SlowStore(CheckpointStore):
    """Its saves end when they are allowed to; those of some steps fail."""

    def __init__(self, folder, fails=(), slow=True):
        super().__init__(str(folder))
        self.go_on = threading.Event()
        if not slow:
            self.go_on.set()
        self.fails = fails
        self.begun = []

    def save(self, step, weights, optimizer, state):
        self.begun.append(step)
        assert self.go_on.wait(TIME_LIMIT)
        if step in self.fails:
            raise UserError(f"The checkpoint of step {step} can't be saved.")
        return super().save(step, weights, optimizer, state)


def arrays(step):
    return lambda: {"w": np.full(3, step, np.float32)}


def begin(saver, step):
    saver.begin(step, arrays(step), dict, {"seen": step})


def test_a_save_ends_after_begin_has_returned(tmp_path):
    store = SlowStore(tmp_path)
    with BackgroundSaver(store) as saver:
        begin(saver, 1)
        saver.check()
        assert store.begun == [1] and store.steps() == []
        store.go_on.set()
        path = saver.wait()
        assert path == store.latest() == saver.latest()
    assert store.load(path).state == {"seen": 1}
    assert (store.load(path).weights["w"] == 1).all()


def test_arrays_are_those_of_the_beginning(tmp_path):
    store, variable = SlowStore(tmp_path), np.zeros(3)
    with BackgroundSaver(store) as saver:
        saver.begin(1, lambda: {"w": variable.copy()}, dict, {})
        variable += 1
        store.go_on.set()
    assert (store.load(store.latest()).weights["w"] == 0).all()


def test_a_save_waits_for_the_one_before_and_then_copies(tmp_path):
    """One copy of the arrays at a time, and checkpoints in their order."""
    store, copies = SlowStore(tmp_path), []

    def copy():
        assert all(array() is None for array in copies)
        array = np.zeros(3)
        copies.append(weakref.ref(array))
        return {"w": array}

    with BackgroundSaver(store) as saver:
        saver.begin(1, copy, dict, {})
        threading.Timer(0.2, store.go_on.set).start()
        for step in (2, 3, 4):
            saver.begin(step, copy, dict, {})
            assert store.steps()[-1] == step - 1
    assert len(copies) == 4 and store.steps() == [1, 2, 3, 4]


@pytest.mark.parametrize("call", ["begin", "check", "wait", "exit"])
def test_an_error_comes_with_the_next_call(tmp_path, call):
    store = SlowStore(tmp_path, fails=[2], slow=False)
    with pytest.raises(UserError, match="step 2 can't be saved"), BackgroundSaver(store) as saver:
        begin(saver, 1)
        begin(saver, 2)
        if call == "check":
            saver._thread.join()
            saver.check()
        elif call == "begin":
            begin(saver, 3)
        elif call == "wait":
            saver.wait()
        if call != "exit":
            pytest.fail("no error")
    assert store.begun == [1, 2] and store.steps() == [1]


def test_an_error_is_raised_once(tmp_path):
    store = SlowStore(tmp_path, fails=[2], slow=False)
    saver = BackgroundSaver(store)
    begin(saver, 2)
    assert saver.latest() is None  # leaves the error
    with pytest.raises(UserError):
        saver.wait()
    begin(saver, 3)
    assert saver.wait() == store.latest()


def test_another_error_leaves_when_the_save_has_ended(tmp_path, capsys):
    store = SlowStore(tmp_path, fails=[2])
    with pytest.raises(ZeroDivisionError), BackgroundSaver(store) as saver:
        begin(saver, 1)
        threading.Timer(0.2, store.go_on.set).start()
        raise ZeroDivisionError
    assert store.steps() == [1]
    with pytest.raises(ZeroDivisionError), BackgroundSaver(store) as saver:
        begin(saver, 2)
        raise ZeroDivisionError
    assert "Warning: The checkpoint of step 2 can't be saved." in capsys.readouterr().err


# The first fsync of the save waits until the end of the main thread is under way.
ENDS_EARLY = """
import os, sys, threading, time
import numpy as np
from electra_tf2.training.background_saving import BackgroundSaver
from electra_tf2.training.checkpoints import CheckpointStore

sync, ending = os.fsync, threading.Event()

def slow_sync(descriptor):
    ending.wait()
    time.sleep(0.3)
    sync(descriptor)

os.fsync = slow_sync
saver = BackgroundSaver(CheckpointStore(sys.argv[1]))
saver.begin(7, lambda: {"w": np.ones(3)}, dict, {})
ending.set()
raise KeyboardInterrupt
"""


def test_the_interpreter_ends_after_the_save(tmp_path):
    """Even where nothing waits for it."""
    program = textwrap.dedent(ENDS_EARLY)
    done = run_python("-c", program, tmp_path, check=False, timeout=TIME_LIMIT)
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    store = CheckpointStore(str(tmp_path))
    assert (store.load(store.latest()).weights["w"] == 1).all()
    assert store.steps() == [7]


def test_training_continues_while_a_checkpoint_is_written(tmp_path):
    store = SlowStore(tmp_path)
    trainer = make_trainer(tmp_path, store=store, eval_every=6)
    saved_at_six = []

    def evaluate():
        saved_at_six.append(store.steps())
        store.go_on.set()

    trainer.train(numbers, Hooks(evaluate=evaluate))
    assert saved_at_six[0] == []  # step 5 was being saved
    assert store.steps() == [5, 10, 12]
    undisturbed = make_trainer(tmp_path / "other")
    undisturbed.train(numbers)
    for step in (5, 10, 12):  # what was trained meanwhile is not in it
        one, other = (s.load(f"{s.folder}/step-{step:08d}") for s in (store, undisturbed.run.store))
        assert one.weights == other.weights and one.optimizer == other.optimizer


def test_a_failed_save_stops_training_soon(tmp_path):
    store = SlowStore(tmp_path, fails=[5], slow=False)
    trainer = make_trainer(tmp_path, n_steps=1000, store=store, save_every=5, eval_every=1)
    with pytest.raises(UserError, match="step 5 can't be saved"):
        trainer.train(numbers, Hooks(evaluate=lambda: time.sleep(0.02)))
    assert 5 <= trainer.step <= 10
    assert store.steps() == []


def test_a_failed_last_save_is_an_error(tmp_path):
    store = SlowStore(tmp_path, fails=[12], slow=False)
    with pytest.raises(UserError, match="step 12 can't be saved"):
        make_trainer(tmp_path, store=store).train(numbers)
    assert store.steps() == [5, 10]


def test_the_last_good_checkpoint_is_one_that_is_written(tmp_path):
    store = SlowStore(tmp_path)
    trainer = make_trainer(tmp_path, store=store)
    threading.Timer(0.5, store.go_on.set).start()
    with pytest.raises(NonFiniteLoss) as info:
        trainer.train(bad_at(6))
    assert "is kept: " + store.latest() in info.value.remedy
    assert store.steps() == [5]


def test_a_signal_while_the_last_save_is_waited_for(tmp_path, monkeypatch):
    store = SlowStore(tmp_path, slow=False)
    trainer = make_trainer(tmp_path, n_steps=3, store=store)
    finish = trainer._finish_save

    def finish_and_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        return finish()

    monkeypatch.setattr(trainer, "_finish_save", finish_and_signal)
    trainer.train(numbers)
    assert trainer.late_signal == signal.SIGTERM
