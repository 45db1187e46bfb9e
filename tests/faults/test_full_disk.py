"""A disk that fills up, or files that may not grow: an error, nothing lost, and a way on."""

import os
import resource
import shutil

import pytest

from tests.faults import small_disks
from tests.faults.run_outcomes import differences, readable_checkpoints
from tests.pretraining import tiny
from tests.program_errors import error_of

pytestmark = pytest.mark.slow

HPARAMS = tiny.UNIFORM | {
    "num_train_steps": 50,
    "save_checkpoints_steps": 5,
    "keep_checkpoint_max": 0,
    "log_every_steps": 50,
}


@pytest.fixture(scope="module")
def undisturbed(tiny_data):
    """The folder of a run with room enough."""
    tiny.pretrain_here(tiny_data, "roomy", **HPARAMS)
    return tiny_data / "models" / "roomy"


def assert_whole(model_dir):
    """Every checkpoint is, and nothing half-written is beside them; returns the last step."""
    steps = list(readable_checkpoints(model_dir))
    names = [f"step-{step:08d}" for step in steps]
    assert sorted(os.listdir(model_dir / "checkpoints")) == names
    return steps[-1]


def same_training(model_dir, undisturbed):
    """The one report, at the end, is a mean over the steps of the last process."""
    different = differences(model_dir, undisturbed)
    assert [name.partition(":")[0] for name in different] in ([], ["metrics.jsonl"]), different
    return True


def test_full_disk(tiny_data, undisturbed, tmp_path):
    with small_disks.mounted(tmp_path / "disk", "260k") as disk:
        model_dir = disk / "m"
        arguments = tiny.arguments(tiny_data, "m", **HPARAMS, model_dir=str(model_dir))
        error = error_of(*tiny.main_here(arguments))
        last = assert_whole(model_dir)
        assert 5 <= last < 50
        assert f"The checkpoint of step {last + 5} can't be saved." in error
        assert f"where: {model_dir}/checkpoints" in error and "No space left on device" in error
        assert f"resumes at step {last}" in error
        # Full as it is, it says the same again, and loses nothing.
        assert f"step {last + 5} can't be saved" in error_of(*tiny.main_here(arguments))
        assert assert_whole(model_dir) == last
        small_disks.remount(disk, "size=4m")
        code, shown = tiny.main_here(arguments)
        assert code == 0 and f"Resuming at step {last} " in shown
        assert same_training(model_dir, undisturbed)


def test_log_on_a_full_disk(tiny_data, tmp_path):
    """The log fills what the checkpoints leave free."""
    with small_disks.mounted(tmp_path / "disk", "260k") as disk:
        model_dir = disk / "m"
        hparams = HPARAMS | {"log_every_steps": 1, "model_dir": str(model_dir)}
        arguments = tiny.arguments(tiny_data, "m", **hparams)
        error = error_of(*tiny.main_here(arguments))
        assert "No space left on device" in error
        last = assert_whole(model_dir)
        small_disks.remount(disk, "size=4m")
        code, shown = tiny.main_here(arguments)
        assert code == 0 and f"Resuming at step {last} " in shown
        roomy = tmp_path / "roomy"
        tiny.pretrain_here(tiny_data, "m", **hparams | {"model_dir": str(roomy)})
        assert differences(model_dir, roomy) == []


def test_files_that_may_not_grow(tiny_data, undisturbed):
    """As a process with a limit on the size of a file, which needs no root."""
    model_dir = tiny_data / "models" / "limited"
    shutil.copytree(undisturbed, model_dir)
    for step in range(10, 51, 5):
        shutil.rmtree(model_dir / "checkpoints" / f"step-{step:08d}")
    weights = model_dir / "checkpoints" / "step-00000005" / "weights.safetensors"
    limit = weights.stat().st_size // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        process = tiny.start(tiny_data, "limited", **HPARAMS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _, shown = process.communicate(timeout=300)
    error = error_of(process.returncode, shown)
    assert "The checkpoint of step 10 can't be saved." in error
    assert "File too large" in error and "resumes at step 5" in error
    assert assert_whole(model_dir) == 5
    _, shown = tiny.pretrain_here(tiny_data, "limited", **HPARAMS)
    assert "Resuming at step 5 " in shown
    assert same_training(model_dir, undisturbed)
