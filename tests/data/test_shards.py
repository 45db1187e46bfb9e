import numpy as np
import pytest

from electra_tf2.data import shards
from electra_tf2.data.tfrecords import Records


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
