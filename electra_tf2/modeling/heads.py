"""What sits on top of the encoders: the vocabulary softmax and the replaced-token classifier."""

from __future__ import annotations

import keras
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.embeddings import Embeddings
from electra_tf2.modeling.layers import LayerNorm, activation, truncated_normal


class MaskedLMHead(keras.layers.Layer):
    """Hidden states to vocabulary logits: dense, activation, LayerNorm, embedding table, bias.

    On a modern encoder the dense layer has no bias and the LayerNorm no beta.

    Args:
        config: sizes; vocabulary and activation.
        embeddings: the layer whose word embedding table is the output matrix.

    Variables:
        dense/{kernel,bias}, layer_norm/{gamma,beta}, output_bias [vocab_size].
    """

    def __init__(self, config: TransformerConfig, embeddings: Embeddings, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.embeddings = embeddings
        self.dense = keras.layers.Dense(
            embeddings.config.embedding_size,
            use_bias=config.has_biases,
            activation=activation(config.hidden_act),
            kernel_initializer=truncated_normal(config.initializer_range),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.layer_norm = LayerNorm(config.is_modern, dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape):
        if not self.embeddings.built:
            self.embeddings.build()
        self.dense.build(input_shape)
        self.layer_norm.build((None, self.embeddings.config.embedding_size))
        self.output_bias = self.add_weight(
            shape=(self.config.vocab_size,),
            initializer="zeros",
            name="output_bias",
            autocast=False,
        )
        self.built = True

    def call(self, states: tf.Tensor) -> tf.Tensor:
        """Scores the vocabulary.

        Args:
            states: [batch, n, width].

        Returns:
            float32 [batch, n, vocab_size].
        """
        hidden = self.layer_norm(self.dense(states))
        table = tf.cast(tf.convert_to_tensor(self.embeddings.word_embeddings), hidden.dtype)
        shape = tf.shape(hidden)
        rows = tf.reshape(hidden, [-1, hidden.shape[-1]])
        logits = tf.cast(tf.matmul(rows, table, transpose_b=True), tf.float32)
        logits = tf.nn.bias_add(logits, tf.convert_to_tensor(self.output_bias))
        return tf.reshape(logits, [shape[0], shape[1], self.config.vocab_size])


class ReplacedTokenHead(keras.layers.Layer):
    """Hidden states to one logit a token: dense, activation, dense.

    On a modern encoder the first layer has no bias, and a LayerNorm comes before the second one, as
    in ModernBERT's heads.

    Variables:
        dense/{kernel,bias}, logit/{kernel,bias}; of a modern one no dense/bias, layer_norm/gamma.
    """

    def __init__(self, config: TransformerConfig, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.dense = keras.layers.Dense(
            config.hidden_size,
            use_bias=config.has_biases,
            activation=activation(config.hidden_act),
            kernel_initializer=truncated_normal(config.initializer_range),
            dtype=self.dtype_policy,
            name="dense",
        )
        self.layer_norm = None
        if config.is_modern:
            self.layer_norm = LayerNorm(modern=True, dtype=self.dtype_policy, name="layer_norm")
        self.logit = keras.layers.Dense(
            1, kernel_initializer="glorot_uniform", dtype=self.dtype_policy, name="logit"
        )

    def build(self, input_shape):
        self.dense.build(input_shape)
        if self.layer_norm is not None:
            self.layer_norm.build((*input_shape[:-1], self.dense.units))
        self.logit.build((*input_shape[:-1], self.dense.units))
        self.built = True

    def call(self, states: tf.Tensor) -> tf.Tensor:
        """Args: states: [batch, length, width]. Returns float32 logits [batch, length]."""
        hidden = self.dense(states)
        if self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        return tf.cast(tf.squeeze(self.logit(hidden), -1), tf.float32)
