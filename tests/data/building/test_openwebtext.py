import io
import lzma
import random
import shutil
import subprocess
import tarfile

import pytest
import zstandard

from electra_tf2.data.building import openwebtext
from electra_tf2.data.building.openwebtext import TarCorpus
from electra_tf2.data.sources.found import CorpusFile, find_files
from electra_tf2.errors import UserError


def write_archive(path, members, mode="w"):
    """Writes a tar archive of (name, bytes) pairs."""
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return CorpusFile(path.name, str(path), path.stat().st_size)


def documents(passages):
    """The lines of each document."""
    result, lines = [], []
    for passage in passages:
        assert not passage.blanks_separate
        lines += passage.lines
        if passage.ends_document:
            result.append(lines)
            lines = []
    assert not lines
    return result


@pytest.mark.parametrize("compression", ["", ":gz", ":bz2", ":xz"])
def test_every_member_is_a_document(tmp_path, monkeypatch, compression):
    monkeypatch.setattr(openwebtext, "_BLOCK_BYTES", 20)
    long_text = "\n".join(f"line {n} ü" for n in range(30))
    members = [("b.txt", b"two\n\nlines\n"), ("a.txt", long_text.encode()), ("empty.txt", b"")]
    archive = write_archive(tmp_path / "archive", members, "w" + compression)
    corpus = TarCorpus([archive], 16)

    corpus.check()
    (task,) = corpus.tasks()
    passages = list(corpus.passages(task))

    assert documents(passages) == [["two", "", "lines"], long_text.split("\n"), []]
    assert sum(passage.source_bytes for passage in passages) == archive.size
    assert len({id(passage.stream) for passage in passages}) == 1


def test_nothing_is_extracted_and_only_files_are_read(tmp_path):
    outside = tmp_path / "outside.txt"
    inner = tmp_path / "inner"
    inner.mkdir()
    with tarfile.open(inner / "evil.tar", "w") as tar:
        for name in ["../outside.txt", str(outside)]:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("special")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    file = CorpusFile("evil.tar", str(inner / "evil.tar"), 1)

    assert documents(TarCorpus([file], 16).passages(file)) == [["text"], ["text"]]
    assert not outside.exists()
    assert [path.name for path in inner.iterdir()] == ["evil.tar"]


def test_official_order_is_one_stream(tmp_path):
    files = [
        write_archive(tmp_path / f"{letter}.tar", [(f"{n}.txt", f"{letter}{n}".encode())
                                                   for n in (2, 0, 1)])
        for letter in "abc"
    ]  # fmt: skip
    stream = random.Random(5)
    expected = []
    order = list("abc")
    stream.shuffle(order)
    for letter in order:
        names = ["0", "1", "2"]
        stream.shuffle(names)
        expected += [[letter + name] for name in names]

    passages = list(TarCorpus(files, 16, seed=5).official_passages())

    assert documents(passages) == expected
    assert passages[0].stream.planner._draws._stream.getstate() == stream.getstate()


def test_member_that_is_not_utf8(tmp_path):
    archive = write_archive(tmp_path / "a.tar", [("x.txt", b"fine\nna\xefve\n")])

    with pytest.raises(UserError) as caught:
        list(TarCorpus([archive], 16).passages(archive))

    place = f"{archive.path}, member x.txt, line 2, byte 7 of the file (counted from 0)"
    assert caught.value.where == place


@pytest.mark.parametrize("compression", ["", ":gz", ":bz2", ":xz"])
def test_truncated_archive(tmp_path, compression):
    text = random.Random(0).randbytes(30000).hex().encode()
    archive = write_archive(tmp_path / "a.tar", [("x.txt", text)], "w" + compression)
    path = tmp_path / "a.tar"
    path.write_bytes(path.read_bytes()[:9000])

    with pytest.raises(UserError, match="not a tar archive, or is damaged") as caught:
        list(TarCorpus([archive], 16).passages(archive))

    assert caught.value.where.startswith(archive.path)


@pytest.mark.parametrize("compression", ["", ":xz"])
@pytest.mark.parametrize("damage", ["bad checksum", "cut off"])
def test_a_damaged_header_is_not_the_end(tmp_path, compression, damage):
    members = [(f"{n}.txt", b"text\n") for n in range(3)]
    path = tmp_path / "a.tar"
    write_archive(path, members)
    data = bytearray(path.read_bytes())
    if damage == "cut off":
        del data[1100:]  # within the second header
    else:
        data[1124] ^= 0xFF
    path.write_bytes(lzma.compress(data) if compression else data)
    file = CorpusFile(path.name, str(path), path.stat().st_size)

    with pytest.raises(UserError, match="not a tar archive, or is damaged") as caught:
        list(TarCorpus([file], 16).passages(file))

    assert caught.value.where == str(path) and "header" in caught.value.received


def test_an_archive_without_its_end(tmp_path):
    path = tmp_path / "a.tar"
    write_archive(path, [(f"{n}.txt", b"text\n") for n in range(2)])
    for zeros in (0, 512):
        path.write_bytes(path.read_bytes()[:2048] + bytes(zeros))
        file = CorpusFile(path.name, str(path), path.stat().st_size)
        assert documents(TarCorpus([file], 16).passages(file)) == [["text"]] * 2


def test_archives_that_were_joined_are_read_to_the_last(tmp_path):
    parts = []
    for name in ("a.tar", "b.tar"):
        write_archive(tmp_path / name, [("x.txt", f"text of {name}".encode())])
        parts.append((tmp_path / name).read_bytes())
    joined = {"c.tar": b"".join(parts), "c.tar.xz": b"".join(map(lzma.compress, parts))}
    for name, data in joined.items():
        (tmp_path / name).write_bytes(data)
        file = CorpusFile(name, str(tmp_path / name), len(data))
        found = documents(TarCorpus([file], 16).passages(file))
        assert found == [["text of a.tar"], ["text of b.tar"]]


def test_an_archive_of_archives_is_unpacked_by_following_the_remedy(tmp_path):
    write_archive(tmp_path / ".subset", [("a.txt", b"text")], "w:xz")
    subset = (tmp_path / ".subset").read_bytes()
    write_archive(tmp_path / "it's.tar.xz", [("openwebtext/urlsf_subset00.xz", subset)], "w:xz")
    (outer,), _ = find_files(str(tmp_path), "--data-dir")
    with pytest.raises(UserError, match="holds others") as caught:
        list(TarCorpus([outer], 16).passages(outer))
    assert caught.value.where.startswith(outer.path)
    subprocess.run(caught.value.remedy.partition("npack it: ")[2], shell=True, check=True)
    (inner,), _ = find_files(str(tmp_path), "--data-dir")
    assert documents(TarCorpus([inner], 16).passages(inner)) == [["text"]]


def test_an_archive_that_tarfile_does_not_unpack_is_unpacked_by_following_the_remedy(tmp_path):
    write_archive(tmp_path / "a", [("a.txt", b"text")])
    path = tmp_path / "a.tar.zst"
    path.write_bytes(zstandard.compress((tmp_path / "a").read_bytes()))
    file = CorpusFile(path.name, str(path), path.stat().st_size)
    with pytest.raises(UserError, match="not a tar archive") as caught:
        TarCorpus([file], 16).check()
    assert "zstd" in caught.value.received and "method" not in caught.value.received
    if shutil.which("zstd"):
        subprocess.run(caught.value.remedy.partition("npack it: ")[2], shell=True, check=True)
        assert documents(TarCorpus([file], 16).passages(file)) == [["text"]]
