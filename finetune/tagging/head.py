"""The head that tags words."""

from __future__ import annotations

import keras
import tensorflow as tf

from finetune.task import TEACHER, HeadOutput, Seed, TaskHead, Tensors, softened_divergence


class TaggingHead(TaskHead):
    """State of each word's first piece → dense → logits of its tag, without dropout.

    Args:
        num_labels: number of tags.
        hidden_size: width of the encoder's states.

    Variables:
        classifier/{kernel,bias}.
    """

    def __init__(self, num_labels: int, hidden_size: int, **kwargs):
        super().__init__(**kwargs)
        self._hidden_size = hidden_size
        self.classifier = keras.layers.Dense(
            num_labels,
            kernel_initializer="glorot_uniform",
            dtype=self.dtype_policy,
            name="classifier",
        )

    def build(self, input_shape=None):
        self.classifier.build((None, None, self._hidden_size))
        self.built = True

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Tags the words; see `TaskHead.call`.

        The features [batch, words] are `labeled_positions` (of the words' first pieces), `labels`
        and `labels_mask` (float32, 1 for words and 0 for padding).

        Returns:
            Losses [batch], the sums of the cross-entropies of an example's words, and the outputs
            loss [batch], logits [batch, words, labels], predictions, labels and labels_mask
            [batch, words].
        """
        labels, mask = features["labels"], features["labels_mask"]
        words = tf.gather(states, features["labeled_positions"], batch_dims=1)
        logits = tf.cast(self.classifier(words), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        losses = tf.reduce_sum(losses * mask, axis=-1)
        outputs = {
            "loss": losses,
            "logits": logits,
            "predictions": tf.argmax(logits, axis=-1, output_type=tf.int32),
            "labels": labels,
            "labels_mask": mask,
        }
        return HeadOutput(losses, outputs)

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes the sum over the words of their divergences from the teacher's tags."""
        words = tf.shape(outputs["logits"])[1]
        # Padded to the number of tokens, as are all features of tokens.
        teacher = features[f"{TEACHER}logits"][:, :words]
        each = softened_divergence(outputs["logits"], teacher, temperature)
        return tf.reduce_sum(each * outputs["labels_mask"], axis=-1)

    def official_names(self) -> dict[str, str]:
        return {"classifier/kernel": "dense/kernel", "classifier/bias": "dense/bias"}
