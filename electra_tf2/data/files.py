"""File access of the dataset builders.

Local paths go to the operating system, all others (`gs://…`) to `tf.io.gfile`. So a command with a
wrong flag answers before TensorFlow is imported, and files can be synced to the disk, which
`tf.io.gfile` can't. Whatever goes wrong is an `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO


def is_local(path: str) -> bool:
    """Whether a path is one of the operating system's."""
    return "://" not in path


def open_binary(path: str, mode: str = "rb") -> BinaryIO:
    """Opens a file for bytes; `mode` as in the built-in `open`."""
    if is_local(path):
        return open(path, mode)
    return _gfile().GFile(path, mode)


def read_bytes(path: str) -> bytes:
    """Returns the content of a file."""
    with reported_as_os_errors(path), open_binary(path) as file:
        return file.read()


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return os.path.exists(path) if is_local(path) else _gfile().exists(path)


def is_dir(path: str) -> bool:
    """Whether a path is a folder (or a link to one)."""
    return os.path.isdir(path) if is_local(path) else _gfile().isdir(path)


def is_file(path: str) -> bool:
    """Whether a path is a plain file (or a link to one): no folder, pipe, socket or device."""
    if is_local(path):
        return os.path.isfile(path)
    return _gfile().exists(path) and not _gfile().isdir(path)


def list_dir(path: str) -> list[str]:
    """Returns the names in a folder, sorted."""
    if is_local(path):
        return sorted(os.listdir(path))
    with reported_as_os_errors(path):
        return sorted(name.rstrip("/") for name in _gfile().listdir(path))


def size(path: str) -> int:
    """Returns a file's length in bytes."""
    if is_local(path):
        return os.stat(path).st_size
    with reported_as_os_errors(path):
        return _gfile().stat(path).length


def make_dirs(path: str) -> None:
    """Makes a folder and the folders above it where they are missing."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    else:
        with reported_as_os_errors(path):
            _gfile().makedirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file, replacing one of the new name."""
    if is_local(target):
        os.replace(source, target)
    else:
        with reported_as_os_errors(target):
            _gfile().rename(source, target, overwrite=True)


def remove(path: str) -> None:
    """Removes a file."""
    if is_local(path):
        os.remove(path)
    else:
        with reported_as_os_errors(path):
            _gfile().remove(path)


def remove_tree(path: str) -> None:
    """Removes a folder with all that is in it; does nothing if it isn't there."""
    if is_local(path):
        shutil.rmtree(path, ignore_errors=True)
    elif _gfile().exists(path):
        _gfile().rmtree(path)


def sync(path: str) -> None:
    """Waits until a local file's content, or a local folder's names, are on the disk."""
    if is_local(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def reported_as_os_errors(path: str) -> Iterator[None]:
    """Turns errors of `tf.io.gfile` into the `OSError` that the operating system would raise."""
    if is_local(path):
        yield
        return
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        numbers = {
            tf.errors.NotFoundError: errno.ENOENT,
            tf.errors.PermissionDeniedError: errno.EACCES,
            tf.errors.ResourceExhaustedError: errno.ENOSPC,
        }
        raise OSError(numbers.get(type(error), errno.EIO), error.message, path) from error


def _gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile
