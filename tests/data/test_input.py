"""The order of the data, resuming within it, and its division among workers."""

import itertools
import os

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.input import ExampleFiles
from electra_tf2.data.order import Reading
from electra_tf2.errors import UserError
from tests.programs import run_python

COUNTS = (3, 0, 2, 4, 2)  # an empty file too
TOTAL = sum(COUNTS)
LENGTH = 4


@pytest.fixture
def files(write_records):
    directory = write_records(COUNTS, length=LENGTH)
    return ExampleFiles(tuple(sorted(str(path) for path in directory.iterdir())), COUNTS, None)


def stream(files, count, *, seed=3, position=0, window=4, batch=1):
    """The numbers of `count` examples from a position on."""
    dataset = files.training_dataset(Reading(seed, LENGTH, window), position, batch)
    rows = np.concatenate([b["input_ids"] for b in dataset.take(-(-count // batch))])
    return rows[:count, 0].tolist()


def context(workers, worker, replicas):
    return tf.distribute.InputContext(workers, worker, replicas)


@pytest.mark.parametrize("window", [1, 4, TOTAL, 1000])
def test_every_epoch_is_another_permutation_of_all_examples(files, window):
    numbers = stream(files, 4 * TOTAL, window=window)
    epochs = [numbers[i : i + TOTAL] for i in range(0, len(numbers), TOTAL)]
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_the_seed_decides_the_order(files):
    assert stream(files, TOTAL, seed=3) == stream(files, TOTAL, seed=3)
    assert stream(files, TOTAL, seed=3) != stream(files, TOTAL, seed=4)
    assert stream(files, 3, seed=-1) == stream(files, 3, seed=(1 << 63) - 1)


def test_windows_are_shuffled_and_nothing_crosses_them(files):
    """With unshuffled windows the files would come one after the other; a window mixes its own."""
    window = 4
    in_file_order = stream(files, TOTAL, window=1)
    shuffled = stream(files, TOTAL, window=window)
    assert shuffled != in_file_order
    for start in range(0, TOTAL, window):
        end = start + window
        assert sorted(shuffled[start:end]) == sorted(in_file_order[start:end])


def test_files_without_records_are_not_opened(files):
    expected = [stream(files, 3 * TOTAL, position=position) for position in (0, 5)]
    os.remove(files.paths[COUNTS.index(0)])
    assert [stream(files, 3 * TOTAL, position=position) for position in (0, 5)] == expected


def test_a_large_window_mixes_well(write_records):
    directory = write_records((200, 200))
    big = ExampleFiles(tuple(sorted(map(str, directory.iterdir()))), (200, 200), None)
    order = np.array(stream(big, 400, window=400, batch=100))
    assert abs(np.corrcoef(order, np.arange(400))[0, 1]) < 0.2


def test_resuming_at_any_position_continues_the_same_stream(files):
    """Every position of an epoch and some beyond: all boundaries of files, windows and epochs."""
    numbers = stream(files, 4 * TOTAL)
    for position in [*range(TOTAL + 2), 2 * TOTAL - 1, 3 * TOTAL]:
        resumed = stream(files, TOTAL, position=position)
        assert resumed == numbers[position : position + TOTAL], position


def test_resuming_far_ahead(files):
    far = 1_000_003 * TOTAL
    assert (
        stream(files, TOTAL, position=far + 6)[: TOTAL - 6]
        == stream(files, TOTAL, position=far)[6:]
    )


def test_the_batch_size_may_change_on_resuming(files):
    numbers = stream(files, 30, batch=3)
    assert stream(files, 30, batch=5) == numbers
    assert stream(files, 18, position=12, batch=6) == numbers[12:]


@pytest.mark.parametrize(("workers", "replicas"), [(1, 2), (2, 2), (2, 4)])
def test_workers_and_replicas_divide_the_rows_of_one_device(files, workers, replicas):
    global_batch, steps, local = 8, 6, replicas // workers
    expected = np.array(stream(files, global_batch * steps, batch=global_batch))
    rows = np.zeros([steps, replicas, global_batch // replicas], int)
    for worker in range(workers):
        dataset = files.training_dataset(
            Reading(3, LENGTH, 4), 0, global_batch, context(workers, worker, replicas)
        )
        for index, batch in enumerate(itertools.islice(dataset, steps * local)):
            step, replica = divmod(index, local)
            rows[step, worker * local + replica] = batch["input_ids"][:, 0]
    assert rows.ravel().tolist() == expected.tolist()


def test_shapes_are_static_int32(files):
    dataset = files.training_dataset(Reading(0, LENGTH, 4), 0, 6, context(1, 0, 3))
    spec = tf.TensorSpec([2, LENGTH], tf.int32)
    assert dataset.element_spec == dict.fromkeys(["input_ids", "input_mask", "segment_ids"], spec)
    # Deleting an iterator with an autotuner can take a minute.
    evaluation = files.evaluation_dataset(max_seq_length=LENGTH, global_batch_size=6, max_batches=1)
    assert [data.options().autotune.enabled for data in (dataset, evaluation)] == [False, False]


def test_a_strategy_gets_the_global_batch(files):
    """Through `distribute_datasets_from_function`, as the engine calls it."""
    devices = tf.config.list_logical_devices("CPU")[:1]
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    distributed = strategy.distribute_datasets_from_function(
        lambda input_context: files.training_dataset(Reading(3, LENGTH, 4), 5, 4, input_context)
    )
    batch = next(iter(distributed))
    rows = np.concatenate(strategy.experimental_local_results(batch["input_ids"]))
    assert rows[:, 0].tolist() == stream(files, 4, position=5)


# Devices are split before TensorFlow is initialized, hence a process of its own.
READS_AHEAD = """
import time
import tensorflow as tf
from electra_tf2.training.loop import distributed_iterator

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.device("CPU:0"):
    made = tf.Variable(0)
numbers = tf.data.Dataset.range(100).map(lambda number: (number, made.assign_add(1)))
iterator = distributed_iterator(tf.distribute.OneDeviceStrategy("/cpu:1"), lambda _: numbers)
number, _ = next(iterator)
last = time.monotonic() + 20
while made.numpy() < 2 and time.monotonic() < last:
    time.sleep(0.01)
print(int(number), number.device[-5:], made.numpy() >= 2)
"""


def test_batches_wait_on_the_host_and_are_drawn_ahead():
    printed = run_python("-c", READS_AHEAD, timeout=120).stdout
    assert printed.split() == ["0", "CPU:0", "True"]


def evaluate(files, batch, max_batches=None, input_context=None):
    return list(
        files.evaluation_dataset(
            max_seq_length=LENGTH,
            global_batch_size=batch,
            max_batches=max_batches,
            input_context=input_context,
        )
    )


@pytest.mark.parametrize("batch", [1, 4, TOTAL, 40])
def test_evaluation_sees_every_example_once_and_pads_the_last_batch(files, batch):
    batches = evaluate(files, batch)
    ids = np.concatenate([b["input_ids"] for b in batches])
    mask = np.concatenate([b["input_mask"] for b in batches])
    assert ids[:TOTAL, 0].tolist() == list(range(TOTAL))
    assert mask[:TOTAL].all() and not mask[TOTAL:].any() and not ids[TOTAL:].any()
    assert len(ids) == -(-TOTAL // batch) * batch


def test_evaluation_stops_after_max_batches(files):
    ids = np.concatenate([b["input_ids"] for b in evaluate(files, 4, max_batches=2)])
    assert ids[:, 0].tolist() == list(range(8))
    assert len(evaluate(files, 4, max_batches=100)) == 3


def test_every_replica_gets_a_block_of_the_padded_batch(files):
    batches = [evaluate(files, 20, input_context=context(2, worker, 4)) for worker in (0, 1)]
    ids = np.concatenate([b["input_ids"][:, 0] for worker in batches for b in worker])
    assert [len(worker) for worker in batches] == [2, 2]
    assert ids.tolist() == list(range(TOTAL)) + [0] * (20 - TOTAL)


def test_an_indivisible_batch_is_an_error(files):
    with pytest.raises(UserError, match="divided among the replicas"):
        evaluate(files, 6, input_context=context(1, 0, 4))
