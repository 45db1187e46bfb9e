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
import os
import platform
import posixpath
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from electra_tf2 import __version__, files
from electra_tf2.errors import UserError
from electra_tf2.stored_json import Record, bad_field, parse_record
from electra_tf2.training.array_files import Fingerprint, read_arrays, write_arrays

if TYPE_CHECKING:
    from electra_tf2.training.workers import Workers

FORMAT_VERSION = 1
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = ".tmp"  # being written, or on its way out: never read
_SET_ASIDE = ".old"  # complete, and about to be replaced by a checkpoint of the same step
_WHAT = "The checkpoint's state"
_RESTORE = "Restore the file from a copy, or move the checkpoint's folder away."
_RESERVED = ("format_version", "step", "libraries", "files")
_LIBRARIES = ("tensorflow", "keras", "numpy")


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: training steps done.
        weights: the model's variables by name.
        optimizer: the optimizer's slots by name.
        state: what else the trainer saved, JSON values by name.
        path: its folder; "" of one that is not on the disk.
    """

    step: int
    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    state: dict[str, Any]
    path: str = ""

    def part(self, record: type[Record], content: Mapping[str, Any] | None = None) -> Record:
        """Returns what the trainer saved as a record, see `electra_tf2.stored_json`.

        Args:
            content: the object it is read from; None for `state`.

        Raises:
            UserError: state.json lacks a field, or has it with another type; names it.
        """
        state = self.state if content is None else content
        return parse_record(record, state, posixpath.join(self.path, STATE), _WHAT, _RESTORE)

    def bad_field(self, field: str, received: str) -> UserError:
        """Returns the error for a value of `state` that can't be, and what it is."""
        return bad_field(posixpath.join(self.path, STATE), _WHAT, _RESTORE, field, received)


class CheckpointStore:
    """The checkpoints of one model folder.

    Args:
        model_dir: the model's folder; the first save creates it.
        keep_max: how many of the newest checkpoints to keep; 0 or None keeps all.
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
            step: training steps done; a checkpoint of the same step is replaced.
            weights: the model's variables by name.
            optimizer: the optimizer's slots by name.
            state: JSON values by name. The names "format_version", "step", "libraries" and "files"
                are taken.

        Returns:
            The checkpoint's folder.

        Raises:
            UserError: it can't be written, for example because the disk is full. Existing
                checkpoints stay.
        """
        path = posixpath.join(self.folder, f"step-{step:08d}")
        temporary = path + _TEMPORARY
        record = _record(step, state)
        try:
            files.make_dirs(self.folder)
            files.sync(posixpath.dirname(self.folder))
            self._clean()
            _write(temporary, weights, optimizer, record)
            self._put(temporary, path)
            self._prune(keep=path)
        except OSError as error:
            raise self._not_saved(step, error) from error
        return path

    def latest(self) -> str | None:
        """Returns the folder of the newest complete checkpoint, or None if there is none."""
        self._restore_set_aside()
        steps = self.steps()
        return posixpath.join(self.folder, f"step-{steps[-1]:08d}") if steps else None

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, in rising order."""
        return sorted(int(match[1]) for name in self._names() if (match := _NAME.fullmatch(name)))

    def keep_only(self, steps: Collection[int]) -> None:
        """Removes the checkpoints of all other steps."""
        for step in self.steps():
            if step not in steps:
                self._remove(posixpath.join(self.folder, f"step-{step:08d}"))

    def load(self, path: str, *, with_optimizer: bool = True) -> Checkpoint:
        """Reads a checkpoint.

        Args:
            path: its folder, from `latest` or `save`.
            with_optimizer: whether to read the slots, which are twice as large as the weights.

        Returns:
            The checkpoint.

        Raises:
            UserError: a file is missing, truncated, corrupt or of a newer format; names it.
        """
        record = self._record(path)
        try:
            prints = record["files"]
            weights, optimizer = (
                read_arrays(posixpath.join(path, name), prints[name]) if wanted else {}
                for name, wanted in ((WEIGHTS, True), (OPTIMIZER, with_optimizer))
            )
        except UserError as error:
            raise error.with_(remedy=error.remedy or self._way_around(path)) from error
        return Checkpoint(record["step"], weights, optimizer, _state(record), path)

    def fingerprint(self, path: str) -> dict[str, int]:
        """Returns what the weights of a checkpoint are recognized by, without reading them.

        Raises:
            UserError: its state.json is missing or corrupt.
        """
        return self._record(path)["files"][WEIGHTS]._asdict()

    def head(self, path: str) -> Checkpoint:
        """Reads a checkpoint without its arrays.

        Raises:
            UserError: its state.json is missing or corrupt.
        """
        record = self._record(path)
        return Checkpoint(record["step"], {}, {}, _state(record), path)

    def newest_state(self) -> dict[str, Any]:
        """Returns the state of the newest complete checkpoint, without reading its arrays.

        Returns:
            What `save` was given; {} if there is no checkpoint.

        Raises:
            UserError: it can't be read, see `load`.
        """
        return _state(self._newest_record())

    def newest_libraries(self) -> dict[str, Any]:
        """Returns the versions by library that wrote the newest checkpoint; {} without one.

        Raises:
            UserError: it can't be read, see `load`.
        """
        return self._newest_record().get("libraries", {})

    def _newest_record(self) -> dict[str, Any]:
        """Reads the state.json of the newest complete checkpoint; {} if there is none."""
        steps = self.steps()
        if not steps:
            return {}
        return self._record(posixpath.join(self.folder, f"step-{steps[-1]:08d}"))

    def _record(self, path: str) -> dict[str, Any]:
        """Reads the state.json of a checkpoint."""
        try:
            record = _read_record(posixpath.join(path, STATE))
            _check_step(path, record["step"])
            return record
        except UserError as error:
            raise error.with_(remedy=error.remedy or self._way_around(path)) from error

    def _names(self) -> list[str]:
        return files.list_dir(self.folder) if files.is_dir(self.folder) else []

    def _clean(self) -> None:
        """Removes what interrupted saves left behind."""
        self._restore_set_aside()
        for name in self._names():
            if name.endswith(_TEMPORARY):
                files.remove_tree(posixpath.join(self.folder, name))

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
                files.rename(aside, path)

    def _put(self, temporary: str, path: str) -> None:
        """Gives a finished checkpoint its name."""
        replaces = files.exists(path)
        if replaces:
            files.rename(path, path + _SET_ASIDE)
        files.rename(temporary, path)
        files.sync(self.folder)
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
        files.rename(path, path + _TEMPORARY)
        files.sync(self.folder)
        files.remove_tree(path + _TEMPORARY)

    def _not_saved(self, step: int, error: OSError) -> UserError:
        steps = self.steps()
        return UserError(
            f"The checkpoint of step {step} can't be saved.",
            where=self.folder,
            received=str(error),
            remedy="Free some space or make the folder writable, then run the same command again: "
            + (f"it resumes at step {steps[-1]}." if steps else "it starts from the beginning."),
        )

    def _way_around(self, path: str) -> str:
        name = posixpath.basename(path)
        match = _NAME.fullmatch(name)
        before = [step for step in self.steps() if match and step < int(match[1])]
        then = f"resumes at step {before[-1]}" if before else "starts from the beginning"
        return (
            f"Restore the file from a copy, or move the folder {name} away: the same command then "
            f"{then}."
        )


def model_of(checkpoint: str) -> str:
    """Returns the model folder that a checkpoint lies in; of a copy elsewhere, its own folder."""
    # Of a relative path such as step-00001000, only the absolute one tells what it lies in.
    path = os.path.abspath(checkpoint) if files.is_local(checkpoint) else checkpoint.rstrip("/")
    above = posixpath.dirname(path)
    return posixpath.dirname(above) if posixpath.basename(above) == "checkpoints" else path


def _write(
    folder: str,
    weights: Mapping[str, np.ndarray],
    optimizer: Mapping[str, np.ndarray],
    record: dict[str, Any],
) -> None:
    """Writes and syncs a checkpoint's files; removes them all on an error."""
    files.make_dirs(folder)
    try:
        prints = {
            WEIGHTS: write_arrays(posixpath.join(folder, WEIGHTS), weights),
            OPTIMIZER: write_arrays(posixpath.join(folder, OPTIMIZER), optimizer),
        }
        record["files"] = {name: print_._asdict() for name, print_ in prints.items()}
        with files.durable_file(posixpath.join(folder, STATE)) as file:
            file.write(files.json_bytes(record, indent=2))
        files.sync(folder)
    except BaseException:
        files.remove_tree(folder, ignore_errors=True)
        raise


