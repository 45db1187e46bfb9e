"""A trained model on disk, of any of the formats: its weights, sizes, vocabulary and casing."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from electra_tf2.console import say
from electra_tf2.errors import UserError, first_of, path_quoted
from electra_tf2.files import exists, is_dir, is_file
from electra_tf2.formats.huggingface import huggingface_folders, open_huggingface
from electra_tf2.formats.huggingface_tokenizer import vocabulary_file
from electra_tf2.formats.official import is_tf1_checkpoint, our_path, read_tf1_checkpoint
from electra_tf2.loading.disentangled import folded
from electra_tf2.loading.folder import (
    CONFIG,
    VOCABULARY,
    StoredConfig,
    config_of_state,
    read_casing,
    read_config,
)
from electra_tf2.modeling.config import (
    MODERN_FIELDS,
    Architecture,
    TransformerConfig,
    default_attention_heads,
)
from electra_tf2.stored_json import shown
from electra_tf2.text.casing_files import (
    Option,
    as_argument,
    casing_of_record,
    same_casing,
    settle_casing,
)
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import (
    Vocabulary,
    check_same_vocabulary,
    check_vocabulary_size,
    load_vocabulary,
)
from electra_tf2.training.checkpoints import STATE, WEIGHTS, Checkpoint, CheckpointStore, model_of

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
    *MODERN_FIELDS,
)
_HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
_LAYER = re.compile(r"electra/layer_(\d+)/")


def structure_of(network: TransformerConfig) -> tuple[str, ...]:
    """Returns the names of `STRUCTURE` that a network's weights depend on.

    A modern encoder has no table of positions, and others have no fields of a modern one.
    """
    foreign = ("max_position_embeddings",) if network.is_modern else MODERN_FIELDS
    return tuple(name for name in STRUCTURE if name not in foreign)


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A checkpoint and what lies beside it.

    Attributes:
        path: where the weights were read from.
        folder: the model's folder, which may hold config, vocabulary and casing.
        arrays: the weights by our names (official heads: by their official names).
        network: the stored sizes and rates of the main network; None if nothing beside the weights
            states them, as of official checkpoints (see `encoder_config`).
        casing: the stored one; None if unknown.
        format: whose files they are.
        generator: the sizes and rates of a Hugging Face model's generator; None of other formats,
            whose generators follow from the main network and the arrays.
        left_over: tensors of a Hugging Face model that were not taken over, by their names.
        vocab_sha256: `Vocabulary.sha256` of the model's own vocabulary; None if unknown.
        stored: what this program has stored of its training; None of other programs' models.
    """

    path: str
    folder: str
    arrays: dict[str, np.ndarray]
    network: TransformerConfig | None
    casing: Casing | None
    format: Literal["electra_tf2", "official", "huggingface"] = "electra_tf2"
    generator: TransformerConfig | None = None
    left_over: tuple[str, ...] = ()
    vocab_sha256: str | None = None
    stored: StoredConfig | None = None

    @property
    def config_path(self) -> str:
        """Path of the file that states sizes and hparams, for messages."""
        return self.stored.path if self.stored else posixpath.join(self.folder, CONFIG)

    @property
    def vocab_file(self) -> str | None:
        """Path of the model's vocabulary, if it lies beside it."""
        if self.format == "huggingface":
            return vocabulary_file(self.folder)
        path = posixpath.join(self.folder, VOCABULARY)
        return path if exists(path) else None

    def encoder_config(self, num_attention_heads: int | None = None) -> TransformerConfig | None:
        """Returns the stored sizes and rates of the main network, or else those its arrays show.

        Args:
            num_attention_heads: heads of a network that nothing is stored of; None: as the official
                program has them, one for 64 units of the hidden size.

        Returns:
            The sizes; rates that are not stored are the defaults. None if there is no encoder with
            layers of their own, or it is a modern one, whose weights don't show its windows.

        Raises:
            UserError: the heads do not divide the hidden size.
        """
        if self.network is not None:
            return self.network
        sizes: dict[str, Any] = shown_sizes(self.arrays)
        is_stack = shown_encoder(self.arrays) == "bert"
        if not is_stack or not {"vocab_size", "num_hidden_layers"} <= sizes.keys():
            return None
        heads = num_attention_heads or default_attention_heads(sizes["hidden_size"])
        fields: dict[str, Any] = {**sizes, "num_attention_heads": heads}
        return TransformerConfig(**fields)


