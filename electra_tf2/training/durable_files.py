"""Writes that survive a crash: once a call returns, the bytes are on the disk.

Local paths are synced with fsync. Paths with a scheme (gs://) go through TensorFlow, whose remote
file systems store an object when it is closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO

import tensorflow as tf

from electra_tf2.data.files import is_local


@contextlib.contextmanager
def durable_file(path: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing and syncs it at the end of the block.

    Args:
        path: The file; an existing one is replaced.

    Yields:
        The binary file, to be written from start to end.

    Raises:
        OSError: If a local file can't be written (ENOSPC: the disk is full).
        tf.errors.OpError: The same for a remote one.
    """
    if not is_local(path):
        with tf.io.gfile.GFile(path, "wb") as file:
            yield file
        return
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    """Makes the names in a folder durable: files made, renamed or removed in it."""
    if not is_local(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str, content: bytes) -> None:
    """Replaces a file in one step: after a crash it holds the old content or the new, complete.

    Args:
        path: The file, there or not.
        content: All that it shall hold.
    """
    temporary = f"{path}.tmp"
    with durable_file(temporary) as file:
        file.write(content)
    tf.io.gfile.rename(temporary, path, overwrite=True)
    sync_folder(os.path.dirname(path) or ".")
