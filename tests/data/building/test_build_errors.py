"""Bad input to the dataset builders: a clear error, a non-zero exit code, nothing changed."""

import errno
import io
import re
import resource
import subprocess
import tarfile

import pytest

import build_openwebtext_pretraining_dataset
import build_pretraining_dataset
from electra_tf2 import cli
from electra_tf2.data import shards
from tests.data.small_corpus import content, write_corpus, write_vocabulary


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def tar_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def replace_vocabulary(old, new):
    def change(root):
        path = root / "vocab.txt"
        path.write_text(path.read_text().replace(old, new))

    return change


def remove(*names):
    def change(root):
        for name in names:
            (root / name).unlink()

    return change


def put(name, data):
    return lambda root: write(root / name, data)


def empty_corpus(data=b""):
    def change(root):
        for path in (root / "corpus").iterdir():
            path.write_bytes(data)

    return change


# What is changed, the flags, and what the message must hold: what, where, received, what to do.
TEXT_CASES = {
    "no such corpus folder": (
        None, ["--corpus-dir", "{root}/nowhere"],
        ["does not exist", "--corpus-dir", "{root}/nowhere", "Give the path"],
    ),
    "an empty corpus folder": (
        remove("corpus/part0.txt", "corpus/part1.txt"), [],
        ["holds no files", "{root}/corpus", "an empty folder", "Put the corpus there"],
    ),
    "only hidden files": (
        lambda root: [p.rename(p.with_name("." + p.name)) for p in (root / "corpus").iterdir()], [],
        ["holds no files", "{root}/corpus", "2 hidden", "Put the corpus there"],
    ),
    "only empty files": (
        empty_corpus(), [],
        ["corpus is empty", "{root}/corpus", "2 files of 0 bytes", "Put text"],
    ),
    "only blank lines": (
        empty_corpus(b"\n \t\n\n"), [],
        ["no usable text", "{root}/corpus", "0 lines", "Give text files"],
    ),
    "only characters that are dropped": (
        empty_corpus("\u200b\n\u200b\n".encode()), [],
        ["no usable text", "{root}/corpus", "0 lines", "0 tokens", "Give text files"],
    ),
    "text in another encoding": (
        put("corpus/sub/x.txt", b"one\nna\xefve\n"), [],
        ["not UTF-8", "{root}/corpus/sub/x.txt, line 2, byte 6", "0xef", "-f WINDOWS-1252"],
    ),
    "a compressed file": (
        put("corpus/x.txt.gz", b"\x1f\x8b\x08\0"), [],
        ["not gzip data, or is damaged", "{root}/corpus/x.txt.gz", "ended before", "gzip -t"],
    ),
    "a file that can't be opened": (
        lambda root: (root / "corpus" / "x.txt").symlink_to(root / "nowhere"), [],
        ["can't be read", "{root}/corpus/x.txt", "No such file", "take it out"],
    ),
    "no vocabulary": (
        remove("vocab.txt"), [],
        ["vocabulary", "{root}/vocab.txt", "no such file", "build_vocabulary.py"],
    ),
    "a vocabulary without a special token": (
        replace_vocabulary("[UNK]", "[unk]"), [],
        ["lacks [UNK]", "{root}/vocab.txt", "pieces", "needs a line"],
    ),
    "a vocabulary with a duplicate": (
        replace_vocabulary("bread", "ship"), [],
        ["twice", "{root}/vocab.txt, lines 10 and 11", "'ship'", "Rename"],
    ),
    "an output folder that is not empty": (
        put("out/pretrain_data.tfrecord-0-of-1", b""), [],
        ["not empty", "{root}/out", "pretrain_data.tfrecord-0-of-1", "--overwrite"],
    ),
    "an output folder of other files": (
        put("out/thesis.doc", b""), [],
        ["not empty", "{root}/out", "thesis.doc", "Move them"],
    ),
    "an output folder of other files to overwrite": (
        put("out/thesis.doc", b""), ["--overwrite"],
        ["not empty", "{root}/out", "thesis.doc", "Move them"],
    ),
    "an output folder that is a file": (
        put("out", b""), [],
        ["is a file", "--output-dir", "{root}/out", "path of a folder"],
    ),
    "an output folder under a file": (
        None, ["--output-dir", "{root}/vocab.txt/out"],
        ["can't be written to", "{root}/vocab.txt", "a file", "Choose another"],
    ),
    "an output folder in the corpus": (
        None, ["--output-dir", "{root}/corpus/out"],
        ["lies in the corpus", "--output-dir", "{root}/corpus/out", "outside of"],
    ),
    "an output folder that a pattern matches": (
        None, ["--corpus-dir", "{root}/corp*/*", "--output-dir", "{root}/corpus/out"],
        ["pattern of the corpus matches it", "--output-dir", "{root}/corpus/out", "outside of"],
    ),
    "a length without room": (
        None, ["--max-seq-length", "4"],
        ["max_seq_length is too small", "--max-seq-length", "4", "at least 5"],
    ),
    "no processes": (
        None, ["--num-processes", "0"],
        ["num_processes is too small", "--num-processes", "0", "at least 1"],
    ),
    "no shards": (
        None, ["--num-out-files", "-1"],
        ["num_out_files is too small", "--num-out-files", "-1", "at least 1"],
    ),
    "a length for no memory": (
        None, ["--max-seq-length", f"{10**12}"],
        ["max_seq_length is too large", "--max-seq-length", "at most 1048576"],
    ),
    "processes for no machine": (
        None, ["--num-processes", f"{1 << 63}"],
        ["num_processes is too large", "--num-processes", "at most 4096"],
    ),
    "shards for no disk": (
        None, ["--num-out-files", f"{10**12}"],
        ["num_out_files is too large", "--num-out-files", "at most 1000000"],
    ),
    "a seed of more than 64 bits": (
        None, ["--seed", f"{1 << 63}"], ["seed is too large", "--seed", "at most"],
    ),
    "official sampling in two processes": (
        None, ["--sampling", "official", "--num-processes", "2"],
        ["needs one process", "--num-processes", "2", "--sampling chunked"],
    ),
}  # fmt: skip

