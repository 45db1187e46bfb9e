"""Places to write to are looked at before work begins; streams are written to, not replaced."""

import os
import stat
import subprocess
import sys

import pytest

from electra_tf2 import files
from electra_tf2.errors import UserError
from electra_tf2.outputs import (
    check_free,
    check_output_paths,
    folder_problem,
    new_folder,
    write_problem,
)
from tests.faults import small_disks


def test_places_where_a_file_can_be_written(tmp_path):
    (tmp_path / "old").write_text("x")
    os.symlink(tmp_path / "old", tmp_path / "link")
    for name in ("old", "new", "link", "a/b/new", "a b[1],?*", "é" * 100, "n" * 255):
        assert write_problem(str(tmp_path / name)) == ""
    assert sorted(os.listdir(tmp_path)) == ["link", "old"]  # nothing was left behind
    assert write_problem("/dev/null") == write_problem("/dev/stderr") == ""


@pytest.mark.parametrize(
    "name, problem",
    [
        ("", "no file name"), ("new/", "no file name"), (".", "a folder"), ("old/x", "is a file"),
        ("pipe", "pipe"), ("n" * 256, "256 bytes"), ("é" * 128, "256 bytes"), ("a\0b", "NUL"),
        ("n" * 300 + "/x", "300 bytes"), ("/proc/x", "/proc"), ("/sys/kernel/x", "/sys/kernel"),
        ("n/" * 2040 + "x", "4095 are possible"),
    ],
)  # fmt: skip
def test_places_where_none_can(tmp_path, name, problem):
    (tmp_path / "old").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    path = os.path.join(tmp_path, name) if name else ""
    assert problem in write_problem(path)
    with pytest.raises(UserError) as error:
        check_output_paths({"--output": path})
    assert error.value.where == "--output" and problem in error.value.received


def test_a_read_only_or_full_place(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "wb"))
    assert "No space" in write_problem(str(tmp_path / "x"))
    assert "No space" in folder_problem(str(tmp_path))
    with pytest.raises(UserError, match="No space"):
        check_free(str(tmp_path / "x"))


def test_a_folder_that_is_a_disk_of_its_own(tmp_path):
    with small_disks.mounted(tmp_path / "disk", "1m") as disk:
        (tmp_path / "empty").mkdir()
        for path in map(str, (disk, tmp_path / "empty", tmp_path / ("n" * 255))):
            with new_folder(path) as folder:
                files.replace_file(os.path.join(folder, "a"), b"x")
                assert folder != path
            assert os.listdir(path) == ["a"]
        with pytest.raises(UserError, match="taken"):
            check_free(str(disk))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="taken"):
        with new_folder(str(tmp_path / "other")):
            (tmp_path / "other" / "b").write_text("x")
    assert os.listdir(tmp_path / "other") == ["b"]


def test_a_file_on_which_another_is_mounted(tmp_path):
    with small_disks.mounted(tmp_path / "disk", "1m"):
        for name in ("old", "disk/new"):
            (tmp_path / name).write_text("much longer than what comes")
        subprocess.run(["mount", "--bind", tmp_path / "disk/new", tmp_path / "old"], check=True)
        try:
            assert write_problem(str(tmp_path / "old")) == ""
            files.replace_file(str(tmp_path / "old"), b"x")
        finally:
            subprocess.run(["umount", tmp_path / "old"], check=True)
        assert (tmp_path / "disk/new").read_text() == "x"
    assert sorted(os.listdir(tmp_path)) == ["disk", "old"]


def test_a_device_is_written_to_and_stays(tmp_path):
    for name in ("/dev/null", "/dev/stderr"):
        files.replace_file(name, b"")
        assert not stat.S_ISREG(os.lstat(name).st_mode)
    with pytest.raises(OSError, match="No space"):
        files.replace_file("/dev/full", b"x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        files.replace_file(str(tmp_path / "pipe"), b"x")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_standard_output_may_be_a_pipe_or_a_file(tmp_path):
    code = "from electra_tf2.files import replace_file; replace_file('/dev/stdout', b'written')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"written"
    with open(tmp_path / "out", "wb") as out:
        out.write(b"before, ")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == b"before, written"


def test_what_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "old").write_text("x")
    os.symlink(tmp_path / "old", tmp_path / "link")
    files.replace_file(str(tmp_path / "link"), b"y")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "old").read_text() == "y"
    files.replace_file(str(tmp_path / ("n" * 255)), b"z")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"z"


@pytest.mark.parametrize("path", ["foo://x", "s3n://bucket/a"])
def test_a_file_system_that_is_not_known(path):
    for use in (files.exists, files.is_dir, files.is_file, files.open_binary, files.read_bytes):
        with pytest.raises(UserError) as error:
            use(path)
        assert error.value.where == path and "ram://" in error.value.remedy


@pytest.mark.parametrize("path", ["a b://x", "/d/a://x", "1a://x"])
def test_what_looks_like_a_remote_path_and_is_none(path):
    assert files.is_local(path) and not files.exists(path)


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(OSError, match="not a file"):
            files.read_bytes(path)
