"""What the programs tell while they run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from tqdm import tqdm


def say(line: str) -> None:
    """Prints a line on stderr at once; stdout is left to results."""
    print(line, file=sys.stderr, flush=True)


# Keeping libraries quiet while they are loaded.


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Hides what native code writes to stderr, such as TensorFlow's notes on CPU features.

    Python's exceptions are not affected.
    """
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Progress of a run: a bar on a terminal, plain lines in a file or a pipe.


class Progress:
    """Shows how far a run is, how fast it goes and when it will be done.

    On a terminal this is a bar; elsewhere lines like

        train: step 1200/10000 (12.0 %), 8.31 steps/s, elapsed 2:24, ETA 17:39, loss 24.31

    Args:
        total: Steps in all.
        initial: Steps that were done before (by an earlier run).
        description: A word for what is going on, such as "train".
        stream: Where to write; None for stderr.
        min_seconds: Least time between two plain lines; the first and last report always show.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        total: int,
        initial: int = 0,
        description: str = "",
        *,
        stream: TextIO | None = None,
        min_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total = total
        self.description = description
        self._stream = stream if stream is not None else sys.stderr
        self._min_seconds = min_seconds
        self._clock = clock
        self._start = clock()
        self._step = initial
        # Where the speed is measured from: the first report, as the first step compiles the graph.
        self._since = (initial, self._start)
        self._reported = False
        self._last_line = float("-inf")
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=description or None,
                unit="step",
                file=self._stream,
                **_width(self._stream),
            )

    def update(self, step: int, scalars: Mapping[str, float] | None = None) -> None:
        """Shows that steps were done.

        Args:
            step: Steps done in all.
            scalars: Figures to show beside them, such as losses.
        """
        shown = ", ".join(f"{name} {value:.4g}" for name, value in (scalars or {}).items())
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(step - self._step)
            self._step = step
            return
        self._step = step
        now = self._clock()
        if now - self._last_line >= self._min_seconds or step >= self.total:
            self._last_line = now
            print(self._line(step, now, shown), file=self._stream, flush=True)
        if not self._reported:
            self._since, self._reported = (step, now), True

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar is not None:
            tqdm.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, step: int, now: float, shown: str) -> str:
        since_step, since_time = self._since
        seconds = now - since_time
        speed = (step - since_step) / seconds if seconds > 0 else 0.0
        eta = duration((self.total - step) / speed) if speed > 0 else "unknown"
        parts = [
            f"step {step}/{self.total} ({100 * step / max(1, self.total):.1f} %)",
            f"{speed:.3g} steps/s",
            f"elapsed {duration(now - self._start)}",
            f"ETA {eta}",
        ]
        parts += [shown] if shown else []
        return (f"{self.description}: " if self.description else "") + ", ".join(parts)


def _width(stream: TextIO) -> dict[str, object]:
    """tqdm's arguments for the bar's width. Some terminals (in containers) say 0 columns."""
    if os.get_terminal_size(stream.fileno()).columns == 0:
        return {"ncols": 80}
    return {"dynamic_ncols": True}


def duration(seconds: float) -> str:
    """A time span as h:mm:ss, or m:ss under an hour.

    Args:
        seconds: Its length.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
