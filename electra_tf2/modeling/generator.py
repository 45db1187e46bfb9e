"""Generators: networks that propose tokens for masked positions."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.heads import MaskedLMHead
from electra_tf2.randomness import site_seed

# First random site of the right-to-left tower; the left-to-right tower starts at 0.
_RIGHT_TO_LEFT_SITES = 512


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
class Generator(keras.Model):
    """A masked language model: an encoder and a vocabulary head.

    Args:
        encoder: the network; the discriminator's own one in the tied variant.
        head: turns its states into vocabulary logits.
    """

    def __init__(self, encoder: Encoder, head: MaskedLMHead, **kwargs):
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
        """Returns what `from_config` builds a generator from, with embeddings of its own."""
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Generator:
        """Builds a generator and its variables, as Keras does when it loads a file."""
        encoder = keras.saving.deserialize_keras_object(config["encoder"], custom_objects)
        head = MaskedLMHead(
            encoder.config,
            encoder.embeddings,
            dtype=encoder.dtype_policy,
            name="generator_predictions",
        )
        generator = cls(**{**config, "encoder": encoder, "head": head})
        generator.build()
        return generator

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        segment_ids: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Scores the vocabulary at some positions.

        Args:
            input_ids: int32 [batch, length], with [MASK] where tokens are hidden.
            input_mask: [batch, length], 1 for tokens and 0 for padding.
            segment_ids: int32 [batch, length].
            positions: int32 [batch, n], where to predict; None means everywhere.
            training: whether dropout is on.
            seed: int64 [2] for dropout.

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
        left = self.left_to_right(
            input_ids, input_mask, segment_ids, training=training, seed=seed
        )
        right = self.right_to_left(
            input_ids,
            input_mask,
            segment_ids,
            training=training,
            seed=site_seed(seed, _RIGHT_TO_LEFT_SITES),
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
