"""Tasks with one output for a text or a pair of texts, above all classification."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from electra_tf2.errors import UserError, first_of
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import dropout
from electra_tf2.text.rows import SHORTEST, make_row
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import AccuracyScorer
from finetune.data_files import outputs_by_eid
from finetune.task import (
    CUT,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Task,
    TaskHead,
    other_kind,
    unlike_model,
)

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig


@dataclasses.dataclass(frozen=True)
class InputExample:
    """A text or a pair of texts.

    Attributes:
        eid: its number, unique in the split.
        text_a: the text, or the first one.
        text_b: the second text; None or empty if there is none.
        label: the class's name or the score; None where unknown.
    """

    eid: int
    text_a: str
    text_b: str | None = None
    label: str | float | None = None


class SingleOutputHead(TaskHead):
    """State of [CLS] → dropout → dense.

    The dense layer is computed in float32 whatever the policy: it is tiny, and in bfloat16 scores
    near 1 would be multiples of 1/128, so that many of them would be tied.

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


class SingleOutputTask(Task):
    """A task with one output per example; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `InputExample`s. It reads
    `<split>.tsv` unless it overrides `data_file`.
    """

    def data_file(self, split: str) -> str:
        """Returns the path of `<split>.tsv` in the task's folder."""
        return self.path(f"{split}.tsv")

    @abc.abstractmethod
    def parse_label(self, text: str) -> str | float:
        """Turns a label's text into what `InputExample.label` holds.

        Raises:
            ValueError: it is not a label of the task; the message says why.
        """

    @abc.abstractmethod
    def label_feature(self, example: InputExample) -> tuple[str, float]:
        """Returns name and value of the label's feature; the value is 0 if it is unknown."""

    def featurize(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, with segment ids 0 and 1.

        Args:
            examples: from `get_examples`.
            is_training: whether every example must have a label.

        Raises:
            UserError: `max_seq_length` leaves no room for two texts.
            ValueError: a label is missing: an error of the task.
        """
        max_length = self.config.max_seq_length
        if max_length < SHORTEST:
            raise contradiction(
                "There is no room for two texts.",
                {"max_seq_length": max_length},
                f"Choose {SHORTEST} or more.",
            )
        firsts = self.tokenizer.encode_lines([example.text_a for example in examples])
        seconds = self.tokenizer.encode_lines([example.text_b or "" for example in examples])
        for example, first, second in zip(examples, firsts.rows(), seconds.rows(), strict=True):
            if is_training and example.label is None:
                raise ValueError(f"An example to train on has no label. Received: {example}")
            row = make_row(first, self.tokenizer, second=second, max_length=max_length)
            name, value = self.label_feature(example)
            whole = len(first) + len(second) + (3 if len(second) else 2)
            yield {
                "eid": example.eid,
                "input_ids": row.input_ids,
                "segment_ids": row.segment_ids,
                name: value,
                CUT: whole - len(row.input_ids),
            }

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[InputExample],
    ) -> list[dict[str, Any]]:
        """Returns each example's "id" and its `prediction`, in the order of the examples."""
        by_eid = outputs_by_eid(self, split, outputs, examples)
        return [{"id": e.eid, **self.prediction(by_eid[e.eid])} for e in examples]

    @abc.abstractmethod
    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Turns the head's outputs for an example into the fields of its record."""


class ClassificationHead(SingleOutputHead):
    """One logit per class; the loss is the cross-entropy in nats. Arguments: see the base class."""

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


class ClassificationTask(SingleOutputTask):
    """A task whose output is one of several classes.

    Args:
        config: the run's hparams.
        name: the task's name.
        tokenizer: text -> ids.
        label_list: the classes' names, in the order of the head's outputs.
    """

    main_metric = "accuracy"

    def __init__(
        self, config: FinetuningConfig, name: str, tokenizer: Tokenizer, label_list: Sequence[str]
    ):
        super().__init__(config, name, tokenizer)
        self._label_list = tuple(label_list)

    @property
    def label_list(self) -> tuple[str, ...]:
        """The classes' names."""
        return self._label_list

    def parse_label(self, text: str) -> str:
        """Returns the label itself; raises ValueError if it is not one of the classes."""
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
        probabilities = softmax(np.asarray(output["logits"], np.float64)).tolist()
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
            state: see `Task.set_state`; an empty one, of a model trained without a state, passes.

        Raises:
            UserError: the model has other labels or none.
        """
        trained = saved_labels(self.name, state) if state else self.label_list
        if trained != self.label_list:
            raise unlike_model(self.name, "labels", list(self.label_list), list(trained))


def saved_labels(name: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the labels of a trained model's task.

    Args:
        name: the task's name, for messages.
        state: from `get_state` of the task when the model was trained.

    Raises:
        UserError: it is not the state of a classification task.
    """
    labels = state.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise other_kind(name, "classification", state)
    return tuple(labels)


def parse_class(text: str, labels: Sequence[str]) -> str:
    """Returns the text if it is one of the labels; raises ValueError otherwise."""
    if text not in labels:
        known = first_of([*map(repr, labels)], most=10, separator=", ")
        raise ValueError(f"the label {text!r} is not one of {known}")
    return text
