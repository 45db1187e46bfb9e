"""What a run reports over time: a file of JSON lines, event files for TensorBoard, and warnings.

<model_dir>/metrics.jsonl         one line per report: step, split, wall_time, then the scalars;
                                  evaluated_on, if the split doesn't tell what was scored
<model_dir>/tensorboard/<split>/  the same for TensorBoard, which need not be installed
<model_dir>/warnings.jsonl        one line per warning: wall_time, text
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import posixpath
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import tensorflow as tf

from electra_tf2 import files
from electra_tf2.console import warnings_told_to
from electra_tf2.errors import UserError
from electra_tf2.outputs import file_lock

_FIELDS = ("step", "split", "wall_time", "evaluated_on")
_LOG, _EVENTS = "metrics.jsonl", "tensorboard"
WARNINGS = "warnings.jsonl"
_BLOCK_BYTES = 1 << 18


class RunLog:
    """Appends scalars to a model folder's logs.

    Nothing is written before the first report. Each report is flushed, so the logs can be followed
    while the run continues. Several processes may write to one log, such as a training and an
    evaluation of what it has saved so far.

    Args:
        model_dir: the model's folder.
        writes: False where another process writes the log, or nothing can be written: no report
            leaves a trace then.
    """

    def __init__(self, model_dir: str, *, writes: bool = True):
        self._writes = writes
        self.path = posixpath.join(model_dir, _LOG)
        self.events_folder = posixpath.join(model_dir, _EVENTS)
        self._file: IO[str] | None = None
        self._events: dict[str, _EventFile] = {}

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        *,
        split: str = "train",
        evaluated_on: str = "",
    ) -> None:
        """Reports scalars.

        Args:
            step: training steps done.
            scalars: values by name. In metrics.jsonl, one that is not finite becomes null: JSON has
                no NaN. The names of a line's other fields are taken.
            split: what they were measured on, such as "train" or "eval".
            evaluated_on: the same in words, where the split leaves it open.
        """
        if not self._writes:
            return
        clashes = [name for name in scalars if name in _FIELDS]
        if clashes:
            raise ValueError(f"Scalars use names of the log's own. Received: {clashes}")
        values = {name: float(value) for name, value in scalars.items()}
        line = {"step": int(step), "split": split, "wall_time": round(time.time(), 3)}
        line |= {"evaluated_on": evaluated_on} if evaluated_on else {}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        files.make_dirs(posixpath.dirname(self.path))
        with file_lock(self.path):
            file = self._open_file()
            file.write(json.dumps(line) + "\n")
            file.flush()
        self._events_of(split).write(int(step), values)

    def rewind(self, step: int) -> None:
        """Drops everything reported after a step: a resumed run reports it again.

        Those lines of metrics.jsonl are removed. Event files stay, and TensorBoard is told to
        ignore their later part.

        Args:
            step: the step that the run resumes at; its own reports stay.

        Raises:
            UserError: a line of metrics.jsonl other than the last is not such a report.
        """
        self.close()
        if not self._writes or not files.exists(self.path):
            return
        kept, splits = [], set()
        with file_lock(self.path):
            for index, line in enumerate(_complete_lines(self.path)):
                reported, split = _step_and_split(line, self.path, index)
                if reported <= step:
                    kept.append(line)
                else:
                    splits.add(split)
            # First the events: if this process is killed here, the next one finds the lines again.
            for split in sorted(splits):
                self._events_of(split).restart(step + 1)
            _replace(self.path, kept)

    def close(self) -> None:
        """Closes the files; a later `write` opens them again."""
        if self._file is not None:
            self._file.close()
        for events in self._events.values():
            events.close()
        self._file, self._events = None, {}

    def _open_file(self) -> IO[str]:
        if self._file is None:
            if files.exists(self.path):
                _replace(self.path, _complete_lines(self.path))
            self._file = files.open_to_append(self.path)
        return self._file

    def _events_of(self, split: str) -> _EventFile:
        if split not in self._events:
            self._events[split] = _EventFile(posixpath.join(self.events_folder, split))
        return self._events[split]


class _EventFile:
    """A new event file: TFRecords of `Event` messages.

    `tf.summary` writes such files too, but has no public way to say that a run was restarted.
    """

    def __init__(self, folder: str):
        files.make_dirs(folder)
        # TensorBoard wants "tfevents" in the name, and reads the files in the order of their names.
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}.v2"
        path: Any = files.native(posixpath.join(folder, name))  # bytes too, which its stub lacks
        self._writer = tf.io.TFRecordWriter(path)
        self._write(file_version="brain.Event:2")

    def restart(self, step: int) -> None:
        """Makes TensorBoard drop the events of earlier files from a step on."""
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        # Twice, because TensorBoard takes the first of a folder for the beginning of its run.
        for _ in range(2):
            self._write(step=step, session_log=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a report."""
        summary = tf.compat.v1.Summary()
        for name, value in values.items():
            summary.value.add(tag=name, simple_value=value)
        self._write(step=step, summary=summary)

    def close(self) -> None:
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def read_reports(path: str) -> list[dict[str, Any]]:
    """Reads all reports of a metrics.jsonl, without a last line that a crash left half-written.

    Returns:
        Each report with its `step` (an integer), `split` and scalars.

    Raises:
        UserError: the file can't be read, or another line is not such a report.
    """
    try:
        lines = _complete_lines(path)
    except OSError as error:
        raise UserError(
            "The log can't be read.",
            where=path,
            received=files.reason(error),
            remedy="Make the file readable.",
        ) from error
    reports = []
    for index, line in enumerate(lines):
        if line.strip():
            _, split = _step_and_split(line, path, index)
            reports.append({**json.loads(line), "split": split})
    return reports