ARCHIVE_CASES = {
    "no folder of archives": (
        lambda root: (root / "openwebtext").rename(root / "owt"), [],
        ["does not exist", "--data-dir", "{root}/openwebtext", "Give the path"],
    ),
    "a file that is not an archive": (
        put("openwebtext/readme.txt", b"Some text, and not an archive.\n" * 50), [],
        ["not a tar archive", "{root}/openwebtext/readme.txt", "could not be opened",
         "looks like text", "build_pretraining_dataset.py"],
    ),
    "an archive that ends too early": (
        put("openwebtext/b.tar", tar_bytes([("x", b"ship\n" * 9000)])[:20000]), [],
        ["is damaged", "{root}/openwebtext/b.tar, member x", "unexpected end of data", "Download"],
    ),
    "a member in another encoding": (
        put("openwebtext/b.tar", tar_bytes([("x", b"one\n\xff")])), [],
        ["not UTF-8", "{root}/openwebtext/b.tar, member x, line 2, byte 4", "0xff", "Convert"],
    ),
    "archives without text": (
        put("openwebtext/a.tar", tar_bytes([("x", b" \n")])), [],
        ["no usable text", "{root}/openwebtext", "0 lines", "Give text files"],
    ),
    "no vocabulary": (
        remove("vocab.txt"), [],
        ["vocabulary", "{root}/vocab.txt", "no such file", "build_vocabulary.py"],
    ),
    "a length without room": (
        None, ["--max-seq-length", "1"],
        ["max_seq_length is too small", "--max-seq-length", "1", "at least 5"],
    ),
    "an output folder that is not empty": (
        put("pretrain_tfrecords/metadata.json", b"{}"), [],
        ["not empty", "{root}/pretrain_tfrecords", "metadata.json", "--overwrite"],
    ),
}  # fmt: skip


def exit_code_of(main, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda _: main(arguments))
    return caught.value.code


def check_failure(main, arguments, expected, root, capsys):
    """Runs a program and checks the exit code, the message and that nothing has changed."""
    before = content(root)

    code = exit_code_of(main, arguments)

    message = capsys.readouterr().err
    assert code not in (0, None)
    assert re.search("^error: ", message, re.MULTILINE) and "Traceback" not in message
    assert "\n  where: " in message and "\n  what to do: " in message
    assert "\n  received: " in message
    for part in expected:
        assert part.format(root=root) in message
    assert content(root) == before


