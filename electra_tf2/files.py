"""The ground floor of all reading and writing: paths, writes that survive a crash, JSON.

Local paths go to the operating system, all others (`gs://…`) to `tf.io.gfile`. So a command with a
wrong flag answers before TensorFlow is imported, and files can be synced to the disk, which
`tf.io.gfile` can't. Whatever goes wrong is an `OSError`, on remote paths too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO, Literal

from electra_tf2.errors import UserError

_SCHEME = re.compile("([A-Za-z][A-Za-z0-9.]*)://")  # as TensorFlow parses it
_DESCRIPTOR = re.compile("/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]+)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
# Stored JSON is small; a larger file is something else, and could fill the memory.
_MAX_JSON_BYTES = 1 << 26
MAX_NAME_BYTES = 255
"""Of a file's or folder's name, on Linux's file systems."""


def is_local(path: str) -> bool:
    """Whether a path is one of the operating system's."""
    return _SCHEME.match(path) is None


def open_binary(path: str, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
    """Opens a file for bytes; `mode` as in the built-in `open`.

    Raises:
        OSError: it can't be opened. To read, it has to be a plain file or a descriptor of this
            process such as /dev/stdin: a named pipe or a device might never come to an end.
    """
    if not is_local(path):
        return _gfile(path).GFile(path, mode)
    descriptor = descriptor_of(path)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), mode)
    if mode == "rb" and exists(path) and not is_dir(path) and not is_file(path):
        raise OSError(errno.EINVAL, "a pipe, a socket or a device, not a file", path)
    return open(path, mode)


def open_to_append(path: str) -> IO[str]:
    """Opens a UTF-8 text file for lines to be added at its end."""
    return open(path, "a", encoding="utf-8") if is_local(path) else _gfile(path).GFile(path, "a")


def descriptor_of(path: str) -> int | None:
    """Returns the number of the open file that /dev/stdout and the like stand for, or None."""
    match = _DESCRIPTOR.fullmatch(path)
    if match is None:
        return None
    return int(match[2]) if match[1] is None else _STANDARD[match[1]]


def is_stream(path: str) -> bool:
    """Whether a path is a stream, not a file: a descriptor of this process, or a device."""
    if not is_local(path):
        return False
    if descriptor_of(path) is not None:
        return True
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: str, most: int = -1) -> bytes:
    """Returns the content of a file.

    Args:
        most: bytes that it may have; -1: any number.

    Raises:
        OSError: it can't be read, or is longer (EFBIG).
    """
    with reported_as_os_errors(path), open_binary(path) as file:
        content = file.read(most + 1 if most >= 0 else -1)
    if 0 <= most < len(content):
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", path)
    return content


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return os.path.exists(path) if is_local(path) else _asked(path, "exists")


def is_dir(path: str) -> bool:
    """Whether a path is a folder (or a link to one)."""
    return os.path.isdir(path) if is_local(path) else _asked(path, "isdir")


def is_file(path: str) -> bool:
    """Whether a path is a plain file (or a link to one): not a folder, pipe, socket or device."""
    return os.path.isfile(path) if is_local(path) else exists(path) and not is_dir(path)


def remote_matches(pattern: str) -> list[str]:
    """Returns the remote paths that match a glob; see `electra_tf2.patterns` for local ones."""
    with reported_as_os_errors(pattern), contextlib.suppress(FileNotFoundError):
        return _gfile(pattern).glob(pattern)
    return []


def native(path: str) -> str | bytes:
    """Returns a path as TensorFlow's own readers and writers take it.

    They know UTF-8 alone: a name with other bytes has to come as its bytes.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def list_dir(path: str) -> list[str]:
    """Returns the names in a folder, sorted."""
    if is_local(path):
        return sorted(os.listdir(path))
    with reported_as_os_errors(path):
        return sorted(name.rstrip("/") for name in _gfile(path).listdir(path))


def size(path: str) -> int:
    """Returns a file's length in bytes."""
    if is_local(path):
        return os.stat(path).st_size
    with reported_as_os_errors(path):
        return _gfile(path).stat(path).length


def make_dirs(path: str) -> None:
    """Makes a folder and the folders above it where they are missing."""
    if is_local(path):
        os.makedirs(path or ".", exist_ok=True)
    else:
        with reported_as_os_errors(path):
            _gfile(path).makedirs(path)


def rename(source: str, target: str) -> None:
    """Renames a file, replacing one of the new name; or a folder, where the new name is free."""
    if is_local(target):
        os.replace(source, target)
    else:
        with reported_as_os_errors(target):
            _gfile(target).rename(source, target, overwrite=True)


