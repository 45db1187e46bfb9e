import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import textwrap
import time

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from electra_tf2.errors import UserError
from electra_tf2.training.array_files import read_arrays, write_arrays
from electra_tf2.training.checkpoints import CheckpointStore
from tests.faults import small_disks


def arrays(seed, rows=3):
    generator = np.random.default_rng(seed)
    return {
        "encoder/kernel": generator.standard_normal((rows, 5)).astype(np.float32),
        "encoder/bias": generator.standard_normal(5).astype(ml_dtypes.bfloat16),
        "step": np.int64(seed),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float16),
    }


def slots(seed):
    return {"encoder/kernel/adam_m": np.random.default_rng(-seed % 97).standard_normal((3, 5))}


def save(store, step, **state):
    return store.save(step, arrays(step), slots(step), state)


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        array = np.asarray(array)
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def assert_is_step(checkpoint, step):
    assert checkpoint.step == step
    assert_same_bits(checkpoint.weights, arrays(step))
    assert_same_bits(checkpoint.optimizer, slots(step))


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_load_gives_back_what_was_saved(tmp_path):
    store = CheckpointStore(str(tmp_path))
    path = save(store, 1000, examples_seen=128000, seed=7)
    assert path == str(tmp_path / "checkpoints" / "step-00001000")
    assert sorted(os.listdir(path)) == [
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    loaded = store.load(path)
    assert_is_step(loaded, 1000)
    assert loaded.state == {"examples_seen": 128000, "seed": 7}
    loaded.weights["encoder/kernel"] += 1  # writable


def test_state_file_tells_versions(tmp_path):
    path = save(CheckpointStore(str(tmp_path)), 3)
    record = json.loads((pathlib.Path(path) / "state.json").read_text())
    assert record["format_version"] == 1
    assert record["step"] == 3
    assert set(record["libraries"]) >= {"tensorflow", "keras", "numpy", "python", "electra_tf2"}


def test_others_can_read_the_files(tmp_path):
    weights = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "c": np.float32(2)}
    path = CheckpointStore(str(tmp_path)).save(1, weights, {}, {})
    found = safetensors.numpy.load_file(f"{path}/weights.safetensors")
    assert_same_bits(found, {name: np.asarray(array) for name, array in weights.items()})


def test_latest_and_steps(tmp_path):
    store = CheckpointStore(str(tmp_path / "new" / "model"))
    assert store.latest() is None
    assert store.steps() == []
    for step in (5, 20, 100000000):
        save(store, step)
    assert store.steps() == [5, 20, 100000000]
    assert store.latest().endswith("step-100000000")


@pytest.mark.parametrize(
    "keep_max, kept", [(2, [3, 4]), (1, [4]), (0, [1, 2, 3, 4]), (None, [1, 2, 3, 4])]
)
def test_keep_max(tmp_path, keep_max, kept):
    store = CheckpointStore(str(tmp_path), keep_max)
    for step in (1, 2, 3, 4):
        save(store, step)
    assert store.steps() == kept
    assert len(os.listdir(store.folder)) == len(kept)


def test_a_folder_that_tensorflow_reaches(tmp_path):
    store = CheckpointStore(f"file://{tmp_path}", keep_max=2)
    for step in (1, 2, 3, 3):
        save(store, step)
    assert store.steps() == [2, 3]
    assert_is_step(store.load(store.latest()), 3)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step-00000002", "step-00000003"]


def test_same_step_again_replaces(tmp_path):
    store = CheckpointStore(str(tmp_path), 2)
    save(store, 1, run="first")
    path = save(store, 1, run="second")
    assert store.load(path).state == {"run": "second"}
    assert os.listdir(store.folder) == ["step-00000001"]


