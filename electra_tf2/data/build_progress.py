"""Says how far the building of a data set is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from electra_tf2.data.record_builder import Counts

_SECONDS_BETWEEN_LINES = 10.0


class BuildProgress:
    """Progress through the corpus, in bytes.

    Args:
        total_bytes: Size of the corpus.
        noun: What is built.
    """

    def __init__(self, total_bytes: int, noun: str = "examples"):
        self._total, self._noun = total_bytes, noun
        self._started = self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total_bytes, unit="B", unit_scale=True, desc="Building", dynamic_ncols=True
            )

    def update(self, new: Counts, total: Counts) -> None:
        """Shows progress.

        Args:
            new: Figures of the part just written.
            total: Figures of all parts so far.
        """
        if self._bar is not None:
            self._bar.set_postfix_str(f"{total.examples:,} {self._noun}", refresh=False)
            self._bar.update(new.source_bytes)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES and total.source_bytes:
            self._said = now
            elapsed = now - self._started
            left = elapsed * (self._total / total.source_bytes - 1)
            print(
                f"{total.source_bytes / self._total:6.1%}  {total.examples:,} {self._noun}  "
                f"{total.source_bytes / elapsed / 1e6:.1f} MB/s  "
                f"elapsed {_clock(elapsed)}  left {_clock(left)}",
                flush=True,
            )

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
