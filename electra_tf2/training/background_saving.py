"""Checkpoints written by a thread while training continues."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import CheckpointStore

TakeArrays = Callable[[], Mapping[str, np.ndarray]]


class BackgroundSaver:
    """Takes a checkpoint's arrays at once, and writes them in a thread while training continues.

    Saves end in the order they began, one at a time: a save waits for the one before, and only then
    takes its arrays. So there is at most one copy of weights and slots in host memory beside those
    in training, and a process that is killed loses the steps since the last complete save: at most
    twice the interval between saves.

    The error of a failed save is raised by the next call of `begin`, `check` or `wait`. The end of
    the context waits for the save under way, so that nothing but a kill cuts one off. (A Ctrl-C
    during that wait raises KeyboardInterrupt; Python still ends the thread before it exits.)

    Args:
        store: where checkpoints go; not to be used otherwise while a save is under way.
    """

    def __init__(self, store: CheckpointStore):
        self._store = store
        self._thread: threading.Thread | None = None
        self._path: str | None = None
        self._error: BaseException | None = None

    def begin(
        self, step: int, weights: TakeArrays, optimizer: TakeArrays, state: Mapping[str, Any]
    ) -> None:
        """Begins a save; when it returns, training may change the variables.

        Args:
            step: training steps done.
            weights: returns the model's variables by name, in arrays that training leaves alone.
            optimizer: returns the optimizer's slots likewise.
            state: see `CheckpointStore.save`.

        Raises:
            UserError: the save before this one failed; this one is not begun.
        """
        self.wait()
        arguments = (step, weights(), optimizer(), state)
        self._thread = threading.Thread(target=self._save, args=arguments, name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raises the error of a save that has failed since the last call; doesn't wait.

        Raises:
            UserError: the checkpoint could not be written, see `CheckpointStore.save`.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> str | None:
        """Waits for the save under way.

        Returns:
            The folder of the last checkpoint saved, complete and on the disk, or None.

        Raises:
            UserError: it could not be written, see `CheckpointStore.save`.
        """
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._path

    def latest(self) -> str | None:
        """Waits for the save under way; returns the folder of the newest complete checkpoint.

        The next call raises the error of that save, if any.
        """
        self._join()
        return self._store.latest()

    def __enter__(self) -> BackgroundSaver:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.wait()
        except UserError as failure:
            if error is None:
                raise
            say(f"Warning: {failure}")  # beside the error that ends the run

    def _save(self, *arguments: Any) -> None:
        try:
            self._path = self._store.save(*arguments)
        except BaseException as error:  # raised again where it is waited for
            self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
