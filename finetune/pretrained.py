"""What fine-tuning takes over from a pre-trained model, and what the hparams may say of it."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from typing import Any

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import STRUCTURE, Pretrained
from electra_tf2.model_folder import VOCABULARY
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.run_compute import PFS_DAYS
from electra_tf2.text.vocabulary import (
    Vocabulary,
    check_same_vocabulary,
    check_vocabulary_size,
    load_vocabulary,
)
from electra_tf2.training.checkpoints import STATE

_LARGE = 1024  # hidden size from which on a model is a large one
_LEARNING_RATES = {"model_size", "preset", "learning_rate"}  # hparams that choose one


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
    # Models of older versions don't say which encoder they have: there was one.
    whole = {"encoder": "bert", **pretrained.network}
    stored = {n: v for n, v in whole.items() if n in STRUCTURE}
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
    if stored["encoder"] == "albert" and "embedding_size" not in config.given:
        stated.discard("embedding_size")  # with albert, model_size doesn't say it
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
            remedy="Leave model_size, encoder, vocab_size, embedding_size and the sizes in "
            "model_hparam_overrides out: the checkpoint's are then used.",
        )
    _warn_of_another_size(config, stored["hidden_size"], network.hidden_size)
    rates = {n: v for n, v in pretrained.network.items() if n not in stored and n not in overrides}
    return dataclasses.replace(network, **{**rates, **stored})


def _warn_of_another_size(config: Any, hidden_size: int, expected: int) -> None:
    """Says so where the learning rate and its decay are those of models of another size."""
    if hidden_size >= _LARGE and not config.given & _LEARNING_RATES:
        say(
            f"Warning: a large model is trained with the small one's learning rate "
            f"({config.learning_rate:g}). Set model_size to large for its settings, or state it."
        )
    if config.preset is not None and hidden_size != expected:
        say(
            f"Warning: the preset {config.preset} is for a hidden size of {expected}; the "
            f"checkpoint's is {hidden_size}."
        )


def stated_sizes(config: Any) -> set[str]:
    """Returns the sizes that the hparams state: those that a checkpoint has to agree with."""
    overrides = config.model_hparam_overrides
    stated = {name for name in STRUCTURE if name in overrides or name in config.given}
    if "model_size" in config.given:
        stated |= {"hidden_size", "num_hidden_layers", "embedding_size"}
    if "hidden_size" in stated:
        stated |= {"num_attention_heads", "intermediate_size"}
    return stated


def pretraining_pfs_days(pretrained: Pretrained | None) -> float | None:
    """Returns what pre-training has cost, in petaflop/s-days; None if the checkpoint doesn't say.

    Args:
        pretrained: the checkpoint; None for random weights.
    """
    path = posixpath.join(pretrained.path, STATE) if pretrained else ""
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        stored = json.loads(file.read()).get(PFS_DAYS)
    return None if stored is None else float(stored)


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
        check_same_vocabulary(vocabulary, path, stored, beside[0], "vocab_file")
    return vocabulary, path
