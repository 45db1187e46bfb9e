"""Checks of the hparams that pre-training and fine-tuning have in common."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.record import HParams, contradiction
from electra_tf2.hparams.types import PositiveFloat, PositiveInt, ProbabilityBelowOne, check_value
from electra_tf2.modeling.config import TransformerConfig, transformer_config

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig
    from configure_pretraining import PretrainingConfig


def check_model_name(model_name: str, elsewhere: str) -> None:
    """Refuses a model name that is not a folder name.

    Args:
        model_name: the flag `--model-name`.
        elsewhere: the hparam that names a model in another place.

    Raises:
        UserError: the name is empty, has a slash, or is "." or "..".
    """
    if model_name in ("", ".", "..") or "/" in model_name:
        raise UserError(
            "The model's name is not a folder name.",
            where="--model-name",
            received=repr(model_name),
            remedy=f"Give a plain name; set the hparam {elsewhere} for a folder elsewhere.",
        )


def check_devices_and_batches(config: PretrainingConfig | FinetuningConfig) -> None:
    """Refuses two kinds of devices, and a training batch that can't be cut into micro-batches.

    Args:
        config: its `use_tpu`, `distribution`, `train_batch_size` and `gradient_accumulation_steps`
            are checked.

    Raises:
        UserError: one of the two.
    """
    if config.use_tpu and config.distribution not in ("auto", "tpu"):
        raise contradiction(
            "The devices are given twice, and differently.",
            {"use_tpu": True, "distribution": config.distribution},
            "Leave use_tpu out, or set distribution to tpu.",
        )
    names = ("train_batch_size", "gradient_accumulation_steps")
    batch_size, parts = (getattr(config, name) for name in names)
    if batch_size % parts:
        raise contradiction(
            "The training batch can't be split evenly into micro-batches.",
            dict(zip(names, (batch_size, parts), strict=True)),
            "Choose a train_batch_size that is a multiple of gradient_accumulation_steps.",
        )


def check_one_vocab_size(config: PretrainingConfig | FinetuningConfig) -> None:
    """Refuses two sizes of the vocabulary.

    Args:
        config: its `vocab_size` and `model_hparam_overrides` are checked.

    Raises:
        UserError: both give one, and they differ.
    """
    overrides = config.model_hparam_overrides
    if config.vocab_size != overrides.get("vocab_size", config.vocab_size):
        raise contradiction(
            "The vocabulary's size is given twice, and differently.",
            {"vocab_size": config.vocab_size, "model_hparam_overrides": overrides},
            "Give it once, as the hparam vocab_size.",
        )


# The keys of `model_hparam_overrides`: the transformer's shape and rates.


class TransformerHParams(HParams):
    """What `model_hparam_overrides` may hold. None: follows from `model_size` and `hidden_size`."""

    # transformer
    hidden_size: PositiveInt | None = None  # width of the hidden states
    num_hidden_layers: PositiveInt | None = None  # number of transformer blocks
    num_attention_heads: PositiveInt | None = None  # default: max(1, hidden_size // 64)
    intermediate_size: PositiveInt | None = None  # feed-forward width; default: 4 x hidden_size
    hidden_act: Literal["gelu", "relu", "tanh", "linear"] = "gelu"  # activation; gelu has the erf
    hidden_dropout_prob: ProbabilityBelowOne = 0.1  # dropout of embeddings and layer outputs
    attention_probs_dropout_prob: ProbabilityBelowOne = 0.1  # dropout of attention probabilities
    max_position_embeddings: PositiveInt = 512  # longest sequence
    type_vocab_size: PositiveInt = 2  # number of segment ids
    vocab_size: PositiveInt | None = None  # better set as the hparam of this name
    initializer_range: PositiveFloat = 0.02  # standard deviation of the truncated normal


# The network that debug mode trains, whatever model_size and model_hparam_overrides say (official).
DEBUG_NETWORK = {
    "num_hidden_layers": 3,
    "hidden_size": 144,
    "intermediate_size": 576,
    "num_attention_heads": 4,
}


HEADS = "num_attention_heads"
"""The one size that the weights don't show."""


def resolved_network(
    config: PretrainingConfig | FinetuningConfig, overrides: dict[str, Any] | None = None
) -> TransformerConfig:
    """The sizes that a configuration gives its network; debug mode has a tiny one of its own.

    Args:
        config: gives `model_size`, `vocab_size`, `embedding_size`, `model_hparam_overrides`,
            `encoder` and `debug`.
        overrides: in place of its `model_hparam_overrides`.

    Raises:
        UserError: the sizes are impossible, see `TransformerConfig`.
    """
    network = transformer_config(
        model_size=config.model_size,
        vocab_size=config.vocab_size,
        embedding_size=config.embedding_size,
        overrides=config.model_hparam_overrides if overrides is None else overrides,
        encoder=config.encoder,
    )
    if not config.debug:
        return network
    embedding_size = config.embedding_size or DEBUG_NETWORK["hidden_size"]
    return dataclasses.replace(network, **DEBUG_NETWORK, embedding_size=embedding_size)


def check_model_hparam_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Checks the names and types in `model_hparam_overrides`.

    Args:
        overrides: the hparam's value.

    Returns:
        The overrides, with integers given for numbers made floats.

    Raises:
        UserError: a name is unknown, or a value has the wrong type or lies out of range.
    """
    hints = TransformerHParams.types()
    for name, value in overrides.items():
        if name not in hints:
            raise UserError(
                f"Unknown key {name!r} in model_hparam_overrides.",
                where=f"hparam model_hparam_overrides.{name}",
                received=f"{name}: {value!r}",
                remedy=nearest_name_hint(name, hints),
            )
        if value is None:
            raise UserError(
                f"The key {name!r} in model_hparam_overrides has no value.",
                where=f"hparam model_hparam_overrides.{name}",
                received="null",
                remedy="Leave the key out to keep its default.",
            )
    return {
        name: check_value(f"model_hparam_overrides.{name}", value, hints[name])
        for name, value in overrides.items()
    }
