"""Order, errors and ends of background saves; the store itself is tested elsewhere."""

import gc
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import BackgroundSaver, CheckpointStore
from tests.pretraining import tiny

TIME_LIMIT = 60.0


class SlowStore(CheckpointStore):
    """Saves when it is allowed to; or fails."""

    def __init__(self, folder, fails=()):
        super().__init__(str(folder))
        self.go_on = threading.Event()
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
        gc.collect()
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
    store = SlowStore(tmp_path, fails=[2])
    store.go_on.set()
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
    store = SlowStore(tmp_path, fails=[2])
    store.go_on.set()
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
from electra_tf2.training.checkpoints import BackgroundSaver
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
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENDS_EARLY), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tiny.ROOT,
        timeout=TIME_LIMIT,
    )
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr
    store = CheckpointStore(str(tmp_path))
    assert (store.load(store.latest()).weights["w"] == 1).all()
    assert store.steps() == [7]