def test_leftovers_are_not_read_and_go_with_the_next_save(tmp_path):
    store = CheckpointStore(str(tmp_path))
    save(store, 1)
    leftover = tmp_path / "checkpoints" / "step-00000002.tmp"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    assert store.latest().endswith("step-00000001")
    save(store, 3)
    assert sorted(os.listdir(store.folder)) == ["step-00000001", "step-00000003"]


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    store = CheckpointStore(str(tmp_path), 1)
    save(store, 1)
    for name in ("notes.txt", "step-best", "step-00000001-copy"):
        (tmp_path / "checkpoints" / name).write_text("mine")
    save(store, 2)
    assert sorted(os.listdir(store.folder)) == [
        "notes.txt",
        "step-00000001-copy",
        "step-00000002",
        "step-best",
    ]


@pytest.mark.parametrize("state", [{"step": 1}, {"files": {}}, {"format_version": 2}])
def test_state_may_not_use_the_checkpoints_own_names(tmp_path, state):
    with pytest.raises(ValueError, match="names of the checkpoint's own"):
        CheckpointStore(str(tmp_path)).save(1, {}, {}, state)
    assert tree(tmp_path) == []


@pytest.mark.parametrize("state, weights", [({"x": object()}, {}), ({}, {"a": np.array(["text"])})])
def test_what_can_not_be_saved_leaves_nothing(tmp_path, state, weights):
    store = CheckpointStore(str(tmp_path))
    save(store, 1)
    before = tree(tmp_path)
    with pytest.raises(TypeError):
        store.save(2, weights, {}, state)
    assert tree(tmp_path) == before


def truncate(path):
    os.truncate(path, os.path.getsize(path) - 1)


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_last_byte, os.remove], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.safetensors", "state.json"], ids=str
)
def test_damage_is_an_error_that_names_the_file(tmp_path, damage, name):
    store = CheckpointStore(str(tmp_path))
    save(store, 1)
    path = pathlib.Path(save(store, 2)) / name
    if name == "state.json":
        path.write_text(path.read_text().strip())  # without the line's end: the brace goes
    damage(path)
    latest = store.latest()
    assert latest.endswith("step-00000002")
    with pytest.raises(UserError) as info:
        store.load(latest)
    assert info.value.where == str(path)
    assert info.value.received
    assert "move the folder step-00000002 away" in info.value.remedy
    assert "resumes at step 1" in info.value.remedy