def _record(step: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of state.json, still without the files' fingerprints."""
    clashes = [name for name in state if name in _RESERVED]
    if clashes:
        raise ValueError(f"The state uses names of the checkpoint's own. Received: {clashes}")
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    libraries |= {"python": platform.python_version(), "electra_tf2": __version__}
    record = {"format_version": FORMAT_VERSION, "step": int(step), **state, "libraries": libraries}
    json.dumps(record)  # raises before anything is written
    return record


def _check_step(path: str, step: int) -> None:
    """Refuses a checkpoint in a folder that is named after another step."""
    match = _NAME.fullmatch(posixpath.basename(path.rstrip("/")))
    if match and int(match[1]) != step:
        raise UserError(
            "The checkpoint's folder is named after another step.",
            where=posixpath.join(path, STATE),
            received=f"step {step} in a folder {posixpath.basename(path)}",
            remedy="Give the folder the name of its own step, or move it away.",
        )


def _state(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of state.json that is not the checkpoint's own."""
    return {name: value for name, value in record.items() if name not in _RESERVED}


class _Known(NamedTuple):
    """The fields of every state.json."""

    format_version: int
    step: int
    libraries: dict[str, Any]
    files: dict[str, Fingerprint]


def _read_record(path: str) -> dict[str, Any]:
    """Reads state.json; whoever catches an error without a remedy knows a better one."""
    record = files.read_json(path, "The checkpoint's state", remedy="")
    version = record.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            "The checkpoint was written by a newer version of this program.",
            where=path,
            received=f"format_version {version}; this program reads up to {FORMAT_VERSION}",
            remedy="Use the version that wrote it, or a later one.",
        )
    missing = [n for n in _RESERVED if n not in record]
    if not missing:
        known = parse_record(_Known, record, path, "The checkpoint's state", remedy="")
        record |= known._asdict()
        missing = [name for name in (WEIGHTS, OPTIMIZER) if name not in known.files]
    if missing:
        raise UserError(
            "The checkpoint's state is corrupt.",
            where=path,
            received=f"nothing about {', '.join(missing)}",
        )
    return record


def newest_checkpoint(store: CheckpointStore, workers: Workers) -> str | None:
    """Finds the checkpoint that all workers of a run resume from; called by all of them.

    Returns:
        The folder of the newest complete checkpoint, or None if there is none.

    Raises:
        UserError: the workers don't see the same one.
    """
    workers.on_chief(store.latest)  # only the chief tidies up after a save that was cut off
    newest = store.latest()
    workers.check_same_view(f"newest checkpoint in {store.folder}", newest or "none")
    return newest
