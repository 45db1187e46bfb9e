"""A trained model on disk, of any of the formats: its weights, sizes, vocabulary and casing."""

from __future__ import annotations

import dataclasses
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError, first_of
from electra_tf2.formats.huggingface import huggingface_folders, open_huggingface
from electra_tf2.formats.huggingface_tokenizer import vocabulary_file
from electra_tf2.formats.official import is_tf1_checkpoint, our_path, read_tf1_checkpoint
from electra_tf2.loading.folder import CONFIG, TOKENIZER, VOCABULARY, read_config
from electra_tf2.modeling.config import Architecture, TransformerConfig
from electra_tf2.text.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary
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


# The vocabulary that goes with a model.


def model_vocabulary(
    pretrained: Pretrained, vocab_size: int, given: str | None, option: str
) -> tuple[Vocabulary, str]:
    """Reads the vocabulary beside a model, or one that is given because there is none.

    Args:
        pretrained: the model.
        vocab_size: number of its embeddings.
        given: path of a vocabulary; None: the model's own.
        option: what that is given as, for messages.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: there is none, it can't be read, has another size than the embeddings, or is
            another one than the model's own.
    """
    own = pretrained.vocab_file
    path = given or own
    if path is None:
        raise UserError(
            "The model has no vocabulary beside it.",
            where=pretrained.folder,
            received="no vocab.txt",
            remedy=f"Give the one that it was trained with as {option}.",
        )
    vocabulary = load_vocabulary(path)
    if len(vocabulary) != vocab_size:
        raise UserError(
            "The vocabulary has another size than the model's embeddings.",
            where=path,
            received=f"{len(vocabulary)} pieces, {vocab_size} embeddings",
            remedy="Give the vocabulary that the model was trained with.",
        )
    if own is not None and own != path:
        check_same_vocabulary(vocabulary, path, load_vocabulary(own), own, option)
    return vocabulary, path


# A model whose training has diverged is not handed on.


def check_finite(pretrained: Pretrained, names: Iterable[str]) -> None:
    """Checks weights of a checkpoint.

    Args:
        pretrained: the checkpoint.
        names: of those of its arrays that count.

    Raises:
        UserError: some have values that are NaN or infinite; names them.
    """
    found = [name for name in names if not np.isfinite(pretrained.arrays[name]).all()]
    if found:
        raise UserError(
            "The checkpoint has weights that are not finite.",
            where=pretrained.path,
            received=first_of(found, separator=", "),
            remedy="Its training has diverged: take an earlier checkpoint, or train again with a "
            "lower learning rate.",
        )


# The sizes of a checkpoint's generator.


_ENCODER, _GENERATOR = "electra", "generator"
_BLOCKS = r"(layer_\d+|shared_layer)/"
_GENERATOR_LAYER = re.compile(f"{_GENERATOR}/{_BLOCKS}")


def generator_scope(pretrained: Pretrained) -> str:
    """Returns the scope of the masked LM's encoder: "generator", or "electra" where that is it."""
    return _GENERATOR if any(map(_GENERATOR_LAYER.match, pretrained.arrays)) else _ENCODER


def generator_network(
    pretrained: Pretrained, network: TransformerConfig, scope: str | None = None
) -> TransformerConfig:
    """Returns the sizes of the masked LM's encoder.

    Heads are max(1, hidden size // 64) where nothing states them, as for all generators of the
    official program. Layers that share their weights can't be counted: their number follows from
    the hparam generator_layers.

    Args:
        pretrained: a checkpoint with a masked LM.
        network: the sizes of the encoder that is kept.
        scope: of the encoder; None: see `generator_scope`. Electric's towers have their own.

    Raises:
        UserError: the first layer or the embeddings are missing.
    """
    if pretrained.generator:
        return TransformerConfig(**pretrained.generator)
    scope = scope or generator_scope(pretrained)
    if scope == _ENCODER:
        return network
    arrays = pretrained.arrays
    layer = re.compile(f"{scope}/{_BLOCKS}")
    blocks = {match[1] for name in arrays if (match := layer.match(name))}
    first = f"{scope}/{'shared_layer' if 'shared_layer' in blocks else 'layer_0'}"
    kernel = arrays.get(f"{first}/intermediate/kernel")
    tables = (f"{owner}/embeddings/word_embeddings" for owner in (scope, _ENCODER))
    table = next((arrays[name] for name in tables if name in arrays), None)
    if any(array is None or array.ndim != 2 for array in (kernel, table)):
        raise UserError(
            "The checkpoint lacks parts of the generator.",
            where=pretrained.path,
            received=f"no matrix {first}/intermediate/kernel or none of word embeddings",
            remedy="Check that all of the model's files are there.",
        )
    return dataclasses.replace(
        network,
        hidden_size=kernel.shape[0],
        intermediate_size=kernel.shape[1],
        num_hidden_layers=_depth(pretrained, network, blocks),
        num_attention_heads=max(1, kernel.shape[0] // 64),
        embedding_size=table.shape[1],
    )


def _depth(pretrained: Pretrained, network: TransformerConfig, blocks: set[str]) -> int:
    if "shared_layer" not in blocks:
        return len(blocks)
    stored = read_config(pretrained.folder)
    fraction = stored["hparams"].get("generator_layers", 1.0) if stored else 1.0
    if not isinstance(fraction, int | float) or not fraction > 0:
        raise UserError(
            "The stored configuration does not say how deep the generator is.",
            where=posixpath.join(pretrained.folder, CONFIG),
            received=f"generator_layers {fraction!r}",
            remedy="Restore the file.",
        )
    return int(round(network.num_hidden_layers * fraction))
