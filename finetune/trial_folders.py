"""What a trial was made from: so that it is not taken for one of other data or another model.

Contents are compared, not paths: a data folder may be moved or copied.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import replace_file
from finetune.features import feature_key
from finetune.scoring import DevSplit
from finetune.setup import Setup, trial_folder, trial_numbers

ORIGIN = "origin.json"

# Part -> fingerprint; what the parts are called is shown to the user.
Origin = Mapping[str, str]


def training_origin(setup: Setup) -> dict[str, str]:
    """Fingerprints of the start checkpoint and of every task's training data."""
    start = "random weights" if setup.start is None else _arrays_hash(setup.start.arrays)
    data = {f"training data of {task.name}": feature_key(task, "train") for task in setup.tasks}
    return {"pre-trained model": start, **data}


def scoring_origin(dev: Sequence[DevSplit]) -> dict[str, str]:
    """Fingerprints of the data that are scored."""
    return {f"{split} data of {task.name}": feature_key(task, split) for task, split, _, _ in dev}


def _arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()[:16]


def write_origin(folder: str, origin: Origin) -> None:
    """Writes the fingerprints to a trial's folder."""
    text = json.dumps(dict(origin), indent=2) + "\n"
    replace_file(posixpath.join(folder, ORIGIN), text.encode())


def read_origin(folder: str) -> dict[str, str] | None:
    """Reads a trial's fingerprints; None if it has none that can be read."""
    path = posixpath.join(folder, ORIGIN)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        try:
            return dict(json.loads(file.read()))
        except (ValueError, TypeError):
            return None


def changed_parts(stored: Origin | None, present: Origin) -> list[str]:
    """Returns what both have and is not the same; nothing if nothing is stored."""
    return [part for part in present if stored and stored.get(part, present[part]) != present[part]]


def check_same_origin(stored: Origin | None, present: Origin, where: str) -> None:
    """Refuses to go on with a trial, or to let its results stand, that was made from other things.

    Raises:
        UserError: names what has changed.
    """
    changed = changed_parts(stored, present)
    if changed:
        raise UserError(
            "What was trained here was made from other data or another model.",
            where=where,
            received="changed since then: " + ", ".join(changed),
            remedy="Set overwrite to true to train again, or set model_dir, results_txt and "
            "results_pkl to keep both. To score a trained model on other data, set do_train to "
            "false.",
        )


# Training again in place of earlier trials, which are kept until that has succeeded.
#
#     <model_dir>_<trial>.replaced     an earlier trial
#     <model_dir>.overwriting          says which run is at it: the same one goes on after a halt


_REPLACED = ".replaced"


def run_mark(setup: Setup, origin: Origin) -> str:
    """Returns a hash of the hparams and data that make a run the one it is."""
    hparams = setup.hparams()
    kept = {n: v for n, v in hparams.items() if n not in type(setup.config).free_on_resume}
    text = json.dumps([kept, setup.network.to_dict(), dict(origin)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Overwriting:
    """An overwriting run.

    Args:
        config: a `FinetuningConfig`.
        mark: from `run_mark`.
    """

    def __init__(self, config: Any, mark: str):
        self._config = config
        self._mark = mark
        self._path = f"{config.model_dir}.overwriting"

    def begin(self) -> None:
        """Sets the earlier trials aside, unless this run has done so before it was halted."""
        if self._stored() == self._mark:
            say("Going on with an overwriting run that was halted.")
            return
        for trial in trial_numbers(self._config):
            folder = trial_folder(self._config, trial)
            if tf.io.gfile.exists(folder + _REPLACED):
                say(f"Removing what another halted run has trained in {folder}")
                tf.io.gfile.rmtree(folder)
            else:
                tf.io.gfile.rename(folder, folder + _REPLACED)
        replace_file(self._path, self._mark.encode())

    def end(self) -> None:
        """Removes the earlier trials."""
        for trial in trial_numbers(self._config, _REPLACED):
            tf.io.gfile.rmtree(trial_folder(self._config, trial) + _REPLACED)
        tf.io.gfile.remove(self._path)

    def _stored(self) -> str | None:
        if not tf.io.gfile.exists(self._path):
            return None
        with tf.io.gfile.GFile(self._path, "rb") as file:
            return file.read().decode("utf-8", "replace")


def check_not_overwriting_itself(setup: Setup) -> None:
    """Refuses to train from a model that the run would set aside.

    Raises:
        UserError: `init_checkpoint` is one of the trials to be overwritten.
    """
    if setup.start is None:
        return
    for trial in trial_numbers(setup.config):
        folder = trial_folder(setup.config, trial)
        if setup.start.path.startswith(f"{folder}/") or setup.vocab_file.startswith(f"{folder}/"):
            raise UserError(
                "The model to start from is one of those to be overwritten.",
                where="hparam init_checkpoint",
                received=setup.start.path,
                remedy="Set model_dir, results_txt and results_pkl to other paths.",
            )
