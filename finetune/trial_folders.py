"""The folders of a run's trials, and the marks in and beside them.

<model_dir>_<trial>/            a trial's model, see `electra_tf2.loading.folder`, with
    tasks.json                  what the tasks inferred from the training data, such as labels
    tuned.json                  what was tuned on the dev split, such as a threshold, if anything
    origin.json                 fingerprints of the data and the model that it is trained from
    finished.json               present once it is trained to its end
<model_dir>_<trial>.replaced/   the trial that an overwriting run replaces, until that has succeeded

A trial is halted if it is not trained to its end, or if the one that it replaces is still there. An
overwriting run resumes a halted trial that it would have begun itself, and sets all others aside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.formats.official import is_tf1_checkpoint
from electra_tf2.loading.folder import check_no_other_model, check_same_model, read_config
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.stored_json import shown
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.features import feature_key
from finetune.task import Task

TASKS = "tasks.json"
_TUNED = "tuned.json"
_ORIGIN = "origin.json"
_FINISHED = "finished.json"
_REPLACED = ".replaced"
# Version 0.1.0 wrote this file beside the trials that an overwriting run had set aside.
_FORMER_MARK = ".overwriting"

# Part -> fingerprint; what the parts are called is shown to the user.
Origin = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class TrialFolders:
    """The trials' folders of a run.

    Attributes:
        model_dir: the hparam; a trial's number is added to it.
    """

    model_dir: str

    def path(self, trial: int) -> str:
        """Returns the folder of a trial's model."""
        return f"{self.model_dir}_{trial}"

    def numbers(self, suffix: str = "") -> list[int]:
        """Returns the numbers of the trials that have a folder, in rising order.

        Args:
            suffix: of the folders' names, after the number.
        """
        parent, prefix = posixpath.split(self.model_dir)
        if not files.is_dir(parent or "."):
            return []
        found = re.compile(re.escape(f"{prefix}_") + "([0-9]+)" + re.escape(suffix))
        matches = map(found.fullmatch, files.list_dir(parent or "."))
        return sorted(int(match[1]) for match in matches if match)

    def is_halted(self, trial: int) -> bool:
        """Whether a trial was begun and not ended."""
        path = self.path(trial)
        return files.exists(path + _REPLACED) or (files.exists(path) and not is_finished(path))

    def set_aside(self, trial: int) -> None:
        """Frees a trial's folder for another training, and keeps the finished trial in it."""
        path = self.path(trial)
        if not files.exists(path):
            return
        if files.exists(path + _REPLACED) and not is_finished(path):
            say(f"Removing what another interrupted run has trained in {path}")
            files.remove_tree(path)
            return
        files.remove_tree(path + _REPLACED)
        files.rename(path, path + _REPLACED)

    def remove_replaced(self, trial: int) -> None:
        """Removes the trial that a trial, now trained and scored, replaces."""
        files.remove_tree(self.path(trial) + _REPLACED)

    def remove_later_trials(self, num_trials: int) -> None:
        """Removes what an overwriting run of so many trials has not trained again."""
        for suffix in ("", _REPLACED):
            for trial in self.numbers(suffix):
                if trial > num_trials:
                    files.remove_tree(self.path(trial) + suffix)

    def remove_former_mark(self) -> None:
        """Removes the mark that an interrupted overwriting run of version 0.1.0 left."""
        if files.exists(self.model_dir + _FORMER_MARK):
            files.remove(self.model_dir + _FORMER_MARK)


def is_finished(folder: str) -> bool:
    """Whether a trial was trained to its end; the official program's always count as finished."""
    return files.exists(posixpath.join(folder, _FINISHED)) or is_tf1_checkpoint(folder)


def mark_finished(folder: str, step: int) -> None:
    """Notes that a trial was trained to its end."""
    files.replace_file(posixpath.join(folder, _FINISHED), f'{{"step": {step}}}\n'.encode())


def write_states(folder: str, tasks: Sequence[Task]) -> None:
    """Writes what tasks inferred from the training data to a model's folder."""
    states = {task.name: task.get_state() for task in tasks}
    files.write_json(posixpath.join(folder, TASKS), states, indent=2)


def stored_states(folder: str) -> dict[str, dict[str, Any]]:
    """Returns task -> what it inferred from its data when the model in a folder was trained.

    Raises:
        UserError: the file can't be read.
    """
    path = posixpath.join(folder, TASKS)
    return _stored_by_task(
        path, "What the model stores about its tasks", lambda state: isinstance(state, dict)
    )


def _stored_by_task(path: str, what: str, is_valid: Callable[[Any], bool]) -> dict[str, Any]:
    """Reads task -> value, each of them valid; {} without the file."""
    if not files.exists(path):
        return {}
    remedy = "Restore the file, or fine-tune again."
    stored = files.read_json(path, what, remedy)
    for name, own in stored.items():
        if not is_valid(own):
            raise UserError(
                f"{what} can't be read.",
                where=f"{path}, {name}",
                received=shown(own),
                remedy=remedy,
            )
    return stored


