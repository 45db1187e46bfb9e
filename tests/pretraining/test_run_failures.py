"""Failures in the middle of a run: a clear error, and the last good checkpoint is kept."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from electra_tf2.data import records
from electra_tf2.training.checkpoints import CheckpointStore
from tests.pretraining import test_run_errors as errors
from tests.pretraining import tiny

pytestmark = pytest.mark.slow


def run_to_error(root, name, exit_code=2, **hparams):
    """Trains until it fails; returns the error and the model's checkpoints."""
    code, shown = errors.main_here(tiny.arguments(root, name, **(tiny.UNIFORM | hparams)))
    return errors.error_of(code, shown, exit_code), CheckpointStore(str(root / "models" / name))


def test_shard_that_is_corrupt_far_inside(small_model, monkeypatch):
    """Large data is not verified at the start: the error comes in training, as clear."""
    root, _ = small_model
    monkeypatch.setattr(records, "_FULLY_VERIFIED_BYTES", 0)
    for number in range(2):
        errors.flip(errors.SHARD.format(number), -40)(root)
    hparams = {"num_train_steps": 50, "save_checkpoints_steps": 1}
    error, store = run_to_error(root, "new", **hparams)
    assert "corrupt" in error and "byte" in error
    assert f"{root}/pretrain_tfrecords/pretrain_data.tfrecord-" in error
    last = store.steps()[-1]
    assert 1 <= last < 10
    assert store.load(store.latest()).step == last
    # With the shards mended, the same command goes on.
    for number in range(2):
        errors.flip(errors.SHARD.format(number), -40)(root)
    _, shown = tiny.pretrain_here(root, "new", **tiny.UNIFORM, num_train_steps=last + 1)
    assert f"Resuming at step {last} " in shown


def test_record_of_another_length_far_inside(small_model):
    root, _ = small_model
    errors.records_without_metadata(16, bad_index=11)(root)
    error, _ = run_to_error(root, "new", num_train_steps=50)
    assert error.startswith("A record is not an example of 32 tokens.")
    assert f"where: {root}/pretrain_tfrecords" in error
    assert "received: Key: " in error and "Values size: 16" in error


def test_loss_that_is_not_finite(small_model):
    """As a process: a learning rate far too high."""
    root, _ = small_model
    hparams = {"learning_rate": 1e30, "num_train_steps": 9, "save_checkpoints_steps": 1}
    code, shown = tiny.run(root, "new", **tiny.UNIFORM | hparams | {"num_warmup_steps": 0})
    error = errors.error_of(code, shown)
    store = CheckpointStore(str(root / "models" / "new"))
    last = store.steps()[-1]
    rate = 1e30 * (1 - (last + 1) / 9)
    assert f"where: step {last + 1}, learning rate {rate:.3g}" in error
    assert "not finite" in error and "received: loss " in error
    assert f"The last good checkpoint is kept: {store.latest()}" in error
    saved = store.load(store.latest())
    assert all(np.isfinite(array).all() for array in saved.weights.values())


def test_updates_that_are_skipped(small_model):
    """From a checkpoint with a NaN in it."""
    root, model_dir = small_model
    store = CheckpointStore(str(model_dir))
    saved = store.load(store.latest())
    saved.weights["electra/embeddings/layer_norm/gamma"][0] = np.nan
    store.save(saved.step, saved.weights, saved.optimizer, saved.state)
    hparams = {"num_train_steps": 5, "on_nonfinite": "skip", "init_checkpoint": str(model_dir)}
    figures, _ = tiny.pretrain_here(root, "new", **tiny.UNIFORM, **hparams, do_eval=True)
    lines = tiny.lines(root / "models" / "new", "train")
    assert [line["skipped_updates"] for line in lines] == [2, 4, 5]
    assert [line["loss"] for line in lines] == [None] * 3
    assert np.isnan(figures["loss"])
    new = CheckpointStore(str(root / "models" / "new"))
    assert new.load(new.latest()).state["skipped_updates"] == 5


@pytest.fixture
def small_disk(tmp_path):
    """A disk with room for two of the tiny checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=260k", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(small_model, small_disk):
    root, _ = small_model
    hparams = {"model_dir": str(small_disk / "m"), "keep_checkpoint_max": 0}
    hparams |= {"num_train_steps": 50, "save_checkpoints_steps": 1, "log_every_steps": 50}
    code, shown = errors.main_here(tiny.arguments(root, "new", **(tiny.UNIFORM | hparams)))
    error = errors.error_of(code, shown)
    store = CheckpointStore(str(small_disk / "m"))
    last = store.steps()[-1]
    assert f"The checkpoint of step {last + 1} can't be saved." in error
    assert f"{small_disk}/m/checkpoints" in error and "No space left on device" in error
    assert f"goes on from step {last}" in error
    for step in store.steps():  # what was there still is, and nothing half-written
        assert store.load(f"{store.folder}/step-{step:08d}").step == step
    assert len(os.listdir(store.folder)) == len(store.steps())