def shown_encoder(names: Iterable[str]) -> Architecture | None:
    """Returns the kind of the main network whose variables have these names; None without one."""
    kinds: tuple[tuple[str, Architecture], ...] = (
        ("final_layer_norm", "modern"),
        ("shared_layer", "albert"),
        ("layer_0", "bert"),
    )
    parts = {name.split("/")[1] for name in names if name.startswith("electra/")}
    return next((kind for part, kind in kinds if part in parts), None)


def check_encoder(path: str, there: Iterable[str], here: Iterable[str]) -> None:
    """Refuses weights of another kind of encoder, which share few variables with the network's.

    Args:
        path: where the weights lie, for the message.
        there: their names, by ours.
        here: names of the network's variables.

    Raises:
        UserError: names both kinds.
    """
    theirs, ours = shown_encoder(there), shown_encoder(here)
    if theirs != ours and theirs and ours:
        raise UserError(
            "The checkpoint's encoder is of another kind than this run's.",
            where=path,
            received=f"encoder: {theirs} there, {ours} here",
            remedy=f"Set the hparam encoder to {theirs}, or start from a model of the kind {ours}.",
        )


def shown_sizes(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns the sizes that the arrays of an encoder show, by the fields of `TransformerConfig`.

    The depth is among them where layers have weights of their own, the number of heads never is.
    """
    sizes: dict[str, int] = {}

    def take(path: str, *names: str) -> None:
        array = arrays.get(f"electra/{path}")
        if array is not None and array.ndim == 2:
            sizes.update(zip(names, array.shape, strict=False))

    take("embeddings/word_embeddings", "vocab_size", "embedding_size")
    take("embeddings/position_embeddings", "max_position_embeddings")
    take("embeddings/token_type_embeddings", "type_vocab_size")
    for block in ("shared_layer", "layer_0"):
        take(f"{block}/intermediate/kernel", "hidden_size", "intermediate_size")
    layers = {match[1] for name in arrays if (match := _LAYER.match(name))}
    if layers and "hidden_size" in sizes:
        sizes["num_hidden_layers"] = len(layers)
    return sizes


def _check_stored_sizes(pretrained: Pretrained, saved: StoredConfig | None) -> Pretrained:
    """Holds the stored network against weights and state, before anything is built by it."""
    stored = pretrained.network
    sizes = shown_sizes(pretrained.arrays) if stored else {}
    different = [
        f"{name}: {getattr(stored, name)} there, {size} in the weights"
        for name, size in sizes.items()
        if getattr(stored, name) != size
    ]
    there, saved_there = (n.to_dict() if n else {} for n in (stored, saved and saved.network))
    different += [
        f"{name}: {shown(there[name])} there, {shown(value)} in the checkpoint's state"
        for name, value in saved_there.items()
        if name not in sizes and there.get(name, value) != value
    ]
    if different:
        raise UserError(
            "The model's stored configuration is not that of its weights.",
            where=pretrained.config_path,
            received=first_of(different),
            remedy=f"Restore the file that was written with {pretrained.path}.",
        )
    return pretrained


def has_checkpoint(path: str) -> bool:
    """Whether a model folder, or a checkpoint in or of it, is at a path."""
    return (
        CheckpointStore(path).latest() is not None
        or exists(posixpath.join(path, WEIGHTS))
        or bool(huggingface_folders(path))
        or is_tf1_checkpoint(path)
    )


def no_model_advice(path: str) -> str:
    """Returns what to do where a path is not that of a model."""
    folder = posixpath.dirname(path)
    if is_file(path):
        return f"Give the model's folder, such as {path_quoted(folder or '.')}, not a file in it."
    advice = (
        "Give a model's folder, one of its folders step-…, an official checkpoint (…/model.ckpt-N) "
        "or a Hugging Face folder."
    )
    if _HUB_NAME.fullmatch(path) and not exists(folder or path):
        target = path_quoted(posixpath.basename(path))
        advice += (
            " A model of Hugging Face's hub has to be downloaded first "
            f"(hf download {path_quoted(path)} --local-dir {target})."
        )
    return advice


def open_pretrained(path: str | os.PathLike[str], advice: str = "") -> Pretrained:
    """Reads a checkpoint.

    Args:
        path: a model folder of this program, one of its folders step-…, an official checkpoint
            (its folder or prefix), or a Hugging Face model: its folder, one that holds the folders
            `discriminator` and `generator`, or two folders joined by a comma.
        advice: what else to do where there is none, for the message.

    Raises:
        UserError: there is none, or it can't be read.
    """
    path = os.fspath(path)
    store = CheckpointStore(path)
    if (newest := store.latest()) is not None:
        return _open_own(store.load(newest, with_optimizer=False), posixpath.dirname(store.folder))
    if exists(posixpath.join(path, WEIGHTS)):
        folder = model_of(path)
        checkpoint = CheckpointStore(folder).load(path.rstrip("/"), with_optimizer=False)
        return _open_own(checkpoint, folder)
    if folders := huggingface_folders(path):
        return Pretrained(**open_huggingface(folders)._asdict(), format="huggingface")
    if not is_tf1_checkpoint(path):
        raise UserError(
            "There is no pre-trained model.",
            where=path,
            received="no checkpoint of this program (checkpoints/step-…) or the official one "
            "(model.ckpt-…), and no Hugging Face model (model.safetensors)",
            remedy=f"{advice} {no_model_advice(path)}".strip(),
        )
    checkpoint = read_tf1_checkpoint(path)
    arrays = {our_path(name) or name: array for name, array in checkpoint.variables.items()}
    folder = path if is_dir(path) else posixpath.dirname(path)
    return Pretrained(
        checkpoint.path,
        folder,
        arrays,
        None,
        read_casing(folder),
        "official",
        stored=_stored_beside(folder),
    )


def _stored_beside(folder: str) -> StoredConfig | None:
    """Reads the configuration beside an official checkpoint, which runs of this program resume."""
    try:
        return read_config(folder)
    except UserError:  # another program's config.json
        return None


def _open_own(checkpoint: Checkpoint, folder: str) -> Pretrained:
    """Takes a checkpoint of this program, with what the files of its model's folder say."""
    saved = config_of_state(checkpoint.state, posixpath.join(checkpoint.path, STATE))
    stored = read_config(folder) or saved
    pretrained = Pretrained(
        checkpoint.path,
        folder,
        folded(checkpoint.weights),
        stored.network if stored else None,
        read_casing(folder) or _casing_elsewhere(checkpoint, stored),
        vocab_sha256=checkpoint.part(_Tokens).vocab_sha256,
        stored=stored,
    )
    return _check_stored_sizes(pretrained, saved)


class _Tokens(NamedTuple):
    """What the state of a checkpoint says of the text; of older versions it says nothing."""

    vocab_sha256: str | None = None
    casing: dict[str, Any] | None = None


def _casing_elsewhere(checkpoint: Checkpoint, stored: StoredConfig | None) -> Casing | None:
    """Returns the casing that the state or the hparams state, for a model whose file is lost."""
    if casing := casing_of_record(checkpoint.part(_Tokens).casing or {}):
        return casing
    hparams = stored.hparams if stored else {}
    return casing_of_record({n: hparams[n] for n in UNCASED.settings() if n in hparams})


def model_vocabulary(
    pretrained: Pretrained, vocab_size: int, given: str | None, option: str
) -> tuple[Vocabulary, str]:
    """Reads the vocabulary beside a model, or one that is given because there is none.

    Args:
        vocab_size: number of its embeddings.
        given: path of a vocabulary; None: the model's own.
        option: what that is given as, for messages.

    Returns:
        The vocabulary and its path.

    Raises:
        UserError: there is none, it can't be read, has more pieces than there are embeddings, or
            is another one than the model's own.
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
    check_vocabulary_size(vocabulary, vocab_size, path, option=None)
    if own is not None and own != path:
        check_same_vocabulary(vocabulary, path, load_vocabulary(own), own, option)
    check_own_vocabulary(pretrained, vocabulary, path)
    return vocabulary, path


def check_own_vocabulary(pretrained: Pretrained, vocabulary: Vocabulary, path: str) -> None:
    """Refuses a vocabulary that is not the one that the model's checkpoint was saved with.

    Raises:
        UserError: it is another one; where the checkpoint doesn't say, any passes.
    """
    if pretrained.vocab_sha256 not in (None, vocabulary.sha256):
        raise UserError(
            "The vocabulary is not the one that the model was trained with.",
            where=path,
            received=f"SHA-256 {vocabulary.sha256[:12]}… of its pieces; {pretrained.path} was "
            f"saved with {pretrained.vocab_sha256[:12]}…",
            remedy="Restore or give the vocabulary that the model was trained with.",
        )


def model_casing(
    pretrained: Pretrained,
    given: Mapping[str, Any],
    vocab_file: str,
    vocabulary: Vocabulary,
    option: Option = as_argument,
) -> Casing:
    """Returns the casing beside a model, or one that is given because there is none.

    Where nothing beside the model states it, and it is not given, files of the vocabulary may (see
    `settle_casing`). What then is left open is said.

    Args:
        given: those of `Casing.settings` that are given.
        vocab_file: path of the vocabulary.
        option: setting and value -> how a user gives it, for messages.

    Raises:
        UserError: what is given is not the model's own.
    """
    own = pretrained.casing
    if own is None:
        casing, is_open = settle_casing(given, vocab_file, vocabulary, option)
        if is_open:
            say(
                "Nothing beside the model says how text is cased: lower-cased, as for the released "
                f"models ({option('do_lower_case', False)} for a cased one)."
            )
        return casing
    for name, value in given.items():
        stated = Casing.from_settings(own.settings() | {name: value})
        if not same_casing(own, stated):
            raise UserError(
                "The model was trained on text that was tokenized otherwise.",
                where=option(name, value),
                received=f"{value}; the model has {own.settings()[name]}",
                remedy="Leave it out: the model's setting is used.",
            )
    return own


def check_finite(pretrained: Pretrained, names: Iterable[str]) -> None:
    """Refuses weights that are not finite: a model whose training has diverged is of no use.

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


_MOST_TIMES = 100  # as many layers as the discriminator has
_ENCODER, _GENERATOR = "electra", "generator"
_BLOCKS = r"(layer_\d+|shared_layer)/"
_GENERATOR_LAYER = re.compile(f"{_GENERATOR}/{_BLOCKS}")


def generator_scope(pretrained: Pretrained) -> str:
    """Returns the scope of the masked LM's encoder: "generator", or "electra" where that is it."""
    return _GENERATOR if any(map(_GENERATOR_LAYER.match, pretrained.arrays)) else _ENCODER


def embeddings_scope(pretrained: Pretrained, scope: str) -> str:
    """Returns the scope of an encoder's embeddings: its own, or "electra" where it shares those."""
    return scope if f"{scope}/embeddings/word_embeddings" in pretrained.arrays else _ENCODER


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
    if pretrained.generator is not None:
        return pretrained.generator
    scope = scope or generator_scope(pretrained)
    if scope == _ENCODER:
        return network
    arrays = pretrained.arrays
    layer = re.compile(f"{scope}/{_BLOCKS}")
    blocks = {match[1] for name in arrays if (match := layer.match(name))}
    first = f"{scope}/{'shared_layer' if 'shared_layer' in blocks else 'layer_0'}"
    kernel = arrays.get(f"{first}/intermediate/kernel")
    table = arrays.get(f"{embeddings_scope(pretrained, scope)}/embeddings/word_embeddings")
    if kernel is None or table is None or kernel.ndim != 2 or table.ndim != 2:
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
        num_attention_heads=default_attention_heads(kernel.shape[0]),
        embedding_size=table.shape[1],
    )


def _depth(pretrained: Pretrained, network: TransformerConfig, blocks: set[str]) -> int:
    if "shared_layer" not in blocks:
        return len(blocks)
    stored = pretrained.stored
    fraction = stored.hparams.get("generator_layers", 1.0) if stored else 1.0
    if not isinstance(fraction, int | float) or not 0 < fraction <= _MOST_TIMES:
        raise UserError(
            "The stored configuration does not say how deep the generator is.",
            where=f"{pretrained.config_path}, hparams.generator_layers",
            received=shown(fraction),
            remedy="Restore the file.",
        )
    return int(round(network.num_hidden_layers * fraction))
