"""Word, position and segment embeddings, shared by networks or added to another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import LayerNorm, dropout, truncated_normal


class Embeddings(keras.layers.Layer):
    """LayerNorm(word + position + segment embedding), then dropout.

    Those of a modern encoder are of words alone: attention knows the positions, and [SEP] tells the
    two texts of a pair apart.

    Towers are tied by handing the same `Embeddings` to both: in ELECTRA generator and
    discriminator share all three tables **and** the LayerNorm.

    Args:
        config: sizes; `config.embedding_size` is the width.

    Variables:
        word_embeddings: [vocab_size, embedding_size].
        position_embeddings: [max_position_embeddings, embedding_size].
        token_type_embeddings: [type_vocab_size, embedding_size].
        layer_norm/gamma, layer_norm/beta: [embedding_size].
        Modern ones have no positions, token types and beta.
    """

    def __init__(self, config: TransformerConfig, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.layer_norm = LayerNorm(config.is_modern, dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape=None):
        self.add_tables("", lambda: truncated_normal(self.config.initializer_range))
        self.layer_norm.build((None, None, self.config.embedding_size))
        self.built = True

    def add_tables(self, ending: str, initializer: Callable[[], Any]) -> None:
        """Adds the tables as variables: three, or the words' alone.

        Args:
            ending: of their names.
            initializer: makes Keras's for a table, or its name. Each table needs one of its own: a
                Keras initializer has a seed, and draws the same numbers again.
        """
        config = self.config
        tables = {
            "word_embeddings": config.vocab_size,
            "position_embeddings": config.max_position_embeddings,
            "token_type_embeddings": config.type_vocab_size,
        }
        for name, rows in tables.items():
            if config.is_modern and name != "word_embeddings":
                continue
            table = self.add_weight(
                shape=(rows, config.embedding_size),
                initializer=initializer(),
                name=name + ending,
                autocast=False,
            )
            setattr(self, name + ending, table)

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
        x = self.words(input_ids)
        if not self.config.is_modern:
            x += self.table("position_embeddings")[: tf.shape(input_ids)[1]]
            x += self._segments(segment_ids)
        x = tf.cast(self.layer_norm(x), self.compute_dtype)
        return dropout(x, self.config.hidden_dropout_prob, seed)

    def _segments(self, segment_ids: tf.Tensor | None) -> tf.Tensor:
        types = self.table("token_type_embeddings")
        if segment_ids is None:
            return types[0]
        # A product with one-hot rows: its gradient is a small product too, not a scatter.
        one_hot = tf.one_hot(segment_ids, self.config.type_vocab_size, dtype=types.dtype)
        return tf.einsum("blt,te->ble", one_hot, types)

    def words(self, input_ids: tf.Tensor) -> tf.Tensor:
        """Returns the word embeddings of ids of any shape, float32 [..., embedding_size]."""
        return tf.gather(self.table("word_embeddings"), input_ids)

    def table(self, name: str) -> tf.Tensor:
        """Returns a table, float32 [rows, embedding_size], by the name of its variable."""
        return tf.convert_to_tensor(getattr(self, name))


# Ending of the names of tables that are added to others.
DELTA = "_delta"


class DisentangledEmbeddings(Embeddings):
    """Embeddings of another network that don't train it, and tables of their own added to them.

    This is the gradient-disentangled embedding sharing of DeBERTaV3 (He et al. 2021, section 3.3):
    table = stop_gradient(other's table) + delta, where delta is 0 at first. As in its program all
    tables are shared so, and the LayerNorm is each network's own.

    Args:
        config: sizes; those of the tables are `base`'s.
        base: the other network's embeddings, which are built. They are not a part of this layer.

    Variables:
        word_embeddings_delta, position_embeddings_delta, token_type_embeddings_delta,
        layer_norm/gamma, layer_norm/beta: shapes as in `Embeddings`.
    """

    def __init__(self, config: TransformerConfig, base: Embeddings, **kwargs):
        super().__init__(config, **kwargs)
        # Past the tracking of attributes: its variables are not among this layer's.
        object.__setattr__(self, "_base", base)

    def build(self, input_shape=None):
        self.add_tables(DELTA, lambda: "zeros")
        self.layer_norm.build((None, None, self.config.embedding_size))
        self.built = True

    def words(self, input_ids: tf.Tensor) -> tf.Tensor:
        # Two lookups, as the sum of the whole tables would be one of all words.
        delta = tf.gather(super().table("word_embeddings" + DELTA), input_ids)
        return tf.stop_gradient(self._base.words(input_ids)) + delta

    def table(self, name: str) -> tf.Tensor:
        return tf.stop_gradient(self._base.table(name)) + super().table(name + DELTA)
