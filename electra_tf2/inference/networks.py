"""The networks of a checkpoint: sizes from what it states or holds, weights by name."""

from __future__ import annotations

import re

from electra_tf2.errors import UserError
from electra_tf2.inference.source import Source
from electra_tf2.inference.weights import WeightLoader
from electra_tf2.interop.generator_network import generator_network, generator_scope
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.modeling.discriminator import Discriminator
from electra_tf2.modeling.embeddings import Embeddings
from electra_tf2.modeling.encoder import Direction, Encoder
from electra_tf2.modeling.generator import Generator, TwoTowerGenerator
from electra_tf2.modeling.heads import MaskedLMHead, ReplacedTokenHead
from electra_tf2.modeling.initializers import weights_follow

_ENCODER, _DETECTOR = "electra", "discriminator_predictions"
_MASKED_LM = "generator_predictions"
_LEFT, _RIGHT, _CLOZE = "generator_ltr", "generator_rtl", "cloze_predictions"
_TABLE = "embeddings/word_embeddings"
_SHOWN = 8

Shared = dict[str, Embeddings]
"""Scope in a checkpoint -> built embeddings."""


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
    loader = WeightLoader(source.pretrained)
    loader.build(_ENCODER, encoder)
    loader.check()
    return encoder


def build_discriminator(source: Source, dtype: str = "float32") -> Discriminator:
    """Builds the discriminator with its weights; arguments as `build_encoder`."""
    if not has_discriminator(source.pretrained):
        raise _lacks(source.pretrained, "discriminator")
    encoder = build_encoder(source, dtype)
    head = ReplacedTokenHead(source.network, dtype=dtype, name=_DETECTOR)
    head.build((None, None, source.network.hidden_size))
    loader = WeightLoader(source.pretrained)
    loader.give(_DETECTOR, head)
    loader.check()
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
    loader = WeightLoader(pretrained)
    shared: Shared = {}
    if encoder:
        shared[f"{_ENCODER}/embeddings"] = encoder.embeddings
        loader.give(_ENCODER, encoder)
    if is_two_tower(pretrained):
        return _build_two_towers(source, dtype, shared, loader)
    scope = generator_scope(pretrained)
    if scope == _ENCODER and encoder:
        tower = encoder
    else:
        tower = _build_tower(source, scope, "both", dtype, shared, loader)
    head = _build_head(tower, tower.config.hidden_size, _MASKED_LM, dtype)
    loader.give(_MASKED_LM, head)
    loader.check()
    generator = Generator(tower, head, dtype=dtype, name="generator")
    generator.build()
    return generator


def _build_two_towers(
    source: Source, dtype: str, shared: Shared, loader: WeightLoader
) -> TwoTowerGenerator:
    left = _build_tower(source, _LEFT, "left_to_right", dtype, shared, loader)
    right = _build_tower(source, _RIGHT, "right_to_left", dtype, shared, loader)
    width = left.config.hidden_size + right.config.hidden_size
    head = _build_head(left, width, _CLOZE, dtype)
    loader.give(_CLOZE, head)
    loader.check()
    generator = TwoTowerGenerator(left, right, head, dtype=dtype, name="two_tower_generator")
    generator.build()
    return generator


def _build_tower(
    source: Source,
    scope: str,
    direction: Direction,
    dtype: str,
    shared: Shared,
    loader: WeightLoader,
) -> Encoder:
    """Builds an encoder with its own embeddings or those of the discriminator.

    Args:
        source: the model.
        scope: of the encoder's weights.
        direction: see `Encoder`.
        dtype: Keras dtype policy.
        shared: embeddings that are built already; what is built here is added.
        loader: gives the weights.
    """
    owner = scope if f"{scope}/{_TABLE}" in source.pretrained.arrays else _ENCODER
    config = generator_network(source.pretrained, source.network, scope)
    name = f"{owner}/embeddings"
    if name not in shared:
        shared[name] = Embeddings(config, dtype=dtype, name="embeddings")
        with weights_follow():
            shared[name].build()
        loader.give(name, shared[name])
    tower = Encoder(
        config, embeddings=shared[name], direction=direction, dtype=dtype, name=scope
    )
    loader.build(scope, tower)
    return tower


def _build_head(tower: Encoder, width: int, name: str, dtype: str) -> MaskedLMHead:
    head = MaskedLMHead(tower.config, tower.embeddings, dtype=dtype, name=name)
    head.build((None, None, width))
    return head


def _lacks(pretrained: Pretrained, part: str) -> UserError:
    scopes = sorted({name.partition("/")[0] for name in pretrained.arrays})
    return UserError(
        f"The checkpoint holds no {part}.",
        where=pretrained.path,
        received="weights of " + ", ".join(scopes[:_SHOWN]),
        remedy="Give a model that holds one.",
    )
