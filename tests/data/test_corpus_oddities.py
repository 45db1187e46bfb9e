"""Corpus folders with things in them that are no text files, or have odd names."""

import os

import pytest

from electra_tf2.data.corpus import chunk_stream, find_files
from electra_tf2.errors import UserError


def test_a_pipe_is_refused_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("text\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a file nor a folder") as error:
        find_files(str(tmp_path), "--corpus-dir")
    assert error.value.where.endswith("pipe")


def test_a_name_that_is_not_utf8_has_a_stream_of_its_own():
    odd = chunk_stream(0, os.fsdecode(b"a\xff.txt"), 0).random()
    assert odd != chunk_stream(0, "a.txt", 0).random()
    assert odd == chunk_stream(0, os.fsdecode(b"a\xff.txt"), 0).random()
