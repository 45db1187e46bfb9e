"""Signals to a run: killed or stopped in every way, it ends like one that was left alone."""

import collections
import json
import os
import pathlib
import random
import re
import signal

import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from tests.faults.run_outcomes import differences
from tests.faults.watched_runs import last_logged, wait_for_step
from tests.pretraining import tiny

N_STEPS = 100
SAVE_EVERY = 10
KILLED_SAVE = 50
HPARAMS = {
    # Dropout stays on. One network for both roles: half the time of a pair's compilation.
    "untied_generator": False,
    "num_train_steps": N_STEPS,
    "save_checkpoints_steps": SAVE_EVERY,
    "keep_checkpoint_max": 2,
    "log_every_steps": 1,
}

# Python imports this module at the start; the program itself is untouched.
KILLS_ITSELF = """
import os, signal

sync = os.fsync

def sync_or_die(descriptor):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(os.environ["KILL_AT_SYNC_OF"]):
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)

os.fsync = sync_or_die
"""

Stop = collections.namedtuple("Stop", "code message step newest files steps_logged")


def left_behind(model_dir, code, message):
    """What a process that ended left behind."""
    store = CheckpointStore(str(model_dir))
    files = sorted(os.listdir(store.folder))
    newest = store.steps()[-1]
    steps = [line["step"] for line in tiny.lines(model_dir)]
    return Stop(code, message, last_logged(model_dir), newest, files, steps)


def stopped(process, model_dir):
    """The same, once the process has ended."""
    _, message = process.communicate(timeout=300)
    return left_behind(model_dir, process.returncode, message)


@pytest.fixture(scope="module")
def undisturbed(tiny_data):
    """The folder of a run that was left alone."""
    tiny.pretrain_here(tiny_data, "undisturbed", **HPARAMS)
    return tiny_data / "models" / "undisturbed"


@pytest.fixture(scope="module")
def story(tiny_data):
    """A run in four parts, and its folder."""
    model_dir = tiny_data / "models" / "stopped"
    parts = {}

    def stop(name, number, first, last):
        process = tiny.start(tiny_data, "stopped", **HPARAMS)
        wait_for_step(process, model_dir, random.randint(first, last))
        process.send_signal(number)
        parts[name] = stopped(process, model_dir)

    stop("kill", signal.SIGKILL, 12, 35)
    stop("terminate", signal.SIGTERM, 52, 60)
    stop("interrupt", signal.SIGINT, 75, 85)
    _, message = tiny.pretrain_here(tiny_data, "stopped", **HPARAMS)
    parts["end"] = left_behind(model_dir, 0, message)
    return parts, model_dir


def resumed_at(message):
    return int(re.search(r"Resuming at step (\d+)", message)[1])


def assert_ends_alike(ours, theirs):
    """The folders are those of the same run, bit for bit, but for times."""
    newest = sorted(os.listdir(ours / "checkpoints"))
    assert newest == ["step-00000090", "step-00000100"]
    assert differences(ours, theirs) == []
    for name in ("vocab.txt", "casing.json"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/fd"), reason="finds the file being synced in /proc (Linux)"
)
def test_a_run_killed_while_it_writes_a_checkpoint(tiny_data, undisturbed, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(KILLS_ITSELF)
    environment = {
        "PYTHONPATH": f"{tmp_path}:{tiny.ROOT}",
        "KILL_AT_SYNC_OF": f"step-{KILLED_SAVE:08d}.tmp/optimizer.safetensors",
    }
    model_dir = tiny_data / "models" / "killed"
    part = stopped(tiny.start(tiny_data, "killed", env=environment, **HPARAMS), model_dir)
    assert part.code == -signal.SIGKILL
    # Training continues while the checkpoint is written, up to the next save.
    assert KILLED_SAVE <= part.step <= KILLED_SAVE + SAVE_EVERY
    assert part.files == ["step-00000030", "step-00000040", "step-00000050.tmp"]
    assert part.steps_logged == list(range(1, part.step + 1))
    _, message = tiny.pretrain_here(tiny_data, "killed", **HPARAMS)
    assert resumed_at(message) == 40
    assert_ends_alike(model_dir, undisturbed)


@pytest.mark.slow
def test_kill_at_a_random_step(story):
    part = story[0]["kill"]
    assert part.code == -signal.SIGKILL
    assert SAVE_EVERY <= part.newest <= part.step < 48
    assert "Resuming" not in part.message
    assert resumed_at(story[0]["terminate"].message) == part.newest


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, number, then",
    [("terminate", "SIGTERM", "interrupt"), ("interrupt", "SIGINT", "end")],
)
def test_signal_saves_and_says_so(story, name, number, then):
    part = story[0][name]
    assert part.code == 75
    assert part.newest == part.step < N_STEPS
    folder = pathlib.Path(story[1]) / "checkpoints" / f"step-{part.step:08d}"
    what, where, received, remedy = part.message.splitlines()[-4:]
    assert what.startswith("error: ") and f"after step {part.step}" in what
    assert (where, received) == (f"  where: {folder}", f"  received: {number}")
    assert "Run the same command again" in remedy
    assert "Traceback" not in part.message
    assert resumed_at(story[0][then].message) == part.step


@pytest.mark.slow
def test_every_step_is_logged_once(story):
    for name, part in story[0].items():
        assert part.steps_logged == list(range(1, part.step + 1)), name
    assert story[0]["end"].step == N_STEPS


@pytest.mark.slow
def test_ends_bit_for_bit_like_an_undisturbed_run(story, undisturbed):
    parts, model_dir = story
    assert parts["end"].step == N_STEPS
    assert_ends_alike(model_dir, undisturbed)
    assert json.loads((model_dir / "config.json").read_text())["hparams"]["seed"] == 0
