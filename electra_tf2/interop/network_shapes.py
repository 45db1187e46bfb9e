"""The variables that a network has, by our names, without building it."""

from __future__ import annotations

from electra_tf2.interop.huggingface_names import DISCRIMINATOR_HEAD, GENERATOR_HEAD
from electra_tf2.modeling.config import TransformerConfig

Shapes = dict[str, tuple[int, ...]]


def encoder_shapes(network: TransformerConfig) -> Shapes:
    """Returns path below the encoder's scope -> shape of an encoder with its own embeddings."""
    hidden, width = network.hidden_size, network.embedding_size
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


def generator_head_shapes(network: TransformerConfig) -> Shapes:
    """Returns path -> shape of the masked-LM head on an encoder."""
    return {
        **_dense(f"{GENERATOR_HEAD}/dense", network.hidden_size, network.embedding_size),
        **_norm(f"{GENERATOR_HEAD}/layer_norm", network.embedding_size),
        f"{GENERATOR_HEAD}/output_bias": (network.vocab_size,),
    }


def discriminator_head_shapes(network: TransformerConfig) -> Shapes:
    """Returns path -> shape of the replaced-token head on an encoder."""
    return {
        **_dense(f"{DISCRIMINATOR_HEAD}/dense", network.hidden_size, network.hidden_size),
        **_dense(f"{DISCRIMINATOR_HEAD}/logit", network.hidden_size, 1),
    }


HEAD_SHAPES = {GENERATOR_HEAD: generator_head_shapes, DISCRIMINATOR_HEAD: discriminator_head_shapes}
"""Scope of a head -> its shapes."""


def _dense(path: str, inputs: int, outputs: int) -> Shapes:
    return {f"{path}/kernel": (inputs, outputs), f"{path}/bias": (outputs,)}


def _norm(path: str, width: int) -> Shapes:
    return {f"{path}/gamma": (width,), f"{path}/beta": (width,)}
