"""A model folder that can't be written to, or that another run is writing to."""

import signal

import pytest

from tests.data.small_corpus import content
from tests.faults import small_disks
from tests.faults.run_outcomes import readable_checkpoints
from tests.faults.watched_runs import last_logged, wait_for_step
from tests.pretraining import tiny
from tests.program_errors import error_of

pytestmark = pytest.mark.slow

HPARAMS = tiny.UNIFORM | {"log_every_steps": 1, "save_checkpoints_steps": 5}


def test_a_second_run_into_the_same_folder(tiny_data):
    model_dir = tiny_data / "models" / "shared"
    endless = HPARAMS | {"num_train_steps": 1_000_000, "log_every_steps": 20}
    with tiny.start(tiny_data, "shared", **endless) as first:
        wait_for_step(first, model_dir, 20)
        before = (model_dir / "config.json").stat().st_mtime_ns
        error = error_of(*tiny.main_here(tiny.arguments(tiny_data, "shared", **endless)))
        assert error.startswith("Another run is writing to this model folder.")
        assert f"where: {model_dir}" in error
        assert (model_dir / "config.json").stat().st_mtime_ns == before
        reached = last_logged(model_dir)
        wait_for_step(first, model_dir, reached + 20)  # the first goes on unharmed
        first.send_signal(signal.SIGTERM)
        _, shown = first.communicate(timeout=300)
    assert first.returncode == 75, shown
    assert f"The run was stopped after step {max(readable_checkpoints(model_dir))};" in shown


def test_a_folder_that_may_not_be_written_to(tiny_data, tmp_path):
    with small_disks.mounted(tmp_path / "disk", "4m") as disk:
        arguments = tiny.arguments(tiny_data, "m", **HPARAMS, model_dir=str(disk / "m"))
        small_disks.remount(disk, "ro")
        error = error_of(*tiny.main_here(arguments))
        assert f"{disk}/m" in error and "Read-only file system" in error
        assert content(disk) == {}
        small_disks.remount(disk, "rw")
        assert tiny.main_here(arguments)[0] == 0
        # A model that is there already: it can be gone on with as soon as it may be written to.
        arguments = tiny.arguments(
            tiny_data, "m", **HPARAMS | {"num_train_steps": 9}, model_dir=str(disk / "m")
        )
        before = content(disk)
        small_disks.remount(disk, "ro")
        error = error_of(*tiny.main_here(arguments))
        assert "can't be written to" in error and "Read-only file system" in error
        small_disks.remount(disk, "rw")
        assert content(disk) == before
        code, shown = tiny.main_here(arguments)
        assert code == 0 and "Resuming at step 6 " in shown
