"""Checkpoints: folders of named arrays that are either complete or not there.

    <model_dir>/checkpoints/step-00001000/
        weights.safetensors     the model's variables by name
        optimizer.safetensors   the optimizer's slots, named <variable>/adam_m and so on
        state.json              format and library versions, step, the trainer's state, checksums

A checkpoint is written under a temporary name, synced and then renamed. Whatever moment the process
dies at, the newest complete checkpoint is found again and holds exactly what was saved.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import posixpath
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import durable_file, sync_folder
from electra_tf2.training.array_files import Fingerprint, read_arrays, write_arrays
from electra_tf2.training.workers import Workers

FORMAT_VERSION = 1
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = ".tmp"  # being written, or on its way out: never read
_SET_ASIDE = ".old"  # complete, and about to be replaced by a checkpoint of the same step
_RESERVED = ("format_version", "step", "libraries", "files")
_LIBRARIES = ("tensorflow", "keras", "numpy")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: Training steps done.
        weights: The model's variables by name.
        optimizer: The optimizer's slots by name.
        state: What the trainer gave to be kept beside them.
    """

    step: int
    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one model folder.

    Args:
        model_dir: The model's folder; it is made by the first save.
        keep_max: How many of the newest checkpoints to keep; 0 or None keeps all.
    """

    def __init__(self, model_dir: str, keep_max: int | None = None):
        self.folder = posixpath.join(model_dir, "checkpoints")
        self.keep_max = keep_max or None

    def save(
        self,
        step: int,
        weights: Mapping[str, np.ndarray],
        optimizer: Mapping[str, np.ndarray],
        state: Mapping[str, Any],
    ) -> str:
        """Saves a checkpoint, then removes the oldest ones over `keep_max`.

        Args:
            step: Training steps done; a checkpoint of the same step is replaced.
            weights: The model's variables by name.
            optimizer: The optimizer's slots by name.
            state: Anything JSON can say, by names other than "format_version", "step", "libraries"
                and "files".

        Returns:
            The checkpoint's folder.

        Raises:
            UserError: If it can't be written, for example because the disk is full. The checkpoints
                that were there still are.
        """
        path = posixpath.join(self.folder, f"step-{step:08d}")
        temporary = path + _TEMPORARY
        record = _record(step, state)
        try:
            tf.io.gfile.makedirs(self.folder)
            sync_folder(posixpath.dirname(self.folder))
            self._clean()
            _write(temporary, weights, optimizer, record)
            self._put(temporary, path)
            self._prune(keep=path)
        except (OSError, tf.errors.OpError) as error:
            raise self._not_saved(step, error) from error
        return path

    def latest(self) -> str | None:
        """The folder of the newest complete checkpoint, or None if there is none.

        What an interrupted save left behind doesn't count.
        """
        self._restore_set_aside()
        steps = self.steps()
        return posixpath.join(self.folder, f"step-{steps[-1]:08d}") if steps else None

    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, in rising order."""
        return sorted(int(match[1]) for name in self._names() if (match := _NAME.fullmatch(name)))

    def load(self, path: str, *, with_optimizer: bool = True) -> Checkpoint:
        """Reads a checkpoint.

        Args:
            path: Its folder, from `latest` or `save`.
            with_optimizer: Whether to read the slots, which are twice as large as the weights.

        Returns:
            The checkpoint.

        Raises:
            UserError: If a file is missing, truncated, corrupt or of a newer format; names it.
        """
        try:
            record = _read_record(posixpath.join(path, STATE))
            files = {name: Fingerprint(**print_) for name, print_ in record["files"].items()}
            weights, optimizer = (
                read_arrays(posixpath.join(path, name), files[name]) if wanted else {}
                for name, wanted in ((WEIGHTS, True), (OPTIMIZER, with_optimizer))
            )
        except UserError as error:
            remedy = error.remedy or self._way_around(path)
            raise UserError(
                error.what, where=error.where, received=error.received, remedy=remedy
            ) from error
        state = {name: value for name, value in record.items() if name not in _RESERVED}
        return Checkpoint(record["step"], weights, optimizer, state)

    def _names(self) -> list[str]:
        if not tf.io.gfile.isdir(self.folder):
            return []
        return [name.rstrip("/") for name in tf.io.gfile.listdir(self.folder)]

    def _clean(self) -> None:
        """Removes what interrupted saves left behind."""
        self._restore_set_aside()
        for name in self._names():
            if name.endswith(_TEMPORARY):
                tf.io.gfile.rmtree(posixpath.join(self.folder, name))

    def _restore_set_aside(self) -> None:
        """Finishes or takes back a replacement that was interrupted between its two renames."""
        names = self._names()
        for name in names:
            if not name.endswith(_SET_ASIDE):
                continue
            aside, path = (posixpath.join(self.folder, n) for n in (name, name[: -len(_SET_ASIDE)]))
            if posixpath.basename(path) in names:
                self._remove(aside)
            else:
                tf.io.gfile.rename(aside, path)

    def _put(self, temporary: str, path: str) -> None:
        """Gives a finished checkpoint its name."""
        replaces = tf.io.gfile.exists(path)
        if replaces:
            tf.io.gfile.rename(path, path + _SET_ASIDE)
        tf.io.gfile.rename(temporary, path)
        sync_folder(self.folder)
        if replaces:
            self._remove(path + _SET_ASIDE)

    def _prune(self, keep: str) -> None:
        if self.keep_max is None:
            return
        for step in self.steps()[: -self.keep_max]:
            path = posixpath.join(self.folder, f"step-{step:08d}")
            if path != keep:
                self._remove(path)

    def _remove(self, path: str) -> None:
        """Removes a checkpoint; one that is half removed must not look complete."""
        tf.io.gfile.rename(path, path + _TEMPORARY)
        sync_folder(self.folder)
        tf.io.gfile.rmtree(path + _TEMPORARY)

    def _not_saved(self, step: int, error: Exception) -> UserError:
        reason = error.message if isinstance(error, tf.errors.OpError) else str(error)
        steps = self.steps()
        return UserError(
            f"The checkpoint of step {step} can't be saved.",
            where=self.folder,
            received=reason,
            remedy="Free some space or make the folder writable, then run the same command again: "
            + (f"it goes on from step {steps[-1]}." if steps else "it starts from the beginning."),
        )

    def _way_around(self, path: str) -> str:
        name = posixpath.basename(path)
        match = _NAME.fullmatch(name)
        before = [step for step in self.steps() if match and step < int(match[1])]
        then = f"goes on from step {before[-1]}" if before else "starts from the beginning"
        return (
            f"Restore the file from a copy, or move the folder {name} away: the same command then "
            f"{then}."
        )


