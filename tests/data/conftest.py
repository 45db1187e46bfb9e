"""Tiny TFRecords for the tests of this folder."""

import pytest
import tensorflow as tf


@pytest.fixture
def write_records(tmp_path):
    """Writes files of numbered examples: example n has input_ids [n, n, …] and a full mask."""

    def write(counts, *, length=4, folder="records", features=None):
        directory = tmp_path / folder
        directory.mkdir()
        number = 0
        for index, count in enumerate(counts):
            path = directory / f"pretrain_data.tfrecord-{index}-of-{len(counts)}"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for _ in range(count):
                    values = features or {
                        "input_ids": [number] * length,
                        "input_mask": [1] * length,
                        "segment_ids": [0] * length,
                    }
                    writer.write(serialize(values))
                    number += 1
        return directory

    return write


def serialize(values):
    """A tf.train.Example with integer features, as bytes."""
    feature = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
