"""Multi-head self-attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.fused import (
    attention_probs,
    is_single_text,
    plain_product,
    plain_softmax,
    uses_onednn,
)
from electra_tf2.modeling.layers import LayerNorm, dropout_mask, truncated_normal

MASKED_SCORE = -10000.0

Direction = Literal["both", "left_to_right", "right_to_left"]


def attention_mask(
    input_mask: tf.Tensor, direction: Direction = "both", reach: int | None = None
) -> tf.Tensor:
    """Turns a padding mask into what is added to the attention scores.

    Args:
        input_mask: [batch, length], 1 for tokens and 0 for padding.
        direction: "both"; "left_to_right" (a position sees itself and what precedes it) or
            "right_to_left" (itself and what follows).
        reach: how many positions away, in either direction, a position sees; None: all.

    Returns:
        float32 [batch, 1, 1 or length, length]: 0 where attention is allowed, -10000 elsewhere.
        Padding, direction and reach are multiplied first, so -10000 is added at most once.
    """
    # (Not tf.newaxis: TFLite has no slices that add axes.)
    allowed = tf.expand_dims(tf.expand_dims(tf.cast(input_mask, tf.float32), 1), 1)
    length = tf.shape(input_mask)[1]
    if direction != "both":
        ones = tf.ones([length, length])
        band = (-1, 0) if direction == "left_to_right" else (0, -1)
        allowed *= tf.linalg.band_part(ones, *band)
    if reach is not None:
        positions = tf.range(length)
        distances = tf.abs(tf.expand_dims(positions, 1) - positions)
        allowed *= tf.cast(distances <= reach, tf.float32)
    return (1.0 - allowed) * MASKED_SCORE


# Local attention in blocks: as many positions as are seen in one direction are a block of queries,
# whose keys are in that block and the two beside it.


def blocked_attention_mask(input_mask: tf.Tensor, direction: Direction, reach: int) -> tf.Tensor:
    """Turns a padding mask into what is added to the scores of local attention in blocks.

    Args:
        input_mask: see `attention_mask`; its length is known.
        direction, reach: see `attention_mask`.

    Returns:
        float32 [batch, 1, blocks, reach, 3 reach], the mask of each block's queries and keys; the
        last block is filled up. Where a text has ended it is -10000.
    """
    allowed = tf.cast(input_mask, tf.float32)[:, tf.newaxis, :, tf.newaxis]
    length: Any = input_mask.shape[1]
    blocks = -(-length // reach)
    keys = tf.squeeze(_with_neighbours(_in_blocks(allowed, blocks, reach)), -1)
    keys = keys[:, :, :, tf.newaxis]
    # How far right of a query a key is; the first key is that of the block before.
    offsets = np.arange(3 * reach) - reach - np.arange(reach)[:, np.newaxis]
    least = 0 if direction == "right_to_left" else -reach
    most = 0 if direction == "left_to_right" else reach
    band = ((offsets >= least) & (offsets <= most)).astype(np.float32)
    return (1.0 - keys * band) * MASKED_SCORE


def _in_blocks(x: tf.Tensor, blocks: int, size: int) -> tf.Tensor:
    """[batch, heads, length, width] -> [batch, heads, blocks, size, width], filled up with 0."""
    missing = blocks * size - tf.shape(x)[2]
    added: Any = [[0, 0], [0, 0], [0, missing], [0, 0]]
    return tf.reshape(tf.pad(x, added), [tf.shape(x)[0], x.shape[1], blocks, size, x.shape[3]])


def _with_neighbours(blocks: tf.Tensor) -> tf.Tensor:
    """Puts the blocks before and after beside each: [batch, heads, blocks, 3 size, width]."""
    ends = tf.pad(blocks, [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]])
    return tf.concat([ends[:, :, :-2], blocks, ends[:, :, 2:]], axis=3)


def rotated(x: tf.Tensor, theta: float) -> tf.Tensor:
    """Turns queries or keys by their positions, so that a product tells how far apart they are.

    These are rotary positions (RoFormer, arXiv:2104.09864). Dimension i and i + size / 2 of a head
    are a pair, as in transformers; at position p it is turned by p theta^(-2 i / size).

    Args:
        x: [batch, heads, length, size], an even size.
        theta: base of the wave lengths.

    Returns:
        The shape and type of `x`; the arithmetic is float32.
    """
    size: Any = x.shape[-1]
    half = size // 2
    frequencies = theta ** -(np.arange(half, dtype=np.float64) / half)
    positions = tf.range(tf.shape(x)[-2], dtype=tf.float32)
    angles = tf.expand_dims(positions, 1) * tf.constant(frequencies, tf.float32)
    cos, sin = tf.cos(angles), tf.sin(angles)
    first, second = tf.split(tf.cast(x, tf.float32), 2, axis=-1)
    turned = tf.concat([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return tf.cast(turned, x.dtype)


def side_by_side(
    rows: tf.Tensor, layers: Sequence[keras.layers.Dense], separate: bool
) -> tf.Tensor:
    """Applies dense layers to the same rows: in one product, for which their kernels are joined.

    Args:
        rows: [rows, width].
        layers: without activations; all have a bias or none.
        separate: whether there is a product for each layer where that is faster, in inference on a
            CPU: there joining takes longer than the products with few rows, unless the kernels are
            constants, which the graph joins once.

    Returns:
        [rows, the widths of all layers], the type of `rows`.
    """
    kernels = [tf.cast(layer.kernel, rows.dtype) for layer in layers]
    biases = [tf.cast(layer.bias, rows.dtype) for layer in layers if layer.use_bias]
    if separate and uses_onednn() and tf.get_static_value(kernels[0]) is None:
        parts = [tf.matmul(rows, kernel) for kernel in kernels]
        if biases:
            parts = [tf.nn.bias_add(part, b) for part, b in zip(parts, biases, strict=True)]
        return tf.concat(parts, axis=-1)
    product = tf.matmul(rows, tf.concat(kernels, axis=1))
    return tf.nn.bias_add(product, tf.concat(biases, axis=0)) if biases else product


class SelfAttention(keras.layers.Layer):
    """Scaled dot-product self-attention over several heads (arXiv:1706.03762), up to the bias.

    The output projection's bias and the LayerNorm are held here, where the official names have
    them, and applied by the block in one pass with dropout and residual.

    Args:
        config: sizes and rates.
        rope_theta: of rotary positions, see `rotated`; None: the states know their positions.
        has_layer_norm: whether there is one.

    Variables:
        query, key, value, output: kernel [hidden, hidden] and bias [hidden] each;
        layer_norm: gamma and beta [hidden]. In a modern encoder there are no biases and no beta.
    """

    def __init__(
        self,
        config: TransformerConfig,
        rope_theta: float | None = None,
        has_layer_norm: bool = True,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.rope_theta = rope_theta
        self.query, self.key, self.value, self.projection = (
            keras.layers.Dense(
                config.hidden_size,
                use_bias=config.has_biases,
                kernel_initializer=truncated_normal(
                    config.residual_range if name == "output" else config.initializer_range
                ),
                dtype=self.dtype_policy,
                name=name,
            )
            for name in ("query", "key", "value", "output")
        )
        self.layer_norm = None
        if has_layer_norm:
            self.layer_norm = LayerNorm(
                config.is_modern, dtype=self.dtype_policy, name="layer_norm"
            )

    def build(self, input_shape):
        for layer in (self.query, self.key, self.value, self.projection, self.layer_norm):
            if layer is not None:
                layer.build(input_shape)
        self.built = True

    def call(self, x: tf.Tensor, mask: tf.Tensor, seed=None) -> tf.Tensor:
        """Attends.

        Args:
            x: [batch, length, hidden].
            mask: float32 [batch, 1, 1 or length, length], see `attention_mask`; or that of
                attention in blocks, see `blocked_attention_mask`.
            seed: int64 [2] for dropout of the probabilities, or None.

        Returns:
            [batch * length, hidden], without the output bias.
        """
        hidden = self.config.hidden_size
        single = is_single_text(x, seed)
        probs, value = self._attend(x, mask, seed)
        context = (plain_product if single else tf.matmul)(probs, value)
        if mask.shape.rank == 5:  # the blocks one after another, without what fills the last one
            shape = [tf.shape(x)[0], value.shape[1], -1, value.shape[-1]]
            context = tf.reshape(context, shape)[:, :, : tf.shape(x)[1]]
        if single:
            context = tf.concat(tf.unstack(context, value.shape[1], axis=1), axis=-1)
        else:
            context = tf.transpose(context, [0, 2, 1, 3])
        return tf.matmul(
            tf.reshape(context, [-1, hidden]), tf.cast(self.projection.kernel, x.dtype)
        )

    def probabilities(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns how much each position attends to each other, without dropout.

        Args:
            x: [batch, length, hidden].
            mask: float32 [batch, 1, 1 or length, length], see `attention_mask`.

        Returns:
            [batch, heads, length, length], of the positions that attend; each row sums to 1.
        """
        return self._attend(x, mask, None)[0]

    def _attend(self, x: tf.Tensor, mask: tf.Tensor, seed) -> tuple[tf.Tensor, tf.Tensor]:
        """The probabilities, and the values [batch, heads, length, size], or both in blocks."""
        config = self.config
        batch, length, hidden = tf.shape(x)[0], tf.shape(x)[1], config.hidden_size
        heads = config.num_attention_heads
        size = hidden // heads
        single = is_single_text(x, seed)
        layers = (self.query, self.key, self.value)
        qkv = side_by_side(tf.reshape(x, [-1, hidden]), layers, separate=seed is None)
        if single:
            parts = tf.split(tf.reshape(qkv, [batch, length, 3 * hidden]), 3 * heads, axis=-1)
            query, key, value = (
                tf.stack(parts[i * heads : (i + 1) * heads], axis=1) for i in range(3)
            )
        else:
            qkv = tf.transpose(tf.reshape(qkv, [batch, length, 3, heads, size]), [2, 0, 3, 1, 4])
            query, key, value = tf.unstack(qkv, axis=0)
        if self.rope_theta is not None:
            query, key = rotated(query, self.rope_theta), rotated(key, self.rope_theta)
        if mask.shape.rank == 5:
            cut: Any = mask.shape[2:4]
            query, key, value = (_in_blocks(part, *cut) for part in (query, key, value))
            key, value = _with_neighbours(key), _with_neighbours(value)
        if single:
            scores = plain_product(query, key, transpose_b=True)
            return plain_softmax(scores * size**-0.5 + mask), value
        scores = tf.matmul(query, key, transpose_b=True)
        drop = dropout_mask(tf.shape(scores), config.attention_probs_dropout_prob, seed)
        return attention_probs(scores, mask, factor=size**-0.5, dropout=drop), value
