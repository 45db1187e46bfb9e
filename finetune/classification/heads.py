"""Heads with one output for a whole example, computed from the [CLS] state."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from electra_tf2.modeling.dropout import dropout
from finetune.task import HeadOutput, TaskHead


class SingleOutputHead(TaskHead):
    """[CLS] state → dropout → dense.

    The dense layer is computed in float32 whatever the policy: it is tiny, and in bfloat16 scores
    near 1 would be multiples of 1/128, so that many of them were tied.

    Args:
        num_outputs: width of the dense layer.
        dropout_prob: share of the state to drop in training.

    Variables:
        classifier/{kernel,bias}.
    """

    def __init__(self, num_outputs: int, dropout_prob: float, **kwargs):
        super().__init__(**kwargs)
        self.dropout_prob = dropout_prob
        self.classifier = keras.layers.Dense(
            num_outputs,
            kernel_initializer="glorot_uniform",
            bias_initializer="zeros",
            dtype="float32",
            name="classifier",
        )

    def build(self, input_shape):
        self.classifier.build((input_shape[0], input_shape[-1]))
        self.built = True

    def project(self, states: tf.Tensor, training: bool, seed: tf.Tensor | None) -> tf.Tensor:
        """Returns the dense layer's output, float32 [batch, num_outputs]."""
        first = states[:, 0]
        if training:
            first = dropout(first, self.dropout_prob, seed)
        return self.classifier(tf.cast(first, tf.float32))

    def official_names(self) -> dict[str, str]:
        """Returns own variable path -> official name."""
        return {"classifier/kernel": "dense/kernel", "classifier/bias": "dense/bias"}


class ClassificationHead(SingleOutputHead):
    """One logit a class; the loss is the cross-entropy, in nats. Arguments: see the base class."""

    def call(
        self,
        states: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> HeadOutput:
        """Computes loss [batch], logits [batch, classes], predictions and label_ids [batch]."""
        logits = self.project(states, training, seed)
        label_ids = features["label_ids"]
        labels = tf.one_hot(label_ids, self.classifier.units, dtype=tf.float32)
        losses = -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)
        outputs = {
            "loss": losses,
            "logits": logits,
            "predictions": tf.argmax(logits, axis=-1),
            "label_ids": label_ids,
        }
        return HeadOutput(losses, outputs)


class RegressionHead(SingleOutputHead):
    """One number, without activation; the loss is its squared distance from the target.

    Args:
        dropout_prob: see the base class.
    """

    def __init__(self, dropout_prob: float, **kwargs):
        super().__init__(1, dropout_prob, **kwargs)

    def call(
        self,
        states: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> HeadOutput:
        """Computes loss, predictions and targets, all float32 [batch]."""
        predictions = self.project(states, training, seed)[:, 0]
        targets = features["targets"]
        losses = tf.square(predictions - targets)
        outputs = {"loss": losses, "predictions": predictions, "targets": targets}
        return HeadOutput(losses, outputs)
