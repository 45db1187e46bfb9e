"""The files of a Hugging Face model: where its tensors are, and reading them.

Only safetensors files are read. The older formats are pickles, which run whatever code their author
put in, or need TensorFlow models that transformers no longer has: they are refused with the command
that converts them.
"""

from __future__ import annotations

import posixpath
from typing import Any

import ml_dtypes
import numpy as np

from electra_tf2 import files
from electra_tf2.errors import UserError, first_of, path_quoted, shell_quoted
from electra_tf2.formats.huggingface_config import CONFIG
from electra_tf2.formats.huggingface_names import COPY_AGAIN
from electra_tf2.training.array_files import read_arrays

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Older formats -> what transformers' from_pretrained needs to read them, and which version.
_REFUSED = {
    "pytorch_model.bin": ("", ""),
    "pytorch_model.bin.index.json": ("", ""),
    "tf_model.h5": (", from_tf=True", " (with transformers 4 and TensorFlow)"),
    "flax_model.msgpack": (", from_flax=True", " (with transformers 4 and Flax)"),
}
_OTHER_FLOATS = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float64)))
_GIT_LFS = "Large ones are left out where it was cloned without git-lfs."


def model_folder_of(path: str) -> str:
    """Returns the folder that a path means: itself, or where a weights file lies."""
    folder, name = posixpath.split(path.rstrip("/"))
    return folder if name in (WEIGHTS, INDEX, *_REFUSED) else path.rstrip("/")


def is_huggingface_folder(path: str) -> bool:
    """Whether a folder (or file in it) looks like a Hugging Face model, readable or not."""
    folder = model_folder_of(path)
    if any(_exists(folder, name) for name in (WEIGHTS, INDEX, *_REFUSED)):
        return True
    if not _exists(folder, CONFIG):
        return False
    try:
        return b'"model_type"' in files.read_bytes(posixpath.join(folder, CONFIG))
    except OSError:
        return True  # reading it says why it can't be read


def read_tensors(folder: str, model_class: str) -> tuple[str, dict[str, np.ndarray]]:
    """Reads the tensors of a model.

    Args:
        model_class: what transformers loads it with, for the command that converts it.

    Returns:
        The path of the file (of the index, if there are several), and the tensors by their names;
        floating ones are float32.

    Raises:
        UserError: there are none, they are in a format that is not read, or a file is damaged or
            missing.
    """
    if _exists(folder, WEIGHTS):
        path = posixpath.join(folder, WEIGHTS)
        return path, _read_file(path)
    if _exists(folder, INDEX):
        path = posixpath.join(folder, INDEX)
        return path, _read_shards(folder, path)
    for name in _REFUSED:
        if _exists(folder, name):
            raise _not_read(folder, name, model_class)
    raise UserError(
        "The Hugging Face model has no weights.",
        where=folder,
        received=f"no file {WEIGHTS} and no {INDEX}",
        remedy=f"{COPY_AGAIN} {_GIT_LFS}",
    )


def _exists(folder: str, name: str) -> bool:
    return files.exists(posixpath.join(folder, name))


def _read_shards(folder: str, index: str) -> dict[str, np.ndarray]:
    listed = files.read_json(index, "The list of the model's files", COPY_AGAIN).get("weight_map")
    places = listed if isinstance(listed, dict) else {}
    names = list(places.values())
    if not names or not all(map(_is_file_name, names)):
        raise UserError(
            "The list of the model's files can't be understood.",
            where=index,
            received='no "weight_map" of tensors to safetensors files beside it',
            remedy=COPY_AGAIN,
        )
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(names)):
        part = _read_file(posixpath.join(folder, name))
        twice = sorted(part.keys() & tensors.keys())
        if twice:
            raise UserError(
                "The model's files have a tensor twice.",
                where=posixpath.join(folder, name),
                received=first_of(twice, separator=", "),
                remedy=COPY_AGAIN,
            )
        tensors |= part
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise UserError(
            "The model's files lack tensors that their list names.",
            where=index,
            received=first_of(missing, separator=", "),
            remedy=COPY_AGAIN,
        )
    return tensors


def _is_file_name(name: Any) -> bool:
    """Whether a name is that of a safetensors file; one with a folder in it could lead anywhere."""
    is_plain = isinstance(name, str) and posixpath.basename(name) == name
    return is_plain and name.endswith(".safetensors")


def _read_file(path: str) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
    except UserError as error:
        raise error.with_(remedy=error.remedy or f"{COPY_AGAIN} {_GIT_LFS}") from error
    for name, array in arrays.items():
        if array.dtype in _OTHER_FLOATS:
            arrays[name] = array.astype(np.float32)
    return arrays


def _not_read(folder: str, name: str, model_class: str) -> UserError:
    option, condition = _REFUSED[name]
    folder = folder or "."
    target = f"{folder if folder.strip('./') else 'model'}-safetensors"
    # The folders are arguments: within the code a name could end a string and go on as code. The
    # tokenizer's files are copied, because transformers would add its defaults to what they state.
    code = (
        f"import pathlib, shutil, sys; from transformers import {model_class} as M; "
        "folder, target = map(pathlib.Path, sys.argv[1:]); "
        f"M.from_pretrained(folder{option}).save_pretrained(target); "
        '[shutil.copy(p, target) for p in folder.iterdir() if p.suffix in (".txt", ".json") '
        'and not p.name.endswith(".index.json") and not (target / p.name).exists()]'
    )
    return UserError(
        "The model's weights are in a format that is not opened here: it could run code, or needs "
        "libraries that are no longer made.",
        where=posixpath.join(folder, name),
        received=f"no {WEIGHTS} beside it",
        remedy=f"This converts a model that you trust{condition}; then give the new folder:\n"
        f"    python -c {shell_quoted(code)} {path_quoted(folder)} {path_quoted(target)}",
    )
