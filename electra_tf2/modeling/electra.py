"""ELECTRA's own generator and discriminator, in every official tying variant."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple, Self, TypeVar

import keras
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.modeling.embeddings import DisentangledEmbeddings
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.heads import MaskedLMHead, ReplacedTokenHead
from electra_tf2.randomness import RIGHT_TO_LEFT_SITES, site_seed


class _HeadedEncoder(keras.Model):
    """An encoder, whose configuration a Keras file holds, and a head that follows from it."""

    def __init__(self, encoder: Encoder, head: keras.layers.Layer, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.encoder = encoder
        self.head = head

    def build(self, input_shape=None):
        if not self.encoder.built:
            self.encoder.build()
        if not self.head.built:
            self.head.build((None, None, self.encoder.config.hidden_size))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` builds the model from, with embeddings of its own."""
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds the model and its variables, as Keras does when it loads a file."""
        encoder = keras.saving.deserialize_keras_object(config["encoder"], custom_objects)
        model = cls(**{**config, "encoder": encoder, "head": cls.make_head(encoder)})
        model.build()
        return model

    @classmethod
    def make_head(cls, encoder: Encoder) -> keras.layers.Layer:
        """Returns a new head for an encoder."""
        raise NotImplementedError


_Headed = TypeVar("_Headed", bound=_HeadedEncoder)


@keras.saving.register_keras_serializable(package="electra_tf2")
class Discriminator(_HeadedEncoder):
    """An encoder and a binary classifier over its states: tells original tokens from replaced ones.

    Args:
        encoder: the network that is kept after pre-training.
        head: one logit a token.
    """

    @classmethod
    def make_head(cls, encoder: Encoder) -> ReplacedTokenHead:
        """Returns a new head for an encoder."""
        return ReplacedTokenHead(
            encoder.config, dtype=encoder.dtype_policy, name="discriminator_predictions"
        )

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        segment_ids: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Scores every token.

        Args:
            input_ids: int32 [batch, length], some tokens replaced.
            input_mask: [batch, length], 1 for tokens and 0 for padding.
            segment_ids: int32 [batch, length].
            training: whether dropout is on.
            seed: int64 [2] for dropout.

        Returns:
            float32 logits [batch, length]; positive means "replaced".
        """
        return self.head(
            self.encoder(input_ids, input_mask, segment_ids, training=training, seed=seed)
        )


def gather_positions(states: tf.Tensor, positions: tf.Tensor | None) -> tf.Tensor:
    """Picks the states at some positions of each row.

    Args:
        states: [batch, length, width].
        positions: int32 [batch, n]; None keeps all.

    Returns:
        [batch, n, width].
    """
    return states if positions is None else tf.gather(states, positions, batch_dims=1)


