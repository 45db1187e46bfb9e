"""Tiny Hugging Face models with random weights, written without torch."""

import json

import numpy as np

from electra_tf2.formats.huggingface_config import huggingface_config
from electra_tf2.formats.huggingface_names import (
    ARCHITECTURES,
    HEAD_SHAPES,
    encoder_names,
    encoder_shapes,
)
from electra_tf2.formats.huggingface_tokenizer import tokenizer_files
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.training.array_files import read_arrays, write_arrays
from tests.data.small_corpus import PIECES

VOCABULARY = Vocabulary(tuple(PIECES))
NETWORK = TransformerConfig(
    vocab_size=len(PIECES),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    embedding_size=8,
    max_position_embeddings=64,
)
SMALLER = {"hidden_size": 12, "intermediate_size": 48, "num_attention_heads": 1}
HEADS = {
    "discriminator": "discriminator_predictions",
    "generator": "generator_predictions",
}


def tensors(kind, network=NETWORK, family="electra", seed=0):
    """Random tensors of a "discriminator", "generator" or "encoder", by their names there."""
    architecture = ARCHITECTURES[family]
    stream = np.random.default_rng(seed)
    names = encoder_names(architecture, network.num_hidden_layers)
    shapes = encoder_shapes(network)
    prefix = "" if kind == "encoder" else architecture.prefix
    wanted = {prefix + names[ours]: (ours, shape) for ours, shape in shapes.items()}
    if kind in HEADS:
        head = HEAD_SHAPES[HEADS[kind]](network)
        wanted |= {architecture.heads[ours]: (ours, shape) for ours, shape in head.items()}
    return {
        name: stream.normal(
            scale=0.2, size=shape[::-1] if ours.endswith("/kernel") else shape
        ).astype(np.float32)
        for name, (ours, shape) in wanted.items()
    }


def write_model(
    folder, kind, network=NETWORK, family="electra", seed=0, change=lambda tensors: None,
    casing=UNCASED, **config,
):  # fmt: skip
    """Writes a model with its tokenizer; returns its tensors.

    Args:
        folder: to make.
        kind: see `tensors`.
        network: sizes.
        family: its model type.
        seed: of the weights.
        change: alters the tensors in place.
        casing: of the tokenizer.
        **config: fields that differ in config.json; None takes one out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = tensors(kind, network, family, seed)
    change(made)
    write_arrays(str(folder / "model.safetensors"), made, {"format": "pt"})
    architecture = ARCHITECTURES[family]
    content = huggingface_config(architecture, network, architecture.classes[kind])
    content = {name: value for name, value in (content | config).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(content))
    for name, text in tokenizer_files(VOCABULARY, casing, max_length=64).items():
        (folder / name).write_bytes(text)
    return made


def write_pair(folder, *, tied=True, network=NETWORK):
    """Writes a discriminator and a smaller generator; returns both models' tensors."""
    small = TransformerConfig(**{**network.to_dict(), **SMALLER})
    discriminator = write_model(folder / "discriminator", "discriminator", network)

    def share(made):
        for name in made:
            if tied and name.startswith("electra.embeddings."):
                made[name] = discriminator[name]

    return discriminator, write_model(
        folder / "generator", "generator", small, seed=1, change=share
    )


def stored(folder):
    """The tensors of a folder."""
    return read_arrays(str(folder / "model.safetensors"))
