"""Whole runs in float16: pre-training and fine-tuning of tiny networks."""

import functools
import math

import numpy as np
import pytest

from electra_tf2.training import optimizers
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.optimizers import INITIAL_SCALE, LossScale
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

pytestmark = pytest.mark.slow

HPARAMS = tiny.UNIFORM | {"log_every_steps": 1, "num_train_steps": 8}


def checkpoint(model_dir):
    store = CheckpointStore(str(model_dir))
    return store.load(store.latest())


def pretrain(data, name, number_type="float16", **hparams):
    """The lines of the log of a run."""
    hparams = HPARAMS | {"precision": number_type} | hparams
    _, shown = tiny.pretrain_here(data, name, **hparams)
    assert f"computing in {number_type}" in shown
    return tiny.lines(data / "models" / name)


def test_losses_are_close_to_those_of_float32(tiny_data, monkeypatch):
    """From a scale on at which no update is skipped."""
    scale = functools.partial(LossScale, initial=2.0**8)
    monkeypatch.setattr(optimizers, "LossScale", scale)
    runs = [pretrain(tiny_data, f"close_{p}", p) for p in ("float32", "float16")]
    assert [line.get("loss_scale") for lines in runs for line in lines] == [None] * 8 + [256.0] * 8
    expected, found = ([line["loss"] for line in lines] for lines in runs)
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    assert found != expected and found[-1] < found[0] - 2


def test_scale_is_found_and_resumed_exactly(tiny_data):
    """A tiny batch's gradients overflow at first, at the scale that runs start with."""
    lines = pretrain(tiny_data, "float16")
    overflowed = [line["loss"] is None for line in lines]
    skipped = sum(overflowed)
    assert 0 < skipped < 8 and overflowed == sorted(overflowed, reverse=True)
    assert [line["skipped_updates"] for line in lines] == np.cumsum(overflowed).tolist()
    saved = checkpoint(tiny_data / "models" / "float16")
    assert saved.optimizer["loss_scale"] == INITIAL_SCALE / 2**skipped == lines[-1]["loss_scale"]
    assert saved.optimizer["loss_scale_good_steps"] == 8 - skipped
    assert all(array.dtype == np.float32 for array in saved.weights.values())

    pretrain(tiny_data, "float16_halted", num_train_steps=max(1, skipped - 1))
    resumed_lines = pretrain(tiny_data, "float16_halted")
    assert [a["loss_scale"] for a in resumed_lines] == [a["loss_scale"] for a in lines]
    resumed = checkpoint(tiny_data / "models" / "float16_halted")
    for those, these in ((resumed.weights, saved.weights), (resumed.optimizer, saved.optimizer)):
        assert those.keys() == these.keys()
        assert [name for name in these if (those[name] != these[name]).any()] == []


def test_fine_tuning_with_lamb(tmp_path):
    tiny_tasks.write_model(tmp_path)
    tiny_tasks.write_marks(tmp_path)
    hparams = {"precision": "float16", "optimizer": "lamb", "learning_rate": 2e-2}
    results, _ = tiny_tasks.finetune_here(tmp_path, **hparams, num_train_epochs=3.0)
    (path,) = tmp_path.glob("models/*/finetuning_models/marks_model_1")
    losses = [line["mean_loss"] for line in tiny.lines(path) if line["mean_loss"] is not None]
    assert all(map(math.isfinite, losses))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert "loss_scale" in checkpoint(path).optimizer
    assert results
