"""The discriminator: tells original tokens from replaced ones."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.heads import ReplacedTokenHead


@keras.saving.register_keras_serializable(package="electra_tf2")
class Discriminator(keras.Model):
    """An encoder and a binary classifier over its states.

    Args:
        encoder: the network that is kept after pre-training.
        head: one logit a token.
    """

    def __init__(self, encoder: Encoder, head: ReplacedTokenHead, **kwargs):
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
        """Returns what `from_config` builds a discriminator from."""
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Discriminator:
        """Builds a discriminator and its variables, as Keras does when it loads a file."""
        encoder = keras.saving.deserialize_keras_object(config["encoder"], custom_objects)
        head = ReplacedTokenHead(
            encoder.config, dtype=encoder.dtype_policy, name="discriminator_predictions"
        )
        discriminator = cls(**{**config, "encoder": encoder, "head": head})
        discriminator.build()
        return discriminator

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
