"""Keeps two runs from writing to the same model folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import IO

from electra_tf2.errors import UserError
from electra_tf2.data.files import is_local

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
