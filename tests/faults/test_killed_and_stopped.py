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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.path.exists("/proc/self/fd"), reason="finds the file being synced in /proc (Linux)"
    ),
]

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


def stopped(process, model_dir):
    """What a process that ended left behind."""
    _, message = process.communicate(timeout=300)
    store = CheckpointStore(str(model_dir))
    files = sorted(os.listdir(store.folder))
    newest = store.steps()[-1]
    steps = [line["step"] for line in tiny.lines(model_dir)]
    return Stop(process.returncode, message, last_logged(model_dir), newest, files, steps)


@pytest.fixture(scope="module")
def story(tiny_data, tmp_path_factory):
    """A run in five parts, and the folder of an undisturbed one."""
    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(KILLS_ITSELF)
    kill_in_save = {
        "PYTHONPATH": f"{hook}:{tiny.ROOT}",
        "KILL_AT_SYNC_OF": f"step-{KILLED_SAVE:08d}.tmp/optimizer.safetensors",
    }
    undisturbed = tiny.start(tiny_data, "undisturbed", **HPARAMS)
    model_dir = tiny_data / "models" / "killed"
    parts = {}

    def begin(**options):
        return tiny.start(tiny_data, "killed", **HPARAMS, **options)

    def stop(name, number, first, last):
        process = begin()
        wait_for_step(process, model_dir, random.randint(first, last))
        process.send_signal(number)
        parts[name] = stopped(process, model_dir)

    stop("kill", signal.SIGKILL, 12, 35)
    parts["kill in save"] = stopped(begin(env=kill_in_save), model_dir)
    stop("terminate", signal.SIGTERM, 52, 60)
    stop("interrupt", signal.SIGINT, 75, 85)
    parts["end"] = stopped(begin(), model_dir)
    _, message = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, message
    return parts, model_dir, tiny_data / "models" / "undisturbed"


def resumed_at(message):
    return int(re.search(r"Resuming at step (\d+)", message)[1])


def test_kill_at_a_random_step(story):
    part = story[0]["kill"]
    assert part.code == -signal.SIGKILL
    assert SAVE_EVERY <= part.newest <= part.step < 48
    assert "Resuming" not in part.message
    assert resumed_at(story[0]["kill in save"].message) == part.newest


def test_kill_inside_a_checkpoint_write(story):
    part = story[0]["kill in save"]
    assert part.code == -signal.SIGKILL
    # Training goes on while the checkpoint is written, up to the next save.
    assert KILLED_SAVE <= part.step <= KILLED_SAVE + SAVE_EVERY
    assert part.files == ["step-00000030", "step-00000040", "step-00000050.tmp"]
    assert resumed_at(story[0]["terminate"].message) == 40


@pytest.mark.parametrize(
    "name, number, then",
    [("terminate", "SIGTERM", "interrupt"), ("interrupt", "SIGINT", "end")],
)
def test_signal_saves_and_says_so(story, name, number, then):
    part = story[0][name]
    assert part.code == 75
    assert part.newest == part.step < N_STEPS
    folder = pathlib.Path(story[1]) / "checkpoints" / f"step-{part.step:08d}"
    assert part.message.splitlines()[-4:] == [
        f"error: The run was stopped after step {part.step}; nothing is lost.",
        f"  where: {folder}",
        f"  received: {number}",
        "  what to do: Run the same command again: it goes on from this checkpoint.",
    ]
    assert "Traceback" not in part.message
    assert resumed_at(story[0][then].message) == part.step


def test_every_step_is_logged_once(story):
    for name, part in story[0].items():
        assert part.steps_logged == list(range(1, part.step + 1)), name
    assert story[0]["end"].step == N_STEPS


def test_ends_bit_for_bit_like_an_undisturbed_run(story):
    parts, killed, undisturbed = story
    assert parts["end"].code == 0, parts["end"].message
    assert parts["end"].files == ["step-00000090", "step-00000100"]
    assert differences(killed, undisturbed) == []
    for name in ("vocab.txt", "tokenizer.json"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert json.loads((killed / "config.json").read_text())["hparams"]["seed"] == 0
