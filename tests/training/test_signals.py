import os
import signal
import threading

import pytest

from electra_tf2.training.trainer import Interrupted, StopRequest


@pytest.fixture(autouse=True)
def usual_ctrl_c():
    """Python's own handling, also where a shell started the tests with SIGINT ignored (`&`)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_becomes_a_flag(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_acts_as_usual():
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_of_the_main_thread_it_does_nothing():
    entered = []

    def enter():
        with StopRequest() as stop:
            entered.append(stop.signal)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [None]


def test_message():
    error = Interrupted(signal.SIGTERM, 57, "/m/checkpoints/step-00000057")
    assert error.exit_code == 75
    assert str(error).splitlines() == [
        "The run was stopped after step 57; nothing is lost.",
        "  where: /m/checkpoints/step-00000057",
        "  received: SIGTERM",
        "  what to do: Run the same command again: it goes on from this checkpoint.",
    ]
