"""Places to write to: checked before work begins, locked against other runs.

New folders appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator, Mapping

import filelock

from electra_tf2 import files
from electra_tf2.errors import UserError, disk_full

# What is written to see whether there is room: a block.
_PROBE = bytes(4096)
# Linux's PATH_MAX, which counts the NUL at the end, and what unfinished files have after the name.
_MAX_PATH_BYTES = 4096
_SUFFIX_BYTES = 8
# For another process to write a small file.
_WAIT_SECONDS = 20


def write_problem(path: str) -> str:
    """Says why a file can't be written; "" if it can.

    Nothing is left behind: whether there is room is tried with a file that has no name.

    Args:
        path: of the file, there or not. Its folder need not be there. A terminal, /dev/null or
            /dev/stdout is written to, see `electra_tf2.files.is_stream`.
    """
    if not path or path.endswith("/"):
        return "no file name"
    if files.is_dir(path):
        return "a folder"
    if files.is_stream(path):
        return "" if _is_open_to_write(path) else "not open for writing"
    if files.exists(path) and not files.is_file(path):
        return "a pipe, a socket or a device"
    return _place_problem(path)


def folder_problem(path: str) -> str:
    """Says why nothing can be written to a folder, there or to be made; "" if something can."""
    if not path:
        return "no folder name"
    if files.exists(path) and not files.is_dir(path):
        return "a file"
    return _place_problem(posixpath.join(path, "x"))


def _place_problem(path: str) -> str:
    """Looks at the names in a path, and at the nearest folder above it that is there."""
    if not files.is_local(path):
        return ""  # object stores have no folders, and asking costs a request
    if "\0" in path:
        return "a name with a NUL character"
    path = os.path.abspath(os.path.realpath(path))
    for name in path.split("/"):
        if len(os.fsencode(name)) > files.MAX_NAME_BYTES:
            return f"a name of {len(os.fsencode(name))} bytes; {files.MAX_NAME_BYTES} are possible"
    length = len(os.fsencode(path)) + _SUFFIX_BYTES
    if length >= _MAX_PATH_BYTES:
        return f"a path of {length} bytes; {_MAX_PATH_BYTES - 1} are possible"
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
    except OSError as error:
        return f"{folder}: {files.reason(error)}"
    return ""


def _is_open_to_write(stream: str) -> bool:
    descriptor = files.descriptor_of(stream)
    if descriptor is None:
        return os.access(stream, os.W_OK)
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False


def check_output_paths(paths: Mapping[str, str]) -> None:
    """Refuses paths of files that could not be written.

    Args:
        paths: where it was given, such as "hparam model_dir" -> path of a file.

    Raises:
        UserError: names the first one, and why, see `write_problem`.
    """
    for where, path in paths.items():
        problem = write_problem(path)
        if problem:
            raise UserError(
                "The output can't be written there.",
                where=where,
                received=f"{path!r}: {problem}",
                remedy="Give the path of a file that can be made there.",
            )


def check_free(path: str) -> None:
    """Refuses a path where something is, or where no folder can be made; an empty one may be there.

    Raises:
        UserError: a file or a folder with something in it is there, the path is empty, or the place
            can't be written to.
    """
    if not path.strip("/"):
        raise UserError(
            "The new folder has no name.",
            where="--output",
            received=repr(path),
            remedy="Give the path of a folder that does not exist yet.",
        )
    if files.exists(path):
        is_folder = files.is_dir(path)
        if not is_folder or files.list_dir(path):
            raise UserError(
                "The place for the model is taken.",
                where=path,
                received="a folder that is not empty" if is_folder else "a file",
                remedy="Give another folder, or move that one away.",
            )
    if problem := folder_problem(path) or write_problem(_unfinished(path)):
        raise UserError(
            "The folder for the model can't be made.",
            where=path,
            received=problem,
            remedy="Give a folder where you may write.",
        )


def _unfinished(path: str) -> str:
    """A folder beside the new one, or in it if it is there: a disk's can't be replaced."""
    path, ending = _resolved(path), f"{uuid.uuid4().hex[:8]}.tmp"
    if files.is_local(path) and files.is_dir(path):
        return os.path.join(path, f".{ending}")
    folder, name = posixpath.split(path)
    name = os.fsdecode(os.fsencode(name)[: files.MAX_NAME_BYTES - len(ending) - 1])
    return posixpath.join(folder, f"{name}.{ending}")


def _resolved(path: str) -> str:
    """So that "." and links become what they lead to, and the temporary folder lies beside it."""
    return os.path.realpath(path) if files.is_local(path) else path.rstrip("/")


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
    path, temporary = _resolved(path), _unfinished(path)
    try:
        files.make_dirs(temporary)
        yield temporary
        if posixpath.dirname(temporary) == path:
            _move_up(temporary)
        else:
            check_free(path)
            files.remove_tree(path)
            files.rename(temporary, path)
    except BaseException:
        files.remove_tree(temporary, ignore_errors=True)
        raise


def _move_up(temporary: str) -> None:
    """Puts what is in a folder into the one above, which has to be empty otherwise."""
    folder, name = posixpath.split(temporary)
    if files.list_dir(folder) != [name]:
        check_free(folder)
    for entry in files.list_dir(temporary):
        files.rename(posixpath.join(temporary, entry), posixpath.join(folder, entry))
    files.remove_tree(temporary)


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
    if not files.is_local(folder):
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
            received=files.reason(error),
            remedy="Make it writable, or train under another --model-name.",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def file_lock(path: str) -> Iterator[None]:
    """A context for reading a file and writing it again, or adding to it: one process at a time.

    Others are waited for, but not for ever: one that was suspended in it must not end a training.
    Files that are not on a local disk are not locked, nor those beside which nothing can be
    written. A file is replaced as a whole, so what is locked is another one beside it, `.x.lock` of
    `x`.
    """
    if not files.is_local(path):
        yield
        return
    folder, name = os.path.split(path)
    lock = filelock.FileLock(os.path.join(folder, f".{name}.lock"), timeout=_WAIT_SECONDS)
    with contextlib.suppress(OSError):  # a timeout is one
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def output_errors_explained(output_dir: str) -> Iterator[None]:
    """A context that turns what the system says about writing into a `UserError`.

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
            received=files.reason(error),
            remedy="Check the disk and its limits, or choose another output folder.",
        ) from error
