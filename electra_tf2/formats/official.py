"""Reading the checkpoints of the official TF1 program, by name.

Such a checkpoint is `model.ckpt-N.index` and `model.ckpt-N.data-00000-of-00001`, beside a text file
`checkpoint` that names the newest. It holds the weights, `global_step`, and (unless it was stripped
for release, as Google's are) Adam's moments as `<variable>/adam_m` and `<variable>/adam_v`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from electra_tf2 import files
from electra_tf2.errors import UserError, first_of
from electra_tf2.formats.match import Match, match_arrays

# A transformer: embeddings (where it has its own) and layers, below one of these scopes.
TRANSFORMER_SCOPES = ("electra", "generator", "generator_ltr", "generator_rtl")
_TRANSFORMER = {
    "embeddings/word_embeddings": "embeddings/word_embeddings",
    "embeddings/position_embeddings": "embeddings/position_embeddings",
    "embeddings/token_type_embeddings": "embeddings/token_type_embeddings",
    "embeddings/layer_norm/gamma": "embeddings/LayerNorm/gamma",
    "embeddings/layer_norm/beta": "embeddings/LayerNorm/beta",
    "embeddings_project/kernel": "embeddings_project/kernel",
    "embeddings_project/bias": "embeddings_project/bias",
    "layer_{i}/attention/query/kernel": "encoder/layer_{i}/attention/self/query/kernel",
    "layer_{i}/attention/query/bias": "encoder/layer_{i}/attention/self/query/bias",
    "layer_{i}/attention/key/kernel": "encoder/layer_{i}/attention/self/key/kernel",
    "layer_{i}/attention/key/bias": "encoder/layer_{i}/attention/self/key/bias",
    "layer_{i}/attention/value/kernel": "encoder/layer_{i}/attention/self/value/kernel",
    "layer_{i}/attention/value/bias": "encoder/layer_{i}/attention/self/value/bias",
    "layer_{i}/attention/output/kernel": "encoder/layer_{i}/attention/output/dense/kernel",
    "layer_{i}/attention/output/bias": "encoder/layer_{i}/attention/output/dense/bias",
    "layer_{i}/attention/layer_norm/gamma": "encoder/layer_{i}/attention/output/LayerNorm/gamma",
    "layer_{i}/attention/layer_norm/beta": "encoder/layer_{i}/attention/output/LayerNorm/beta",
    "layer_{i}/intermediate/kernel": "encoder/layer_{i}/intermediate/dense/kernel",
    "layer_{i}/intermediate/bias": "encoder/layer_{i}/intermediate/dense/bias",
    "layer_{i}/output/kernel": "encoder/layer_{i}/output/dense/kernel",
    "layer_{i}/output/bias": "encoder/layer_{i}/output/dense/bias",
    "layer_{i}/layer_norm/gamma": "encoder/layer_{i}/output/LayerNorm/gamma",
    "layer_{i}/layer_norm/beta": "encoder/layer_{i}/output/LayerNorm/beta",
}
# The masked-LM heads: of the ordinary generator, and of the two-tower one.
MASKED_LM_SCOPES = ("generator_predictions", "cloze_predictions")
_MASKED_LM = {
    "dense/kernel": "dense/kernel",
    "dense/bias": "dense/bias",
    "layer_norm/gamma": "LayerNorm/gamma",
    "layer_norm/beta": "LayerNorm/beta",
    "output_bias": "output_bias",
}
_DISCRIMINATOR_SCOPES = ("discriminator_predictions",)
_DISCRIMINATOR = {
    "dense/kernel": "dense/kernel",
    "dense/bias": "dense/bias",
    "logit/kernel": "dense_1/kernel",
    "logit/bias": "dense_1/bias",
}

OFFICIAL_NAMES: dict[str, str] = {
    f"{scope}/{ours}": f"{scope}/{theirs}"
    for scopes, table in (
        (TRANSFORMER_SCOPES, _TRANSFORMER),
        (MASKED_LM_SCOPES, _MASKED_LM),
        (_DISCRIMINATOR_SCOPES, _DISCRIMINATOR),
    )
    for scope in scopes
    for ours, theirs in table.items()
}
"""Our variable path (of the Keras models in `electra_tf2.modeling`) to the name in official
checkpoints, without ":0"; `{i}` stands for a layer's number on both sides."""