@keras.saving.register_keras_serializable(package="electra_tf2")
class Generator(_HeadedEncoder):
    """A masked language model: an encoder and a vocabulary head.

    Args:
        encoder: the network; the discriminator's own one in the tied variant.
        head: turns its states into vocabulary logits.
    """

    head: MaskedLMHead

    @classmethod
    def make_head(cls, encoder: Encoder) -> MaskedLMHead:
        """Returns a new head for an encoder, tied to its embeddings."""
        return MaskedLMHead(
            encoder.config,
            encoder.embeddings,
            dtype=encoder.dtype_policy,
            name="generator_predictions",
        )

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        segment_ids: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Scores the vocabulary at some positions; the other arguments as `Discriminator.call`.

        Args:
            input_ids: int32 [batch, length], with [MASK] where tokens are hidden.
            positions: int32 [batch, n], where to predict; None means everywhere.

        Returns:
            float32 logits [batch, n, vocab_size], or [batch, length, vocab_size].
        """
        states = self.encoder(input_ids, input_mask, segment_ids, training=training, seed=seed)
        return self.head(gather_positions(states, positions))


class TwoTowerGenerator(keras.Model):
    """Electric's generator (Clark et al., EMNLP 2020): two encoders that never see the token.

    One encoder reads from the left, one from the right, both the unmasked input. Position i is
    predicted from the left tower's state at i - 1 and the right tower's at i + 1. The shift is
    circular, as in the official program; what wraps around meets [CLS] and padding only.

    Args:
        left_to_right: encoder with direction "left_to_right".
        right_to_left: encoder with direction "right_to_left".
        head: vocabulary head over the concatenated states, tied to the left tower's table.
    """

    def __init__(
        self, left_to_right: Encoder, right_to_left: Encoder, head: MaskedLMHead, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.left_to_right = left_to_right
        self.right_to_left = right_to_left
        self.head = head

    def build(self, input_shape=None):
        for tower in (self.left_to_right, self.right_to_left):
            if not tower.built:
                tower.build()
        width = self.left_to_right.config.hidden_size + self.right_to_left.config.hidden_size
        if not self.head.built:
            self.head.build((None, None, width))
        self.built = True

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        segment_ids: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Scores the vocabulary at some positions; arguments and result as `Generator.call`.

        `input_ids` is the unmasked input here: neither tower sees the token that it predicts.
        """
        left = self.left_to_right(input_ids, input_mask, segment_ids, training=training, seed=seed)
        right = self.right_to_left(
            input_ids,
            input_mask,
            segment_ids,
            training=training,
            seed=site_seed(seed, RIGHT_TO_LEFT_SITES),
        )
        states = tf.concat([tf.roll(left, 1, axis=1), tf.roll(right, -1, axis=1)], axis=-1)
        return self.head(gather_positions(states, positions))


