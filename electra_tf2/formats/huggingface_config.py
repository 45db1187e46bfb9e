"""config.json of Hugging Face models, and the sizes of our encoders."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.files import read_json
from electra_tf2.formats.huggingface_names import (
    ARCHITECTURES,
    COPY_AGAIN,
    MODERNBERT,
    Architecture,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import ACTIVATIONS, EPSILON, MODERN_EPSILON
from electra_tf2.stored_json import LARGEST, shown

CONFIG = "config.json"

# Fields that have the same name in transformers and in `TransformerConfig`.
_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "embedding_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
)
# transformers' defaults for what a config.json leaves out.
_COMMON = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
}
_BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "electra": {
        **_COMMON,
        "vocab_size": 30522,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
    },
    "bert": {**_COMMON, **_BASE, "vocab_size": 30522},
    "albert": {
        **_COMMON,
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
# What our encoder can't vary.
_FIXED = {
    "layer_norm_eps": EPSILON,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
}
# transformers' other names of our activations; "gelu" is the exact one, with erf.
_ACTIVATIONS = {"gelu_python": "gelu"}


def read_huggingface_config(folder: str) -> dict[str, Any]:
    """Reads a folder's config.json.

    Raises:
        UserError: there is none, it is not a JSON object, or the model's type is unknown here.
    """
    path = posixpath.join(folder, CONFIG)
    config = read_json(path, "The model's configuration", COPY_AGAIN)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in _DEFAULTS:
        raise UserError(
            "The Hugging Face model is of another architecture.",
            where=path,
            received=f"model_type {shown(model_type)}, architectures "
            f"{shown(config.get('architectures'))}",
            remedy=f"Models of the types {', '.join(_DEFAULTS)} can be read.",
        )
    return config


def model_class_of(config: Mapping[str, Any]) -> str:
    """Returns the class of transformers that a config.json names, or AutoModel.

    Only a plain name passes: it becomes part of a command that the user is told to run.
    """
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    return name if isinstance(name, str) and name.isidentifier() else "AutoModel"


def network_of(config: Mapping[str, Any], where: str) -> TransformerConfig:
    """Returns the sizes and rates that a config.json states.

    Raises:
        UserError: it asks for something that ours does not compute; all of it is listed.
    """
    model_type = config["model_type"]
    wrong = [
        f"{name} {shown(config[name])} instead of {needed!r}"
        for name, needed in _FIXED.items()
        if config.get(name) not in (None, needed)
    ]
    stated = {name: config[name] for name in _FIELDS if config.get(name) is not None}
    _check_types(stated, where)
    values = {**_DEFAULTS[model_type], **stated}
    if model_type == "bert":
        values["embedding_size"] = values["hidden_size"]
    act = _ACTIVATIONS.get(values["hidden_act"], values["hidden_act"])
    if act not in ACTIVATIONS:
        wrong.append(f"hidden_act {act!r} instead of one of {', '.join(ACTIVATIONS)}")
    if wrong:
        raise UserError(
            "The Hugging Face model computes something that this program does not.",
            where=where,
            received="; ".join(wrong),
            remedy="Such a model can't be taken over: its outputs would be others here.",
        )
    try:
        shared: dict[str, Any] = {"encoder": "albert"} if model_type == "albert" else {}
        return TransformerConfig(**{**values, "hidden_act": act}, **shared)
    except UserError as error:
        raise error.with_(where=where, remedy=COPY_AGAIN) from error


def huggingface_config(
    architecture: Architecture, network: TransformerConfig, model_class: str, **more: Any
) -> dict[str, Any]:
    """Returns the content of a config.json.

    Args:
        architecture: the family of models.
        network: the encoder's sizes and rates.
        model_class: the class of transformers that loads the model.
        **more: other fields, such as those of a task's head.
    """
    if architecture.model_type == MODERNBERT:
        return _modernbert_config(network, model_class, **more)
    fields = dataclasses.asdict(network)
    config = {name: fields[name] for name in _FIELDS}
    if architecture.model_type == "bert":
        del config["embedding_size"]
    if architecture.model_type == "albert":
        # transformers' defaults of special tokens are those of another vocabulary.
        more = {"num_hidden_groups": 1, "inner_group_num": 1, **more}
        more |= {"bos_token_id": None, "eos_token_id": None}
    return {
        "architectures": [model_class],
        "model_type": architecture.model_type,
        **config,
        "layer_norm_eps": EPSILON,
        "pad_token_id": 0,
        "dtype": "float32",
        **more,
    }


def _modernbert_config(network: TransformerConfig, model_class: str, **more: Any) -> dict[str, Any]:
    """Names of layers' kinds and of wave lengths are those that all versions of transformers read.

    Dropout is in nearly the same places there, for further training.
    """
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    names += ("intermediate_size", "max_position_embeddings", "initializer_range")
    names += ("local_attention", "global_rope_theta", "local_rope_theta")
    return {
        "architectures": [model_class],
        "model_type": MODERNBERT,
        **{name: getattr(network, name) for name in names},
        "global_attn_every_n_layers": network.global_attention_every,
        "hidden_activation": network.hidden_act,
        "classifier_activation": network.hidden_act,
        "embedding_dropout": network.hidden_dropout_prob,
        "mlp_dropout": network.hidden_dropout_prob,
        "attention_dropout": network.attention_probs_dropout_prob,
        "norm_eps": MODERN_EPSILON,
        **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), False),
        "decoder_bias": True,
        "tie_word_embeddings": True,
        # transformers' defaults of special tokens are those of another vocabulary.
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
        "pad_token_id": 0,
        "dtype": "float32",
        **more,
    }


def architecture_for(network: TransformerConfig, asked: str | None = None) -> Architecture:
    """Returns the family of models that an encoder is exported as.

    Args:
        network: the encoder's sizes.
        asked: "electra", "bert", "albert" or "modernbert"; None for the one that fits.

    Raises:
        UserError: the encoder does not fit the one that was asked for, or fits none.
    """
    own = _FAMILIES.get(network.encoder, "electra")
    name = asked or own
    problem = _misfit(name, network)
    if problem and name == own:
        raise UserError(
            f"transformers has no equivalent of this network: {problem}.",
            where="--format huggingface",
            received=f"hidden_size {network.hidden_size}, embedding_size "
            f"{network.embedding_size}, encoder {network.encoder!r}",
            remedy="Export it with --format savedmodel or keras, or train a model with an "
            "embedding_size that is its hidden size (a generator: untied_generator_embeddings, "
            "without generator_embedding_size).",
        )
    if problem:
        raise UserError(
            f"The model can't be exported as {name}: {problem}.",
            where="--architecture",
            received=f"hidden_size {network.hidden_size}, embedding_size "
            f"{network.embedding_size}, encoder {network.encoder!r}",
            remedy="Leave --architecture out for the one that fits.",
        )
    return ARCHITECTURES[name]


# Kind of encoder -> family of transformers' models.
_FAMILIES = {"albert": "albert", "modern": MODERNBERT}


def _check_types(stated: Mapping[str, Any], where: str) -> None:
    kinds = {"hidden_act": str, "initializer_range": (int, float)}
    kinds |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), (int, float))
    wrong = [
        f"{name} {shown(value)}"
        for name, value in stated.items()
        if isinstance(value, bool)
        or not isinstance(value, kinds.get(name, int))
        or (name not in kinds and value < 1)
        or (isinstance(value, int | float) and not abs(value) <= LARGEST)
    ]
    if wrong:
        raise UserError(
            "The Hugging Face model's configuration has impossible values.",
            where=where,
            received=", ".join(wrong),
            remedy=COPY_AGAIN,
        )


def _misfit(name: str, network: TransformerConfig) -> str:
    """Says why an encoder is not of a family; "" if it is."""
    shared = network.encoder == "albert"
    projected = network.embedding_size != network.hidden_size
    reasons = (
        (shared and name != "albert", "all of its layers are one"),
        (not shared and name == "albert", "its layers have weights of their own"),
        (network.is_modern and name != MODERNBERT, "its layers are those of ModernBERT"),
        (not network.is_modern and name == MODERNBERT, "its layers are not those of ModernBERT"),
        (
            projected and name in ("bert", MODERNBERT),
            "its embeddings are projected to the hidden size",
        ),
    )
    return "; ".join(reason for applies, reason in reasons if applies)
