"""Tasks with one label or one score for a text or a pair of texts."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import dropout
from electra_tf2.text.rows import truncated_lengths
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import AccuracyScorer, RegressionScorer
from finetune.data_files import outputs_by_eid
from finetune.task import FeatureSpec, HeadOutput, Scorer, Task, TaskHead, other_kind, unlike_model

# Heads with one output for a whole example, computed from the [CLS] state.


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


# What a trained model says of its labels or its range of scores, checked.


def saved_labels(name: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a state's labels.

    Args:
        name: the task's name, for messages.
        state: from `get_state` of the task when the model was trained.

    Raises:
        UserError: it is no state of a classification task.
    """
    labels = state.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise other_kind(name, "classification", state)
    return tuple(labels)


def saved_range(name: str, state: Mapping[str, Any]) -> tuple[float, float]:
    """Returns a state's lowest and highest score; as `saved_labels`, for a regression task."""
    low, high = state.get("min"), state.get("max")
    for value in (low, high):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise other_kind(name, "regression", state)
    return float(low), float(high)


# [CLS] and two [SEP], and a token of either text.
_SHORTEST = 5


@dataclasses.dataclass(frozen=True)
class InputExample:
    """A text or a pair of texts.

    Attributes:
        eid: its number, which no other example of the split has.
        text_a: the text, or the first one.
        text_b: the second text; None or empty if there is none.
        label: the class's name or the score; None where unknown.
    """

    eid: int
    text_a: str
    text_b: str | None = None
    label: str | float | None = None


