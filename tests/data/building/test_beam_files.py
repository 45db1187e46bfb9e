"""The files of a Beam job: pieces put together are one builder's shards; the shared folder."""

import errno
import os
import random

import numpy as np
import pytest

from electra_tf2 import files
from electra_tf2.data.building import beam_files
from electra_tf2.data.building.beam_files import JobFolder, lay_out, write_pieces, write_shard
from electra_tf2.data.building.builders import Counts, Part
from electra_tf2.data.shards import Shard, ShardWriter
from electra_tf2.data.sources.found import CorpusFile
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError


def make_parts(stream, number):
    """Parts of 0 to 9 records of different sizes."""
    result = []
    for _ in range(number):
        texts = [bytes([stream.randrange(256)]) * stream.randint(1, 40) for _ in
                 range(stream.randrange(10))]  # fmt: skip
        sizes = np.array([len(text) for text in texts], np.int64)
        counts = Counts(lines=1, tokens=2, examples=len(texts), source_bytes=3)
        result.append(Part(Records(b"".join(texts), sizes), counts))
    return result


def test_shards_are_those_of_one_writer_whatever_the_cuts(tmp_path):
    stream = random.Random(5)
    for trial in range(20):
        num_shards = stream.choice([1, 2, 3, 7, 20])
        parts = make_parts(stream, 12)
        one, many = tmp_path / f"one{trial}", tmp_path / f"many{trial}"
        one.mkdir(), many.mkdir()
        writer = ShardWriter(str(one), num_shards)
        for part in parts:
            writer.write(part.records)
        expected = writer.finish()

        pieces = []
        cuts = sorted(stream.sample(range(13), 3))
        for place, (start, end) in enumerate(zip([0, *cuts], [*cuts, 12], strict=True)):
            piece_bytes = stream.choice([1, 100, 10**6])
            given = iter(parts[start:end])
            pieces += write_pieces(given, str(many), (7, place), num_shards, piece_bytes)
        stream.shuffle(pieces)
        layout = lay_out(pieces)
        shards = [write_shard(layout, index, num_shards, str(many), str(many)) for index in
                  range(num_shards)]  # fmt: skip

        assert tuple(shards) == expected
        assert layout.counts.examples == sum(part.counts.examples for part in parts)
        assert (layout.counts.lines, layout.counts.tokens) == (12, 24)
        for shard in shards:
            assert (many / shard.name).read_bytes() == (one / shard.name).read_bytes()
            assert (many / shard.name).stat().st_size == shard.bytes


def test_a_second_attempt_does_not_touch_the_first(tmp_path):
    parts = make_parts(random.Random(1), 5)
    first = list(write_pieces(iter(parts), str(tmp_path), (0,), 3, 10**6))
    before = [open(piece.path, "rb").read() for piece in first]

    second = list(write_pieces(iter(parts), str(tmp_path), (0,), 3, 10**6))

    assert [open(piece.path, "rb").read() for piece in first] == before
    assert [piece.counts for piece in second] == [piece.counts for piece in first]
    assert not {piece.path for piece in first} & {piece.path for piece in second}


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 40)])
def test_damaged_piece_is_named_and_no_shard_is_left(tmp_path, damage):
    pieces = list(write_pieces(make_parts(random.Random(2), 9), str(tmp_path), (0,), 4, 10**6))
    damage(pieces[0].path)
    (tmp_path / "out").mkdir()

    with pytest.raises(UserError, match="gone or damaged") as caught:
        write_shard(lay_out(pieces), 3, 4, str(tmp_path / "out"), str(tmp_path / "out"))

    assert caught.value.where == pieces[0].path
    assert list((tmp_path / "out").iterdir()) == []


def test_piece_that_can_not_be_written_makes_room_again(tmp_path, monkeypatch):
    opened = open

    def open_full(path, mode="rb"):
        file = opened(path, mode, buffering=0)
        return FullFile(file)

    class FullFile:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, content):
            self._file.write(content[:8])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "open_binary", open_full)

    with pytest.raises(OSError, match="No space left"):
        list(write_pieces(make_parts(random.Random(2), 9), str(tmp_path), (0,), 4, 10**6))

    assert list(tmp_path.iterdir()) == []


def make_folder(tmp_path, sizes=(), stretch_bytes=100):
    folder = JobFolder(str(tmp_path), "out")
    ordered = [CorpusFile(f"n{i}", f"/corpus/n{i}", size) for i, size in enumerate(sizes)]
    return folder, ordered, folder.make(ordered, stretch_bytes)


def test_stretches_hold_all_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(beam_files, "STRETCH_FILES", 3)
    sizes = [10, 100, 99, 1, 5, 5, 5, 5, 200, 3]
    folder, ordered, stretches = make_folder(tmp_path, sizes)

    lists = [folder.files_of(stretch) for stretch in stretches]

    assert [file for files in lists for file in files] == ordered
    assert [len(files) for files in lists] == [2, 2, 3, 2, 1]
    assert [stretch.number for stretch in stretches] == [0, 1, 2, 3, 4]


def test_names_that_are_not_utf_8_and_relative_paths(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9\n")
    folder = JobFolder(str(tmp_path), "out")

    stretches = folder.make([CorpusFile(name, "corpus/" + name, 4)], 100)

    assert folder.files_of(stretches[0]) == [CorpusFile(name, os.path.abspath("corpus/" + name), 4)]


def test_first_error_in_the_corpus_is_raised_with_all_its_fields(tmp_path):
    folder, _, _ = make_folder(tmp_path)
    assert not folder.has_failed()
    folder.raise_reported()
    errors = [
        UserError("Second.", received="text"),
        UserError("First.", where="a.txt, line 3", received=[1], remedy="Fix it."),
    ]
    for place, error in zip([(10, 0), (9, 11)], errors, strict=True):
        with folder.errors_reported(place):
            raise error

    assert folder.has_failed()
    with pytest.raises(UserError) as caught:
        folder.raise_reported()

    assert str(caught.value) == str(errors[1])
    assert (caught.value.where, caught.value.remedy) == ("a.txt, line 3", "Fix it.")


def test_full_disk_and_bugs(tmp_path):
    folder, _, _ = make_folder(tmp_path)
    with folder.errors_reported((1,)):
        raise ZeroDivisionError("none left")
    with pytest.raises(RuntimeError, match="(?s)test_full_disk_and_bugs.*ZeroDivisionError: none"):
        folder.raise_reported()

    with folder.errors_reported((0,)):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(UserError, match="(?s)disk is full.*where: out"):
        folder.raise_reported()


def test_a_lack_of_memory(tmp_path):
    folder, _, _ = make_folder(tmp_path)
    with folder.errors_reported((1,)):
        raise MemoryError
    with pytest.raises(UserError, match="not enough memory"):
        folder.raise_reported()


def test_worker_that_does_not_see_the_folder(tmp_path):
    folder, _, _ = make_folder(tmp_path)
    folder.check()
    folder.remove()

    with pytest.raises(UserError, match="(?s)doesn't see.*received: out.*network file system"):
        folder.check()

    assert list(tmp_path.iterdir()) == []


def test_result(tmp_path):
    folder, _, _ = make_folder(tmp_path)
    assert folder.read_result() is None
    shards = (Shard("a", 3, 100), Shard("b", 2, 70))

    folder.write_result(Counts(examples=5, tokens=9), shards)

    assert folder.read_result() == (Counts(examples=5, tokens=9), shards)
