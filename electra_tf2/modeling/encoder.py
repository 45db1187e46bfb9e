"""The transformer encoder: token ids in, one hidden state a token out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.attention import (
    Direction,
    SelfAttention,
    attention_mask,
    blocked_attention_mask,
)
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.embeddings import DisentangledEmbeddings, Embeddings
from electra_tf2.modeling.fused import (
    bias_gelu,
    bias_gelu_of_product,
    residual_layer_norm,
    residual_layer_norm_of_product,
)
from electra_tf2.modeling.layers import (
    EPSILON,
    LayerNorm,
    activation,
    dropout_mask,
    truncated_normal,
)
from electra_tf2.modeling.modern import ModernBlock, normalized
from electra_tf2.randomness import SITES_PER_BLOCK, site_seed

# One transformer block: attention, then a feed-forward network, each with LayerNorm after it.


# Places in a block that draw random numbers.
_ATTENTION, _ATTENTION_OUTPUT, _OUTPUT = range(SITES_PER_BLOCK)


class TransformerBlock(keras.layers.Layer):
    """Post-LayerNorm block of BERT (arXiv:1810.04805).

    Variables:
        attention/{query,key,value,output}/{kernel,bias}, attention/layer_norm/{gamma,beta},
        {intermediate,output}/{kernel,bias}, layer_norm/{gamma,beta}.
    """

    def __init__(self, config: TransformerConfig, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.activation = activation(config.hidden_act)
        self.attention = SelfAttention(config, dtype=self.dtype_policy, name="attention")
        self.intermediate, self.projection = (
            keras.layers.Dense(
                width,
                kernel_initializer=truncated_normal(config.initializer_range),
                dtype=self.dtype_policy,
                name=name,
            )
            for name, width in (
                ("intermediate", config.intermediate_size),
                ("output", config.hidden_size),
            )
        )
        self.layer_norm = LayerNorm(dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape):
        width = self.config.hidden_size
        self.attention.build((None, None, width))
        self.intermediate.build((None, width))
        self.projection.build((None, self.config.intermediate_size))
        self.layer_norm.build((None, width))
        self.built = True

    def call(self, x: tf.Tensor, mask: tf.Tensor, seed=None) -> tf.Tensor:
        """Runs the block.

        Args:
            x: [batch, length, hidden].
            mask: float32 [batch, 1, 1 or length, length], see `attention.attention_mask`.
            seed: int64 [2] for dropout, or None.

        Returns:
            [batch, length, hidden].
        """
        rows = tf.reshape(x, [-1, self.config.hidden_size])
        attended = self.attention(x, mask, seed=site_seed(seed, _ATTENTION))
        attended = self._finish(
            attended,
            self.attention.projection.bias,
            rows,
            self.attention.layer_norm,
            site_seed(seed, _ATTENTION_OUTPUT),
        )
        training = seed is not None
        output = tf.matmul(
            self._intermediate(attended, bias_gelu if training else bias_gelu_of_product),
            tf.cast(self.projection.kernel, x.dtype),
        )
        output = self._finish(
            output, self.projection.bias, attended, self.layer_norm, site_seed(seed, _OUTPUT)
        )
        return tf.reshape(output, tf.shape(x))

    def attention_probabilities(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns the attention of the block, see `SelfAttention.probabilities`."""
        return self.attention.probabilities(x, mask)

    def _intermediate(self, rows, biased_gelu) -> tf.Tensor:
        product = tf.matmul(rows, tf.cast(self.intermediate.kernel, rows.dtype))
        if self.config.hidden_act == "gelu":
            return biased_gelu(product, tf.cast(self.intermediate.bias, tf.float32))
        bias = tf.cast(self.intermediate.bias, rows.dtype)
        return self.activation(tf.nn.bias_add(product, bias))

    def _finish(self, product, bias, residual, layer_norm, seed):
        """LayerNorm(dropout(product + bias) + residual)."""
        scale, shift = (tf.convert_to_tensor(v) for v in (layer_norm.gamma, layer_norm.beta))
        arguments = (product, tf.cast(bias, tf.float32), residual, scale, shift)
        if seed is None:
            return residual_layer_norm_of_product(*arguments, epsilon=EPSILON)
        return residual_layer_norm(
            *arguments,
            dropout=dropout_mask(tf.shape(product), self.config.hidden_dropout_prob, seed),
            epsilon=EPSILON,
        )


