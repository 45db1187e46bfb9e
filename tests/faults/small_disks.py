"""Real disks of a test's own: small, full, or not to be written to."""

import contextlib
import shutil
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, size):
    """Mounts a tmpfs of so many bytes on a folder; skips the test where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = shutil.which("mount") and subprocess.run(command, capture_output=True)
    if not done or done.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield folder
    finally:
        # Lazily: a log may be open until it is garbage.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder, option):
    """Mounts it again with another option, such as "ro" or "size=1m"."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
