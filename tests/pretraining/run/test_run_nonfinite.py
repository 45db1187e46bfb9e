"""Losses that are not finite, in the middle of a run of the program."""

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from tests.pretraining import tiny
from tests.program_errors import error_of

pytestmark = pytest.mark.slow


def test_loss_that_is_not_finite(small_model):
    """As a process: a learning rate far too high."""
    root, _ = small_model
    hparams = {"learning_rate": 1e30, "num_train_steps": 9, "save_checkpoints_steps": 1}
    code, shown = tiny.run(root, "new", **tiny.UNIFORM | hparams | {"num_warmup_steps": 0})
    error = error_of(code, shown)
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
