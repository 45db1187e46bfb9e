"""The warnings that a run gave, kept beside what it trained.

<model_dir>/warnings.jsonl    one line per warning: wall_time, text
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import time
from collections.abc import Iterator
from typing import NamedTuple

from electra_tf2 import files
from electra_tf2.console import warnings_told_to
from electra_tf2.outputs import file_lock

WARNINGS = "warnings.jsonl"


class StoredWarning(NamedTuple):
    """A warning that was printed.

    Attributes:
        wall_time: when, in seconds since 1970.
        text: what it said.
    """

    wall_time: float
    text: str


class WarningLog:
    """Adds warnings to a file, each text once: a resumed run says most of them again.

    Nothing is written before `start`, as a run that is refused says nothing about the model, nor
    before the file's folder exists, which the run makes. Where nothing can be written, the run
    continues without it.
    """

    def __init__(self, path: str):
        self.path = path
        self._is_started = False
        self._waiting: list[StoredWarning] = []

    def start(self) -> None:
        """Begins to write: the run has been checked, and this is its process that does."""
        self._is_started = True
        self.flush()

    def add(self, text: str) -> None:
        """Takes a warning, and writes it as soon as there is a place."""
        self._waiting.append(StoredWarning(round(time.time(), 3), text))
        self.flush()

    def flush(self) -> None:
        """Writes what has been waiting, if there is a place now."""
        folder = posixpath.dirname(self.path) or "."
        if not self._waiting or not self._is_started or not files.is_dir(folder):
            return
        kept: dict[str, StoredWarning] = {}
        with file_lock(self.path):
            for warning in [*read_warnings(self.path), *self._waiting]:
                kept.setdefault(warning.text, warning)
            lines = sorted(kept.values(), key=lambda warning: warning.wall_time)
            self._waiting = []
            with contextlib.suppress(OSError):
                files.write_json_lines(self.path, [warning._asdict() for warning in lines])


@contextlib.contextmanager
def kept_warnings(path: str) -> Iterator[WarningLog]:
    """Keeps every warning that is printed meanwhile in a file."""
    log = WarningLog(path)
    with warnings_told_to(log.add):
        try:
            yield log
        finally:
            log.flush()


def read_warnings(path: str) -> list[StoredWarning]:
    """Reads the warnings of a run, the first one first.

    Returns:
        The warnings; none where there is no such file, without lines that are not warnings.
    """
    try:
        lines = files.read_bytes(path).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            warning = StoredWarning(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(warning.text, str) and isinstance(warning.wall_time, int | float):
            found.append(warning)
    return found
