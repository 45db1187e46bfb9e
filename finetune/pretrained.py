"""The model that fine-tuning starts from: its weights, sizes, vocabulary and casing."""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.interop.official_names import our_path
from electra_tf2.interop.tf1_checkpoint import is_tf1_checkpoint, read_tf1_checkpoint
from electra_tf2.model_folder import TOKENIZER, VOCABULARY, read_config
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.vocabulary import Vocabulary, check_vocabulary_size, load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore

# Sizes that the weights depend on; the others (dropout, activation, …) are a matter of training.
STRUCTURE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "embedding_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_LARGE = 1024  # hidden size from which on a model is a large one
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
    """

    path: str
    folder: str
    arrays: dict[str, np.ndarray]
    network: dict[str, Any]
    tokenizer: dict[str, bool]

    @property
    def vocab_file(self) -> str | None:
        """Path of the model's vocabulary, if it lies beside it."""
        path = posixpath.join(self.folder, VOCABULARY)
        return path if tf.io.gfile.exists(path) else None


def has_checkpoint(path: str) -> bool:
    """Whether a model folder, or a checkpoint in or of it, is at a path."""
    return (
        CheckpointStore(path).latest() is not None
        or tf.io.gfile.exists(posixpath.join(path, "weights.safetensors"))
        or is_tf1_checkpoint(path)
    )


def open_pretrained(path: str) -> Pretrained:
    """Reads a checkpoint.

    Args:
        path: a model folder of this program, one of its folders step-…, or an official checkpoint
            (its folder or prefix).

    Raises:
        UserError: there is none, or it can't be read.
    """
    store = CheckpointStore(path)
    newest = store.latest()
    if newest is None and tf.io.gfile.exists(posixpath.join(path, "weights.safetensors")):
        newest = path.rstrip("/")
    if newest is not None:
        folder = posixpath.dirname(posixpath.dirname(newest))
        stored = read_config(folder)
        arrays = store.load(newest).weights
        network = dict(stored["network"]) if stored else _sizes(arrays)
        return Pretrained(newest, folder, arrays, network, _tokenizer(folder))
    if not is_tf1_checkpoint(path):
        raise UserError(
            "There is no pre-trained model.",
            where=path,
            received="no checkpoint of this program (checkpoints/step-…) or the official one "
            "(model.ckpt-…)",
            remedy="Check --data-dir and --model-name or the hparam init_checkpoint. To start from "
            "random weights, set init_checkpoint to null.",
        )
    checkpoint = read_tf1_checkpoint(path)
    arrays = {our_path(name) or name: array for name, array in checkpoint.variables.items()}
    folder = path if tf.io.gfile.isdir(path) else posixpath.dirname(path)
    return Pretrained(checkpoint.path, folder, arrays, _sizes(arrays), _tokenizer(folder))


