"""What a run reports over time: a file of JSON lines, and event files for TensorBoard.

<model_dir>/metrics.jsonl         one line per report: step, split, wall_time, then the scalars
<model_dir>/tensorboard/<split>/  the same for TensorBoard, which need not be installed
"""

from __future__ import annotations

import json
import math
import posixpath
import time
from collections.abc import Mapping

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.files import replace_file

_FIELDS = ("step", "split", "wall_time")


class RunLog:
    """Appends scalars to a model folder's logs.

    Nothing is written before the first report. Each report is flushed, so the logs can be followed
    while the run goes on.

    Args:
        model_dir: The model's folder.
    """

    def __init__(self, model_dir: str):
        self.path = posixpath.join(model_dir, "metrics.jsonl")
        self.events_folder = posixpath.join(model_dir, "tensorboard")
        self._file: tf.io.gfile.GFile | None = None
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, step: int, scalars: Mapping[str, float], *, split: str = "train") -> None:
        """Reports scalars.

        Args:
            step: Training steps done.
            scalars: Values by name. In metrics.jsonl, one that is not finite becomes null: JSON has
                no NaN. The names "step", "split" and "wall_time" are taken.
            split: What they were measured on, such as "train" or "eval".
        """
        clashes = [name for name in scalars if name in _FIELDS]
        if clashes:
            raise ValueError(f"Scalars use names of the log's own. Received: {clashes}")
        values = {name: float(value) for name, value in scalars.items()}
        line = {"step": int(step), "split": split, "wall_time": round(time.time(), 3)}
        line |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        file = self._open_file()
        file.write(json.dumps(line) + "\n")
        file.flush()
        self._write_events(int(step), values, split)

    def rewind(self, step: int) -> None:
        """Drops all that was reported after a step: a resumed run reports it again.

        A last line or event that a crash left half-written is dropped too.

        Args:
            step: The step the run continues from; its own reports stay.

        Raises:
            UserError: If a line of metrics.jsonl other than the last is not such a report.
        """
        self.close()
        if tf.io.gfile.exists(self.path):
            lines = _complete_lines(self.path)
            kept = [
                line for i, line in enumerate(lines) if _step_of_line(line, self.path, i) <= step
            ]
            content = b"".join(kept)
            if content != _read(self.path):
                replace_file(self.path, content)
        for path in tf.io.gfile.glob(posixpath.join(self.events_folder, "*", "events.*")):
            if not path.endswith(".tmp"):
                _rewind_events(path, step)

    def close(self) -> None:
        """Closes the files; a later `write` opens them again."""
        if self._file is not None:
            self._file.close()
        for writer in self._writers.values():
            writer.close()
        self._file, self._writers = None, {}

    def _open_file(self) -> tf.io.gfile.GFile:
        if self._file is None:
            tf.io.gfile.makedirs(posixpath.dirname(self.path))
            if tf.io.gfile.exists(self.path):
                content = b"".join(_complete_lines(self.path))
                if content != _read(self.path):
                    replace_file(self.path, content)
            self._file = tf.io.gfile.GFile(self.path, "a")
        return self._file

    def _write_events(self, step: int, values: dict[str, float], split: str) -> None:
        if split not in self._writers:
            folder = posixpath.join(self.events_folder, split)
            self._writers[split] = tf.summary.create_file_writer(folder)
        writer = self._writers[split]
        with writer.as_default():
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step, _scalar_metadata())
        writer.flush()


class SilentLog:
    """Has the methods of `RunLog` and writes nothing: the log of workers other than the chief."""

    def write(self, step: int, scalars: Mapping[str, float], *, split: str = "train") -> None:
        """Does nothing."""

    def rewind(self, step: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _scalar_metadata() -> tf.compat.v1.SummaryMetadata:
    """What makes TensorBoard draw a curve (tf.summary.scalar needs TensorBoard installed)."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    metadata.data_class = 1  # DATA_CLASS_SCALAR
    return metadata


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def _complete_lines(path: str) -> list[bytes]:
    """The file's lines with their ends, without a last one that has none."""
    lines = _read(path).splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]


def _step_of_line(line: bytes, path: str, index: int) -> int:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        step = None
    if not isinstance(step, int):
        raise UserError(
            "The log holds a line that this program did not write.",
            where=f"{path}, line {index + 1}",
            received=line[:80].decode("utf-8", "replace").strip(),
            remedy="Remove the line, or move the file away: the run then begins a new one.",
        )
    return step


def _rewind_events(path: str, step: int) -> None:
    """Rewrites an event file without what came after `step`, if there is any of it."""
    records, is_whole = _event_records(path)
    kept = [record for record in records if tf.compat.v1.Event.FromString(record).step <= step]
    if is_whole and len(kept) == len(records):
        return
    temporary = path + ".tmp"
    with tf.io.TFRecordWriter(temporary) as writer:
        for record in kept:
            writer.write(record)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def _event_records(path: str) -> tuple[list[bytes], bool]:
    """The serialized events of a file, and whether it ends with a whole one."""
    records: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            records.append(record)
    except tf.errors.DataLossError:
        return records, False
    return records, True
