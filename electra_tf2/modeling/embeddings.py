"""Word, position and segment embeddings."""

from __future__ import annotations

import keras
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.dropout import dropout
from electra_tf2.modeling.initializers import truncated_normal
from electra_tf2.modeling.layer_norm import LayerNorm


class Embeddings(keras.layers.Layer):
    """LayerNorm(word + position + segment embedding), then dropout.

    Towers are tied by handing the same `Embeddings` to both: in ELECTRA generator and
    discriminator share all three tables **and** the LayerNorm.

    Args:
        config: sizes; `config.embedding_size` is the width.

    Variables:
        word_embeddings: [vocab_size, embedding_size].
        position_embeddings: [max_position_embeddings, embedding_size].
        token_type_embeddings: [type_vocab_size, embedding_size].
        layer_norm/gamma, layer_norm/beta: [embedding_size].
    """

    def __init__(self, config: TransformerConfig, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.layer_norm = LayerNorm(dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape=None):
        config = self.config
        for name, rows in (
            ("word_embeddings", config.vocab_size),
            ("position_embeddings", config.max_position_embeddings),
            ("token_type_embeddings", config.type_vocab_size),
        ):
            table = self.add_weight(
                shape=(rows, config.embedding_size),
                initializer=truncated_normal(config.initializer_range),
                name=name,
                autocast=False,
            )
            setattr(self, name, table)
        self.layer_norm.build((None, None, config.embedding_size))
        self.built = True

    def call(
        self, input_ids: tf.Tensor, segment_ids: tf.Tensor | None = None, seed=None
    ) -> tf.Tensor:
        """Embeds tokens.

        Args:
            input_ids: int32 [batch, length].
            segment_ids: int32 [batch, length]; zeros if None.
            seed: int64 [2] for dropout, or None.

        Returns:
            [batch, length, embedding_size] in the compute type.
        """
        length = tf.shape(input_ids)[1]
        word = tf.gather(tf.convert_to_tensor(self.word_embeddings), input_ids)
        position = tf.convert_to_tensor(self.position_embeddings)[:length]
        types = tf.convert_to_tensor(self.token_type_embeddings)
        if segment_ids is None:
            segment = types[0]
        else:
            # A product with one-hot rows: its gradient is a small product too, not a scatter.
            one_hot = tf.one_hot(segment_ids, self.config.type_vocab_size, dtype=types.dtype)
            segment = tf.einsum("blt,te->ble", one_hot, types)
        x = tf.cast(self.layer_norm(word + position + segment), self.compute_dtype)
        return dropout(x, self.config.hidden_dropout_prob, seed)
