"""Checkpoints in training: written in the background, and promised only when they are there."""

import os
import signal
import threading
import time

import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import NonFiniteLoss
from tests.training.test_trainer import bad_at, make_trainer, numbers


class SlowStore(CheckpointStore):
    """Its saves end when they are allowed to; those of some steps fail."""

    def __init__(self, folder, fails=()):
        super().__init__(str(folder), None)
        self.go_on = threading.Event()
        self.fails = fails

    def save(self, step, *arguments):
        assert self.go_on.wait(30)
        if step in self.fails:
            raise UserError(f"The checkpoint of step {step} can't be saved.")
        return super().save(step, *arguments)


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path):
    store = SlowStore(tmp_path)
    trainer = make_trainer(tmp_path, store=store, eval_every=6)
    saved_at_six = []

    def evaluate():
        saved_at_six.append(store.steps())
        store.go_on.set()

    trainer.train(numbers, evaluate=evaluate)
    assert saved_at_six[0] == []  # step 5 was being saved
    assert store.steps() == [5, 10, 12]
    undisturbed = make_trainer(tmp_path / "other")
    undisturbed.train(numbers)
    for step in (5, 10, 12):  # what was trained meanwhile is not in it
        one, other = (s.load(f"{s.folder}/step-{step:08d}") for s in (store, undisturbed.store))
        assert one.weights == other.weights and one.optimizer == other.optimizer


def test_a_failed_save_stops_training_soon(tmp_path):
    store = SlowStore(tmp_path, fails=[5])
    store.go_on.set()
    trainer = make_trainer(tmp_path, n_steps=1000, store=store, save_every=5, eval_every=1)
    with pytest.raises(UserError, match="step 5 can't be saved"):
        trainer.train(numbers, evaluate=lambda: time.sleep(0.02))
    assert 5 <= trainer.step <= 10
    assert store.steps() == []


def test_a_failed_last_save_is_an_error(tmp_path):
    store = SlowStore(tmp_path, fails=[12])
    store.go_on.set()
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
    store = SlowStore(tmp_path)
    store.go_on.set()
    trainer = make_trainer(tmp_path, n_steps=3, store=store)
    finish = trainer._finish_save

    def finish_and_signal():
        os.kill(os.getpid(), signal.SIGTERM)
        return finish()

    monkeypatch.setattr(trainer, "_finish_save", finish_and_signal)
    trainer.train(numbers)
    assert trainer.late_signal == signal.SIGTERM
