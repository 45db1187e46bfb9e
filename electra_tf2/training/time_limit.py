"""A time limit for a call that nothing inside the process can end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from electra_tf2.errors import UserError

# Runs beside the process; ends when told to, or when the process is gone.
_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    print(sys.argv[3], file=sys.stderr, flush=True)
    os.kill(int(sys.argv[1]), signal.SIGKILL)
"""


@contextlib.contextmanager
def time_limit(seconds: float, error: UserError) -> Iterator[None]:
    """Prints an error and kills this process if the body takes too long.

    While TensorFlow connects to other workers it holds Python's interpreter lock and ignores
    SIGTERM: no thread, timer or signal of this process ends it. So a process beside it does.

    Args:
        seconds: that the body may take.
        error: what is printed.
    """
    command = [sys.executable, "-c", _WATCH, str(os.getpid()), str(seconds), f"error: {error}"]
    # Closing its standard input, which the end of this process does too, tells it to go.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watcher.stdin.close()
        watcher.wait()
