"""The tables from our variable paths to the names of tensors in Hugging Face's models.

Ours are below a scope ("electra", "generator", "generator_predictions", …), theirs below the
model's prefix ("electra.") for the encoder and complete for the heads. `{i}` stands for a layer's
number. A dense kernel is [in, out] here and the transposed `weight` there. Where several of ours
have one name there, that tensor has theirs one below another, in the order of the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from electra_tf2.modeling.config import TransformerConfig

COPY_AGAIN = "Copy the model again, all of its files, from where it came from."
"""The remedy for a file that can't be read."""

GENERATOR_HEAD = "generator_predictions"
DISCRIMINATOR_HEAD = "discriminator_predictions"

_TABLE = {"": ".weight"}
_DENSE = {"/kernel": ".weight", "/bias": ".bias"}
_NORM = {"/gamma": ".weight", "/beta": ".bias"}
_KERNEL = {"/kernel": ".weight"}
_SCALE = {"/gamma": ".weight"}


def _names(*rows: tuple[Mapping[str, str], str, str]) -> dict[str, str]:
    """Returns our path -> their name, of rows (kind of layer, ours, theirs)."""
    return {
        ours + own: theirs + other for kind, ours, theirs in rows for own, other in kind.items()
    }


_EMBEDDINGS = (
    (_TABLE, "embeddings/word_embeddings", "embeddings.word_embeddings"),
    (_TABLE, "embeddings/position_embeddings", "embeddings.position_embeddings"),
    (_TABLE, "embeddings/token_type_embeddings", "embeddings.token_type_embeddings"),
    (_NORM, "embeddings/layer_norm", "embeddings.LayerNorm"),
)
_LAYER = (
    (_DENSE, "layer_{i}/attention/query", "encoder.layer.{i}.attention.self.query"),
    (_DENSE, "layer_{i}/attention/key", "encoder.layer.{i}.attention.self.key"),
    (_DENSE, "layer_{i}/attention/value", "encoder.layer.{i}.attention.self.value"),
    (_DENSE, "layer_{i}/attention/output", "encoder.layer.{i}.attention.output.dense"),
    (_NORM, "layer_{i}/attention/layer_norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    (_DENSE, "layer_{i}/intermediate", "encoder.layer.{i}.intermediate.dense"),
    (_DENSE, "layer_{i}/output", "encoder.layer.{i}.output.dense"),
    (_NORM, "layer_{i}/layer_norm", "encoder.layer.{i}.output.LayerNorm"),
)
_SHARED = "encoder.albert_layer_groups.0.albert_layers.0."
_SHARED_LAYER = (
    (_DENSE, "shared_layer/attention/query", _SHARED + "attention.query"),
    (_DENSE, "shared_layer/attention/key", _SHARED + "attention.key"),
    (_DENSE, "shared_layer/attention/value", _SHARED + "attention.value"),
    (_DENSE, "shared_layer/attention/output", _SHARED + "attention.dense"),
    (_NORM, "shared_layer/attention/layer_norm", _SHARED + "attention.LayerNorm"),
    (_DENSE, "shared_layer/intermediate", _SHARED + "ffn"),
    (_DENSE, "shared_layer/output", _SHARED + "ffn_output"),
    (_NORM, "shared_layer/layer_norm", _SHARED + "full_layer_layer_norm"),
)


_MODERN = (
    (_TABLE, "embeddings/word_embeddings", "embeddings.tok_embeddings"),
    (_SCALE, "embeddings/layer_norm", "embeddings.norm"),
    (_SCALE, "layer_{i}/attention/layer_norm", "layers.{i}.attn_norm"),
    (_KERNEL, "layer_{i}/attention/query", "layers.{i}.attn.Wqkv"),
    (_KERNEL, "layer_{i}/attention/key", "layers.{i}.attn.Wqkv"),
    (_KERNEL, "layer_{i}/attention/value", "layers.{i}.attn.Wqkv"),
    (_KERNEL, "layer_{i}/attention/output", "layers.{i}.attn.Wo"),
    (_SCALE, "layer_{i}/layer_norm", "layers.{i}.mlp_norm"),
    (_KERNEL, "layer_{i}/intermediate", "layers.{i}.mlp.Wi"),
    (_KERNEL, "layer_{i}/gate", "layers.{i}.mlp.Wi"),
    (_KERNEL, "layer_{i}/output", "layers.{i}.mlp.Wo"),
    (_SCALE, "final_layer_norm", "final_norm"),
)


class Architecture(NamedTuple):
    """How a family of Hugging Face models names what ours has.

    Attributes:
        model_type: as config.json says it.
        encoder: our path below the encoder's scope -> their name below the prefix.
        heads: our path, the head's scope included -> their name.
        copies: name of a tensor that is tied to another -> that other's.
        classes: what is exported -> the class that transformers loads it with.
    """

    model_type: str
    encoder: dict[str, str]
    heads: dict[str, str]
    copies: dict[str, str]
    classes: dict[str, str]

    @property
    def prefix(self) -> str:
        """What the names of a model with a head have before the encoder's."""
        return "model." if self.model_type == MODERNBERT else f"{self.model_type}."


MODERNBERT = "modernbert"
"""The one type of models that is written and not read: released ones have no WordPiece."""

ARCHITECTURES: dict[str, Architecture] = {
    "electra": Architecture(
        "electra",
        _names(*_EMBEDDINGS, (_DENSE, "embeddings_project", "embeddings_project"), *_LAYER),
        {
            **_names(
                (_DENSE, f"{GENERATOR_HEAD}/dense", "generator_predictions.dense"),
                (_NORM, f"{GENERATOR_HEAD}/layer_norm", "generator_predictions.LayerNorm"),
                (_DENSE, f"{DISCRIMINATOR_HEAD}/dense", "discriminator_predictions.dense"),
                (
                    _DENSE,
                    f"{DISCRIMINATOR_HEAD}/logit",
                    "discriminator_predictions.dense_prediction",
                ),
            ),
            f"{GENERATOR_HEAD}/output_bias": "generator_lm_head.bias",
        },
        {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
        {
            "encoder": "ElectraModel",
            "generator": "ElectraForMaskedLM",
            "discriminator": "ElectraForPreTraining",
            "sequence": "ElectraForSequenceClassification",
            "tokens": "ElectraForTokenClassification",
            "answers": "ElectraForQuestionAnswering",
            "choices": "ElectraForMultipleChoice",
        },
    ),
    "bert": Architecture(
        "bert",
        _names(*_EMBEDDINGS, *_LAYER),
        {
            **_names(
                (_DENSE, f"{GENERATOR_HEAD}/dense", "cls.predictions.transform.dense"),
                (_NORM, f"{GENERATOR_HEAD}/layer_norm", "cls.predictions.transform.LayerNorm"),
            ),
            f"{GENERATOR_HEAD}/output_bias": "cls.predictions.bias",
        },
        {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        },
        {
            "encoder": "BertModel",
            "generator": "BertForMaskedLM",
            "tokens": "BertForTokenClassification",
            "answers": "BertForQuestionAnswering",
        },
    ),
    "albert": Architecture(
        "albert",
        _names(
            *_EMBEDDINGS,
            (_DENSE, "embeddings_project", "encoder.embedding_hidden_mapping_in"),
            *_SHARED_LAYER,
        ),
        {
            **_names(
                (_DENSE, f"{GENERATOR_HEAD}/dense", "predictions.dense"),
                (_NORM, f"{GENERATOR_HEAD}/layer_norm", "predictions.LayerNorm"),
            ),
            f"{GENERATOR_HEAD}/output_bias": "predictions.bias",
        },
        {
            "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
            "predictions.decoder.bias": "predictions.bias",
        },
        {
            "encoder": "AlbertModel",
            "generator": "AlbertForMaskedLM",
            "tokens": "AlbertForTokenClassification",
            "answers": "AlbertForQuestionAnswering",
        },
    ),
    MODERNBERT: Architecture(
        MODERNBERT,
        _names(*_MODERN),
        {
            **_names(
                (_KERNEL, f"{GENERATOR_HEAD}/dense", "head.dense"),
                (_SCALE, f"{GENERATOR_HEAD}/layer_norm", "head.norm"),
                (_KERNEL, f"{DISCRIMINATOR_HEAD}/dense", "head.dense"),
                (_SCALE, f"{DISCRIMINATOR_HEAD}/layer_norm", "head.norm"),
                (_DENSE, f"{DISCRIMINATOR_HEAD}/logit", "classifier"),
            ),
            f"{GENERATOR_HEAD}/output_bias": "decoder.bias",
        },
        {"decoder.weight": "model.embeddings.tok_embeddings.weight"},
        {
            "encoder": "ModernBertModel",
            "generator": "ModernBertForMaskedLM",
            "discriminator": "ModernBertForTokenClassification",
        },
    ),
}
"""Model type -> its names. What a table lacks (BERT's and ALBERT's replaced-token head) has no
equivalent in transformers."""

# Parts of encoders that ours lacks and that don't change its states.
_NOT_NEEDED = re.compile(r"embeddings\.(position_ids|token_type_ids)$|pooler\.")
# What BERT's first converted files call the parameters of a LayerNorm.
_OLD_NORM = {".gamma": ".weight", ".beta": ".bias"}


def encoder_names(architecture: Architecture, num_hidden_layers: int) -> dict[str, str]:
    """Returns our path -> their name of all variables of an encoder, without scope and prefix."""
    names = {}
    for ours, theirs in architecture.encoder.items():
        for i in range(num_hidden_layers if "{i}" in ours else 1):
            names[ours.replace("{i}", str(i))] = theirs.replace("{i}", str(i))
    return names


def added_projection(
    architecture: Architecture, embedding_size: int, hidden_size: int, prefix: str
) -> dict[str, np.ndarray]:
    """Returns the tensors that ALBERT has where embeddings are as wide as the states: a projection
    that changes nothing. Ours has none then, and of other families this is {}.
    """
    if architecture.model_type != "albert" or embedding_size != hidden_size:
        return {}
    kernel, bias = (architecture.encoder[f"embeddings_project/{p}"] for p in ("kernel", "bias"))
    return {
        prefix + kernel: np.eye(hidden_size, dtype=np.float32),
        prefix + bias: np.zeros(hidden_size, np.float32),
    }


def modern_name(name: str) -> str:
    """Returns a tensor's name as transformers writes it today."""
    stem, dot, ending = name.rpartition(".")
    if not stem.endswith("LayerNorm"):
        return name
    return stem + _OLD_NORM.get(dot + ending, dot + ending)


def is_kernel(path: str) -> bool:
    """Whether one of our variables is [in, out], and [out, in] in transformers."""
    return path.endswith("/kernel")


def is_not_needed(name: str) -> bool:
    """Whether a tensor of an encoder has no part in its states: buffers and poolers."""
    return _NOT_NEEDED.search(name) is not None


Shapes = dict[str, tuple[int, ...]]


def encoder_shapes(network: TransformerConfig) -> Shapes:
    """Returns path below the encoder's scope -> shape, of an encoder with its own embeddings.

    A table, so that a large model is read and written without building its layers.
    """
    hidden, width = network.hidden_size, network.embedding_size
    if network.is_modern:
        return _modern_shapes(network)
    shapes: Shapes = {
        "embeddings/word_embeddings": (network.vocab_size, width),
        "embeddings/position_embeddings": (network.max_position_embeddings, width),
        "embeddings/token_type_embeddings": (network.type_vocab_size, width),
        **_norm("embeddings/layer_norm", width),
    }
    if width != hidden:
        shapes |= _dense("embeddings_project", width, hidden)
    for block in dict.fromkeys(network.block_names):
        for name in ("query", "key", "value", "output"):
            shapes |= _dense(f"{block}/attention/{name}", hidden, hidden)
        shapes |= _norm(f"{block}/attention/layer_norm", hidden)
        shapes |= _dense(f"{block}/intermediate", hidden, network.intermediate_size)
        shapes |= _dense(f"{block}/output", network.intermediate_size, hidden)
        shapes |= _norm(f"{block}/layer_norm", hidden)
    return shapes


def _modern_shapes(network: TransformerConfig) -> Shapes:
    hidden, width, inner = network.hidden_size, network.embedding_size, network.intermediate_size
    shapes: Shapes = {
        "embeddings/word_embeddings": (network.vocab_size, width),
        "embeddings/layer_norm/gamma": (width,),
    }
    if width != hidden:
        shapes["embeddings_project/kernel"] = (width, hidden)
    for i, block in enumerate(network.block_names):
        if i > 0:
            shapes[f"{block}/attention/layer_norm/gamma"] = (hidden,)
        for name in ("query", "key", "value", "output"):
            shapes[f"{block}/attention/{name}/kernel"] = (hidden, hidden)
        shapes[f"{block}/layer_norm/gamma"] = (hidden,)
        shapes[f"{block}/intermediate/kernel"] = shapes[f"{block}/gate/kernel"] = (hidden, inner)
        shapes[f"{block}/output/kernel"] = (inner, hidden)
    return shapes | {"final_layer_norm/gamma": (hidden,)}


def generator_head_shapes(network: TransformerConfig) -> Shapes:
    """Returns path -> shape of the masked-LM head on an encoder."""
    hidden, width, has_bias = network.hidden_size, network.embedding_size, network.has_biases
    return {
        **_dense(f"{GENERATOR_HEAD}/dense", hidden, width, has_bias),
        **_norm(f"{GENERATOR_HEAD}/layer_norm", width, has_bias),
        f"{GENERATOR_HEAD}/output_bias": (network.vocab_size,),
    }


def discriminator_head_shapes(network: TransformerConfig) -> Shapes:
    """Returns path -> shape of the replaced-token head on an encoder."""
    hidden = network.hidden_size
    norm = _norm(f"{DISCRIMINATOR_HEAD}/layer_norm", hidden, has_beta=False)
    return {
        **_dense(f"{DISCRIMINATOR_HEAD}/dense", hidden, hidden, network.has_biases),
        **(norm if network.is_modern else {}),
        **_dense(f"{DISCRIMINATOR_HEAD}/logit", hidden, 1),
    }


HEAD_SHAPES = {GENERATOR_HEAD: generator_head_shapes, DISCRIMINATOR_HEAD: discriminator_head_shapes}
"""Scope of a head -> its shapes."""


def _dense(path: str, inputs: int, outputs: int, has_bias: bool = True) -> Shapes:
    kernel: Shapes = {f"{path}/kernel": (inputs, outputs)}
    return {**kernel, f"{path}/bias": (outputs,)} if has_bias else kernel


def _norm(path: str, width: int, has_beta: bool = True) -> Shapes:
    gamma: Shapes = {f"{path}/gamma": (width,)}
    return {**gamma, f"{path}/beta": (width,)} if has_beta else gamma
