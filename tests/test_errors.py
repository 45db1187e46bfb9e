import pickle

import pytest

from electra_tf2.errors import UserError


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
