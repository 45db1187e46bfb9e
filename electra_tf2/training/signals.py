"""Leaving a run cleanly when a signal asks for it."""

from __future__ import annotations

import signal
import threading

from electra_tf2.errors import UserError


class Interrupted(UserError):
    """A signal ended the run early; a checkpoint was saved, and the same command goes on.

    Args:
        number: the signal.
        step: the step that was saved.
        path: the checkpoint's folder.
    """

    # Like a shell's 128 + n for a killed process, but the state is saved: "run me again".
    exit_code = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, number: int, step: int, path: str):
        super().__init__(
            f"The run was stopped after step {step}; nothing is lost.",
            where=path,
            received=signal.Signals(number).name,
            remedy="Run the same command again: it goes on from this checkpoint.",
        )


class StopRequest:
    """Turns SIGTERM and SIGINT into a flag while it is entered.

    A second signal acts as usual, so that an impatient Ctrl-C still works. Outside the main
    thread, where Python delivers no signals, it does nothing.

    Attributes:
        signal: number of the signal that came, or None.
    """

    def __init__(self):
        self.signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        self.signal = number
        signal.signal(number, self._previous[number])