@pytest.mark.parametrize("change, flags, expected", TEXT_CASES.values(), ids=TEXT_CASES.keys())
def test_text(tmp_path, capsys, change, flags, expected):
    vocab = write_vocabulary(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", [300, 300])
    if change:
        change(tmp_path)
    given = ["--corpus-dir", corpus, "--vocab-file", vocab, "--output-dir", f"{tmp_path}/out"]
    arguments = [*given, "--num-out-files", "3", *(flag.format(root=tmp_path) for flag in flags)]

    check_failure(build_pretraining_dataset.main, arguments, expected, tmp_path, capsys)


@pytest.mark.parametrize(
    "change, flags, expected", ARCHIVE_CASES.values(), ids=ARCHIVE_CASES.keys()
)
def test_archives(tmp_path, capsys, change, flags, expected):
    write_vocabulary(tmp_path)
    write(tmp_path / "openwebtext" / "a.tar", tar_bytes([("x", b"the ship\n")]))
    if change:
        change(tmp_path)
    arguments = ["--data-dir", str(tmp_path), "--num-out-files", "3", *flags]

    main = build_openwebtext_pretraining_dataset.main
    check_failure(main, arguments, expected, tmp_path, capsys)


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--blanks-separate-docs", "maybe"], ["--blanks-separate-docs", "'maybe'", "true or"]),
        (["--max-seq-length", "long"], ["--max-seq-length", "'long'"]),
        (["--sampling", "none"], ["--sampling", "'none'", "official"]),
        (["--blanks-seperate-docs", "no"], ["--blanks-seperate-docs"]),
    ],
)
def test_flags_that_do_not_parse(tmp_path, capsys, flags, expected):
    given = ["--corpus-dir", "c", "--vocab-file", "v", "--output-dir", str(tmp_path / "out")]

    code = exit_code_of(build_pretraining_dataset.main, given + flags)

    message = capsys.readouterr().err
    assert code == 2
    assert all(part in message for part in expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_write_that_fails(tmp_path, capsys, monkeypatch, overwrite):
    """The disk fills up in the middle of the writing, as simulated here."""
    vocab = write_vocabulary(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", [3000])
    if overwrite:
        put("out/pretrain_data.tfrecord-0-of-1", b"old")(tmp_path)
    append = shards.ShardWriter._append

    def append_some(self, path, data):
        append(self, path, data[:100])
        if data and "-2-of-" in path:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards.ShardWriter, "_append", append_some)
    given = ["--corpus-dir", corpus, "--vocab-file", vocab, "--output-dir", f"{tmp_path}/out"]
    flags = ["--num-out-files", "3", *(["--overwrite"] if overwrite else [])]
    expected = ["disk is full", "{root}/out", "No space left", "Free some space"]

    main = build_pretraining_dataset.main
    check_failure(main, [*given, *flags], expected, tmp_path, capsys)


def test_full_disk(tmp_path, capsys):
    """A disk of 200 kB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(["mount", *options], capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small tmpfs needs root; test_file_size_limit covers the rest")
    try:
        vocab = write_vocabulary(tmp_path)
        corpus = write_corpus(tmp_path / "corpus", [300_000])
        given = ["--corpus-dir", corpus, "--vocab-file", vocab, "--output-dir", f"{disk}/out"]
        expected = ["disk is full", "{root}/disk/out", "No space left", "Free some space"]
        arguments = [*given, "--num-out-files", "3"]
        check_failure(build_pretraining_dataset.main, arguments, expected, tmp_path, capsys)
        # The root of a disk can't be replaced as a whole.
        arguments[arguments.index(f"{disk}/out")] = str(disk)
        expected[1] = "{root}/disk"
        check_failure(build_pretraining_dataset.main, arguments, expected, tmp_path, capsys)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_file_size_limit(tmp_path, capsys):
    """A write that the system refuses."""
    vocab = write_vocabulary(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", [300_000])
    given = ["--corpus-dir", corpus, "--vocab-file", vocab, "--output-dir", f"{tmp_path}/out"]
    expected = ["output can't be written", "{root}/out", "File too large", "Check the disk"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        arguments = [*given, "--num-out-files", "3"]
        check_failure(build_pretraining_dataset.main, arguments, expected, tmp_path, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
