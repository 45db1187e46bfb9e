"""The transformer encoder: token ids in, one hidden state a token out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.attention import attention_mask
from electra_tf2.modeling.block import SITES_PER_BLOCK, TransformerBlock
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.embeddings import Embeddings
from electra_tf2.randomness import site_seed

Direction = Literal["both", "left_to_right", "right_to_left"]


@keras.saving.register_keras_serializable(package="electra_tf2")
class Encoder(keras.Model):
    """Embeddings, an optional projection to the hidden size, and a stack of transformer blocks.

    In an ALBERT-style encoder (`config.encoder`) all blocks are one, run again and again; each pass
    has dropout of its own. There is no pooler: the state of [CLS] is used as it is.

    Args:
        config: sizes and rates.
        embeddings: an `Embeddings` layer shared with another encoder; None builds its own.
        direction: "both", or the one direction in which attention may look.
        recompute: keep only the blocks' inputs and compute the rest again in the backward pass:
            less memory for a third more time.
        **kwargs: `name`, `dtype` (a Keras dtype policy) and others of `keras.Model`.

    Example:
        encoder = Encoder(TransformerConfig(vocab_size=1000), name="electra")
        states = encoder(tf.constant([[2, 17, 5, 3]]))      # [1, 4, 256]
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        embeddings: Embeddings | None = None,
        direction: Direction = "both",
        recompute: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.recompute = recompute
        self.direction = direction
        self.embeddings = embeddings or Embeddings(
            config, dtype=self.dtype_policy, name="embeddings"
        )
        embedding_size = self.embeddings.config.embedding_size
        self.embeddings_project = None
        if embedding_size != config.hidden_size:
            self.embeddings_project = keras.layers.Dense(
                config.hidden_size,
                kernel_initializer="glorot_uniform",
                dtype=self.dtype_policy,
                name="embeddings_project",
            )
        names = config.block_names
        blocks = {
            name: TransformerBlock(config, dtype=self.dtype_policy, name=name)
            for name in dict.fromkeys(names)
        }
        self.blocks = [blocks[name] for name in names]

    def parts(self) -> Iterator[tuple[keras.layers.Layer, tuple[int | None, ...] | None]]:
        """Yields the layers in the order that they run in, each once, and its input's shape."""
        yield self.embeddings, None
        if self.embeddings_project is not None:
            width = self.embeddings.config.embedding_size
            yield self.embeddings_project, (None, None, width)
        # All passes of an ALBERT-style encoder run the same block.
        for block in dict.fromkeys(self.blocks):
            yield block, (None, None, self.config.hidden_size)

    def build(self, input_shape=None):
        for layer, shape in self.parts():
            if not layer.built:
                layer.build(shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` builds an encoder from, with embeddings of its own."""
        config = {"config": self.config.to_dict(), "direction": self.direction}
        return {**super().get_config(), **config, "recompute": self.recompute}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Encoder:
        """Builds an encoder and its variables, as Keras does when it loads a file."""
        del custom_objects
        encoder = cls(**{**config, "config": TransformerConfig(**config["config"])})
        encoder.build()
        return encoder

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor | None = None,
        segment_ids: tf.Tensor | None = None,
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Encodes a batch of token sequences.

        Args:
            input_ids: int32 [batch, length].
            input_mask: [batch, length], 1 for tokens and 0 for padding; all tokens if None.
            segment_ids: int32 [batch, length]; zeros if None.
            training: whether dropout is on; it needs a `seed` then.
            seed: int64 [2]; the same seed drops the same elements.

        Returns:
            [batch, length, hidden_size] in the compute type.

        Raises:
            UserError: the sequence is longer than the position table.
        """
        length = input_ids.shape[1]
        if length is not None and length > self.embeddings.config.max_position_embeddings:
            raise UserError(
                "The sequence is longer than the model's position table.",
                where="max_seq_length",
                received=f"length {length}, max_position_embeddings "
                f"{self.embeddings.config.max_position_embeddings}",
                remedy="Use shorter sequences or a model with more positions.",
            )
        if not training:
            seed = None
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        x = self.embeddings(input_ids, segment_ids, seed=site_seed(seed, 0))
        if self.embeddings_project is not None:
            x = self.embeddings_project(x)
        mask = attention_mask(input_mask, self.direction)
        for i, block in enumerate(self.blocks):
            block_seed = site_seed(seed, 1 + i * SITES_PER_BLOCK)
            if self.recompute and training:
                x = _run_frugally(block, x, mask, block_seed)
            else:
                x = block(x, mask, seed=block_seed)
        return x


def _run_frugally(block: TransformerBlock, x, mask, seed):
    """Runs a block and keeps only its input for the backward pass."""

    # In a graph `recompute_grad` takes positional tensors only: the seed, which may be None, is
    # closed over.
    def run(x, mask):
        return block(x, mask, seed=seed)

    return tf.recompute_grad(run)(x, mask)