def remove(path: str) -> None:
    """Removes a file."""
    if is_local(path):
        os.remove(path)
    else:
        with reported_as_os_errors(path):
            _gfile(path).remove(path)


def remove_tree(path: str, *, ignore_errors: bool = False) -> None:
    """Removes a folder with all that is in it; does nothing if it isn't there.

    Args:
        ignore_errors: whether what can't be removed stays silently, for tidying up after another
            error.
    """
    with contextlib.suppress(OSError if ignore_errors else FileNotFoundError):
        if is_local(path):
            shutil.rmtree(path, ignore_errors=ignore_errors)
            return
        with reported_as_os_errors(path):
            if _gfile(path).exists(path):
                _gfile(path).rmtree(path)


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
        path: the file, there or not; its folder is there. Of a link the file that it leads to is
            replaced. A stream, see `is_stream`, is written to and stays what it is.
        content: all that it shall hold.

    Raises:
        OSError: it can't be written, or is a named pipe or a socket.
    """
    if is_stream(path):
        with open_binary(path, "wb") as stream:
            stream.write(content)
        return
    if is_local(path):
        path = os.path.realpath(path)
        if exists(path) and not is_dir(path) and not is_file(path):
            raise OSError(errno.EINVAL, "a pipe, a socket or a device, not a file", path)
    temporary = _temporary(path)
    try:
        with durable_file(temporary) as file:
            file.write(content)
        _put_in_place(temporary, path, content)
    except BaseException:
        with contextlib.suppress(OSError):  # so that a full disk is not a little fuller
            remove(temporary)
        raise
    sync(posixpath.dirname(path) or ".")


def _put_in_place(temporary: str, path: str, content: bytes) -> None:
    """Renames a file; one on which another is mounted can't be replaced, but written to."""
    try:
        rename(temporary, path)
    except OSError as error:
        if error.errno != errno.EBUSY or not is_file(path):
            raise
        with durable_file(path) as file:
            file.write(content)
        remove(temporary)


def _temporary(path: str) -> str:
    """A name beside a file's, no longer than names may be."""
    folder, name = posixpath.split(path)
    name = os.fsdecode(os.fsencode(name)[: MAX_NAME_BYTES - len(".tmp")])
    return posixpath.join(folder, f"{name}.tmp")


def read_json(path: str, what: str, remedy: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        what: what the file is, the first words of the message if it can't be read.
        remedy: what to do then.

    Returns:
        The object.

    Raises:
        UserError: there is no such file, it is larger than 64 MiB, or it is not a JSON object; says
            which.
    """
    try:
        content = read_bytes(path, _MAX_JSON_BYTES)
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


def finite(value: Any) -> Any:
    """Returns a JSON value with null for numbers that JSON has not: NaN and infinities."""
    if isinstance(value, dict):
        return {name: finite(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str, content: Any, *, indent: int = 1, sort_keys: bool = False) -> None:
    """Writes a JSON file in one step; makes its folder if need be. See `finite`.

    Args:
        path: the file; an existing one is replaced.
        content: JSON values.
        indent: spaces a level.
        sort_keys: whether objects are sorted by key.
    """
    make_dirs(posixpath.dirname(path))
    replace_file(path, json_bytes(finite(content), indent=indent, sort_keys=sort_keys))


def write_json_lines(path: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line in one step; makes its folder if need be. See `finite`."""
    make_dirs(posixpath.dirname(path))
    text = "".join(json.dumps(finite(record), ensure_ascii=False) + "\n" for record in records)
    replace_file(path, text.encode("utf-8", "backslashreplace"))


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


def _asked(path: str, question: Literal["exists", "isdir"]) -> bool:
    """Asks a remote file system; a UserError if there is no answer."""
    try:
        with reported_as_os_errors(path):
            return getattr(_gfile(path), question)(path)
    except OSError as error:
        raise UserError(
            "The file system does not answer.",
            where=path,
            received=reason(error).partition("\n")[0],
            remedy="Check the path, the network and your right to read there.",
        ) from error


def _gfile(path: str) -> Any:
    """Returns `tf.io.gfile`; a UserError if it does not know the path's file system."""
    import tensorflow as tf

    scheme = path.partition("://")[0]
    known = sorted(filter(None, map(tf.compat.as_str, tf.io.gfile.get_registered_schemes())))
    if scheme not in known:
        raise UserError(
            "There is no such file system.",
            where=path,
            received=f"{scheme}://",
            remedy="Give a path on this machine, or one that begins with "
            f"{', '.join(f'{name}://' for name in known)}; other file systems need a plug-in of "
            "TensorFlow's.",
        )
    return tf.io.gfile