def last_reports(model_dir: str) -> dict[str, dict[str, Any]]:
    """Returns split -> the last report of it, reading no more of the log than that takes.

    Args:
        model_dir: the model's folder; its `tensorboard` folder tells the splits.

    Returns:
        The reports; lines that can't be read are passed over, and without a log there are none.
    """
    events = posixpath.join(model_dir, _EVENTS)
    found: dict[str, dict[str, Any]] = {}
    try:
        splits = set(files.list_dir(events)) if files.is_dir(events) else None
        for line in _lines_backwards(posixpath.join(model_dir, _LOG)):
            try:
                report = json.loads(line)
                found.setdefault(str(report["split"]), report)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if splits is not None and splits <= found.keys():
                break
    except OSError:
        return {}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "train", item[0])))


def _lines_backwards(path: str) -> Iterator[bytes]:
    """Yields the lines of a file without their ends, the last one first."""
    with files.reported_as_os_errors(path), files.open_binary(path) as file:
        end, rest = files.size(path), b""
        while end:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            first, *lines = (file.read(end - start) + rest).split(b"\n")
            yield from reversed(lines)
            end, rest = start, first
        yield rest


def _complete_lines(path: str) -> list[bytes]:
    """Returns the lines with their ends, without a last one that a crash left half-written."""
    lines = files.read_bytes(path).splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]


def _replace(path: str, lines: list[bytes]) -> None:
    """Replaces the file's content, unless it is the same."""
    content = b"".join(lines)
    if content != files.read_bytes(path):
        files.replace_file(path, content)


def _step_and_split(line: bytes, path: str, index: int) -> tuple[int, str]:
    try:
        report = json.loads(line)
        step, split = report["step"], report.get("split", "train")
        if isinstance(step, int) and isinstance(split, str):
            return step, split
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise UserError(
        "The log holds a line that this program did not write.",
        where=f"{path}, line {index + 1}",
        received=line[:80].decode("utf-8", "replace").strip(),
        remedy="Remove the line, or move the file away: the run then begins a new one.",
    )


# The warnings that a run gave, kept beside what it trained.


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
