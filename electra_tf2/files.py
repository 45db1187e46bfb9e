"""The ground floor of all reading and writing: paths, writes that survive a crash, JSON, locks.

Local paths go to the operating system, all others (`gs://…`) to `tf.io.gfile`. So a command with a
wrong flag answers before TensorFlow is imported, and files can be synced to the disk, which
`tf.io.gfile` can't. Whatever goes wrong is an `OSError`, on remote paths too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO, Literal

import filelock

from electra_tf2.errors import UserError, disk_full


def is_local(path: str) -> bool:
    """Whether a path is one of the operating system's."""
    return "://" not in path


def open_binary(path: str, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
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
    """Whether a path is a plain file (or a link to one): not a folder, pipe, socket or device."""
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
        os.makedirs(path or ".", exist_ok=True)
    else:
        with reported_as_os_errors(path):
            _gfile().makedirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file, replacing one of the new name; or a folder, where the new name is free."""
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


def remove_tree(path: str, *, ignore_errors: bool = False) -> None:
    """Removes a folder with all that is in it; does nothing if it isn't there.

    Args:
        path: the folder.
        ignore_errors: whether what can't be removed stays silently, for tidying up after another
            error.
    """
    with contextlib.suppress(OSError if ignore_errors else FileNotFoundError):
        if is_local(path):
            shutil.rmtree(path, ignore_errors=ignore_errors)
            return
        with reported_as_os_errors(path):
            if _gfile().exists(path):
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
def durable_file(path: str) -> Iterator[IO[bytes]]:
    """Opens a new file for writing; at the end of the block its content is on the disk.

    A remote file system stores an object when it is closed.

    Args:
        path: the file; an existing one is replaced.

    Yields:
        The binary file, to be written from start to end.

    Raises:
        OSError: the file can't be written (ENOSPC: the disk is full).
    """
    with reported_as_os_errors(path), open_binary(path, "wb") as file:
        yield file
        if is_local(path):
            file.flush()
            os.fsync(file.fileno())


def replace_file(path: str, content: bytes) -> None:
    """Replaces a file in one step: after a crash it holds the old content or the new, complete.

    Args:
        path: the file, there or not; its folder is there.
        content: all that it shall hold.
    """
    temporary = f"{path}.tmp"
    try:
        with durable_file(temporary) as file:
            file.write(content)
        rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # so that a full disk is not a little fuller
            remove(temporary)
        raise
    sync(posixpath.dirname(path) or ".")


def read_json(path: str, what: str, remedy: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: the file.
        what: what the file is, the first words of the message if it can't be read.
        remedy: what to do then.

    Returns:
        The object.

    Raises:
        UserError: there is no such file, or it is not a JSON object; says which.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise UserError(
            f"{what} can't be read.", where=path, received=reason(error), remedy=remedy
        ) from error
    return parse_json(content, path, what, remedy)


def parse_json(content: bytes | str, where: str, what: str, remedy: str) -> dict[str, Any]:
    """Parses a JSON object; `where` is the file, the rest as in `read_json`."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{what} can't be read.", where=where, received=str(error), remedy=remedy
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{what} can't be read.",
            where=where,
            received=f"JSON of the type {type(value).__name__}",
            remedy=remedy,
        )
    return value


def json_bytes(content: Any, *, indent: int = 1, sort_keys: bool = False) -> bytes:
    """Returns the text of a JSON file in UTF-8, with a line break at its end.

    Half of a surrogate pair, which JSON may hold and UTF-8 may not, becomes its escape.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, sort_keys=sort_keys)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_json(path: str, content: Any, *, indent: int = 1, sort_keys: bool = False) -> None:
    """Writes a JSON file in one step; makes its folder if need be.

    Args:
        path: the file; an existing one is replaced.
        content: JSON values.
        indent: spaces a level.
        sort_keys: whether objects are sorted by key.
    """
    make_dirs(posixpath.dirname(path))
    replace_file(path, json_bytes(content, indent=indent, sort_keys=sort_keys))


def write_json_lines(path: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line in one step; makes the file's folder if need be."""
    make_dirs(posixpath.dirname(path))
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    replace_file(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def folder_lock(folder: str, name: str = ".lock") -> Iterator[None]:
    """A context that one process at a time can be in.

    The system frees the lock when the process ends, however it ends; the file stays. Folders that
    are not on a local disk are not locked.

    Args:
        folder: an existing folder.
        name: of the lock file in it; runs that take different names don't exclude each other.

    Raises:
        UserError: on entry, another process is in it, or the folder can't be written to.
    """
    if not is_local(folder):
        yield
        return
    path = os.path.join(folder, name)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(
            "Another run is writing to this model folder.",
            where=folder,
            received=f"{path} is locked by another process",
            remedy="Wait until it has ended, or train under another --model-name.",
        ) from error
    except OSError as error:
        raise UserError(
            "The model's folder can't be written to.",
            where=path,
            received=reason(error),
            remedy="Make it writable, or train under another --model-name.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_free(path: str) -> None:
    """Refuses a path where something is; an empty folder may be there.

    Raises:
        UserError: a file or a folder with something in it is there, or the path is empty.
    """
    if not path.strip("/"):
        raise UserError(
            "The new folder has no name.",
            where="--output",
            received=repr(path),
            remedy="Give the path of a folder that does not exist yet.",
        )
    if not exists(path):
        return
    is_folder = is_dir(path)
    if not is_folder or list_dir(path):
        raise UserError(
            "The place for the model is taken.",
            where=path,
            received="a folder that is not empty" if is_folder else "a file",
            remedy="Give another folder, or move that one away.",
        )


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Gives a folder to write to, which gets its name when everything is written.

    Args:
        path: the folder to make; an empty one may be there.

    Yields:
        The path to write to.

    Raises:
        UserError: something is there already, or the folder can't be made.
    """
    check_free(path)
    # So that "." and links become what they lead to, and the temporary folder lies beside it.
    path = os.path.realpath(path) if is_local(path) else path.rstrip("/")
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        make_dirs(temporary)
    except OSError as error:
        raise UserError(
            "The folder for the model can't be made.",
            where=path,
            received=reason(error),
            remedy="Give a folder where you may write.",
        ) from error
    try:
        yield temporary
        check_free(path)
        remove_tree(path)
        rename(temporary, path)
    except BaseException:
        remove_tree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def output_errors_explained(output_dir: str) -> Iterator[None]:
    """A context that turns what the system says about writing into a `UserError`.

    Args:
        output_dir: the output folder as the user knows it.

    Raises:
        UserError: the disk is full, or the system refused a write.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(output_dir, error) from error
        raise UserError(
            "The output can't be written.",
            where=error.filename or output_dir,
            received=reason(error),
            remedy="Check the disk and its limits, or choose another output folder.",
        ) from error


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


def reason(error: OSError) -> str:
    """What the system says, without the path."""
    return error.strerror or str(error)


def _gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile
