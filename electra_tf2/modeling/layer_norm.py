"""LayerNorm with BERT's epsilon, computed in float32."""

from __future__ import annotations

import keras
import tensorflow as tf

EPSILON = 1e-12


class LayerNorm(keras.layers.Layer):
    """Normalizes the last axis to mean 0 and variance 1, then scales and shifts it.

    The weights stay float32 under mixed precision, and so does the arithmetic.

    Variables:
        gamma: float32 [width], ones at first.
        beta: float32 [width], zeros at first.
    """

    def build(self, input_shape):
        width = input_shape[-1]
        self.gamma = self.add_weight(
            shape=(width,), initializer="ones", name="gamma", autocast=False
        )
        self.beta = self.add_weight(
            shape=(width,), initializer="zeros", name="beta", autocast=False
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Args: x: [..., width]. Returns the same shape and type."""
        z = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(z, axis=-1, keepdims=True)
        centered = z - mean
        variance = tf.reduce_mean(centered * centered, axis=-1, keepdims=True)
        normalized = centered * tf.math.rsqrt(variance + EPSILON)
        return tf.cast(normalized * self.gamma + self.beta, x.dtype)
