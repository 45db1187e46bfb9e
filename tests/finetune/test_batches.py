"""Batches by length: every example once an epoch, of about equal length, in a fixed order."""

import numpy as np
import pytest
import tensorflow as tf

from finetune.batches import (
    WINDOW,
    Batching,
    describe_batch,
    permutation,
    scoring_dataset,
    training_dataset,
)
from finetune.feature_tables import NO_ROW, FeatureTable, TaskData
from finetune.task import MORE_IDS, MORE_SEGMENTS, MORE_TEXTS, FeatureSpec


def make_data(n, longest=50, seed=0):
    lengths = np.random.default_rng(seed).integers(2, longest + 1, n)
    rows = [
        {"eid": i, "input_ids": np.full(k, i + 1), "segment_ids": np.zeros(k)}
        for i, k in enumerate(lengths)
    ]
    return TaskData(["task"], [FeatureTable.from_rows(rows, [])], [[]])


def all_rows(plans):
    return [row for plan in plans for row in plan.rows if row != NO_ROW]


def test_permutation_is_pinned():
    """Sorted Philox words: the same on every machine and with every NumPy."""
    assert permutation(0, "examples", 0, 8).tolist() == [5, 3, 7, 2, 4, 1, 0, 6]
    assert sorted(permutation(5, "batches", 3, 100)) == list(range(100))
    kinds = [(0, "examples", 0), (1, "examples", 0), (0, "batches", 0), (0, "examples", 1)]
    assert len({tuple(permutation(*kind, 50)) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_every_example_once_an_epoch(n, pad):
    lengths = make_data(n).lengths
    batching = Batching(8, 50, pad)
    for plans in (batching.epoch(lengths, 3, 0), batching.by_length(lengths)):
        assert len(plans) == batching.batches_per_epoch(n) == -(-n // 8)
        assert sorted(all_rows(plans)) == list(range(n))
        assert sum((plan.rows == NO_ROW).sum() for plan in plans) == -n % 8
        for plan in plans:
            longest = lengths[plan.rows[plan.rows != NO_ROW]].max()
            assert plan.length == (50 if pad else longest)


def test_few_lengths_where_each_is_compiled():
    lengths = np.array([3, 7, 8, 13, 14, 25, 26, 50])
    plans = Batching(1, 50, few_lengths=True).by_length(lengths)
    assert [plan.length for plan in plans] == [50, 32, 32, 16, 16, 8, 8, 8]


def test_sorting_is_within_windows_and_batches_are_shuffled():
    n, size = 8 * WINDOW * 3, 8
    lengths = make_data(n).lengths
    plans = Batching(size, 50).epoch(lengths, 0, 0)
    order = permutation(0, "examples", 0, n)
    windows = [set(order[i : i + size * WINDOW]) for i in range(0, n, size * WINDOW)]
    for plan in plans:
        assert sum(set(plan.rows) <= window for window in windows) == 1
    spread = np.mean([np.ptp(lengths[plan.rows]) for plan in plans])
    assert spread < 2  # of lengths from 2 to 50
    means = np.array([lengths[plan.rows].mean() for plan in plans])
    assert (np.diff(means) > 0).mean() == pytest.approx(0.5, abs=0.2)


def test_unsorted_batches_are_random_ones_padded_to_their_longest():
    lengths = make_data(800).lengths
    order = permutation(4, "examples", 2, 800)
    plans = Batching(8, 50, sort=False).epoch(lengths, 4, 2)
    assert [plan.rows.tolist() for plan in plans] == order.reshape(-1, 8).tolist()
    full = Batching(8, 50, pad_to_max_length=True).epoch(lengths, 4, 2)
    assert [plan.rows.tolist() for plan in plans] == [plan.rows.tolist() for plan in full]
    assert np.mean([plan.length for plan in plans]) < 50


def test_epochs_differ_and_repeat():
    lengths = make_data(100).lengths
    first, again, second = (
        [plan.rows.tolist() for plan in Batching(8, 50).epoch(lengths, 0, epoch)]
        for epoch in (0, 0, 1)
    )
    assert first == again != second


def elements(dataset, n):
    return [{k: v.numpy() for k, v in element.items()} for element in dataset.take(n)]


@pytest.mark.parametrize("position", [0, 8, 40, 48, 96])
def test_training_goes_on_at_a_position(position):
    """45 examples are 6 batches of 8: position 48 is the start of the second epoch."""
    data = make_data(45)
    batching = Batching(8, 50)
    whole = elements(training_dataset(data, batching, seed=2, position=0, num_steps=14), 15)
    rest = elements(training_dataset(data, batching, seed=2, position=position, num_steps=2), 3)
    assert (len(whole), len(rest)) == (14, 2)
    for expected, actual in zip(whole[position // 8 :], rest, strict=False):
        for name in expected:
            np.testing.assert_array_equal(actual[name], expected[name])


def test_replicas_share_a_batch():
    data = make_data(21)
    batching = Batching(8, 50)
    alone = elements(scoring_dataset(data, batching), 3)
    context = tf.distribute.InputContext(num_replicas_in_sync=2)
    shared = elements(scoring_dataset(data, batching, context), 6)
    for i, whole in enumerate(alone):
        for name, values in whole.items():
            parts = [shared[2 * i][name], shared[2 * i + 1][name]]
            np.testing.assert_array_equal(np.concatenate(parts), values)


def test_rows_without_an_example_are_empty():
    batch = make_data(3).batch(np.array([2, NO_ROW]), 50)
    assert batch["task_id"].tolist() == [0, 1]
    assert batch["row"].tolist() == [2, NO_ROW]
    assert batch["input_ids"][0].max() == 3 and batch["input_mask"][0].any()
    for name in ("input_ids", "input_mask", "segment_ids"):
        assert not batch[name][1].any()


def test_a_batch_made_at_once_is_that_of_the_pipeline():
    """Of tasks with features of all kinds, and with rows that have no example."""
    specs = [
        FeatureSpec("number"),
        FeatureSpec("scores", is_int_feature=False, size=3),
        FeatureSpec("marks", per_token=True, is_int_feature=False, size=2),
        *MORE_TEXTS,
    ]
    draw = np.random.default_rng(3)
    rows = []
    for eid in range(6):
        texts = [draw.integers(1, 50, draw.integers(0, 9)) for _ in range(2)]
        own = {"number": eid, "scores": draw.normal(size=3), "marks": draw.normal(size=(eid, 2))}
        own |= {MORE_IDS: texts, MORE_SEGMENTS: [text % 2 for text in texts]}
        rows.append({"eid": eid, "input_ids": np.arange(eid), "segment_ids": np.ones(eid), **own})
    several = FeatureTable.from_rows(rows, specs)
    data = TaskData(["plain", "several"], [numbered(5, 100), several], [[], specs])
    for chosen in ([0, 7, NO_ROW, 10, 4], [NO_ROW], [9]):
        expected = data.gather(tf.constant(chosen, tf.int64), tf.constant(11, tf.int64))
        batch = data.batch(np.array(chosen), 11)
        assert batch.keys() == expected.keys() and f"several/{MORE_IDS}" in batch
        for name, value in expected.items():
            assert batch[name].dtype == value.numpy().dtype
            np.testing.assert_array_equal(batch[name], value, err_msg=name)


def test_batches_of_any_size_have_one_signature():
    """Otherwise every request would be another graph; only a single row has one of its own."""

    def choices(count, n=5):
        own = {MORE_IDS: [np.arange(3)] * count, MORE_SEGMENTS: [np.zeros(3)] * count}
        row = {"eid": 0, "input_ids": np.arange(3), "segment_ids": np.zeros(3), **own}
        return TaskData(["t"], [FeatureTable.from_rows([row] * n, MORE_TEXTS)], [MORE_TEXTS])

    for data, other in ((make_data(8), make_data(9)), (choices(2), choices(4))):
        batches = data.batch(np.arange(4), 50), other.batch(np.arange(3), 60)
        signature = data.signature(batches[0])
        assert signature == other.signature(batches[1])
        for name, spec in signature.items():
            assert all(spec.is_compatible_with(tf.constant(own[name])) for own in batches)
        alone = data.signature(data.batch(np.arange(1), 50))
        assert {spec.shape[0] for spec in alone.values()} == {1}


def numbered(n, first_eid):
    """Examples of their own lengths; every token is the example's number."""
    rows = [
        {"eid": first_eid + i, "input_ids": np.full(2 + i % 5, first_eid + i)} for i in range(n)
    ]
    return FeatureTable.from_rows([{**row, "segment_ids": row["input_ids"]} for row in rows], [])


@pytest.mark.parametrize("position", [0, 8, 40, 64])  # the last two in later epochs
def test_the_examples_of_a_batch_are_named(position):
    data = TaskData(["mrpc", "cola"], [numbered(20, 100), numbered(9, 500)], [[], []])
    batching = Batching(8, 16)
    dataset = training_dataset(data, batching, seed=4, position=position, num_steps=1)
    assert dataset.options().autotune.enabled is False  # see `without_autotuning`
    (batch,) = dataset.as_numpy_iterator()
    numbers = sorted(set(batch["input_ids"][:, 0]) - {0})  # 0: rows that fill the batch up
    mrpc, cola = [n for n in numbers if n < 500], [n for n in numbers if n >= 500]
    parts = [f"mrpc {', '.join(map(str, mrpc))}"] if mrpc else []
    parts += [f"cola {', '.join(map(str, cola))}"] if cola else []
    said = describe_batch(data, batching, seed=4, position=position)
    assert said == "examples: " + "; ".join(parts)


def test_many_examples_of_a_batch_are_counted():
    data = TaskData(["mrpc"], [numbered(30, 1)], [[]])
    said = describe_batch(data, Batching(30, 16), seed=0, position=0)
    assert said == f"examples: mrpc {', '.join(map(str, range(1, 17)))} and 14 more"
