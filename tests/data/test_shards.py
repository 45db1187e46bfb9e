"""The files of a data set: records dealt to shards, and metadata.json."""

import dataclasses
import json

import numpy as np
import pytest

from electra_tf2.data import shards
from electra_tf2.data.shards import DatasetMetadata, Shard, read_metadata, write_metadata
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError


def records(*contents):
    return Records(b"".join(contents), np.array([len(content) for content in contents], np.int64))


@pytest.mark.parametrize("buffered_bytes", [1, 5, 1 << 20])
def test_records_are_dealt_in_turn(tmp_path, monkeypatch, buffered_bytes):
    monkeypatch.setattr(shards, "_BUFFERED_BYTES", buffered_bytes)
    writer = shards.ShardWriter(str(tmp_path), 3)

    writer.write(records(b"a", b"bb"))
    writer.write(records())
    writer.write(records(b"ccc", b"d", b"e"))
    done = writer.finish()

    names = [f"pretrain_data.tfrecord-{i}-of-3" for i in range(3)]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"ad", b"bbe", b"ccc"]
    assert [(s.name, s.examples, s.bytes) for s in done] == [
        (names[0], 2, 2),
        (names[1], 2, 3),
        (names[2], 1, 3),
    ]


def test_shards_without_records_are_there_too(tmp_path):
    writer = shards.ShardWriter(str(tmp_path), 4)
    writer.write(records(b"a"))

    assert [shard.examples for shard in writer.finish()] == [1, 0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 4


def test_many_more_shards_than_open_files(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 100), hard))
    try:
        writer = shards.ShardWriter(str(tmp_path), 300)
        writer.write(records(*[b"x"] * 600))
        done = writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert {shard.bytes for shard in done} == {2}


METADATA = DatasetMetadata(
    vocab_sha256="ab" * 32,
    vocab_size=100,
    max_seq_length=64,
    do_lower_case=True,
    strip_accents=False,
    blanks_separate_docs=True,
    sampling="chunked",
    seed=-3,
    num_examples=5,
    shards=(Shard("a", 3, 300), Shard("b", 2, 200)),
    counts={"lines": 10, "tokens": 500},
    electra_tf2_version="1.2.3",
    split_long_lines=True,
)


def test_what_is_written_is_read(tmp_path):
    write_metadata(str(tmp_path), METADATA)

    assert read_metadata(str(tmp_path)) == METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.json"]
    content = json.loads((tmp_path / "metadata.json").read_text())
    assert content["format_version"] == 1
    assert content["shards"][1] == {"name": "b", "examples": 2, "bytes": 200}


def test_data_of_the_official_program_have_none(tmp_path):
    assert read_metadata(str(tmp_path)) is None


def test_optional_fields_may_be_missing_and_unknown_ones_there(tmp_path):
    content = {**dataclasses.asdict(METADATA), "note": "something newer"}
    del content["split_long_lines"]
    (tmp_path / "metadata.json").write_text(json.dumps(content))

    expected = dataclasses.replace(METADATA, split_long_lines=False)
    assert read_metadata(str(tmp_path)) == expected


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format_version": 3}, "format_version 3"),
        ({"format_version": 2}, "format_version 2 with segmentation 'static'"),
        ({"segmentation": "dynamic"}, "format_version 1 with segmentation 'dynamic'"),
        ({"format_version": None}, "format_version None"),
        ({"seed": "7"}, "field seed"),
        ({"num_examples": True}, "field num_examples"),
        ({"do_lower_case": 1}, "field do_lower_case"),
        ({"num_examples": 6}, "not the sum"),
        ({"shards": [{"name": "a"}]}, "field shards[0].examples"),
        ({"shards": {"a": 1}}, "field shards"),
        ({"counts": {"lines": "many"}}, "field counts.lines"),
        ({"counts": {"lines": 10**400}}, "field counts.lines"),
        ({"counts": {"lines": -1}}, "field counts.lines"),
        ({"max_seq_length": -1}, "field max_seq_length"),
        ({"shards": [{"name": "a", "examples": 1, "bytes": -1}]}, "field shards[0].bytes"),
        ({"vocab_size": 1 << 63}, "9223372036854775808, not an integer of 64 bits"),
        ({"shards": [{"name": "a", "examples": 10**400, "bytes": 1}]}, "shards[0].examples"),
    ],
)
def test_damaged_fields(tmp_path, change, message):
    content = dataclasses.asdict(METADATA) | change
    (tmp_path / "metadata.json").write_text(json.dumps(content))

    with pytest.raises(UserError) as caught:
        read_metadata(str(tmp_path))

    assert message in str(caught.value)
    assert caught.value.where.startswith(str(tmp_path / "metadata.json"))
    assert caught.value.remedy


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(METADATA)][:12])
def test_missing_field(tmp_path, field):
    content = dataclasses.asdict(METADATA)
    del content[field]
    (tmp_path / "metadata.json").write_text(json.dumps(content))

    with pytest.raises(UserError, match=f"field {field}"):
        read_metadata(str(tmp_path))


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_not_a_json_object(tmp_path, content):
    (tmp_path / "metadata.json").write_bytes(content)

    with pytest.raises(UserError, match="metadata of the data set"):
        read_metadata(str(tmp_path))
