"""What a trial was made from: so that it is not taken for one of other data or another model.

Contents are compared, not paths: a data folder may be moved or copied.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file
from finetune.evaluation import DevSplit
from finetune.preprocessing import feature_key
from finetune.setup import Setup

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
    return {
        f"{split} data of {task.name}": feature_key(task, split) for task, split, _, _ in dev
    }


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
