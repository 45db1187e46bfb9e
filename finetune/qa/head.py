"""The head of question answering: where the answer starts and ends, and whether there is one."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import activation
from finetune.task import (
    TEACHER,
    HeadOutput,
    Seed,
    TaskHead,
    Tensors,
    softened_binary_divergence,
    softened_divergence,
)

HIDDEN_UNITS = 512
"""Width of the two hidden layers."""

# Added to the logits of tokens that no answer can start or end at.
_MASKED = -1000.0
# Log-probability that stands for "no such token" where a batch is shorter than the beam is wide.
_NO_TOKEN = -1e4


class PairHidden(keras.layers.Layer):
    """A GELU layer over the concatenation [first; second] of two states.

    The upper half of the kernel sees the first state, the lower half the second one. Applied
    separately and added, they give the product with the concatenation; but a state that is paired
    with many others is multiplied only once, and no concatenation is made. The products are in the
    compute dtype, the rest in float32.

    Variables:
        kernel [2 * width, 512], bias [512].
    """

    def build(self, input_shape):
        self._width = int(input_shape[-1])
        shape = (2 * self._width, HIDDEN_UNITS)
        self.kernel = self.add_weight(
            shape=shape, initializer="glorot_uniform", name="kernel", autocast=False
        )
        self.bias = self.add_weight(
            shape=(HIDDEN_UNITS,), initializer="zeros", name="bias", autocast=False
        )
        self.built = True

    def project_first(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the first states' part of the sum, float32 [..., 512], with the bias."""
        kernel = tf.convert_to_tensor(self.kernel)[: self._width]
        bias = tf.convert_to_tensor(self.bias)
        return self._product(states, kernel) + bias

    def project_second(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the second states' part of the sum, float32 [..., 512]."""
        return self._product(states, tf.convert_to_tensor(self.kernel)[self._width :])

    def _product(self, states: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        dtype = self.compute_dtype
        product = tf.tensordot(tf.cast(states, dtype), tf.cast(kernel, dtype), 1)
        return tf.cast(product, tf.float32)

    def call(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns the hidden states, float32 [..., 512], of projected states that broadcast."""
        return activation("gelu")(first + second)


class QAHead(TaskHead):
    """Start and end of the answer, and the odds that there is none.

    An answer lies in the passage or, where there is none, at [CLS]: the logits of other tokens are
    lowered by 1000. The loss is the mean of the cross-entropies of start and end plus
    `answerable_weight` times that of `is_impossible`.

    With `joint_prediction` the end is predicted given the start: the true one in training, else
    each of the `beam_size` likeliest ones. There is no single distribution of the end then, and the
    reported loss contains ln(max_seq_length) instead, as in the official program.

    The logits are computed in float32 whatever the policy: in bfloat16 candidates whose order
    decides the answer would be tied.

    Args:
        config: gives `joint_prediction`, `beam_size`, `max_seq_length`, `answerable_classifier`,
            `answerable_uses_start_logits` and `answerable_weight`.
        encoder: the encoder's sizes.

    Variables:
        start/{kernel,bias}; end/{kernel,bias}; end_hidden/{kernel,bias} with joint prediction;
        answerable/{kernel,bias}, and answerable_hidden/{kernel,bias} where it uses the start.
    """

    def __init__(self, config: FinetuningConfig, encoder: TransformerConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self._width = encoder.hidden_size
        self._classifies = config.answerable_classifier
        self._uses_start = self._classifies and config.answerable_uses_start_logits
        self.start = _logit("start")
        self.end = _logit("end")
        if config.joint_prediction:
            self.end_hidden = PairHidden(dtype=self.dtype_policy, name="end_hidden")
        if self._uses_start:
            self.answerable_hidden = PairHidden(dtype=self.dtype_policy, name="answerable_hidden")
        if self._classifies:
            self.answerable = _logit("answerable")

    def build(self, input_shape=None):
        self.start.build((None, self._width))
        joint = self.config.joint_prediction
        if joint:
            self.end_hidden.build((None, self._width))
        self.end.build((None, HIDDEN_UNITS if joint else self._width))
        if self._uses_start:
            self.answerable_hidden.build((None, self._width))
        if self._classifies:
            self.answerable.build((None, HIDDEN_UNITS if self._uses_start else self._width))
        self.built = True

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Computes losses and outputs; see `TaskHead.call`.

        The features `start_positions`, `end_positions` and `is_impossible` are int32 [batch]. In
        training the end is predicted given the true start, and no beams are searched.

        Returns:
            Losses, and the outputs `loss`, `answerable_logit`, `start_positions`, `end_positions`
            [batch], `start_logits`, `end_logits` [batch, length] (end logits are 0 where joint
            prediction searched beams), and, unless training, `start_top_log_probs`,
            `start_top_index` [batch, beam], `end_top_log_probs`, `end_top_index`
            [batch, beam, beam], 0 without joint prediction.
        """
        del seed
        start_positions, end_positions = features["start_positions"], features["end_positions"]
        mask = _answer_mask(features)
        start_logits = self._logits(self.start, states) + mask
        if self.config.joint_prediction and not training:
            end_logits = tf.zeros_like(start_logits)
            end_losses = tf.fill(tf.shape(end_positions), math.log(self.config.max_seq_length))
        else:
            end_logits = self._direct_end_logits(states, start_positions) + mask
            end_losses = _cross_entropy(end_logits, end_positions)
        losses = (_cross_entropy(start_logits, start_positions) + end_losses) / 2.0
        answerable_logit = tf.zeros_like(losses)
        if self._classifies:
            answerable_logit = self._answerable_logit(states, start_logits)
            losses += self.config.answerable_weight * tf.nn.sigmoid_cross_entropy_with_logits(
                labels=tf.cast(features["is_impossible"], tf.float32), logits=answerable_logit
            )
        if training:
            beams = {}
        elif self.config.joint_prediction:
            beams = self._search_beams(states, start_logits, mask)
        else:
            beams = self._no_beams(tf.shape(states)[0])
        outputs = {
            "loss": losses,
            "start_logits": start_logits,
            "end_logits": end_logits,
            "answerable_logit": answerable_logit,
            "start_positions": start_positions,
            "end_positions": end_positions,
        }
        return HeadOutput(losses, outputs | beams)

    def teach(self, states: tf.Tensor, features: Tensors) -> Tensors:
        """Returns the outputs for a student; with joint prediction the end's given the start."""
        return self(states, features, training=True).outputs  # there is no dropout

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Adds the divergences from the teacher's start, end and answerability like the losses."""
        losses = tf.zeros_like(outputs["loss"])
        for name in ("start_logits", "end_logits"):
            teacher = tf.where(features["input_mask"] > 0, features[TEACHER + name], _MASKED)
            losses += softened_divergence(outputs[name], teacher, temperature) / 2.0
        if self._classifies:
            losses += self.config.answerable_weight * softened_binary_divergence(
                outputs["answerable_logit"], features[f"{TEACHER}answerable_logit"], temperature
            )
        return losses

    def _logits(self, layer: keras.layers.Dense, states: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(layer(tf.cast(states, tf.float32)), -1)

    def _direct_end_logits(self, states: tf.Tensor, start_positions: tf.Tensor) -> tf.Tensor:
        """Returns the end's logits [batch, length], given the true start for joint prediction."""
        if not self.config.joint_prediction:
            return self._logits(self.end, states)
        starts = _mean_state(states, tf.one_hot(start_positions, tf.shape(states)[1]))
        hidden = self.end_hidden.project_second(states)
        return self._end_logits(self.end_hidden.project_first(starts), hidden)

    def _end_logits(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns [batch, length] for projected starts [batch, 512], ends [batch, length, 512]."""
        return self._logits(self.end, self.end_hidden(first[:, None], second))

    def _search_beams(
        self, states: tf.Tensor, start_logits: tf.Tensor, mask: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        beam = self.config.beam_size
        start_top, start_index = _top_k(tf.nn.log_softmax(start_logits), beam)
        starts = self.end_hidden.project_first(tf.gather(states, start_index, batch_dims=1))
        second = self.end_hidden.project_second(states)

        def best_ends(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return _top_k(tf.nn.log_softmax(self._end_logits(first, second) + mask), beam)

        # One start after another: all at once would need batch x beam x length x 512 floats.
        end_top, end_index = tf.map_fn(
            best_ends,
            tf.transpose(starts, [1, 0, 2]),
            fn_output_signature=(tf.float32, tf.int32),
            parallel_iterations=1,
        )
        return {
            "start_top_log_probs": start_top,
            "start_top_index": start_index,
            "end_top_log_probs": tf.transpose(end_top, [1, 0, 2]),
            # As floats, because TensorFlow prints an error where oneDNN can't transpose int32. (It
            # would move a cast to int64 behind the transposition.)
            "end_top_index": tf.cast(
                tf.transpose(tf.cast(end_index, tf.float32), [1, 0, 2]), tf.int32
            ),
        }

    def _no_beams(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        beam = self.config.beam_size
        return {
            "start_top_log_probs": tf.zeros([batch, beam]),
            "start_top_index": tf.zeros([batch, beam], tf.int32),
            "end_top_log_probs": tf.zeros([batch, beam, beam]),
            "end_top_index": tf.zeros([batch, beam, beam], tf.int32),
        }

    def _answerable_logit(self, states: tf.Tensor, start_logits: tf.Tensor) -> tf.Tensor:
        summary = states[:, 0]
        if self._uses_start:
            layer = self.answerable_hidden
            starts = _mean_state(states, tf.nn.softmax(start_logits))
            summary = layer(layer.project_first(summary), layer.project_second(starts))
        return self._logits(self.answerable, summary)

    def official_names(self) -> dict[str, str]:
        """Returns own variable path -> official name, both below the task's scope.

        In the official program layers without a name are numbered in the order of their creation.
        """
        joint = self.config.joint_prediction
        unnamed = ["start", "end"]
        unnamed += ["answerable_hidden"] * self._uses_start + ["answerable"] * self._classifies
        layers = {name: f"dense_{i}" if i else "dense" for i, name in enumerate(unnamed)}
        if joint:
            layers["end_hidden"] = "qa_hidden"
        return {
            f"{own}/{part}": f"{official}/{part}"
            for own, official in layers.items()
            for part in ("kernel", "bias")
        }


def _logit(name: str) -> keras.layers.Dense:
    return keras.layers.Dense(1, kernel_initializer="glorot_uniform", dtype="float32", name=name)


def _answer_mask(features: Tensors) -> tf.Tensor:
    """Returns what is added to logits [batch, length]: 0 where answers may lie, -1000 elsewhere.

    They may lie at [CLS], in the passage, and at its closing [SEP].
    """
    passage = tf.cast(features["input_mask"] * features["segment_ids"], tf.float32)
    allowed = passage + tf.one_hot(0, tf.shape(passage)[1])
    return -_MASKED * (allowed - 1.0)


def _mean_state(states: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns [batch, width] from [batch, length, width] and float32 weights [batch, length]."""
    return tf.squeeze(tf.matmul(weights[:, None], tf.cast(states, tf.float32)), 1)


def _cross_entropy(logits: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    truth = tf.one_hot(positions, tf.shape(logits)[1])
    return -tf.reduce_sum(truth * tf.nn.log_softmax(logits), -1)


def _top_k(log_probs: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the k largest of each row and their positions, the first of equals first.

    What a row shorter than k lacks is -10000 at position 0.
    """
    length = tf.shape(log_probs)[1]
    missing = tf.maximum(k - length, 0)
    paddings: Any = [[0, 0], [0, missing]]  # the stub of `pad` has no tensor among numbers
    padded = tf.pad(log_probs, paddings, constant_values=_NO_TOKEN)
    values, index = tf.math.top_k(padded, k)
    return values, tf.where(index < length, index, 0)
