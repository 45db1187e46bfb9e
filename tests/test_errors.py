import errno
import os
import pickle
import subprocess
import sys

import pytest

from electra_tf2.errors import UserError, as_user_error, printable, shell_quoted


def test_message_has_all_fields_in_order():
    error = UserError("No file.", where="a.txt, line 3", received=[1, "x"], remedy="Make one.")
    assert str(error).splitlines() == [
        "No file.",
        "  where: a.txt, line 3",
        "  received: [1, 'x']",
        "  what to do: Make one.",
    ]
    assert (error.what, error.where) == ("No file.", "a.txt, line 3")
    assert (error.received, error.remedy) == ([1, "x"], "Make one.")
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "received, shown", [("text", "text"), (0, "0"), ("", ""), (False, "False")]
)
def test_falsy_received_is_shown(received, shown):
    assert str(UserError("Bad.", received=received)) == f"Bad.\n  received: {shown}"


def test_fields_left_out_have_no_line():
    assert str(UserError("Bad.")) == "Bad."


def test_survives_the_way_back_from_a_worker_process():
    error = UserError("Bad.", where="there", received={"a": 1}, remedy="Mend it.")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.where, copy.received, copy.remedy) == ("there", {"a": 1}, "Mend it.")


TRICKS = "\x1b[2J\r\n\x07\x9b\u202e\u2028a\udcff"
SHOWN = r"\x1b[2J\x0d\x0a\x07\u009b\u202e\u2028a\xff"


def test_no_field_of_a_message_moves_the_cursor():
    error = UserError(TRICKS, where=TRICKS, received=TRICKS, remedy=TRICKS)
    assert str(error).split("\n") == [
        SHOWN, f"  where: {SHOWN}", f"  received: {SHOWN}", f"  what to do: {SHOWN}",
    ]  # fmt: skip
    assert error.where == error.received == TRICKS  # for programs
    assert printable("نص עברית ไทย 👩‍🚀 e\u0301") == "نص עברית ไทย 👩‍🚀 e\u0301"


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EBUSY, errno.EXDEV])
def test_what_the_system_refuses_is_no_bug(number):
    filename = None if number == errno.EFBIG else "a"  # writing to an open file names none
    error = as_user_error(OSError(number, "reason", filename))
    assert error is not None and (error.where, error.received) == (filename, "reason")


def test_a_quoted_word_is_one_word_of_a_shell():
    words = [
        "plain",
        "a b",
        "a'b",
        "$(id)",
        '"; id; "',
        "-n",
        "~",
        "\\x41",
        "",
        TRICKS,
        "'\x1b",
        "*",
    ]
    code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    command = " ".join([sys.executable, "-c", *map(shell_quoted, [code, *words])])
    assert printable(command) == command
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)
    assert done.stdout == b"\0".join(map(os.fsencode, words))