def test_header_is_checked_without_a_fingerprint(tmp_path):
    path = tmp_path / "w.safetensors"
    write_arrays(str(path), arrays(1))
    assert_same_bits(read_arrays(str(path)), arrays(1))
    for content in (b"", b"\xff" * 8, path.read_bytes()[:-1], path.read_bytes() + b"x"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="truncated or corrupt"):
            read_arrays(str(path))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format_version": 2}, "newer version"),
        ({"files": {}}, "nothing about weights.safetensors, optimizer.safetensors"),
        ({"step": None}, "nothing about step"),
    ],
)
def test_state_of_another_form(tmp_path, change, message):
    store = CheckpointStore(str(tmp_path))
    path = pathlib.Path(save(store, 1))
    record = json.loads((path / "state.json").read_text()) | change
    record = {name: value for name, value in record.items() if value is not None}
    (path / "state.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message) as info:
        store.load(str(path))
    assert info.value.where == str(path / "state.json")
    assert info.value.remedy


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    with small_disks.mounted(tmp_path / "disk", "512k") as disk:
        store = CheckpointStore(str(disk / "model"), 1)
        save(store, 1)
        before = tree(disk)
        with pytest.raises(UserError) as info:
            store.save(2, {"big": np.zeros(1 << 18, np.float32)}, {}, {})
        assert info.value.where == store.folder and "step 2" in info.value.what
        assert "No space left on device" in info.value.received
        assert "resumes at step 1" in info.value.remedy
        assert tree(disk) == before
        assert_is_step(store.load(store.latest()), 1)


def test_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(UserError, match="step 1 can't be saved"):
        save(CheckpointStore(str(tmp_path / "model")), 1)
    assert (tmp_path / "model").read_text() == "a file"


# A process that imports the library once and then forks a child for each line it reads. A child
# saves one checkpoint after another, of arrays that follow from the step; with a count, it is
# killed at its count-th call that syncs, renames or removes.
SAVER = """
import os, shutil, signal, sys
import numpy as np
from electra_tf2.training.array_files import read_arrays, write_arrays
from electra_tf2.training.checkpoints import CheckpointStore
from tests.faults import small_disks

def kill_at_call(count):
    calls = [0]
    def counted(function):
        def wrapper(*args, **kwargs):
            calls[0] += 1
            if calls[0] == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return wrapper
    os.fsync = counted(os.fsync)
    os.replace, shutil.rmtree = counted(os.replace), counted(shutil.rmtree)

def save(folder, first, saves, count):
    store = CheckpointStore(folder, 2)
    kill_at_call(count)
    for step in range(first, first + saves):
        array = np.random.default_rng(step).standard_normal(1 << 16)
        store.save(step, {"w": array}, {"w/adam_m": array + 1}, {"seen": 8 * step})

print("ready", flush=True)
for line in sys.stdin:
    folder, first, saves, count = line.split()
    child = os.fork()
    if child == 0:
        save(folder, int(first), int(saves), int(count))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def saver():
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SAVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert process.stdout.readline() == "ready\n"

    def run(folder, first, saves, count=-1, kill_after=None):
        """Returns the exit code of the child."""
        process.stdin.write(f"{folder} {first} {saves} {count}\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    process.stdout.close()


def assert_is_saved_by_child(checkpoint, step):
    array = np.random.default_rng(step).standard_normal(1 << 16)
    assert checkpoint.step == step
    assert_same_bits(checkpoint.weights, {"w": array})
    assert_same_bits(checkpoint.optimizer, {"w/adam_m": array + 1})
    assert checkpoint.state == {"seen": 8 * step}


@pytest.mark.slow
def test_killed_at_any_operation_of_a_save(tmp_path, saver):
    """After steps 1 to 3: save 4 (2 goes) or replace 3, dying at each operation in turn."""
    for first in (3, 4):
        for count in range(1, 30):
            folder = tmp_path / f"{first}-{count}"
            assert saver(folder, 1, 3) == 0
            code = saver(folder, first, 1, count)
            store = CheckpointStore(str(folder), 2)
            latest = store.load(store.latest())
            assert latest.step in (3, first)
            assert_is_saved_by_child(latest, latest.step)
            for step in store.steps():  # whatever has a checkpoint's name is complete
                store.load(f"{store.folder}/step-{step:08d}")
            if code == 0:
                break
            assert code == -signal.SIGKILL
            assert saver(folder, 5, 1) == 0
            assert all(re.fullmatch(r"step-\d{8}", name) for name in os.listdir(store.folder))
        assert 6 < count < 29  # every operation had its turn


@pytest.mark.slow
def test_killed_at_random_times(tmp_path, saver):
    store = CheckpointStore(str(tmp_path), 2)
    assert saver(tmp_path, 1, 1) == 0
    interrupted = 0
    delays = random.Random(0)
    for _ in range(12):
        last = store.steps()[-1]
        delay = delays.uniform(0.0, 0.15)
        assert saver(tmp_path, last + 1, 1000, kill_after=delay) == -signal.SIGKILL
        interrupted += any(name.endswith(".tmp") for name in os.listdir(store.folder))
        latest = store.load(store.latest())
        assert latest.step >= last
        assert_is_saved_by_child(latest, latest.step)
    assert interrupted >= 1
    assert store.steps()[-1] > 3


def test_a_folder_named_after_another_step_is_refused(tmp_path):
    store = CheckpointStore(str(tmp_path))
    path = pathlib.Path(save(store, 3))
    other = path.rename(path.with_name("step-00000009"))
    for read in (store.newest_state, lambda: store.load(str(other))):
        with pytest.raises(UserError, match="named after another step") as error:
            read()
        assert error.value.where == str(other / "state.json")
        assert error.value.received.startswith("step 3")
    other.rename(path)
    assert store.load(str(path)).step == 3