@keras.saving.register_keras_serializable(package="electra_tf2")
class Encoder(keras.Model):
    """Embeddings, an optional projection to the hidden size, and a stack of transformer blocks.

    In an ALBERT-style encoder (`config.encoder`) all blocks are one, run again and again; each pass
    has dropout of its own. In a modern one a LayerNorm follows the last block. There is no pooler:
    the state of [CLS] is used as it is.

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
        self.direction: Direction = direction
        self.embeddings = embeddings or Embeddings(
            config, dtype=self.dtype_policy, name="embeddings"
        )
        embedding_size = self.embeddings.config.embedding_size
        self.embeddings_project = None
        if embedding_size != config.hidden_size:
            self.embeddings_project = keras.layers.Dense(
                config.hidden_size,
                use_bias=config.has_biases,
                kernel_initializer="glorot_uniform",
                dtype=self.dtype_policy,
                name="embeddings_project",
            )
        names = config.block_names
        blocks = {name: self._block(i, name) for i, name in enumerate(dict.fromkeys(names))}
        self.blocks = [blocks[name] for name in names]
        self.final_layer_norm = None
        if config.is_modern:
            self.final_layer_norm = LayerNorm(
                modern=True, dtype=self.dtype_policy, name="final_layer_norm"
            )

    def _block(self, layer: int, name: str) -> TransformerBlock | ModernBlock:
        if self.config.is_modern:
            return ModernBlock(self.config, layer, dtype=self.dtype_policy, name=name)
        return TransformerBlock(self.config, dtype=self.dtype_policy, name=name)

    def parts(self) -> Iterator[tuple[keras.layers.Layer, tuple[int | None, ...] | None]]:
        """Yields the layers in the order that they run in, each once, and its input's shape."""
        yield self.embeddings, None
        if self.embeddings_project is not None:
            width = self.embeddings.config.embedding_size
            yield self.embeddings_project, (None, None, width)
        # All passes of an ALBERT-style encoder run the same block.
        for block in dict.fromkeys(self.blocks):
            yield block, (None, None, self.config.hidden_size)
        if self.final_layer_norm is not None:
            yield self.final_layer_norm, (None, None, self.config.hidden_size)

    def build(self, input_shape=None):
        for layer, shape in self.parts():
            if not layer.built:
                layer.build(shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` builds an encoder from, with embeddings of its own.

        Raises:
            ValueError: the embeddings are the sum of another network's and its own.
        """
        if isinstance(self.embeddings, DisentangledEmbeddings):
            raise ValueError(
                "A file of this network alone would lack the generator's embeddings, which it adds "
                "its own to. Open the checkpoint of the pair (Encoder.from_pretrained)."
            )
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
            segment_ids: int32 [batch, length]; zeros if None. A modern encoder ignores them.
            training: whether dropout is on; it needs a `seed` then.
            seed: int64 [2]; the same seed drops the same elements.

        Returns:
            [batch, length, hidden_size] in the compute type.

        Raises:
            UserError: the sequence is longer than the position table.
        """
        self._check_length(input_ids.shape[1])
        if not training:
            seed = None
        x, masks = self._embed(input_ids, input_mask, segment_ids, site_seed(seed, 0))
        for i, (block, mask) in enumerate(zip(self.blocks, masks, strict=True)):
            block_seed = site_seed(seed, 1 + i * SITES_PER_BLOCK)
            if self.recompute and training:
                x = _run_frugally(block, x, mask, block_seed)
            else:
                x = block(x, mask, seed=block_seed)
        return self._finish(x)

    def _check_length(self, length: int | None) -> None:
        rows = self.embeddings.config.max_position_embeddings
        if length is not None and length > rows and not self.config.is_modern:
            raise UserError(
                "The sequence is longer than the model's position table.",
                where="max_seq_length",
                received=f"length {length}, max_position_embeddings {rows}",
                remedy="Use shorter sequences or a model with more positions, which grow_model.py "
                "--max-positions makes of this one.",
            )

    def _finish(self, x: tf.Tensor) -> tf.Tensor:
        return x if self.final_layer_norm is None else normalized(self.final_layer_norm, x)

    def trace(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Encodes a batch without dropout, and keeps what happens on the way.

        Returns:
            The states that go into the first block and those that come out of each, the last ones
            as `call` returns them, [batch, length, hidden_size] each; and the attention of each
            block, [batch, heads, length, length].
        """
        x, masks = self._embed(input_ids, input_mask, segment_ids, None, in_blocks=False)
        states, attentions = [x], []
        for block, mask in zip(self.blocks, masks, strict=True):
            attentions.append(block.attention_probabilities(states[-1], mask))
            states.append(block(states[-1], mask))
        return [*states[:-1], self._finish(states[-1])], attentions

    def _embed(
        self, input_ids, input_mask, segment_ids, seed, in_blocks: bool = True
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The first block's input, and what is added to the attention scores of each block.

        Local attention may be computed in blocks, whose probabilities are no square matrix.
        """
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        x = self.embeddings(input_ids, segment_ids, seed=seed)
        if self.embeddings_project is not None:
            x = self.embeddings_project(x)
        everywhere = attention_mask(input_mask, self.direction)
        layers = [self.config.is_global(i) for i in range(len(self.blocks))]
        if all(layers):
            return x, [everywhere] * len(layers)
        in_blocks = in_blocks and self.config.attends_in_blocks(input_mask.shape[1])
        make_mask = blocked_attention_mask if in_blocks else attention_mask
        nearby = make_mask(input_mask, self.direction, self.config.reach)
        return x, [everywhere if is_global else nearby for is_global in layers]


def _run_frugally(block: TransformerBlock | ModernBlock, x, mask, seed):
    """Runs a block and keeps only its input for the backward pass."""

    # In a graph `recompute_grad` takes positional tensors only: the seed, which may be None, is
    # closed over.
    def run(x, mask):
        return block(x, mask, seed=seed)

    return tf.recompute_grad(run)(x, mask)