class UniformGenerator(keras.Model):
    """A generator without variables that proposes every token equally often.

    Args:
        vocab_size: size of the vocabulary; every loss is ln(vocab_size).
    """

    def __init__(self, vocab_size: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.vocab_size = vocab_size
        self.built = True

    def call(self, input_ids: tf.Tensor, positions: tf.Tensor | None = None) -> tf.Tensor:
        """Returns zeros [batch, n, vocab_size]; arguments as `Generator.call`."""
        shape = tf.shape(input_ids if positions is None else positions)
        return tf.zeros([shape[0], shape[1], self.vocab_size])


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

    def set_recompute(self, recompute: bool) -> None:
        """Sets `Encoder.recompute` of all encoders; takes effect in graphs that are built later."""
        for network in filter(None, (self.generator, self.discriminator)):
            for layer in network.layers:
                if isinstance(layer, Encoder):
                    layer.recompute = recompute


def build_pair(
    config: TransformerConfig,
    *,
    with_discriminator: bool = True,
    uniform_generator: bool = False,
    two_tower_generator: bool = False,
    untied_generator: bool = True,
    untied_generator_embeddings: bool = False,
    generator_embedding_size: int | None = None,
    disentangled_embeddings: bool = False,
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
        untied_generator_embeddings: give the generator its own embeddings instead of the
            discriminator's.
        generator_embedding_size: width of its own ones; None: its hidden size.
        disentangled_embeddings: give the embeddings to the generator, and to the discriminator the
            sum of these and of its own, which alone it trains (`DisentangledEmbeddings`). For a
            generator of its own with one tower.
        generator_hidden_size: generator width as a fraction of the discriminator's.
        generator_layers: generator depth as a fraction of the discriminator's.
        recompute: recompute activations in the backward pass, see `Encoder`.
        dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16".

    Returns:
        The pair; variables have their random initial values.

    Raises:
        ValueError: the embeddings are to be disentangled in a pair that shares none.
    """
    small = functools.partial(
        generator_config,
        config,
        hidden_fraction=generator_hidden_size,
        layers_fraction=generator_layers,
    )
    has_tower = with_discriminator and untied_generator and not uniform_generator
    if disentangled_embeddings:
        if not has_tower or two_tower_generator or untied_generator_embeddings:
            raise ValueError("disentangled_embeddings needs a pair that would share embeddings")
        return _disentangled_pair(config, small(), recompute, dtype)
    encoder = Encoder(config, recompute=recompute, dtype=dtype, name="electra")
    encoder.build()
    discriminator = None
    if with_discriminator:
        discriminator = _with_head(Discriminator, encoder, dtype, "discriminator")
    if uniform_generator:
        generator = UniformGenerator(config.vocab_size, name="uniform_generator")
    elif not has_tower:
        generator = _with_head(Generator, encoder, dtype, "masked_lm")
    else:
        build = _two_tower_generator if two_tower_generator else _small_generator
        tower = small()
        width = generator_embedding_size or tower.hidden_size
        own_width = width if untied_generator_embeddings else None
        generator = build(encoder, tower, own_width, dtype)
    return Pair(generator, discriminator, encoder)


def _disentangled_pair(
    config: TransformerConfig, small: TransformerConfig, recompute: bool, dtype: str
) -> Pair:
    tower = Encoder(small, recompute=recompute, dtype=dtype, name="generator")
    tower.build()
    embeddings = DisentangledEmbeddings(config, tower.embeddings, dtype=dtype, name="embeddings")
    encoder = Encoder(
        config, embeddings=embeddings, recompute=recompute, dtype=dtype, name="electra"
    )
    encoder.build()
    discriminator = _with_head(Discriminator, encoder, dtype, "discriminator")
    return Pair(_with_head(Generator, tower, dtype, "generator"), discriminator, encoder)


def _with_head(kind: type[_Headed], encoder: Encoder, dtype: str, name: str) -> _Headed:
    head = kind.make_head(encoder)
    # Built on its own, its variables have paths that begin with its name.
    head.build((None, None, encoder.config.hidden_size))
    model = kind(encoder, head, dtype=dtype, name=name)
    model.build()
    return model


def _tower(
    encoder: Encoder, config: TransformerConfig, own_width: int | None, dtype: str, **kwargs
) -> Encoder:
    """Builds a generator encoder with embeddings of its own, of a width, or those of `encoder`."""
    embeddings = encoder.embeddings
    if own_width is not None:
        config, embeddings = dataclasses.replace(config, embedding_size=own_width), None
    tower = Encoder(
        config, embeddings=embeddings, recompute=encoder.recompute, dtype=dtype, **kwargs
    )
    tower.build()
    return tower


def _small_generator(
    encoder: Encoder, config: TransformerConfig, own_width: int | None, dtype: str
) -> Generator:
    tower = _tower(encoder, config, own_width, dtype, name="generator")
    return _with_head(Generator, tower, dtype, "generator")


def _two_tower_generator(
    encoder: Encoder, config: TransformerConfig, own_width: int | None, dtype: str
) -> TwoTowerGenerator:
    left, right = (
        _tower(encoder, config, own_width, dtype, name=name, direction=direction)
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


def count_parameters(*networks: keras.Model | None) -> int:
    """Returns the number of trained parameters in some networks together, each counted once.

    Args:
        *networks: models that are built; None counts nothing.
    """
    variables = {id(v): v for n in networks if n is not None for v in n.trainable_variables}
    return sum(math.prod(variable.shape) for variable in variables.values())


def describe_parameters(pair: Pair, trains_generator: bool = True) -> str:
    """Returns the number of parameters of a pair, in all and by network, as a line of text.

    Args:
        pair: the networks.
        trains_generator: whether the generator's parameters are among those that are trained.
    """
    generator, discriminator = (count_parameters(n) for n in (pair.generator, pair.discriminator))
    total = count_parameters(pair.generator, pair.discriminator)
    parts = [f"{generator:,} generator"] if generator else []
    parts += [f"{discriminator:,} discriminator"] if discriminator else []
    if shared := generator + discriminator - total:
        parts.append(f"{shared:,} of these in both")
    trained = "" if trains_generator else f", {total - generator:,} of them trained"
    return f"{total:,} parameters{trained} ({', '.join(parts)}); {describe_encoder(pair.encoder)}"


def describe_encoder(encoder: Encoder) -> str:
    """Returns the number of parameters of the encoder that is kept, as a part of a line."""
    passes = len(encoder.blocks)
    one_for_all = passes > 1 and encoder.blocks[0] is encoder.blocks[-1]
    shared = f", {passes} passes through one layer" if one_for_all else ""
    return f"{count_parameters(encoder):,} in the encoder{shared}"
