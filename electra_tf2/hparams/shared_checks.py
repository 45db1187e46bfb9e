"""Checks of the hparams that pre-training and fine-tuning have in common."""

from __future__ import annotations

import dataclasses
import os
import typing
import unicodedata
from typing import TYPE_CHECKING, Any, Literal

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.ramps import values_of
from electra_tf2.hparams.record import HParams, contradiction
from electra_tf2.hparams.types import (
    DropoutRate,
    NumHeads,
    PositiveInt,
    RotaryBase,
    StandardDeviation,
    check_value,
)
from electra_tf2.modeling.config import MODERN_FIELDS, TransformerConfig, transformer_config

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig
    from configure_pretraining import PretrainingConfig


# A folder's name may have 255 bytes, and the programs add to names of tasks.
_LONGEST_MODEL_NAME, LONGEST_TASK_NAME = 255, 180


def folder_name_problem(name: str, longest: int) -> str:
    """Returns why a name can't be that of a folder; "" if it can.

    Args:
        longest: how many bytes it may have in UTF-8.
    """
    if name in ("", ".", ".."):
        return "it stands for another folder" if name else "it is empty"
    if "/" in name:
        return "it has a slash"
    if any(unicodedata.category(character) == "Cs" for character in name):
        return "it is not UTF-8, or Python takes it for something else (LC_ALL=C, PYTHONUTF8=0)"
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        return "it has a control character or line break"
    size = len(name.encode("utf-8"))
    return f"it has {size} bytes, more than {longest}" if size > longest else ""


def check_model_name(model_name: str, elsewhere: str) -> None:
    """Refuses a model name that is not a folder name.

    Args:
        model_name: the flag `--model-name`.
        elsewhere: the hparam that names a model in another place.

    Raises:
        UserError: the name is empty, has a slash or a control character, is too long, or is "." or
            "..".
    """
    problem = folder_name_problem(model_name, _LONGEST_MODEL_NAME)
    if problem:
        raise UserError(
            "The model's name is not a folder name.",
            where="--model-name",
            received=f"{model_name!r:.200}: {problem}",
            remedy=f"Give a plain name; set the hparam {elsewhere} for a folder elsewhere.",
        )


def check_devices_and_batches(config: PretrainingConfig | FinetuningConfig) -> None:
    """Refuses two kinds of devices, and a training batch that can't be cut into micro-batches.

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
    if any(size % parts for size in values_of(batch_size)):
        raise contradiction(
            "The training batch can't be split evenly into micro-batches.",
            dict(zip(names, (batch_size, parts), strict=True)),
            "Choose a train_batch_size that is a multiple of gradient_accumulation_steps.",
        )


def check_texts(config: PretrainingConfig | FinetuningConfig, *but: str) -> None:
    """Refuses empty texts where null stands for nothing: a shell's variable may not be set.

    Args:
        *but: those that are stored so, as what they stand for is only found in the run.

    Raises:
        UserError: names one.
    """
    for name, hint in config.types().items():
        is_text = name in config.given and hint in (str, str | None)
        if is_text and name not in but and getattr(config, name) == "":
            null = "" if hint is str else ", or set it to null for none"
            raise contradiction(
                f"The hparam {name!r} is empty.",
                {name: ""},
                f"Say what {name} is, or leave it out for its default{null}.",
            )


def check_end_learning_rate(config: PretrainingConfig | FinetuningConfig) -> None:
    """Refuses a learning rate that would rise in the end. (Models that were trained so still open.)

    Raises:
        UserError: the rate to decay to is above the peak.
    """
    if config.do_train and config.end_learning_rate > config.learning_rate:
        names = ("learning_rate", "end_learning_rate")
        raise contradiction(
            "The learning rate would rise in place of decaying.",
            {name: getattr(config, name) for name in names},
            "Choose an end_learning_rate of at most learning_rate; 0 is the default.",
        )


def check_one_vocab_size(config: PretrainingConfig | FinetuningConfig) -> None:
    """Refuses two sizes of the vocabulary.

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


def check_fields_of_encoder(overrides: dict[str, Any], encoder: str) -> None:
    """Refuses settings that only a modern encoder has, which others would ignore.

    Raises:
        UserError: it is another one, and some are set.
    """
    if encoder != "modern" and (modern := [name for name in MODERN_FIELDS if name in overrides]):
        raise contradiction(
            f"Only the encoder modern has {modern[0]}.",
            {"encoder": encoder, "model_hparam_overrides": overrides},
            f"Leave {' and '.join(modern)} out of model_hparam_overrides, or set encoder to modern "
            "for a model that is trained from the start.",
        )


# The keys of `model_hparam_overrides`: the transformer's shape and rates.