_OUR_PATHS = {theirs: ours for ours, theirs in OFFICIAL_NAMES.items()}
_MAX_STATE_BYTES = 1 << 24  # of the text file `checkpoint`
_LAYER = re.compile(r"(?<=/layer_)\d+(?=/)")


def official_name(path: str) -> str | None:
    """The official name of one of our variables; None for a variable the table doesn't have."""
    return _translate(path, OFFICIAL_NAMES)


def our_path(name: str) -> str | None:
    """Our path of an official variable; None for a name the table doesn't have."""
    return _translate(name, _OUR_PATHS)


def _translate(name: str, table: dict[str, str]) -> str | None:
    layer = _LAYER.search(name)
    if layer is None:
        return table.get(name)
    translated = table.get(_LAYER.sub("{i}", name))
    return None if translated is None else translated.replace("{i}", layer.group())


SLOTS = ("adam_m", "adam_v")
_STEP = "global_step"


@dataclasses.dataclass(frozen=True)
class Tf1Checkpoint:
    """What an official checkpoint holds.

    Attributes:
        path: the prefix it was read from, such as `…/model.ckpt-1000`.
        global_step: the step; 0 where the file has none.
        variables: official name (without ":0") to array, without slots and step.
        slots: official name to its `adam_m` and `adam_v`, of those variables that have both.
    """

    path: str
    global_step: int
    variables: dict[str, np.ndarray]
    slots: dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of the variables of a checkpoint.

    Attributes:
        path: the checkpoint's prefix.
        left_over: official names of the variables that nothing asked for, sorted.
        without_slots: our paths of the variables that have no Adam moments in the file, sorted.
    """

    path: str
    left_over: tuple[str, ...]
    without_slots: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"Read the official checkpoint {self.path}."]
        if self.left_over:
            lines.append(f"Not used: {first_of(self.left_over, separator=', ')}.")
        if self.without_slots:
            lines.append("It has no Adam moments: the optimizer starts afresh.")
        return " ".join(lines)


def is_tf1_checkpoint(path: str) -> bool:
    """Whether official checkpoint files lie at a path: a prefix, or a folder that holds some.

    It says nothing about their state: reading them may be an error.
    """
    if files.is_dir(path):
        names = files.list_dir(path)
        return "checkpoint" in names or any(name.endswith(".index") for name in names)
    return files.exists(path.removesuffix(".index") + ".index")


def checkpoint_prefix(path: str) -> str:
    """Finds the checkpoint that a path means.

    Args:
        path: a prefix (`…/model.ckpt-1000`), its index file, or a folder with a `checkpoint` file
            or exactly one index file.

    Returns:
        The prefix.

    Raises:
        UserError: there is no checkpoint, or several and none is named the newest.
    """
    path = path.removesuffix(".index")
    if not files.is_dir(path):
        if files.exists(path + ".index"):
            return path
        raise UserError(
            "There is no official checkpoint.",
            where=path,
            received=f"no file {path}.index",
            remedy="Give the part before .index, or the folder that holds the checkpoint.",
        )
    if files.exists(os.path.join(path, "checkpoint")):
        found = _named_newest(path)
        received = "the file checkpoint, which names none that is there"
    else:
        names = [name for name in files.list_dir(path) if name.endswith(".index")]
        found = [os.path.join(path, name.removesuffix(".index")) for name in names]
        received = f"{len(found)} index files and no file named checkpoint"
    if len(found) == 1:
        return found[0]
    raise UserError(
        "The folder does not say which official checkpoint is meant."
        if found
        else "The folder holds no official checkpoint.",
        where=path,
        received=received,
        remedy="Give the checkpoint itself: the part before .index.",
    )


def _named_newest(folder: str) -> list[str]:
    """Returns the prefix that a folder's file `checkpoint` names, if it is there."""
    try:
        files.read_bytes(os.path.join(folder, "checkpoint"), _MAX_STATE_BYTES).decode()
        state = tf.train.get_checkpoint_state(folder)
    except (OSError, ValueError, tf.errors.OpError):  # a pipe, or not text
        return []
    # Not by `tf.train.latest_checkpoint`, which takes the folder for a pattern.
    prefix = state.model_checkpoint_path if state else ""
    return [prefix] if prefix and files.exists(f"{prefix}.index") else []


