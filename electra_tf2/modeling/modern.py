"""The transformer block of ModernBERT (Warner et al. 2024, arXiv:2412.13663)."""

from __future__ import annotations

import keras
import tensorflow as tf

from electra_tf2.modeling.attention import SelfAttention, side_by_side
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.fused import gated_gelu, scaled_layer_norm
from electra_tf2.modeling.layers import LayerNorm, activation, dropout, truncated_normal
from electra_tf2.randomness import SITES_PER_BLOCK, site_seed

# Places in a block that draw random numbers.
_ATTENTION, _ATTENTION_OUTPUT, _OUTPUT = range(SITES_PER_BLOCK)


class ModernBlock(keras.layers.Layer):
    """Pre-LayerNorm block with rotary positions, a gated feed-forward network and no biases.

    Both halves add to the states: x + dropout(attention(norm(x))), and after it, with y = norm(x),
    x + dropout(W (activation(U y) * V y)). The first block's attention has no LayerNorm, as that of
    the embeddings comes right before it.

    Args:
        config: sizes and rates.
        layer: the block's number from 0; tells whether its attention is local.

    Variables:
        attention/{query,key,value,output}/kernel, attention/layer_norm/gamma (not in layer 0),
        {intermediate,gate,output}/kernel, layer_norm/gamma.
    """

    def __init__(self, config: TransformerConfig, layer: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.activation = activation(config.hidden_act)
        self.attention = SelfAttention(
            config,
            config.global_rope_theta if config.is_global(layer) else config.local_rope_theta,
            has_layer_norm=layer > 0,
            dtype=self.dtype_policy,
            name="attention",
        )
        self.intermediate, self.gate, self.projection = (
            keras.layers.Dense(
                width,
                use_bias=False,
                kernel_initializer=truncated_normal(stddev),
                dtype=self.dtype_policy,
                name=name,
            )
            for name, width, stddev in (
                ("intermediate", config.intermediate_size, config.initializer_range),
                ("gate", config.intermediate_size, config.initializer_range),
                ("output", config.hidden_size, config.residual_range),
            )
        )
        self.layer_norm = LayerNorm(modern=True, dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape):
        width = self.config.hidden_size
        self.attention.build((None, None, width))
        self.intermediate.build((None, width))
        self.gate.build((None, width))
        self.projection.build((None, self.config.intermediate_size))
        self.layer_norm.build((None, width))
        self.built = True

    def call(self, x: tf.Tensor, mask: tf.Tensor, seed=None) -> tf.Tensor:
        """Runs the block.

        Args:
            x: [batch, length, hidden].
            mask: float32 [batch, 1, 1 or length, length], see `attention.attention_mask`; or that
                of attention in blocks, see `attention.blocked_attention_mask`.
            seed: int64 [2] for dropout, or None.

        Returns:
            [batch, length, hidden].
        """
        rate = self.config.hidden_dropout_prob
        rows = tf.reshape(x, [-1, self.config.hidden_size])
        attended = self.attention(self._attention_input(x), mask, seed=site_seed(seed, _ATTENTION))
        rows += dropout(attended, rate, site_seed(seed, _ATTENTION_OUTPUT))
        output = tf.matmul(
            self._intermediate(normalized(self.layer_norm, rows), training=seed is not None),
            tf.cast(self.projection.kernel, x.dtype),
        )
        rows += dropout(output, rate, site_seed(seed, _OUTPUT))
        return tf.reshape(rows, tf.shape(x))

    def attention_probabilities(self, x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns the attention of the block, see `SelfAttention.probabilities`."""
        return self.attention.probabilities(self._attention_input(x), mask)

    def _attention_input(self, x: tf.Tensor) -> tf.Tensor:
        norm = self.attention.layer_norm
        return x if norm is None else normalized(norm, x)

    def _intermediate(self, rows: tf.Tensor, training: bool) -> tf.Tensor:
        both = side_by_side(rows, (self.intermediate, self.gate), separate=not training)
        inner, gate = tf.split(both, 2, axis=-1)
        if self.config.hidden_act == "gelu":
            return gated_gelu(inner, gate)  # pyright: ignore[reportReturnType] # no stub
        return self.activation(inner) * gate


def normalized(layer_norm: LayerNorm, x: tf.Tensor) -> tf.Tensor:
    """Returns what a modern LayerNorm makes of states.

    Args:
        layer_norm: has a scale and no shift.
        x: [..., hidden], any float type.

    Returns:
        The shape and type of `x`.
    """
    rows = tf.reshape(x, [-1, x.shape[-1]])
    gamma = tf.convert_to_tensor(layer_norm.gamma)
    normal = scaled_layer_norm(rows, gamma, epsilon=layer_norm.epsilon)
    return tf.reshape(normal, tf.shape(x))
