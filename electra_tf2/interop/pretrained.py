"""A trained model on disk, of any of the formats: its weights, sizes, vocabulary and casing."""

from __future__ import annotations

import dataclasses
import json
import os
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.interop.huggingface_import import huggingface_folders, open_huggingface
from electra_tf2.interop.huggingface_tokenizer import vocabulary_file
from electra_tf2.interop.official_names import our_path
from electra_tf2.interop.tf1_checkpoint import is_tf1_checkpoint, read_tf1_checkpoint
from electra_tf2.model_folder import CONFIG, TOKENIZER, VOCABULARY, read_config
from electra_tf2.modeling.config import Architecture, TransformerConfig
from electra_tf2.training.checkpoints import CheckpointStore

# Sizes that the weights depend on; the others (dropout, activation, …) are a matter of training.
STRUCTURE = (
    "encoder",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "embedding_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_LAYER = re.compile(r"electra/layer_(\d+)/")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A checkpoint and what lies beside it.

    Attributes:
        path: where the weights were read from.
        folder: the model's folder, which may hold config, vocabulary and tokenizer files.
        arrays: the weights by our names (official heads: by their official names).
        network: the stored sizes and rates; of an official checkpoint, the sizes that its arrays
            show.
        tokenizer: the stored casing and accents, {} if unknown.
        format: whose files they are.
        generator: the sizes and rates of a Hugging Face model's generator; {} of other formats,
            whose generators follow from `network` and the arrays.
        left_over: tensors of a Hugging Face model that were not taken over, by their names.
    """

    path: str
    folder: str
    arrays: dict[str, np.ndarray]
    network: dict[str, Any]
    tokenizer: dict[str, bool]
    format: Literal["electra_tf2", "official", "huggingface"] = "electra_tf2"
    generator: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_over: tuple[str, ...] = ()

    @property
    def vocab_file(self) -> str | None:
        """Path of the model's vocabulary, if it lies beside it."""
        if self.format == "huggingface":
            return vocabulary_file(self.folder)
        path = posixpath.join(self.folder, VOCABULARY)
        return path if tf.io.gfile.exists(path) else None


def has_checkpoint(path: str) -> bool:
    """Whether a model folder, or a checkpoint in or of it, is at a path."""
    return (
        CheckpointStore(path).latest() is not None
        or tf.io.gfile.exists(posixpath.join(path, "weights.safetensors"))
        or bool(huggingface_folders(path))
        or is_tf1_checkpoint(path)
    )


def open_pretrained(path: str | os.PathLike[str]) -> Pretrained:
    """Reads a checkpoint.

    Args:
        path: a model folder of this program, one of its folders step-…, an official checkpoint
            (its folder or prefix), or a Hugging Face model: its folder, one that holds the folders
            `discriminator` and `generator`, or two folders joined by a comma.

    Raises:
        UserError: there is none, or it can't be read.
    """
    path = os.fspath(path)
    store = CheckpointStore(path)
    newest = store.latest()
    if newest is None and tf.io.gfile.exists(posixpath.join(path, "weights.safetensors")):
        newest = path.rstrip("/")
    if newest is not None:
        folder = posixpath.dirname(posixpath.dirname(newest))
        stored = read_config(folder)
        arrays = store.load(newest, with_optimizer=False).weights
        network = _stored_network(stored["network"], folder) if stored else _sizes(arrays)
        return Pretrained(newest, folder, arrays, network, _tokenizer(folder))
    if folders := huggingface_folders(path):
        return _from_huggingface(folders)
    if not is_tf1_checkpoint(path):
        raise UserError(
            "There is no pre-trained model.",
            where=path,
            received="no checkpoint of this program (checkpoints/step-…) or the official one "
            "(model.ckpt-…), and no Hugging Face model (model.safetensors)",
            remedy="Check --data-dir and --model-name or the hparam init_checkpoint. To start from "
            "random weights, set init_checkpoint to null.",
        )
    checkpoint = read_tf1_checkpoint(path)
    arrays = {our_path(name) or name: array for name, array in checkpoint.variables.items()}
    folder = path if tf.io.gfile.isdir(path) else posixpath.dirname(path)
    return Pretrained(
        checkpoint.path, folder, arrays, _sizes(arrays), _tokenizer(folder), "official"
    )


def _from_huggingface(folders: tuple[str, ...]) -> Pretrained:
    model = open_huggingface(folders)
    return Pretrained(
        model.path,
        model.folder,
        model.arrays,
        model.network.to_dict(),
        model.tokenizer,
        "huggingface",
        model.generator.to_dict() if model.generator else {},
        model.left_over,
    )


def _stored_network(network: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Checks the sizes and rates of a config.json, which may be of a newer version or edited."""
    fields = {field.name: field.default for field in dataclasses.fields(TransformerConfig)}
    problems = [f"{n} {v!r}" for n, v in network.items() if not _may_be(v, fields.get(n, 0))]
    problems += [f"{name}, which is unknown" for name in network if name not in fields]
    if network.get("encoder", "bert") not in get_args(Architecture):
        problems.append(f"encoder {network['encoder']!r}")
    try:
        if network and not problems:
            TransformerConfig(**network)
    except (TypeError, UserError) as error:
        problems.append(str(getattr(error, "received", error)))
    if problems:
        raise UserError(
            "The model's stored configuration has values that can't be.",
            where=posixpath.join(folder, CONFIG),
            received=", ".join(problems),
            remedy="Restore the file, or use the version of this program that wrote it.",
        )
    return dict(network)


def _may_be(value: Any, default: Any) -> bool:
    """Whether a value is of a field's kind; sizes, which are all integers, begin at 1."""
    if isinstance(default, str):
        return isinstance(value, str)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(default, float) or (isinstance(value, int) and value > 0))


def _sizes(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sizes that an encoder's arrays show; heads are those of the official rule."""
    word = arrays.get("electra/embeddings/word_embeddings")
    dense = arrays.get("electra/layer_0/intermediate/kernel")
    if word is None or dense is None:
        return {}
    layers = {int(match[1]) for name in arrays if (match := _LAYER.match(name))}
    sizes = {
        "encoder": "bert",
        "vocab_size": word.shape[0],
        "embedding_size": word.shape[1],
        "hidden_size": dense.shape[0],
        "intermediate_size": dense.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, dense.shape[0] // 64),
    }
    for size, name in (
        ("max_position_embeddings", "position_embeddings"),
        ("type_vocab_size", "token_type_embeddings"),
    ):
        table = arrays.get(f"electra/embeddings/{name}")
        if table is not None:
            sizes[size] = table.shape[0]
    return sizes


def _tokenizer(folder: str) -> dict[str, bool]:
    path = posixpath.join(folder, TOKENIZER)
    if not tf.io.gfile.exists(path):
        return {}
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    try:
        stored = json.loads(text)
        settings = {name: stored[name] for name in ("do_lower_case", "strip_accents")}
        if not all(isinstance(value, bool) for value in settings.values()):
            raise ValueError("a setting is neither true nor false")
        return settings
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            "The model's tokenizer settings can't be read.",
            where=path,
            received=" ".join(text[:200].split()) or "an empty file",
            remedy='Restore the file: {"do_lower_case": …, "strip_accents": …}.',
        ) from error
