"""The networks of a checkpoint: sizes from what it states or holds, weights by name."""

from __future__ import annotations

import re

import keras
import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.inference.source import Source
from electra_tf2.interop.generator_network import generator_network, generator_scope
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.modeling.discriminator import Discriminator
from electra_tf2.modeling.embeddings import Embeddings
from electra_tf2.modeling.encoder import Direction, Encoder
from electra_tf2.modeling.generator import Generator, TwoTowerGenerator
from electra_tf2.modeling.heads import MaskedLMHead, ReplacedTokenHead

_ENCODER, _DETECTOR = "electra", "discriminator_predictions"
_MASKED_LM = "generator_predictions"
_LEFT, _RIGHT, _CLOZE = "generator_ltr", "generator_rtl", "cloze_predictions"
_TABLE = "embeddings/word_embeddings"
_SHOWN = 8

Parts = dict[str, keras.layers.Layer]
"""Scope in a checkpoint -> built layer."""


def holds(pretrained: Pretrained, scope: str) -> bool:
    """Whether a checkpoint has weights below a scope."""
    return any(name.startswith(f"{scope}/") for name in pretrained.arrays)


def has_discriminator(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds a whole discriminator."""
    return holds(pretrained, _DETECTOR) and has_encoder(pretrained)


def has_encoder(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds the network that is kept after pre-training."""
    blocks = re.compile(rf"{_ENCODER}/(layer_\d+|shared_layer)/")
    return any(map(blocks.match, pretrained.arrays))


def has_generator(pretrained: Pretrained) -> bool:
    """Whether a checkpoint holds a generator, or a masked language model."""
    return holds(pretrained, _MASKED_LM) or is_two_tower(pretrained)


def is_two_tower(pretrained: Pretrained) -> bool:
    """Whether a checkpoint's generator is Electric's."""
    return holds(pretrained, _CLOZE)


def build_encoder(source: Source, dtype: str = "float32") -> Encoder:
    """Builds the encoder that is kept after pre-training, with its weights.

    Args:
        source: the model.
        dtype: Keras dtype policy.

    Raises:
        UserError: the checkpoint lacks it or some of its variables.
    """
    if not has_encoder(source.pretrained):
        raise _lacks(source.pretrained, "discriminator and no encoder")
    encoder = Encoder(source.network, dtype=dtype, name=_ENCODER)
    encoder.build()
    load_weights({_ENCODER: encoder}, source.pretrained)
    return encoder


def build_discriminator(source: Source, dtype: str = "float32") -> Discriminator:
    """Builds the discriminator with its weights; arguments as `build_encoder`."""
    if not has_discriminator(source.pretrained):
        raise _lacks(source.pretrained, "discriminator")
    encoder = build_encoder(source, dtype)
    head = ReplacedTokenHead(source.network, dtype=dtype, name=_DETECTOR)
    head.build((None, None, source.network.hidden_size))
    load_weights({_DETECTOR: head}, source.pretrained)
    discriminator = Discriminator(encoder, head, dtype=dtype, name="discriminator")
    discriminator.build()
    return discriminator


def build_generator(
    source: Source, dtype: str = "float32", encoder: Encoder | None = None
) -> Generator | TwoTowerGenerator:
    """Builds the generator with its weights.

    That is the small network beside a discriminator, Electric's two towers, or, where the encoder
    itself was trained as a masked language model, that one.

    Args:
        source: the model.
        dtype: Keras dtype policy.
        encoder: from `build_encoder`, to share with the generator what the two have in common.

    Raises:
        UserError: the checkpoint lacks it or some of its variables.
    """
    pretrained = source.pretrained
    if not has_generator(pretrained):
        raise _lacks(pretrained, "generator")
    parts: Parts = {f"{_ENCODER}/embeddings": encoder.embeddings} if encoder else {}
    if is_two_tower(pretrained):
        return _build_two_towers(source, dtype, parts)
    scope = generator_scope(pretrained)
    if scope == _ENCODER and encoder:
        tower, parts = encoder, {_ENCODER: encoder}
    else:
        tower, parts = _build_tower(source, scope, "both", dtype, parts)
    head = _build_head(tower, tower.config.hidden_size, _MASKED_LM, dtype)
    load_weights({**parts, _MASKED_LM: head}, pretrained)
    generator = Generator(tower, head, dtype=dtype, name="generator")
    generator.build()
    return generator


def _build_two_towers(source: Source, dtype: str, parts: Parts) -> TwoTowerGenerator:
    left, parts = _build_tower(source, _LEFT, "left_to_right", dtype, parts)
    right, parts = _build_tower(source, _RIGHT, "right_to_left", dtype, parts)
    width = left.config.hidden_size + right.config.hidden_size
    head = _build_head(left, width, _CLOZE, dtype)
    load_weights({**parts, _CLOZE: head}, source.pretrained)
    generator = TwoTowerGenerator(left, right, head, dtype=dtype, name="two_tower_generator")
    generator.build()
    return generator


def _build_tower(
    source: Source, scope: str, direction: Direction, dtype: str, parts: Parts
) -> tuple[Encoder, Parts]:
    """Builds an encoder with its own embeddings or those of the discriminator.

    Args:
        source: the model.
        scope: of the encoder's weights.
        direction: see `Encoder`.
        dtype: Keras dtype policy.
        parts: scope -> layer, of what is built already.

    Returns:
        The encoder, and the parts with its own.
    """
    owner = scope if f"{scope}/{_TABLE}" in source.pretrained.arrays else _ENCODER
    config = generator_network(source.pretrained, source.network, scope)
    shared = f"{owner}/embeddings"
    embeddings = parts.get(shared)
    if embeddings is None:
        embeddings = Embeddings(config, dtype=dtype, name="embeddings")
        embeddings.build()
    tower = Encoder(config, embeddings=embeddings, direction=direction, dtype=dtype, name=scope)
    tower.build()
    return tower, {**parts, shared: embeddings, scope: tower}


def _build_head(tower: Encoder, width: int, name: str, dtype: str) -> MaskedLMHead:
    head = MaskedLMHead(tower.config, tower.embeddings, dtype=dtype, name=name)
    head.build((None, None, width))
    return head


def load_weights(parts: Parts, pretrained: Pretrained) -> None:
    """Gives networks the weights of a checkpoint.

    Args:
        parts: a variable that is part of several belongs to the first one's scope.
        pretrained: the checkpoint.

    Raises:
        UserError: some are missing or of another shape; names them.
    """
    found: dict[int, tuple[keras.Variable, np.ndarray]] = {}
    known: set[int] = set()
    problems = []
    for scope, layer in parts.items():
        for variable in layer.trainable_variables:
            if id(variable) in known:
                continue
            known.add(id(variable))
            # A layer that was built within another has a path that begins with that one's.
            name = f"{scope}/{variable.path.removeprefix(f'{layer.path}/')}"
            array = pretrained.arrays.get(name)
            if array is None:
                problems.append(f"{name} is missing")
            elif array.shape != tuple(variable.shape):
                shape = tuple(variable.shape)
                problems.append(f"{name} has shape {array.shape}, not {shape}")
            else:
                found[id(variable)] = (variable, array)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UserError(
            "The checkpoint lacks parts of the network.",
            where=pretrained.path,
            received="; ".join(problems[:_SHOWN]) + more,
            remedy="Check that all of the model's files are there, and its sizes in config.json.",
        )
    for variable, array in found.values():
        variable.assign(array)


def _lacks(pretrained: Pretrained, part: str) -> UserError:
    scopes = sorted({name.partition("/")[0] for name in pretrained.arrays})
    return UserError(
        f"The checkpoint holds no {part}.",
        where=pretrained.path,
        received="weights of " + ", ".join(scopes[:_SHOWN]),
        remedy="Give a model that holds one.",
    )