class TransformerHParams(HParams):
    """What `model_hparam_overrides` may hold. None: follows from `model_size` and `hidden_size`."""

    # transformer
    hidden_size: PositiveInt | None = None  # width of the hidden states
    num_hidden_layers: PositiveInt | None = None  # number of transformer blocks
    num_attention_heads: NumHeads | None = None  # default: max(1, hidden_size // 64)
    intermediate_size: PositiveInt | None = None  # feed-forward width; default: 4 x hidden_size,
    # of modern, which has three matrices in place of two: 8 x round(hidden_size / 3)
    hidden_act: Literal["gelu", "relu", "tanh", "linear"] = "gelu"  # activation; gelu has the erf
    hidden_dropout_prob: DropoutRate = 0.1  # dropout of embeddings and layer outputs
    attention_probs_dropout_prob: DropoutRate = 0.1  # dropout of attention probabilities
    max_position_embeddings: PositiveInt = 512  # longest sequence; default of modern: 8192
    type_vocab_size: PositiveInt = 2  # number of segment ids
    vocab_size: PositiveInt | None = None  # better set as the hparam of this name
    initializer_range: StandardDeviation = 0.02  # standard deviation of the truncated normal

    # of the encoder "modern" alone, see docs/beyond_electra.md
    global_attention_every: PositiveInt = 3  # every so many layers see the whole text, from the
    # first one on; the others see what is near
    local_attention: PositiveInt = 128  # tokens that those see, half of them on either side
    global_rope_theta: RotaryBase = 160000.0  # base of the wave lengths of rotary positions
    local_rope_theta: RotaryBase = 10000.0  # the same where attention is local


# The network that debug mode trains, whatever model_size and model_hparam_overrides say (official).
DEBUG_NETWORK = {
    "num_hidden_layers": 3,
    "hidden_size": 144,
    "intermediate_size": 576,
    "num_attention_heads": 4,
}


HEADS = "num_attention_heads"
"""The one size that the weights don't show."""

# Beyond these a digit too many was typed.
LARGEST_SIZES = {
    "hidden_size": 1 << 16,
    "num_hidden_layers": 682,  # with dropout of its own in each, see electra_tf2.randomness
    "intermediate_size": 1 << 18,
    "embedding_size": 1 << 16,
    "vocab_size": 10**8,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1 << 16,
}


def _check_network_size(network: TransformerConfig) -> None:
    """Refuses sizes beyond `LARGEST_SIZES`, which no computer has room for."""
    hparams = TransformerHParams.types()
    for name, most in LARGEST_SIZES.items():
        if getattr(network, name) > most:
            place = f"model_hparam_overrides.{name}" if name in hparams else name
            raise UserError(
                "The network is too large.",
                where=f"hparam {place}",
                received=f"{name} {getattr(network, name)}",
                remedy=f"Choose at most {most}.",
            )


def check_network_fits(network: TransformerConfig) -> None:
    """Refuses a network whose weights alone exceed this machine's memory.

    Raises:
        UserError: there is not enough memory.
    """
    hidden, layers = network.hidden_size, network.num_hidden_layers
    matrices = 3 if network.is_modern else 2
    block = 4 * hidden * hidden + matrices * hidden * network.intermediate_size
    rows = network.vocab_size
    if not network.is_modern:
        rows += network.max_position_embeddings + network.type_vocab_size
    weights = (1 if network.encoder == "albert" else layers) * block + rows * network.embedding_size
    memory = _memory_bytes()
    if memory is not None and 4 * weights > memory:
        raise UserError(
            "The network is larger than this machine's memory.",
            where="hparams model_size, model_hparam_overrides, vocab_size",
            received=f"hidden_size {hidden}, num_hidden_layers {layers}, vocab_size "
            f"{network.vocab_size}: {weights:.3g} weights, {4 * weights / 1e9:,.0f} GB of "
            f"{memory / 1e9:,.0f} GB",
            remedy="Choose smaller sizes.",
        )


def _memory_bytes() -> int | None:
    """The machine's memory, or None if the system doesn't tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def resolved_network(
    config: PretrainingConfig | FinetuningConfig, overrides: dict[str, Any] | None = None
) -> TransformerConfig:
    """The sizes that a configuration gives its network; debug mode has a tiny one of its own.

    Args:
        config: gives `model_size`, `vocab_size`, `embedding_size`, `model_hparam_overrides`,
            `encoder` and `debug`.
        overrides: in place of its `model_hparam_overrides`.

    Raises:
        UserError: the sizes are impossible, see `TransformerConfig`, or too large.
    """
    network = transformer_config(
        model_size=config.model_size,
        vocab_size=config.vocab_size,
        embedding_size=config.embedding_size,
        overrides=config.model_hparam_overrides if overrides is None else overrides,
        encoder=config.encoder,
    )
    if config.debug:
        embedding_size = config.embedding_size or DEBUG_NETWORK["hidden_size"]
        network = dataclasses.replace(network, **DEBUG_NETWORK, embedding_size=embedding_size)
    _check_network_size(network)
    return network


def _without_null(hint: Any) -> Any:
    """The type of a key that is there: null is what it is where it is left out."""
    options = typing.get_args(hint)
    return options[0] if options[1:] == (type(None),) else hint


def check_model_hparam_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """Checks the names and types in `model_hparam_overrides`.

    Returns:
        The overrides, with integers given for numbers made floats.

    Raises:
        UserError: a name is unknown, or a value has the wrong type or lies out of range.
    """
    hints = {name: _without_null(hint) for name, hint in TransformerHParams.types().items()}
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
