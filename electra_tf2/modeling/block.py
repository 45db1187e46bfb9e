"""One transformer block: attention, then a feed-forward network, each with LayerNorm after it."""

from __future__ import annotations

import keras
import tensorflow as tf

from electra_tf2.modeling.activations import activation
from electra_tf2.modeling.attention import SelfAttention
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.dropout import dropout_mask
from electra_tf2.modeling.fused import bias_gelu, bias_gelu_of_product, residual_layer_norm
from electra_tf2.modeling.initializers import truncated_normal
from electra_tf2.modeling.layer_norm import EPSILON, LayerNorm
from electra_tf2.randomness import site_seed

# Places in a block that draw random numbers.
_ATTENTION, _ATTENTION_OUTPUT, _OUTPUT = range(3)
SITES_PER_BLOCK = 3


class TransformerBlock(keras.layers.Layer):
    """Post-LayerNorm block of BERT (arXiv:1810.04805).

    Args:
        config: sizes and rates.

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

    def _intermediate(self, rows, biased_gelu):
        product = tf.matmul(rows, tf.cast(self.intermediate.kernel, rows.dtype))
        if self.config.hidden_act == "gelu":
            return biased_gelu(product, tf.cast(self.intermediate.bias, tf.float32))
        bias = tf.cast(self.intermediate.bias, rows.dtype)
        return self.activation(tf.nn.bias_add(product, bias))

    def _finish(self, product, bias, residual, layer_norm, seed):
        """LayerNorm(dropout(product + bias) + residual)."""
        return residual_layer_norm(
            product,
            tf.cast(bias, tf.float32),
            residual,
            tf.convert_to_tensor(layer_norm.gamma),
            tf.convert_to_tensor(layer_norm.beta),
            dropout=dropout_mask(tf.shape(product), self.config.hidden_dropout_prob, seed),
            epsilon=EPSILON,
        )