class SingleOutputTask(Task):
    """A task with one output per example; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `InputExample`s. Without a
    `data_file` of its own it reads `<split>.tsv`.
    """

    def data_file(self, split: str) -> str:
        """Returns the path of `<split>.tsv` in the task's folder."""
        return self.path(f"{split}.tsv")

    @abc.abstractmethod
    def parse_label(self, text: str) -> str | float:
        """Turns a label's text into what `InputExample.label` holds.

        Raises:
            ValueError: it is no label of the task; the message says why.
        """

    @abc.abstractmethod
    def label_feature(self, example: InputExample) -> tuple[str, float]:
        """Returns name and value of the feature that states the label; 0 if it is unknown."""

    def featurize(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, with segment ids 0 and 1.

        Args:
            examples: from `get_examples`.
            is_training: examples without a label are an error.
        """
        vocabulary, max_length = self.tokenizer.vocabulary, self.config.max_seq_length
        if max_length < _SHORTEST:
            raise contradiction(
                "There is no room for two texts.",
                {"max_seq_length": max_length},
                f"Choose {_SHORTEST} or more.",
            )
        cls = np.array([vocabulary.cls_id], np.int32)
        sep = np.array([vocabulary.sep_id], np.int32)
        firsts = self.tokenizer.encode_lines([example.text_a for example in examples])
        seconds = self.tokenizer.encode_lines([example.text_b or "" for example in examples])
        for i, example in enumerate(examples):
            if is_training and example.label is None:
                raise ValueError(f"An example to train on has no label. Received: {example}")
            a = firsts.values[firsts.row_splits[i] : firsts.row_splits[i + 1]]
            b = seconds.values[seconds.row_splits[i] : seconds.row_splits[i + 1]]
            if len(b):
                keep_a, keep_b = truncated_lengths(len(a), len(b), max_length - 3)
                input_ids = np.concatenate([cls, a[:keep_a], sep, b[:keep_b], sep])
                segment_ids = np.zeros(len(input_ids), np.int32)
                segment_ids[keep_a + 2 :] = 1
            else:
                input_ids = np.concatenate([cls, a[: max_length - 2], sep])
                segment_ids = np.zeros(len(input_ids), np.int32)
            name, value = self.label_feature(example)
            yield {
                "eid": example.eid,
                "input_ids": input_ids,
                "segment_ids": segment_ids,
                name: value,
            }

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[InputExample],
    ) -> list[dict[str, Any]]:
        """Returns each example's "id" and what `prediction` says, in the examples' order."""
        by_eid = outputs_by_eid(self, split, outputs, examples)
        return [{"id": e.eid, **self.prediction(by_eid[e.eid])} for e in examples]

    @abc.abstractmethod
    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Turns the head's outputs for an example into what is written to a file."""


class ClassificationTask(SingleOutputTask):
    """A task whose output is one of several classes.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        label_list: the classes' names, in the order of the head's outputs.
    """

    main_metric = "accuracy"

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer, label_list: Sequence[str]):
        super().__init__(config, name, tokenizer)
        self._label_list = tuple(label_list)

    @property
    def label_list(self) -> tuple[str, ...]:
        """The classes' names."""
        return self._label_list

    def parse_label(self, text: str) -> str:
        """Returns the label itself; ValueError if it is none of the classes."""
        return parse_class(text, self.label_list)

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the spec of `label_ids`."""
        return [FeatureSpec("label_ids")]

    def label_feature(self, example: InputExample) -> tuple[str, int]:
        """Returns `label_ids` and the class's number."""
        if example.label is None:
            return "label_ids", 0
        try:
            return "label_ids", self.label_list.index(example.label)
        except ValueError:
            raise UserError(
                f"The task {self.name!r} has no such label.",
                where=f"example {example.eid}",
                received=repr(example.label),
                remedy=f"Its labels are {', '.join(map(repr, self.label_list))}.",
            ) from None

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds a head with a logit for each class."""
        return ClassificationHead(len(self.label_list), self.config.head_dropout_prob, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy."""
        return AccuracyScorer(self.label_list)

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the likeliest "label" and all "probabilities"."""
        logits = np.asarray(output["logits"], np.float64)
        exponentials = np.exp(logits - logits.max())
        probabilities = (exponentials / exponentials.sum()).tolist()
        return {
            "label": self.label_list[int(output["predictions"])],
            "probabilities": dict(zip(self.label_list, probabilities, strict=True)),
        }

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on."""
        return {**super().feature_settings(), "labels": list(self.label_list)}

    def get_state(self) -> dict[str, Any]:
        """Returns the labels."""
        return {"labels": list(self.label_list)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a trained model has the task's labels in their order.

        Args:
            state: see `Task.set_state`; nothing is checked where it is empty, as that of a model
                trained without a state.

        Raises:
            UserError: the model's labels are others, or it has none.
        """
        trained = saved_labels(self.name, state) if state else self.label_list
        if trained != self.label_list:
            raise unlike_model(self.name, "labels", list(self.label_list), list(trained))


class RegressionTask(SingleOutputTask):
    """A task whose output is a score.

    The network is trained on `(score - min_value) / max_value`, as in the official program.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        min_value: the lowest score.
        max_value: the highest score, above 0.
    """

    main_metric = "spearman"

    def __init__(
        self, config: Any, name: str, tokenizer: Tokenizer, min_value: float, max_value: float
    ):
        super().__init__(config, name, tokenizer)
        self._min_value = min_value
        self._max_value = max_value

    def score_range(self) -> tuple[float, float]:
        """Returns the lowest and the highest score."""
        return self._min_value, self._max_value

    def scale(self) -> float:
        """Returns what a score's distance from the lowest is divided by."""
        return self._max_value

    def parse_label(self, text: str) -> float:
        """Returns the score; ValueError if it is no number or out of range."""
        return parse_score(text, *self.score_range())

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the spec of `targets`."""
        return [FeatureSpec("targets", is_int_feature=False)]

    def label_feature(self, example: InputExample) -> tuple[str, float]:
        """Returns `targets` and the normalized score."""
        if example.label is None:
            return "targets", 0.0
        return "targets", (float(example.label) - self.score_range()[0]) / self.scale()

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds a head with one output."""
        return RegressionHead(self.config.head_dropout_prob, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of correlations."""
        return RegressionScorer()

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the "score", on the scale of the data."""
        normalized = np.asarray(output["predictions"], np.float64).item()
        return {"score": normalized * self.scale() + self.score_range()[0]}

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on."""
        return {
            **super().feature_settings(),
            "score_range": list(self.score_range()),
            "scale": self.scale(),
        }

    def get_state(self) -> dict[str, Any]:
        """Returns the range of scores."""
        low, high = self.score_range()
        return {"min": low, "max": high}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a trained model has the task's range of scores; as `ClassificationTask`."""
        trained = saved_range(self.name, state) if state else self.score_range()
        if trained != self.score_range():
            given = list(self.score_range())
            raise unlike_model(self.name, "lowest and highest score", given, list(trained))


def parse_class(text: str, labels: Sequence[str]) -> str:
    """Returns the text if it is one of the labels; else ValueError."""
    if text not in labels:
        known = ", ".join(map(repr, labels[:10])) + (", …" if len(labels) > 10 else "")
        raise ValueError(f"the label {text!r} is none of {known}")
    return text


def parse_score(text: str, low: float | None = None, high: float | None = None) -> float:
    """Returns the number that a text states.

    Args:
        text: of the score.
        low: the lowest allowed; None if there is no limit.
        high: the highest allowed.

    Raises:
        ValueError: it is no number, not finite, or out of range.
    """
    try:
        score = float(text)
    except ValueError:
        raise ValueError(f"the score {text!r} is no number") from None
    if not math.isfinite(score):
        raise ValueError(f"the score {text!r} is no finite number")
    if low is not None and score < low:
        raise ValueError(f"the score {text!r} is below {low:g}")
    if high is not None and score > high:
        raise ValueError(f"the score {text!r} is above {high:g}")
    return score
