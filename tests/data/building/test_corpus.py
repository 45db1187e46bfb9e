"""Corpus folders: which files are found, where they are cut, and what is refused."""

import os
import random

import pytest

from electra_tf2.data.building import corpus
from electra_tf2.data.building.corpus import chunk_stream
from electra_tf2.data.sources import chunks as plain_text
from electra_tf2.data.sources.chunks import check_utf8, plan_chunks, read_chunk, split_lines
from electra_tf2.data.sources.found import CorpusFile, find_files
from electra_tf2.errors import UserError


def make_file(tmp_path, content, name="a.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return CorpusFile(name, str(path), len(content))


def test_lines_end_at_newlines_only():
    text = "one\r\n\u2028two\x0bthree\u2029 \rfour\n\n\t\x85\xa0\n five "

    assert split_lines(text) == ["one", "two\x0bthree\u2029 \rfour", "", "", "five"]


def test_finds_files_in_subfolders_but_not_hidden_ones(tmp_path):
    for name in ["b.txt", "sub/a.txt", ".DS_Store", "sub/.hidden/x", "a"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")

    found, hidden = find_files(str(tmp_path), "--corpus-dir")

    assert [file.name for file in found] == ["a", "b.txt", "sub/a.txt"]
    assert hidden == 2
    assert {file.size for file in found} == {4}


@pytest.mark.parametrize("at_blank_lines", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_chunks_cover_a_file_and_end_where_they_may(tmp_path, seed, at_blank_lines):
    stream = random.Random(seed)
    lines = [
        stream.choice(["", " \t", "\u2003", "x" * stream.randint(1, 30), "ü" * 7, "\r"])
        for _ in range(400)
    ]
    file = make_file(tmp_path, "\n".join(lines).encode())
    content = (tmp_path / "a.txt").read_bytes()

    chunks = list(
        plan_chunks(file, at_blank_lines=at_blank_lines, chunk_bytes=100, largest_bytes=400)
    )

    assert len(chunks) > 10
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert "".join(map(read_chunk, chunks)).encode() == content
    for chunk, following in zip(chunks, chunks[1:], strict=False):
        assert chunk.end == following.start
        last_line = read_chunk(chunk).split("\n")[-2]
        assert content[chunk.end - 1 : chunk.end] == b"\n"
        assert chunk.end - chunk.start >= 100
        if at_blank_lines:
            assert following.continues == bool(last_line.strip())
            # The first blank line after the 100th byte is taken.
            text = content[chunk.start + 100 : chunk.end].decode("utf-8", "ignore")
            assert all(line.strip() for line in text.split("\n")[1:-2])
        else:
            assert following.continues
            assert b"\n" not in content[chunk.start + 100 : chunk.end - 1]


def test_text_without_blank_lines_is_cut_at_a_line(tmp_path):
    file = make_file(tmp_path, b"0123456789\n" * 100)

    chunks = list(plan_chunks(file, at_blank_lines=True, chunk_bytes=50, largest_bytes=200))

    assert [chunk.end - chunk.start for chunk in chunks] == [209, 209, 209, 209, 209, 55]
    assert [chunk.continues for chunk in chunks] == [False, True, True, True, True, True]


def test_a_line_longer_than_a_chunk_stays_whole(tmp_path):
    file = make_file(tmp_path, b"x" * 1000 + b"\n\nend")

    chunks = list(plan_chunks(file, at_blank_lines=True, chunk_bytes=10, largest_bytes=20))

    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 1001), (1001, 1005)]


@pytest.mark.parametrize("from_chunk", [False, True])
def test_place_of_a_byte_that_is_not_utf8(tmp_path, monkeypatch, from_chunk):
    monkeypatch.setattr(plain_text, "_CHECKED_BLOCK_BYTES", 16)
    content = "first line ü\nsecond\n\nfourth ".encode() + b"\xe9t\xe9\nlast\n"
    file = make_file(tmp_path, content)
    offset = content.index(b"\xe9")

    with pytest.raises(UserError) as caught:
        if from_chunk:
            for chunk in plan_chunks(file, at_blank_lines=False, chunk_bytes=16):
                read_chunk(chunk)
        else:
            check_utf8(file)

    assert caught.value.where == f"{file.path}, line 4, byte {offset} of the file (counted from 0)"
    assert "0xe9" in caught.value.received


def test_a_file_that_shrinks_is_an_error(tmp_path):
    file = make_file(tmp_path, b"text\n" * 10)
    (chunk,) = plan_chunks(file, at_blank_lines=True)
    (tmp_path / "a.txt").write_bytes(b"text\n")

    with pytest.raises(UserError, match="shorter") as caught:
        read_chunk(chunk)

    assert caught.value.received == "5 bytes instead of 50"


def test_small_files_share_a_task_and_keep_their_streams(tmp_path):
    names = [f"{number}.txt" for number in range(5)]
    files = [make_file(tmp_path, b"some words\n", name) for name in names]
    text = corpus.TextCorpus(files, 16, seed=3)

    (task,) = text.tasks()
    states = [passage.stream.planner._draws._stream.getstate() for passage in text.passages(task)]

    assert sorted(chunk.file.name for chunk in task) == names
    assert [chunk.file.name for chunk in task] != names, "the files are shuffled"
    expected = [random.Random(f"3/{chunk.file.name}/0").getstate() for chunk in task]
    assert states == expected


def test_a_pipe_is_refused_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("text\n")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a file nor a folder") as error:
        find_files(str(tmp_path), "--corpus-dir")
    assert error.value.where.endswith("pipe")


@pytest.mark.parametrize("link", ["sub/link", "sub/more/link"])
def test_a_link_that_leads_back_is_refused(tmp_path, link):
    for folder in ("sub/more", "other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text("text\n")
    (tmp_path / "twice").symlink_to("other")  # which is no circle
    assert len(find_files(str(tmp_path), "--corpus-dir")[0]) == 2
    (tmp_path / link).symlink_to(tmp_path / "sub")
    with pytest.raises(UserError, match="leads back") as error:
        find_files(str(tmp_path), "--corpus-dir")
    assert error.value.where == str(tmp_path / link)
    (tmp_path / link).unlink()

    (tmp_path / "other" / "there").symlink_to("../sub")
    (tmp_path / link).symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="leads back"):
        find_files(str(tmp_path), "--corpus-dir")


def test_a_file_that_vanishes(tmp_path):
    file = make_file(tmp_path, b"text\n")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError) as error:
        list(map(read_chunk, plan_chunks(file, at_blank_lines=True)))
    assert error.value.where == file.path and "while the program runs" in error.value.remedy


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "a.txt").symlink_to("nowhere")
    with pytest.raises(UserError) as error:
        find_files(str(tmp_path), "--corpus-dir")
    assert "a link to nowhere" in error.value.received and "the link" in error.value.remedy


def test_a_name_that_is_not_utf8_has_a_stream_of_its_own():
    odd = chunk_stream(0, os.fsdecode(b"a\xff.txt"), 0).random()
    assert odd != chunk_stream(0, "a.txt", 0).random()
    assert odd == chunk_stream(0, os.fsdecode(b"a\xff.txt"), 0).random()
