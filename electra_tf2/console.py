"""What the programs tell their users while they run."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gc
import importlib
import io
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, TextIO

from tqdm import tqdm

from electra_tf2.errors import printable


def say(*lines: str) -> None:
    """Prints lines on stderr at once; stdout is left to results.

    Args:
        *lines: each becomes one line, see `printable`: a line break within it is shown, not made.
    """
    shown = [line for line in lines if not _is_brief or _is_warning(line)]
    if shown or not _is_brief:
        _print(shown, sys.stderr)


def show(*lines: str) -> None:
    """Prints lines of a result on stdout; arguments as `say`."""
    _print(lines, sys.stdout)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as a Markdown table, the header first; no bar or line break ends a cell."""
    cells = [
        [printable(" ".join(cell.splitlines())).replace("|", "\\|") for cell in row] for row in rows
    ]
    lines = [cells[0], ["---"] * len(rows[0]), *cells[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _print(lines: Sequence[str], stream: TextIO) -> None:
    _tell(lines)
    with unread_output_dropped(stream):
        print("\n".join(map(printable, lines)), file=stream, flush=True)


@contextlib.contextmanager
def unread_output_dropped(stream: TextIO) -> Iterator[None]:
    """A context for printing to a stream, whose output is dropped once nobody can read it.

    The shell's window may be closed, or the `head` or `tee` behind a pipe have ended: a run of days
    is not to end with them. What the programs make is in files.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise
        with open(os.devnull, "w") as nothing:  # for what native code prints, too
            os.dup2(nothing.fileno(), stream.fileno())


def open_missing_streams() -> None:
    """Gives a process whose stdin, stdout or stderr is closed an empty one.

    The next file to be opened would get its number, and what native code prints.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        setattr(sys, name, open(number, mode, closefd=False))


_WARNING = "warning: "
_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def warnings_told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Tells a function of every warning that the program prints meanwhile.

    Args:
        listener: is given the line, without the word "Warning" before it.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        if _is_warning(line):
            for listener in _listeners:
                listener(line[len(_WARNING) :])


def _is_warning(line: str) -> bool:
    return line.lower().startswith(_WARNING)


class _PrintableRecord(logging.LogRecord):
    def getMessage(self) -> str:
        text = super().getMessage()
        parts = [text] if self.name == "absl" else text.split("\n")
        return "\n".join(map(printable, parts))


class _LogHandler(logging.StreamHandler[TextIO]):
    """Says what this program logs, so that its warnings look alike and reach the listeners."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "absl":
            say(f"{record.levelname.capitalize()}: {record.getMessage()}")
        else:
            super().emit(record)


def show_logs() -> None:
    """Shows what is logged: this program's messages by `say`, and those of others on stderr.

    All are `printable`, such as warnings that quote data. Line breaks stay in the messages of other
    libraries; this program logs with absl. Handlers that are there already are left alone.
    """
    logging.setLogRecordFactory(_PrintableRecord)
    if not logging.root.handlers:
        handler = _LogHandler()
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        logging.root.addHandler(handler)


# What our own texts have beside ASCII.
_PLAIN = {"…": "...", "·": "-", "→": "->", "×": "x", "±": "+-", "–": "-"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    plain = (_PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text)
    return "".join(plain), error.end


codecs.register_error("electra_tf2.plain", _plain)


def show_any_text() -> None:
    """Lets programs print what the terminal's encoding lacks: as escapes, or in plain letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="electra_tf2.plain")


_is_brief = _is_verbose = False


@contextlib.contextmanager
def brief() -> Iterator[None]:
    """Within it only progress and warnings are shown; with `set_verbose` everything."""
    global _is_brief
    before, _is_brief = _is_brief, not _is_verbose
    try:
        yield
    finally:
        _is_brief = before


def set_verbose(on: bool) -> None:
    """Whether to show all figures in progress lines, and the libraries' messages."""
    global _is_verbose
    _is_verbose = on


def is_verbose() -> bool:
    """What `set_verbose` has set; off at first."""
    return _is_verbose


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """A context for loading TensorFlow, which keeps its notes to itself from then on.

    What is loaded stays to the end of the process. So Python does not look for garbage meanwhile,
    which would be a fifth of the time, nor later on among what was loaded.
    """
    if not _is_verbose:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:  # there may be garbage by now, which is not to stay
        with silent_stderr():
            yield
        return
    gc.disable()
    try:
        with silent_stderr():
            yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Hides what native code writes to stderr while libraries load, such as TensorFlow's notes.

    Python's exceptions are not affected. If messages are wanted (`set_verbose`), nothing is hidden.
    """
    if _is_verbose:
        yield
        return
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# What TensorFlow writes while it is loaded where all is well, and that there is no CUDA. Its
# warnings stay: one says that a GPU can't be used, as libraries are missing.
_NOTE = re.compile(
    rb"I\d{4} [\d:.]+ +\d+ \S+\.cc:\d+\] |E\d{4} .*cuInit: .*\(303\)"
    rb"|WARNING: All log messages before absl::|To enable the following instructions: "
)
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_stderr_lock = threading.RLock()


def load_quietly(name: str) -> ModuleType:
    """Imports a module that loads TensorFlow into a user's program, without TensorFlow's notes.

    Whatever else is written to stderr meanwhile comes out afterwards, and the program's own logging
    and environment stay as they are. Where the variable TF_CPP_MIN_LOG_LEVEL asks for notes (0),
    they are shown.
    """
    if name in sys.modules or os.environ.get(_LEVEL) == "0":
        return importlib.import_module(name)
    with _stderr_lock, without_notes():
        is_set = _LEVEL in os.environ
        os.environ.setdefault(_LEVEL, "1")
        try:
            module = importlib.import_module(name)
            if tensorflow := sys.modules.get("tensorflow"):
                tensorflow.config.list_physical_devices()  # looked for when first asked for
        finally:
            if not is_set:
                os.environ.pop(_LEVEL, None)
        return module


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Within it stderr is held back; at the end all of it is written but TensorFlow's notes."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    with tempfile.TemporaryFile() as held:
        _flush_stderr()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush_stderr()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            with open(2, "wb", closefd=False) as stderr:
                stderr.writelines(line for line in held if not _NOTE.match(line))


def _flush_stderr() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


class Progress:
    """Shows how far a run is, how fast it is and when it will be done.

    On a terminal this is a bar; elsewhere lines like

        train: step 1200/10000 (12.0 %), 8.31 steps/s, elapsed 2:24, ETA 17:39, loss 24.31
        Building: 41.2/310.0 MB (13.3 %), 5.1 MB/s, elapsed 0:09, ETA 0:53, 26,310 examples

    Args:
        total: steps or bytes in all.
        initial: those that were done before (by an earlier run).
        description: a word for what is happening, such as "train".
        unit: what is counted.
        stream: where to write; None for stderr.
        min_seconds: shortest time between two plain lines; the first and last report always show.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        description: str = "",
        *,
        unit: Literal["step", "byte"] = "step",
        stream: TextIO | None = None,
        min_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total = total
        self.description = printable(description)
        self._unit = unit
        self._stream = stream if stream is not None else sys.stderr
        self._min_seconds = min_seconds
        self._clock = clock
        self._start = clock()
        self._done = initial
        # Where the speed is measured from: the first report, once it is there. Before it a graph is
        # compiled, or processes are started.
        self._since = (initial, self._start)
        self._is_measuring = False
        self._last_line = float("-inf")
        self._bar = None
        if self._stream.isatty():
            with unread_output_dropped(self._stream):
                self._bar = _Bar(
                    total=total,
                    initial=initial,
                    desc=self.description or None,
                    unit="step" if unit == "step" else "B",
                    unit_scale=unit == "byte",
                    file=self._stream,
                    **_width(self._stream),
                )

    def update(
        self, done: int, scalars: Mapping[str, float] | None = None, *, note: str = ""
    ) -> None:
        """Shows what has been done.

        Args:
            done: steps or bytes done in all.
            scalars: figures to show beside them, such as losses.
            note: text to show beside them. Without either, a bar keeps what it shows.
        """
        shown = [f"{name} {value:.4g}" for name, value in (scalars or {}).items()]
        shown += [printable(note)] if note else []
        now = self._clock()
        if self._bar is not None:
            if shown:
                self._bar.set_postfix_str(", ".join(shown), refresh=False)
            is_known = self._is_measuring or done >= self.total
            self._bar.speed = self._speed(done, now) if is_known else 0.0
            with unread_output_dropped(self._stream):
                self._bar.update(done - self._done)
            self._done = done
            self._measure_from(done, now)
            return
        is_last = done >= self.total > self._done
        self._done = done
        if now - self._last_line >= self._min_seconds or is_last:
            self._last_line = now
            with unread_output_dropped(self._stream):
                print(self._line(done, now, shown), file=self._stream, flush=True)
        self._measure_from(done, now)

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar is not None:
            _tell([text])
            with unread_output_dropped(self._stream):
                tqdm.write(printable(text), file=self._stream)
        else:
            _print([text], self._stream)

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar is not None:
            with unread_output_dropped(self._stream):
                self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _measure_from(self, done: int, now: float) -> None:
        if not self._is_measuring:
            self._since, self._is_measuring = (done, now), True

    def _speed(self, done: int, now: float) -> float:
        since, since_time = self._since
        return (done - since) / (now - since_time) if now > since_time else 0.0

    def _line(self, done: int, now: float, shown: Sequence[str]) -> str:
        speed = self._speed(done, now)
        known = speed > 0 and (self._is_measuring or done >= self.total)
        left = duration((self.total - done) / speed) if known else "unknown"
        if self._unit == "step":
            amount, rate = f"step {done}/{self.total}", f"{speed:.3g} steps/s"
        else:
            amount = f"{done / 1e6:.1f}/{self.total / 1e6:.1f} MB"
            rate = f"{speed / 1e6:.3g} MB/s"
        parts = [
            f"{amount} ({100 * done / max(1, self.total):.1f} %)",
            rate,
            f"elapsed {duration(now - self._start)}",
            f"ETA {left}",
            *shown,
        ]
        return (f"{self.description}: " if self.description else "") + ", ".join(parts)


class _Bar(tqdm):
    """A bar that shows the speed it is told, which leaves out the time that compiling took.

    On a narrow terminal it leaves out what it is of, rather than how far it is.

    Attributes:
        speed: steps or bytes a second; 0 as long as it is unknown.
    """

    speed = 0.0

    @property
    def format_dict(self) -> dict[str, Any]:
        found = {**super().format_dict, "rate": self.speed}
        if found["ncols"] and len(found["prefix"] or "") > found["ncols"] // 2:
            found["prefix"] = ""
        return found


def _width(stream: TextIO) -> dict[str, Any]:
    """tqdm's arguments for the bar's width. Some terminals (in containers) say 0 columns."""
    if os.get_terminal_size(stream.fileno()).columns == 0:
        return {"ncols": 80}
    return {"dynamic_ncols": True}


def duration(seconds: float) -> str:
    """A time span as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
