"""Serialized records are the bytes that TensorFlow itself would write, and are found again."""

import os
import random

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.segments import ExamplePlan, SegmentPlanner, StreamDraws
from electra_tf2.data.tfrecords import (
    Examples,
    assemble_examples,
    parse_token_ids,
    serialize_documents,
    serialize_examples,
    walk_records,
)


def random_examples(count, length, vocab_size):
    generator = np.random.default_rng(count)
    lengths = generator.integers(3, length + 1, count)
    first = np.array([generator.integers(3, n + 1) for n in lengths])
    ids = generator.integers(0, vocab_size, (count, length), dtype=np.int32)
    ids[np.arange(length) >= lengths[:, None]] = 0
    return Examples(ids, first, lengths)


def as_protobuf(examples, row):
    length = examples.input_ids.shape[1]
    first, used = int(examples.first_lengths[row]), int(examples.lengths[row])
    values = {
        "input_ids": examples.input_ids[row].tolist(),
        "input_mask": [1] * used + [0] * (length - used),
        "segment_ids": [0] * first + [1] * (used - first) + [0] * (length - used),
    }
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.mark.parametrize(
    "count, length, vocab_size",
    # Ids of one to four bytes; lengths whose own length takes one to three bytes.
    [(1, 5, 100), (30, 128, 30522), (5, 60, 100), (20, 512, 300000), (4, 200, 3000000),
     (2, 20000, 200)],
)  # fmt: skip
def test_bytes_equal_those_of_tensorflow(count, length, vocab_size, tmp_path):
    examples = random_examples(count, length, vocab_size)
    path = str(tmp_path / "expected.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for row in range(count):
            writer.write(as_protobuf(examples, row).SerializeToString(deterministic=True))

    records = serialize_examples(examples)

    with open(path, "rb") as file:
        assert records.data == file.read()
    assert len(records.sizes) == count
    assert records.sizes.sum() == len(records.data)


def test_records_are_parsed_by_tensorflow(tmp_path):
    examples = random_examples(7, 16, 30522)
    path = tmp_path / "records"
    path.write_bytes(serialize_examples(examples).data)

    feature = tf.io.FixedLenFeature([16], tf.int64)
    names = ("input_ids", "input_mask", "segment_ids")
    parsed = [
        tf.io.parse_single_example(record, dict.fromkeys(names, feature))
        for record in tf.data.TFRecordDataset(str(path))
    ]

    assert len(parsed) == 7
    for row, got in enumerate(parsed):
        assert got["input_ids"].numpy().tolist() == examples.input_ids[row].tolist()
        assert int(tf.reduce_sum(got["input_mask"])) == examples.lengths[row]
        expected = as_protobuf(examples, row).features.feature["segment_ids"].int64_list.value
        assert got["segment_ids"].numpy().tolist() == list(expected)


def test_no_examples():
    records = serialize_examples(random_examples(0, 8, 10))

    assert records.data == b"" and len(records.sizes) == 0


def test_assembled_segments():
    values = np.arange(10, 40, dtype=np.int32)
    plans = [
        ExamplePlan([(0, 2), (5, 1)], [(3, 2)], tokens=5, dropped=0),
        ExamplePlan([(20, 3)], [], tokens=9, dropped=6),
    ]

    examples = assemble_examples(plans, values, 10, cls_id=2, sep_id=3)

    assert examples.input_ids.tolist() == [
        [2, 10, 11, 15, 3, 13, 14, 3, 0, 0],
        [2, 30, 31, 32, 3, 0, 0, 0, 0, 0],
    ]
    assert examples.first_lengths.tolist() == [5, 5]
    assert examples.lengths.tolist() == [8, 5]


def test_longest_example_fills_its_row():
    planner = SegmentPlanner(12, StreamDraws(random.Random(1)))
    for _ in range(50):
        planner.add_sentence(0, 7)
        planner.add_sentence(7, 9)
    plans = planner.take_finished()

    examples = assemble_examples(plans, np.arange(16, dtype=np.int32), 12, 1, 2)

    assert examples.lengths.max() == 12
    assert (examples.lengths <= 12).all()


@pytest.mark.parametrize("vocab_size, kind", [(1 << 16, "<u2"), ((1 << 16) + 1, "<u4")])
def test_documents_of_all_sizes_have_their_checksums(tmp_path, vocab_size, kind):
    """TensorFlow's reader verifies them."""
    generator = np.random.default_rng(0)
    sizes = [1, 5000, 60, 300, 2]
    splits = np.concatenate([[0], np.cumsum(sizes)])
    token_ids = generator.choice([0, 127, 30521, vocab_size - 1], splits[-1])
    records = serialize_documents(
        token_ids, splits, np.array(sizes), np.arange(len(sizes) + 1), vocab_size
    )
    path = tmp_path / "records"
    path.write_bytes(records.data)
    assert records.sizes.sum() == len(records.data)
    read = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    for record, start, end in zip(read, splits[:-1], splits[1:], strict=True):
        feature = tf.train.Example.FromString(record).features.feature["token_ids"]
        assert feature.bytes_list.value == [token_ids[start:end].astype(kind).tobytes()]
    strings = [b"".join(f.bytes_list.value) for f in [feature]]
    assert parse_token_ids(strings, sizes[-1]).tolist() == token_ids[-sizes[-1] :].tolist()


def test_the_walk_agrees_with_the_writer_across_chunks(tmp_path, monkeypatch):
    """Records longer and shorter than what is read at once."""
    monkeypatch.setattr("electra_tf2.data.tfrecords._CHUNK_BYTES", 50)
    path = str(tmp_path / "records")
    lengths = np.random.default_rng(0).integers(0, 130, size=60).tolist()
    with tf.io.TFRecordWriter(path) as writer:
        for length in lengths:
            writer.write(b"x" * length)
    records = list(walk_records(path))
    assert [record.length for record in records] == lengths
    assert records[-1].end == os.path.getsize(path)