def read_tf1_checkpoint(path: str) -> Tf1Checkpoint:
    """Reads every variable of an official checkpoint.

    Args:
        path: as for `checkpoint_prefix`.

    Raises:
        UserError: there is no checkpoint, or a file of it is missing, truncated or corrupt.
    """
    prefix = checkpoint_prefix(path)
    _check_files(prefix)
    try:
        reader = tf.train.load_checkpoint(prefix)
        _check_bytes(prefix, reader)
        arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
        # The reader turns its status codes into all of these.
        raise _unreadable(prefix, error) from error
    step = int(arrays.pop(_STEP, 0))
    slots = {
        name: {slot: arrays[f"{name}/{slot}"] for slot in SLOTS}
        for name in arrays
        if all(f"{name}/{slot}" in arrays for slot in SLOTS)
    }
    variables = {
        name: array for name, array in arrays.items() if name.rpartition("/")[2] not in SLOTS
    }
    return Tf1Checkpoint(prefix, step, variables, slots)


def load_variables(
    checkpoint: Tf1Checkpoint, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]] | None, LoadReport]:
    """Picks the variables of our models from an official checkpoint; all of them, or an error.

    Returns:
        The weights by our path; the Adam moments (`adam_m`, `adam_v`) by our path, or None unless
        every wanted variable has them; and a report of what was not used.

    Raises:
        UserError: a wanted variable is not in the file, or has another shape. The message names
            all of them.
    """
    names = {path: official_name(path) or "no official name" for path in wanted}
    match = match_arrays(wanted, checkpoint.variables, names)
    weights = match.complete(
        "The official checkpoint does not fit the model.",
        where=checkpoint.path,
        remedy=_remedy(match),
    )
    without_slots = tuple(sorted(path for path in wanted if names[path] not in checkpoint.slots))
    slots = None
    if not without_slots:
        slots = {path: checkpoint.slots[name] for path, name in names.items()}
    return weights, slots, LoadReport(checkpoint.path, tuple(match.left_over), without_slots)


def _remedy(match: Match) -> str:
    """What to do about variables that are missing or misshapen."""
    if any("/shared_layer/" in name for name in match.missing):
        return (
            'Official checkpoints have no shared layer: set "encoder": "bert", or start from '
            "random weights."
        )
    if any("/gate/" in name for name in match.missing):
        return (
            'Official checkpoints have no encoder of this kind: set "encoder": "bert", or start '
            "from random weights."
        )
    generators = [s for path, s in match.misshapen.items() if path.startswith("generator")]
    if generators and all(np.prod(theirs) > np.prod(ours) for theirs, ours in generators):
        return (
            "The file's generator is larger than the run's. The released small model has one of "
            'full size: set "generator_hidden_size": 1.0.'
        )
    return "Give the hparams that the checkpoint was trained with." + match.growing_advice


def _data_files(prefix: str) -> list[str]:
    folder, name = os.path.split(prefix)
    there = files.list_dir(folder or ".")
    return [os.path.join(folder, own) for own in there if own.startswith(f"{name}.data-")]


def _check_files(prefix: str) -> None:
    """Refuses what TensorFlow's reader would wait for, or can't open."""
    for path in (f"{prefix}.index", *_data_files(prefix)):
        if not files.is_file(path):
            raise UserError(
                "An official checkpoint is truncated or corrupt.",
                where=path,
                received="a folder, a pipe or a device, not a file",
                remedy="Copy the checkpoint again, all of its files.",
            )
    if files.native(prefix) != prefix:
        raise UserError(
            "TensorFlow reads checkpoints of UTF-8 names only.",
            where=prefix,
            received="a path with other bytes",
            remedy="Rename the folder, or give a link to it that has another name.",
        )


def _check_bytes(prefix: str, reader: Any) -> None:
    """Refuses an index that describes more than its data files hold, before it is read."""
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    needed = sum(math.prod(shape) * dtypes[name].size for name, shape in shapes.items())
    there = sum(map(files.size, _data_files(prefix)))
    if needed > there:
        raise ValueError(f"arrays of {needed} bytes, and {there} bytes in the data files")


def _unreadable(prefix: str, error: Exception) -> UserError:
    data_files = _data_files(prefix)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        "An official checkpoint is truncated or corrupt."
        if data_files
        else "An official checkpoint has no data file.",
        where=f"{prefix}.data-*" if not data_files else ", ".join([f"{prefix}.index", *data_files]),
        received=reason,
        remedy="Copy the checkpoint again, all of its files.",
    )
