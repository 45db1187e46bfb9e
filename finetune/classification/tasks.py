"""Tasks with one output for a text or a pair of texts, above all classification."""

from __future__ import annotations

import abc
import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from scipy.special import log_softmax, softmax

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, first_of, nearest_name_hint
from electra_tf2.hparams.record import contradiction
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import dropout
from electra_tf2.text.rows import SHORTEST, make_row
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import find_label
from finetune.classification.metrics import AccuracyScorer
from finetune.data_files import outputs_by_eid
from finetune.task import (
    CUT,
    TEACHER,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Seed,
    SoftTargets,
    Task,
    TaskHead,
    Tensors,
    other_kind,
    softened_divergence,
    unlike_model,
)
from finetune.windows import Join, Windows, join_outputs


@dataclasses.dataclass(frozen=True)
class InputExample:
    """A text or a pair of texts.

    Attributes:
        eid: its number, unique in the split.
        text_a: the text, or the first one.
        text_b: the second text; None or empty if there is none.
        negative: a text that is unlike `text_a`, for sentence embeddings; None if there is none.
        label: the class's name or the score; None where unknown.
        labels: the names of its labels, for tasks with several; None where unknown.
        id: what predictions call it; None: its `eid`.
    """

    eid: int
    text_a: str
    text_b: str | None = None
    label: str | float | None = None
    labels: tuple[str, ...] | None = None
    id: str | float | None = None
    negative: str | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether a label, a score or labels are known."""
        return self.label is not None or self.labels is not None


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
        return {"classifier/kernel": "dense/kernel", "classifier/bias": "dense/bias"}


class SingleOutputTask(Task):
    """A task with one output per example; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `InputExample`s. It reads
    `<split>.tsv` unless it overrides `data_file`.

    Attributes:
        windows: whether a single text that is longer than `max_seq_length` is read in windows, a
            new one every `doc_stride` tokens: each is an example in training, and the prediction
            is made from the "mean" or the "max" of their outputs. None: it is cut.
        joined_output: the output of the head that is joined.
    """

    windows: Join | None = None
    joined_output: str = "logits"

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
    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns the features that hold an example's label, 0 if it is unknown."""

    def label_features(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields what an example's rows hold besides its text; arguments as `featurize`."""
        del is_training  # a task with weights looks at it
        yield from map(self.label_feature, examples)

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
        self.check_room()
        max_length = self.config.max_seq_length
        firsts = self.tokenizer.encode_lines([example.text_a for example in examples])
        seconds = self.tokenizer.encode_lines([example.text_b or "" for example in examples])
        labels = self.label_features(examples, is_training)
        rows = zip(examples, firsts.rows(), seconds.rows(), labels, strict=True)
        for example, first, second, own in rows:
            if is_training and not example.is_labelled:
                raise ValueError(f"An example to train on has no label. Received: {example}")
            for part in self._parts(first, second):
                row = make_row(part, self.tokenizer, second=second, max_length=max_length)
                whole = len(part) + len(second) + (3 if len(second) else 2)
                yield {
                    "eid": example.eid,
                    "input_ids": row.input_ids,
                    "segment_ids": row.segment_ids,
                    CUT: whole - len(row.input_ids),
                    **own,
                }

    def check_room(self) -> None:
        """Refuses rows that are too short for two texts, before any are made.

        Raises:
            UserError: names the hparam.
        """
        if self.config.max_seq_length < SHORTEST:
            raise contradiction(
                "There is no room for two texts.",
                {"max_seq_length": self.config.max_seq_length},
                f"Choose {SHORTEST} or more.",
            )

    def _soft_targets(self, spec: FeatureSpec, meaning: Mapping[str, Any]) -> SoftTargets:
        # The windows of a text have to be those of the teacher.
        return SoftTargets([spec], meaning, None if self.windows is None else "input_ids")

    def window_sizes(self) -> Windows:
        """Returns how a long text is cut, where the task has `windows`."""
        return Windows.of(self.config.max_seq_length, self.config.doc_stride)

    def _parts(self, ids: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        """Cuts a text into windows, where the task has them."""
        if self.windows is None:
            return [ids]
        if len(second):
            raise ValueError(f"Windows are cut from single texts. Received: a pair of {self.name}")
        return self.window_sizes().cut(ids)

    def join_rows(self, outputs: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
        """Joins the outputs of each example's windows, where the task has them."""
        if self.windows is None:
            return outputs
        pairs = join_outputs(outputs, self.joined_output, self.windows)
        return (self.with_output(output, joined) for output, joined in pairs)

    def with_output(self, output: Mapping[str, Any], joined: np.ndarray) -> dict[str, Any]:
        """Returns an example's outputs as if the head had computed another `joined_output`.

        Args:
            output: of one of the example's windows.
            joined: of all its windows.
        """
        raise NotImplementedError(f"{type(self).__name__} has no windows.")

    def feature_settings(self) -> dict[str, Any]:
        settings = super().feature_settings()
        if self.windows is not None:
            settings["windows"] = self.window_sizes()._asdict()
        return settings

    def prediction_records(
        self,
        split: str,
        outputs: Iterable[Mapping[str, Any]],
        examples: Sequence[InputExample],
    ) -> list[dict[str, Any]]:
        """Returns each example's "id" and its `prediction`, in the order of the examples.

        The "id" is the example's own or, without one, its `eid`.
        """
        by_eid = outputs_by_eid(self, split, outputs, examples)
        return [
            {"id": e.eid if e.id is None else e.id, **self.prediction(by_eid[e.eid])}
            for e in examples
        ]

    @abc.abstractmethod
    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Turns the head's outputs for an example into the fields of its record."""


class LabelledTask(SingleOutputTask):
    """A task whose outputs have names: the labels.

    Args:
        config, name, tokenizer: see `Task`.
        label_list: the labels' names, in the order of the head's outputs.
    """

    def __init__(
        self, config: FinetuningConfig, name: str, tokenizer: Tokenizer, label_list: Sequence[str]
    ):
        super().__init__(config, name, tokenizer)
        self._label_list = tuple(label_list)

    @property
    def label_list(self) -> tuple[str, ...]:
        """The labels' names; of a task that was made without, those of its training file."""
        if not self._label_list:
            self._label_list = self._inferred_labels()
        return self._label_list

    def _inferred_labels(self) -> tuple[str, ...]:
        return ()

    def parse_label(self, text: str) -> str:
        """Returns the label that a text states; raises ValueError if it states none."""
        return parse_class(text, self.label_list)

    def soft_targets(self) -> SoftTargets:
        """Returns the logits."""
        spec = FeatureSpec("logits", is_int_feature=False, size=len(self.label_list))
        # The state of a class of one's own may be empty, as its labels are known beforehand.
        return self._soft_targets(spec, {**self.get_state(), "labels": list(self.label_list)})

    def feature_settings(self) -> dict[str, Any]:
        return {**super().feature_settings(), "labels": list(self.label_list)}

    @abc.abstractmethod
    def trained_labels(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns a trained model's labels; raises a UserError if it is one of another kind."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a trained model has the task's labels in their order."""
        trained = self.trained_labels(state)
        if trained != self.label_list:
            raise unlike_model(self.name, "labels", list(self.label_list), list(trained))


class ClassificationHead(SingleOutputHead):
    """One logit per class; the loss is the cross-entropy in nats. Arguments: see the base class.

    What is trained is the loss times the feature `weights`, if there is one.
    """

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
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
        if "weights" in features:
            losses = losses * features["weights"]
        return HeadOutput(losses, outputs)

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes the divergence from the teacher's classes, without `weights`."""
        return softened_divergence(outputs["logits"], features[f"{TEACHER}logits"], temperature)


class ClassificationTask(LabelledTask):
    """A task whose output is one of several classes, its labels; arguments: see `LabelledTask`.

    Attributes:
        class_weights: what the losses of a class's training examples are multiplied by, by its
            name, 1 where it is not named; "balanced": the number of examples by that of the
            classes and that of the class's examples, as in scikit-learn; None: 1 for all. Scores,
            the dev split's loss included, are without weights.
    """

    main_metric = "accuracy"
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the spec of `label_ids`, and that of `weights` where classes have some."""
        weights = [FeatureSpec("weights", is_int_feature=False)]
        return [FeatureSpec("label_ids"), *(weights if self.class_weights else [])]

    def label_features(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `label_ids`, and `weights` where classes have some; arguments as `featurize`."""
        weights = self._weights(examples) if is_training and self.class_weights else {}
        labels = super().label_features(examples, is_training)
        for example, own in zip(examples, labels, strict=True):
            weight = {"weights": weights.get(example.label, 1.0)} if self.class_weights else {}
            yield {**own, **weight}

    def _weights(self, examples: Sequence[InputExample]) -> Mapping[Any, float]:
        """Returns class -> weight."""
        if isinstance(self.class_weights, Mapping):
            return self._named_weights(self.class_weights)
        counts = collections.Counter(example.label for example in examples)
        return {label: len(examples) / (len(counts) * n) for label, n in counts.items()}

    def _named_weights(self, given: Mapping[str, float]) -> Mapping[str, float]:
        """Returns weights by the classes' own names; refuses other classes and two of one."""
        where, names = f"hparam tasks.{self.name}.class_weights", {}
        for name in given:
            label = find_label(name, self.label_list)
            if label is None:
                raise UserError(
                    "A class with a weight is not one of the task's.",
                    where=where,
                    received=repr(name),
                    remedy=nearest_name_hint(name, self.label_list),
                )
            if label in names:
                raise UserError(
                    f"The class {label!r} has two weights.",
                    where=where,
                    received=f"{names[label]!r} and {name!r}, which are one label",
                    remedy="Leave one of the two out.",
                )
            names[label] = name
        return {label: given[name] for label, name in names.items()}

    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns `label_ids`, the class's number."""
        if example.label is None:
            return {"label_ids": 0}
        try:
            return {"label_ids": self.label_list.index(example.label)}
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

    def with_output(self, output: Mapping[str, Any], joined: np.ndarray) -> dict[str, Any]:
        """Returns an example's outputs with other logits."""
        label = np.arange(len(joined)) == output["label_ids"]
        loss = -np.sum(log_softmax(joined), where=label)
        return {**output, "logits": joined, "predictions": np.argmax(joined), "loss": loss}

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the likeliest "label" and all "probabilities"."""
        probabilities = softmax(np.asarray(output["logits"], np.float64)).tolist()
        return {
            "label": self.label_list[int(output["predictions"])],
            "probabilities": dict(zip(self.label_list, probabilities, strict=True)),
        }

    def feature_settings(self) -> dict[str, Any]:
        settings = super().feature_settings()
        if self.class_weights:
            settings["class_weights"] = self.class_weights
        return settings

    def get_state(self) -> dict[str, Any]:
        """Returns the labels."""
        return {"labels": list(self.label_list)}

    def trained_labels(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        if state.get("multilabel"):
            raise other_kind(self.name, "classification", state)
        return saved_labels(self.name, state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks a model's labels; an empty state, of one trained without any, passes.

        Raises:
            UserError: the model has other labels or none.
        """
        if state:
            super().set_state(state)


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
    if doubled := [label for label, count in collections.Counter(labels).items() if count > 1]:
        raise UserError(
            "A label of the trained model occurs twice.",
            where=f"task {name}",
            received=first_of([*map(repr, doubled)], separator=", "),
            remedy="Restore the file with the model's labels (tasks.json).",
        )
    return tuple(labels)


def parse_class(text: str, labels: Sequence[str]) -> str:
    """Returns the one of the labels that a text states; raises ValueError if it states none."""
    label = find_label(text.strip(), labels)
    if label is None:
        raise ValueError(f"the label {text!r} is not one of {names_of_labels(labels)}")
    return label


def names_of_labels(labels: Sequence[str]) -> str:
    """Returns labels for a message, the first ten of many."""
    return first_of([*map(repr, labels)], most=10, separator=", ")
