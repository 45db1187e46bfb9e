"""A process that ends where nothing inside it can."""

import signal
import subprocess
import sys
import time

import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.workers import time_limit

# A regular expression that takes ages holds the interpreter's lock, as TensorFlow does.
STUCK = """
import re, signal
from electra_tf2.errors import UserError
from electra_tf2.training.workers import time_limit

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with time_limit(1.0, UserError("It took too long.", where="here")):
    re.match("(a*)*b", "a" * 40)
"""


def test_a_call_that_holds_the_lock_is_ended():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == "error: It took too long.\n  where: here\n"
    assert time.monotonic() - start < 30


def test_a_call_that_ends_in_time(capfd):
    with time_limit(0.3, UserError("Too long.")):
        pass
    with pytest.raises(ValueError), time_limit(0.3, UserError("Too long.")):
        raise ValueError
    time.sleep(0.5)
    assert capfd.readouterr().err == ""
