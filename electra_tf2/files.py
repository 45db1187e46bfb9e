"""Writes that survive a crash: once a call returns, the bytes are on the disk.

Local paths are synced with fsync. Paths with a scheme (gs://) go through TensorFlow, whose remote
file systems store an object when it is closed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO

import tensorflow as tf

from electra_tf2.errors import UserError, disk_full

# File access of the dataset builders.
#
# Local paths go to the operating system, all others (`gs://…`) to `tf.io.gfile`. So a command
# with a wrong flag answers before TensorFlow is imported, and files can be synced to the disk,
# which `tf.io.gfile` can't. Whatever goes wrong is an `OSError`.


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


# Keeps two runs from writing to the same model folder.


_NAME = ".lock"


class FolderLock:
    """A context that one process at a time can be in.

    The system frees the lock when the process ends, however it ends. Folders that are not on a
    local disk are not locked.

    Args:
        folder: an existing folder.
        name: of the lock file in it; runs that take different names don't exclude each other.

    Raises:
        UserError: on entry, another process is in it, or the folder can't be written to.
    """

    def __init__(self, folder: str, name: str = _NAME):
        self._folder = folder
        self._name = name
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        if not is_local(self._folder):
            return self
        path = os.path.join(self._folder, self._name)
        try:
            self._file = open(path, "w")
        except OSError as error:
            raise UserError(
                "The model's folder can't be written to.",
                where=path,
                received=error.strerror or str(error),
                remedy="Make it writable, or train under another --model-name.",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run before may have removed the file after it was opened here.
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(path)):
                raise FileNotFoundError(path)
        except OSError as error:
            self._file.close()
            raise UserError(
                "Another run is writing to this model folder.",
                where=self._folder,
                received=f"{path} is locked by another process",
                remedy="Wait until it has ended, or train under another --model-name.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with contextlib.suppress(FileNotFoundError):  # someone removed the folder
                os.remove(self._file.name)
            self._file.close()


# Folders that are either complete or not there.


def check_free(path: str) -> None:
    """Refuses a path where something is; an empty folder may be there.

    Raises:
        UserError: a file or a folder with something in it is there, or the path is empty.
    """
    if not path.strip("/"):
        raise UserError(
            "There is no name for the folder that is to be made.",
            where="--output",
            received=repr(path),
            remedy="Give the path of a folder that is not there yet.",
        )
    if not tf.io.gfile.exists(path):
        return
    is_folder = tf.io.gfile.isdir(path)
    if not is_folder or tf.io.gfile.listdir(path):
        raise UserError(
            "Where the model is to go there is something already.",
            where=path,
            received="a folder that is not empty" if is_folder else "a file",
            remedy="Give another folder, or move that one away.",
        )


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Gives a folder to write to, which gets its name when all is written.

    Args:
        path: the folder to make; an empty one may be there.

    Yields:
        The path to write to.

    Raises:
        UserError: something is there already, or the folder can't be made.
    """
    check_free(path)
    # So that "." and links are what they lead to, and the name beside the folder's is one.
    path = os.path.realpath(path) if is_local(path) else path.rstrip("/")
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        tf.io.gfile.makedirs(temporary)
    except tf.errors.OpError as error:
        raise UserError(
            "The folder for the model can't be made.",
            where=path,
            received=error.message,
            remedy="Give a folder where you may write.",
        ) from error
    try:
        yield temporary
        check_free(path)
        if tf.io.gfile.exists(path):
            tf.io.gfile.rmtree(path)
        tf.io.gfile.rename(temporary, path)
    except BaseException:
        tf.io.gfile.rmtree(temporary)
        raise


# JSON files of other programs.


def read_json_object(path: str, subject: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        subject: what the file is, the first words of the message if it can't be read.

    Raises:
        UserError: there is no such file, or it is no JSON object; says which.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = json.loads(file.read())
    except (tf.errors.OpError, ValueError, RecursionError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else str(error)
        raise _unreadable(path, subject, reason) from error
    if not isinstance(content, dict):
        raise _unreadable(path, subject, f"JSON of the type {type(content).__name__}")
    return content


def _unreadable(path: str, subject: str, reason: str) -> UserError:
    return UserError(
        f"{subject} can't be read.",
        where=path,
        received=reason,
        remedy="Copy the file again from where the model came from.",
    )


# What goes wrong while a data set is written, as errors that the user can mend.


@contextlib.contextmanager
def output_errors_explained(output_dir: str) -> Iterator[None]:
    """A context that turns what the system says about writing into a `UserError`.

    Args:
        output_dir: The output folder as the user knows it.

    Raises:
        UserError: The disk is full, or the system refused a write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(output_dir, error) from error
        raise UserError(
            "The output can't be written.",
            where=error.filename or output_dir,
            received=error.strerror or str(error),
            remedy="Check the disk and its limits, or choose another output folder.",
        ) from error


# JSON that the program writes: UTF-8, each file in one step.
#
# Half of a surrogate pair, which a text of JSON may hold and UTF-8 may not, is written as its
# escape.


def write_json(path: str, content: Any) -> None:
    """Writes a JSON file; makes its folder if need be.

    Args:
        path: the file; an existing one is replaced.
        content: JSON values.
    """
    _write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_json_lines(path: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; arguments as `write_json`."""
    _write(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def _write(path: str, text: str) -> None:
    tf.io.gfile.makedirs(posixpath.dirname(path) or ".")
    replace_file(path, text.encode("utf-8", "backslashreplace"))
