"""The folder that a Beam job's program and its workers share."""

import errno
import os

import pytest

from electra_tf2.data import beam_files
from electra_tf2.data.beam_files import JobFolder
from electra_tf2.data.builders import Counts
from electra_tf2.data.corpus import CorpusFile
from electra_tf2.data.shards import Shard
from electra_tf2.errors import UserError


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
        UserError("First.", where="a.txt, line 3", received=[1], remedy="Mend it."),
    ]
    for place, error in zip([(10, 0), (9, 11)], errors, strict=True):
        with folder.errors_reported(place):
            raise error

    assert folder.has_failed()
    with pytest.raises(UserError) as caught:
        folder.raise_reported()

    assert str(caught.value) == str(errors[1])
    assert (caught.value.where, caught.value.remedy) == ("a.txt, line 3", "Mend it.")


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
