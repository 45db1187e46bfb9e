"""ELECTRA's own generator and discriminator, in every official tying variant."""

from __future__ import annotations

from typing import NamedTuple

import keras

from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.modeling.discriminator import Discriminator
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.generator import Generator, TwoTowerGenerator, UniformGenerator
from electra_tf2.modeling.heads import MaskedLMHead, ReplacedTokenHead


class Pair(NamedTuple):
    """The two networks of a pre-training run, with all variables created.

    Attributes:
        generator: proposes tokens for masked positions.
        discriminator: finds the replaced ones; None when only a masked LM is trained.
        encoder: the network that is kept ("electra").
    """

    generator: keras.Model
    discriminator: Discriminator | None
    encoder: Encoder


def build_pair(
    config: TransformerConfig,
    *,
    with_discriminator: bool = True,
    uniform_generator: bool = False,
    two_tower_generator: bool = False,
    untied_generator: bool = True,
    untied_generator_embeddings: bool = False,
    generator_hidden_size: float = 0.25,
    generator_layers: float = 1.0,
    recompute: bool = False,
    dtype: str = "float32",
) -> Pair:
    """Builds the networks and their variables.

    The variables' paths start with "electra", "generator" ("generator_ltr" and "generator_rtl"
    for the two towers), "generator_predictions" ("cloze_predictions") and
    "discriminator_predictions", as in official checkpoints.

    Args:
        config: the discriminator's sizes.
        with_discriminator: False builds a full-size masked LM only (BERT's objective).
        uniform_generator: sample replacements uniformly; no generator variables.
        two_tower_generator: Electric's generator.
        untied_generator: False uses the discriminator's encoder as the generator too.
        untied_generator_embeddings: give the generator its own embeddings, as wide as its hidden
            size, instead of the discriminator's.
        generator_hidden_size: generator width as a fraction of the discriminator's.
        generator_layers: generator depth as a fraction of the discriminator's.
        recompute: recompute activations in the backward pass, see `Encoder`.
        dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16".

    Returns:
        The pair; variables have their random initial values.
    """
    encoder = Encoder(config, recompute=recompute, dtype=dtype, name="electra")
    encoder.build()
    discriminator = None
    if with_discriminator:
        head = ReplacedTokenHead(config, dtype=dtype, name="discriminator_predictions")
        head.build((None, None, config.hidden_size))
        discriminator = Discriminator(encoder, head, dtype=dtype, name="discriminator")
        discriminator.build()
    if uniform_generator:
        generator = UniformGenerator(config.vocab_size, name="uniform_generator")
    elif not (with_discriminator and untied_generator):
        generator = _masked_lm(encoder, dtype)
    else:
        small = generator_config(
            config, hidden_fraction=generator_hidden_size, layers_fraction=generator_layers
        )
        build = _two_tower_generator if two_tower_generator else _small_generator
        generator = build(encoder, small, untied_generator_embeddings, dtype)
    return Pair(generator, discriminator, encoder)


def _masked_lm(encoder: Encoder, dtype: str) -> Generator:
    head = MaskedLMHead(
        encoder.config, encoder.embeddings, dtype=dtype, name="generator_predictions"
    )
    head.build((None, None, encoder.config.hidden_size))
    generator = Generator(encoder, head, dtype=dtype, name="masked_lm")
    generator.build()
    return generator


def _tower(
    encoder: Encoder, config: TransformerConfig, untied_embeddings: bool, dtype: str, **kwargs
) -> Encoder:
    """Builds a generator encoder with its own embeddings or those of `encoder`."""
    if untied_embeddings:
        config = _with_embedding_size(config, config.hidden_size)
    embeddings = None if untied_embeddings else encoder.embeddings
    tower = Encoder(
        config, embeddings=embeddings, recompute=encoder.recompute, dtype=dtype, **kwargs
    )
    tower.build()
    return tower


def _with_embedding_size(config: TransformerConfig, size: int) -> TransformerConfig:
    return TransformerConfig(**{**config.to_dict(), "embedding_size": size})


def _small_generator(
    encoder: Encoder, config: TransformerConfig, untied_embeddings: bool, dtype: str
) -> Generator:
    tower = _tower(encoder, config, untied_embeddings, dtype, name="generator")
    head = MaskedLMHead(config, tower.embeddings, dtype=dtype, name="generator_predictions")
    head.build((None, None, config.hidden_size))
    generator = Generator(tower, head, dtype=dtype, name="generator")
    generator.build()
    return generator


def _two_tower_generator(
    encoder: Encoder, config: TransformerConfig, untied_embeddings: bool, dtype: str
) -> TwoTowerGenerator:
    left, right = (
        _tower(encoder, config, untied_embeddings, dtype, name=name, direction=direction)
        for name, direction in (
            ("generator_ltr", "left_to_right"),
            ("generator_rtl", "right_to_left"),
        )
    )
    head = MaskedLMHead(config, left.embeddings, dtype=dtype, name="cloze_predictions")
    head.build((None, None, 2 * config.hidden_size))
    generator = TwoTowerGenerator(left, right, head, dtype=dtype, name="two_tower_generator")
    generator.build()
    return generator
