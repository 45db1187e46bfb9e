"""What the programs tell while they run."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Prints a line on stderr at once; stdout is left to results."""
    print(line, file=sys.stderr, flush=True)
