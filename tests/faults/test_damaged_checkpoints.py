"""Checkpoint files that are damaged: an error that names the file, and what it says to do works."""

import os
import shutil

import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import content
from tests.faults.run_outcomes import differences
from tests.pretraining import tiny
from tests.program_errors import error_of

pytestmark = pytest.mark.slow

FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")
HPARAMS = tiny.UNIFORM | {
    "num_train_steps": 9,
    "save_checkpoints_steps": 3,
    "log_every_steps": 1,
}


@pytest.fixture(scope="module")
def undisturbed(tiny_data):
    """The folder of a run of nine steps; after six of them it looked like `halted`."""
    tiny.pretrain_here(tiny_data, "nine", **HPARAMS)
    return tiny_data / "models" / "nine"


@pytest.fixture
def halted(tiny_data, undisturbed):
    """The folder of that run as a process left it that was killed after step 6."""
    folder = tiny_data / "models" / "halted"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / "checkpoints" / "step-00000009")
    yield folder
    shutil.rmtree(folder)


def cut(path):
    """Takes the last third of a file away."""
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip(path):
    """Flips a bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x80  # in state.json no text any more
    path.write_bytes(data)


def refused(tiny_data, halted, path):
    """Runs the command; it has to refuse the file, and to leave everything as it is."""
    before = content(halted)
    error = error_of(*tiny.main_here(tiny.arguments(tiny_data, "halted", **HPARAMS)))
    assert f"where: {path}" in error
    assert ("state can't be read" if path.name == "state.json" else "truncated or corrupt") in error
    assert "move the folder step-00000006 away" in error and "resumes at step 3" in error
    assert content(halted) == before


@pytest.mark.parametrize("name", FILES)
def test_damaged_file(tiny_data, halted, name):
    path = halted / "checkpoints" / "step-00000006" / name
    whole = path.read_bytes()
    for damage in (cut, flip):
        path.write_bytes(whole)
        damage(path)
        refused(tiny_data, halted, path)


def test_what_the_error_says_to_do(tiny_data, halted, undisturbed, tmp_path):
    newest = halted / "checkpoints" / "step-00000006"
    flip(newest / "weights.safetensors")
    refused(tiny_data, halted, newest / "weights.safetensors")
    shutil.move(newest, tmp_path)
    code, shown = tiny.main_here(tiny.arguments(tiny_data, "halted", **HPARAMS))
    assert code == 0 and "Resuming at step 3 " in shown
    assert CheckpointStore(str(halted)).steps() == [3, 6, 9]
    assert differences(halted, undisturbed) == []
