"""Training data that are damaged: a clear error, the last checkpoint is kept, and a way on."""

import os
import signal

import pytest

from electra_tf2.data import open_records
from electra_tf2.training.checkpoints import CheckpointStore
from tests.faults.run_outcomes import differences
from tests.faults.watched_runs import wait_for_step
from tests.pretraining import tiny
from tests.pretraining.run import test_run_errors as damage
from tests.program_errors import error_of

pytestmark = pytest.mark.slow


def run_to_error(root, name, exit_code=2, **hparams):
    """Trains until it fails; returns the error and the model's checkpoints."""
    code, shown = tiny.main_here(tiny.arguments(root, name, **(tiny.UNIFORM | hparams)))
    return error_of(code, shown, exit_code), CheckpointStore(str(root / "models" / name))


def test_shard_that_is_corrupt_far_inside(small_model, monkeypatch):
    """Large data is not verified at the start: the error comes in training, as clear."""
    root, _ = small_model
    monkeypatch.setattr(open_records, "_FULLY_VERIFIED_BYTES", 0)
    for number in range(2):
        damage.flip(damage.SHARD.format(number), -40)(root)
    hparams = {"num_train_steps": 50, "save_checkpoints_steps": 1}
    error, store = run_to_error(root, "new", **hparams)
    assert "corrupt" in error and "byte" in error
    assert f"{root}/pretrain_tfrecords/pretrain_data.tfrecord-" in error
    last = store.steps()[-1]
    assert 1 <= last < 10
    assert store.load(store.latest()).step == last
    # With the shards repaired, they are not what they were before.
    for number in range(2):
        damage.flip(damage.SHARD.format(number), -40)(root)
    more = tiny.UNIFORM | {"num_train_steps": last + 1}
    error, _ = run_to_error(root, "new", **more)
    assert "contents: " in error and "a damaged shard" in error
    _, shown = tiny.pretrain_here(root, "new", **more, allow_other_data=True)
    assert f"Resuming at step {last} " in shown


def test_record_of_another_length_far_inside(small_model):
    root, _ = small_model
    damage.records_without_metadata(16, bad_index=11)(root)
    error, _ = run_to_error(root, "new", num_train_steps=50)
    assert error.startswith("A record is not an example of 32 tokens.")
    assert f"where: {root}/pretrain_tfrecords" in error
    assert "received: Key: " in error and "Values size: 16" in error


def start_and_damage(root, act, **hparams):
    """Trains in a real process, which reads the data again in each epoch; damages the last shard.

    Returns the error, and the shard's path and content.
    """
    shard = root / damage.SHARD.format(1)
    content = shard.read_bytes()
    with tiny.start(root, "new", **hparams) as process:
        wait_for_step(process, root / "models" / "new", 20)
        process.send_signal(signal.SIGSTOP)  # not to be at the end before
        act(shard)
        process.send_signal(signal.SIGCONT)
        _, shown = process.communicate(timeout=300)
    return error_of(process.returncode, shown), shard, content


RUN = tiny.UNIFORM | {"num_train_steps": 60, "save_checkpoints_steps": 10}
RUN |= {"log_every_steps": 1, "keep_checkpoint_max": 2}


def test_last_shard_that_loses_its_end_while_it_is_read(small_model):
    """The run resumes once the shard is repaired."""
    root, _ = small_model
    error, shard, content = start_and_damage(
        root, lambda shard: os.truncate(shard, shard.stat().st_size - 7), **RUN
    )
    assert "truncated" in error and str(shard) in error
    store = CheckpointStore(str(root / "models" / "new"))
    last = store.load(store.latest()).step
    assert 10 <= last < 60
    shard.write_bytes(content)
    _, shown = tiny.pretrain_here(root, "new", **RUN)
    assert f"Resuming at step {last} " in shown
    tiny.pretrain_here(root, "undisturbed", **RUN)
    assert differences(root / "models" / "new", root / "models" / "undisturbed") == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (os.remove, "can't be read any more"),
        (lambda shard: os.truncate(shard, 0), "0 records instead of"),
    ],
    ids=["deleted", "emptied"],
)
def test_last_shard_that_goes_while_it_is_read(small_model, damage, said):
    root, _ = small_model
    error, shard, _ = start_and_damage(root, damage, **(RUN | {"num_train_steps": 1000}))
    assert said in error and str(shard) in error
