"""Python programs in processes of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run_python(*arguments, check=True, cwd=ROOT, timeout=600, **environment):
    """Runs Python with the project's own modules; returns what `subprocess.run` does.

    Args:
        *arguments: the interpreter's, such as "-c" and a program.
        check: a program that fails fails the test, with the end of what it printed.
        cwd: folder to run in.
        timeout: in seconds.
        **environment: variables beside this process's own.
    """
    own = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done