def write_tuned(folder: str, tuned: Mapping[str, Mapping[str, float]]) -> None:
    """Writes task -> what was tuned for a model to its folder; nothing if nothing was tuned."""
    path = posixpath.join(folder, _TUNED)
    if tuned:
        files.write_json(path, {name: dict(own) for name, own in tuned.items()}, indent=2)
    elif files.exists(path):
        files.remove(path)


def stored_tuned(folder: str) -> dict[str, dict[str, float]]:
    """Returns task -> what was tuned for the model in a folder, of tasks that tuned something.

    Raises:
        UserError: the file can't be read.
    """

    def is_tuned(own: Any) -> bool:
        threshold = own.get("threshold") if isinstance(own, dict) else None
        return isinstance(threshold, float) and 0 <= threshold <= 1

    path = posixpath.join(folder, _TUNED)
    return _stored_by_task(path, "What was tuned for the model", is_tuned)


def restore_tuned(folder: str, tasks: Sequence[Task]) -> None:
    """Gives tasks what was tuned for the model in a folder; errors as `stored_tuned`."""
    tuned = stored_tuned(folder)
    for task in tasks:
        task.set_tuned(tuned.get(task.name, {}))


def training_origin(arrays: Mapping[str, np.ndarray] | None, tasks: Sequence[Task]) -> Origin:
    """Fingerprints what trials are trained from: contents, so that folders may be moved.

    Args:
        arrays: name -> array, of the checkpoint to start from; None: random weights.
    """
    data = {f"training data of {task.name}": feature_key(task, "train") for task in tasks}
    return {"pre-trained model": arrays_hash(arrays) if arrays else "random weights", **data}


def scoring_origin(splits: Sequence[tuple[Task, str]]) -> Origin:
    """Fingerprints the (task, split) pairs that are scored."""
    return {f"{split} data of {task.name}": feature_key(task, split) for task, split in splits}


def arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Fingerprints a model's weights, given by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()[:16]


def write_origin(folder: str, origin: Origin) -> None:
    """Writes the fingerprints to a trial's folder."""
    files.write_json(posixpath.join(folder, _ORIGIN), dict(origin), indent=2)


def _read_origin(folder: str) -> Origin | None:
    """Reads a trial's fingerprints, or else those of its checkpoint; None if it has none."""
    try:
        return files.read_json(posixpath.join(folder, _ORIGIN), "The trial's origin", "")
    except UserError:
        stored = CheckpointStore(folder).newest_state().get("origin")
        return stored if isinstance(stored, dict) else None


def check_same_origin(stored: Origin | None, present: Origin, where: str) -> None:
    """Refuses to resume a trial, or to let its results stand, that was made from other things.

    Args:
        stored: of the trial; parts that it lacks are not compared.
        present: of this run.
        where: the trial's folder or file.

    Raises:
        UserError: names what has changed.
    """
    known = stored or {}
    changed = [part for part in present if known.get(part, present[part]) != present[part]]
    if changed:
        raise UserError(
            "What was trained here was made from other data or another model.",
            where=where,
            received="changed since then: " + ", ".join(changed),
            remedy="Set overwrite to true to train again, or set model_dir, results_txt and "
            "results_pkl to keep both. To score a trained model on other data, set do_train to "
            "false.",
        )


def check_same_trial(
    folder: str,
    *,
    hparams: Mapping[str, Any],
    network: TransformerConfig,
    changed: Callable[[dict, dict], list[tuple[str, Any, Any]]],
    origin: Origin,
) -> None:
    """Refuses to resume a trial in a folder that holds another model.

    Args:
        folder: the trial's, there or not.
        hparams: of this run, resolved.
        network: of this run.
        changed: see `electra_tf2.loading.folder.check_same_model`.
        origin: what this run trains from.

    Raises:
        UserError: it holds files of another program, or a model of other hparams or other data.
    """
    stored = read_config(folder)
    if is_tf1_checkpoint(folder):
        raise UserError(
            "The folder of the trial holds a model of the official program.",
            where=folder,
            received="files of a TensorFlow 1 checkpoint",
            remedy="Set model_dir to another folder, or overwrite to true to replace the model.",
        )
    if stored is None and CheckpointStore(folder).latest() is not None:
        raise UserError(
            "The folder of the trial holds a checkpoint of an unknown configuration.",
            where=folder,
            received="no config.json beside it",
            remedy="Remove the folder, or set overwrite to true to replace the model.",
        )
    if stored is None:
        check_no_other_model(folder)
        return
    check_same_model(stored, hparams, network, changed)
    check_same_origin(_read_origin(folder), origin, folder)
