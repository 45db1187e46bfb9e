"""Where the records of a training step lie."""

import pytest
import tensorflow as tf

from electra_tf2.data.open_records import RecordFiles
from electra_tf2.data.order import Reading, ordered_records
from electra_tf2.data.position import data_changes, describe_places, record_places

COUNTS = (5, 1, 9, 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files whose records say where they lie."""
    folder = tmp_path_factory.mktemp("places")
    paths = tuple(str(folder / f"shard-{number}") for number in range(len(COUNTS)))
    for path, count in zip(paths, COUNTS, strict=True):
        with tf.io.TFRecordWriter(path) as writer:
            for index in range(count):
                writer.write(f"{path} {index}".encode())
    return RecordFiles(paths, COUNTS, None)


@pytest.mark.parametrize("window", [1, 4, 19, 1000])
@pytest.mark.parametrize("position", [0, 17, 41])
def test_places_are_those_of_the_records_that_are_read(files, window, position):
    count = 25  # more than an epoch
    stream = ordered_records(
        files.paths, files.counts, seed=3, position=position, window_size=window
    )
    read = [record.numpy().decode() for record in stream.take(count)]
    places = record_places(files, Reading(3, 8, window), position, count)
    assert [f"{path} {index}" for path, index in places] == read


def test_description():
    places = [("b", 0), ("a", 3), ("b", 7)]
    assert describe_places(places) == "examples: 2 of b, 1 of a"
    many = [(str(number), 0) for number in range(11)]
    assert describe_places(many).endswith("1 of 7, and 3 more")


IDENTITY = {
    "records": "9 documents",
    "shards": 2,
    "contents": "aa bb",
    "build": {"seed": 0, "split_long_lines": False},
}


@pytest.mark.parametrize(
    "before, found",
    [
        ({}, []),
        ({"records": "8 documents", "shards": 1}, []),  # only told beside other contents
        ({"build": {"seed": 1}}, []),
        ({"build": {"split_long_lines": True}}, ["split_long_lines: True before, False now"]),
        ({"contents": "bb aa"}, ["the same shards in another order: a, b"]),
        ({"contents": "aa cc"}, ["contents: b"]),
        (
            {"contents": "aa", "shards": 1, "build": {"seed": 1}},
            ["shards: 1 before, 2 now", "seed: 1 before, 0 now"],
        ),
        ({"contents": 7, "build": [], "shards": None}, ["shards: None before, 2 now"]),  # damaged
    ],
)
def test_how_data_differ(before, found):
    assert data_changes({**IDENTITY, **before}, IDENTITY, ["a", "b"]) == found