def _write(
    folder: str,
    weights: Mapping[str, np.ndarray],
    optimizer: Mapping[str, np.ndarray],
    record: dict[str, Any],
) -> None:
    """Writes and syncs a checkpoint's files; on an error nothing of them stays."""
    tf.io.gfile.makedirs(folder)
    try:
        prints = {
            WEIGHTS: write_arrays(posixpath.join(folder, WEIGHTS), weights),
            OPTIMIZER: write_arrays(posixpath.join(folder, OPTIMIZER), optimizer),
        }
        record["files"] = {name: print_._asdict() for name, print_ in prints.items()}
        with durable_file(posixpath.join(folder, STATE)) as file:
            file.write((json.dumps(record, indent=2) + "\n").encode("utf-8"))
        sync_folder(folder)
    except BaseException:
        tf.io.gfile.rmtree(folder)
        raise


def _record(step: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """The content of state.json, still without the files' fingerprints."""
    clashes = [name for name in state if name in _RESERVED]
    if clashes:
        raise ValueError(f"The state uses names of the checkpoint's own. Received: {clashes}")
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    libraries |= {"python": platform.python_version(), "electra_tf2": __version__}
    record = {"format_version": FORMAT_VERSION, "step": int(step), **state, "libraries": libraries}
    json.dumps(record)  # raises before anything is written
    return record


def _read_record(path: str) -> dict[str, Any]:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            record = json.loads(file.read())
    except tf.errors.OpError as error:
        raise UserError(
            "The checkpoint's state can't be read.", where=path, received=error.message
        ) from error
    except ValueError as error:
        raise UserError(
            "The checkpoint's state is truncated or corrupt.", where=path, received=str(error)
        ) from error
    if not isinstance(record, dict):
        record = {}
    version = record.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            "The checkpoint was written by a newer version of this program.",
            where=path,
            received=f"format_version {version}; this program reads up to {FORMAT_VERSION}",
            remedy="Use the version that wrote it, or a later one.",
        )
    missing = [n for n in _RESERVED if n not in record]
    files = record.get("files")
    if not missing and isinstance(files, dict):
        missing = [n for n in (WEIGHTS, OPTIMIZER) if n not in files]
    if missing:
        raise UserError(
            "The checkpoint's state is corrupt.",
            where=path,
            received=f"nothing about {', '.join(missing)}",
        )
    return record


# Saving checkpoints while training goes on.


TakeArrays = Callable[[], Mapping[str, np.ndarray]]


class BackgroundSaver:
    """Takes a checkpoint's arrays at once, and writes them in a thread.

    Saves end in the order they were begun, one at a time: a save waits for the one before, and only
    then takes its arrays. So there is at most one copy of weights and slots in host memory beside
    those in training, and a process that is killed loses the steps since the last save that was
    complete: at most twice the interval between saves.

    A save that fails is raised by whatever is called next, `begin`, `check` or `wait`. A context:
    at its end the save under way is waited for, so that no exit but a kill cuts one off. (A
    Ctrl-C while it waits raises KeyboardInterrupt; Python then still ends the thread before it
    exits.)

    Args:
        store: where checkpoints go. It is not to be used otherwise while a save is under way.
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
            step: Training steps done.
            weights: Returns the model's variables by name, in arrays that training leaves alone.
            optimizer: Returns the optimizer's slots likewise.
            state: See `CheckpointStore.save`.

        Raises:
            UserError: The save before this one failed; this one is not begun.
        """
        self.wait()
        arguments = (step, weights(), optimizer(), state)
        self._thread = threading.Thread(target=self._save, args=arguments, name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raises the error of a save that has failed since the last call; waits for nothing.

        Raises:
            UserError: The checkpoint could not be written, see `CheckpointStore.save`.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> str | None:
        """Waits for the save under way.

        Returns:
            The folder of the last checkpoint saved, complete and on the disk; None if there is
            none.

        Raises:
            UserError: It could not be written, see `CheckpointStore.save`.
        """
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._path

    def latest(self) -> str | None:
        """The newest complete checkpoint of the store, after the save under way has ended.

        An error of that save is left for the next call.
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


# The checkpoint that all workers of a run go on from.


def newest_checkpoint(store: CheckpointStore, workers: Workers) -> str | None:
    """Finds the newest complete checkpoint; called by all workers.

    Args:
        store: of a folder that they share.
        workers: of the run.

    Returns:
        The checkpoint's folder, or None if there is none.

    Raises:
        UserError: the workers don't see the same one.
    """
    workers.on_chief(store.latest)  # it alone tidies up after a save that was cut off
    newest = store.latest()
    workers.check_same_view(f"newest checkpoint in {store.folder}", newest or "none")
    return newest
