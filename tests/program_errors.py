"""Runs a program in the test's process and checks the form of the error it ends with."""

import contextlib
import io

import pytest

from electra_tf2 import cli


def run_here(main, arguments):
    """Runs a program's `main` as its script does; returns (exit code, stderr)."""
    with contextlib.redirect_stderr(io.StringIO()) as shown, pytest.raises(SystemExit) as caught:
        cli.run(lambda _: main(arguments))
    return caught.value.code, shown.getvalue()


def error_of(code, shown, exit_code=2):
    """The error in what a program printed, after a check of its form."""
    assert code == exit_code, shown
    assert "Traceback" not in shown
    before, separator, error = ("\n" + shown).rpartition("\nerror: ")
    assert separator, shown
    fields = [line.partition(":")[0] for line in error.splitlines()[1:]]
    assert [field for field in fields if field in ("  where", "  received", "  what to do")] == [
        "  where", "  received", "  what to do",
    ], error  # fmt: skip
    what = error.splitlines()[0]
    assert (what[0].isupper() or what.startswith("model_name ")) and what[-1] in ".!?", what
    assert error.rstrip()[-1] in ".?)", error
    return error