def _sizes(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes that an encoder's arrays show; heads are those of the official rule."""
    word = arrays.get("electra/embeddings/word_embeddings")
    dense = arrays.get("electra/layer_0/intermediate/kernel")
    if word is None or dense is None:
        return {}
    layers = {int(match[1]) for name in arrays if (match := _LAYER.match(name))}
    sizes = {
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
        settings = json.loads(text)
        return {name: bool(settings[name]) for name in ("do_lower_case", "strip_accents")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "The model's tokenizer settings can't be read.",
            where=path,
            received=" ".join(text.split()),
            remedy='Restore the file: {"do_lower_case": …, "strip_accents": …}.',
        ) from error


def resolve_network(config: Any, pretrained: Pretrained | None) -> TransformerConfig:
    """The sizes of the encoder: the checkpoint's, which the hparams may state again but not change.

    Args:
        config: a `FinetuningConfig`.
        pretrained: the checkpoint; None for random weights by the hparams.

    Raises:
        UserError: the hparams give other sizes than the checkpoint has; all are listed.
    """
    network = config.network()
    if pretrained is None or not pretrained.network:
        return network
    stored = {n: v for n, v in pretrained.network.items() if n in STRUCTURE}
    overrides = config.model_hparam_overrides
    if pretrained.network.keys() == stored.keys():  # no configuration beside it
        if "num_attention_heads" in overrides:
            stored["num_attention_heads"] = network.num_attention_heads
        else:
            heads = stored["num_attention_heads"]
            say(
                "Nothing beside the checkpoint says how many attention heads it has: "
                f"{heads} by the official rule (model_hparam_overrides may say otherwise)."
            )
    stated = stated_sizes(config)
    different = {
        n: (v, getattr(network, n))
        for n, v in stored.items()
        if n in stated and getattr(network, n) != v
    }
    if different:
        raise UserError(
            "The hparams describe another network than the checkpoint's.",
            where=pretrained.path,
            received="; ".join(
                f"{name}: the checkpoint has {old}, the hparams say {new}"
                for name, (old, new) in different.items()
            ),
            remedy="Leave model_size, vocab_size, embedding_size and the sizes in "
            "model_hparam_overrides out: the checkpoint's are then used.",
        )
    if stored["hidden_size"] >= _LARGE and not config.given & {"model_size", "learning_rate"}:
        say(
            f"Warning: a large model is trained with the small one's learning rate "
            f"({config.learning_rate:g}). Set model_size to large for its settings, or state it."
        )
    rates = {n: v for n, v in pretrained.network.items() if n not in stored and n not in overrides}
    return dataclasses.replace(network, **{**rates, **stored})


def stated_sizes(config: Any) -> set[str]:
    """Returns the sizes that the hparams state: those that a checkpoint has to agree with."""
    overrides = config.model_hparam_overrides
    stated = {name for name in STRUCTURE if name in overrides or name in config.given}
    if "model_size" in config.given:
        stated |= {"hidden_size", "num_hidden_layers", "embedding_size"}
    if "hidden_size" in stated:
        stated |= {"num_attention_heads", "intermediate_size"}
    return stated


def resolve_tokenizer(config: Any, pretrained: Pretrained | None) -> dict[str, bool]:
    """Casing and accents: the model's, which the hparams may state again but not change.

    Returns:
        `do_lower_case` and `strip_accents`.

    Raises:
        UserError: a hparam that was given contradicts the model's.
    """
    stored = pretrained.tokenizer if pretrained else {}
    settings = {}
    for name in ("do_lower_case", "strip_accents"):
        settings[name] = stored.get(name, getattr(config, name))
        if name in config.given and getattr(config, name) != settings[name]:
            raise UserError(
                "The model was pre-trained on text that was tokenized otherwise.",
                where=f"hparam {name}",
                received=f"{getattr(config, name)}; the model has {settings[name]}",
                remedy=f"Leave {name} out: the model's is then used.",
            )
    return settings


def resolve_vocabulary(
    config: Any, pretrained: Pretrained | None, vocab_size: int
) -> tuple[Vocabulary, str]:
    """The vocabulary: `vocab_file` if given, else the model's, else the data folder's.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: it can't be read, has another size than the network, or differs from the model's.
    """
    beside = [
        pretrained.vocab_file if pretrained else None,
        posixpath.join(config.pretrained_model_dir, VOCABULARY),
        posixpath.join(config.data_dir, VOCABULARY),
    ]
    path = config.vocab_file
    if not path:
        there = [p for p in beside if p and tf.io.gfile.exists(p)]
        path = there[0] if there else beside[-1]
    vocabulary = load_vocabulary(path)
    check_vocabulary_size(vocabulary, vocab_size, path)
    if beside[0] and beside[0] != path:
        stored = load_vocabulary(beside[0])
        if stored.sha256 != vocabulary.sha256:
            pairs = zip(stored.tokens, vocabulary.tokens, strict=False)
            number = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), len(stored) + 1)
            raise UserError(
                "The vocabulary is not the one that the model was pre-trained with.",
                where=path,
                received=f"{len(vocabulary)} tokens; it differs from {beside[0]} "
                f"({len(stored)} tokens) from line {number} on",
                remedy="Leave vocab_file out: the model's vocabulary is then used.",
            )
    return vocabulary, path
