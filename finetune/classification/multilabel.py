"""Tasks with any number of labels for a text or pair: a yes or no for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from scipy.special import expit

from configure_finetuning import FinetuningConfig
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.class_report import ClassFigures, ClassScores
from finetune.classification.tasks import InputExample, LabelledTask, SingleOutputHead, saved_labels
from finetune.task import (
    TEACHER,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Seed,
    TaskHead,
    Tensors,
    other_kind,
    softened_binary_divergence,
)

DEFAULT_THRESHOLD = 0.5


class MultilabelHead(SingleOutputHead):
    """One logit per label; the loss is the mean over the labels of their binary cross-entropies.

    Arguments: see the base class.
    """

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Computes loss [batch], and logits and labels, both float32 [batch, labels]."""
        logits, labels = self.project(states, training, seed), features["labels"]
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        losses = tf.reduce_mean(each, axis=-1)
        outputs = {
            "loss": losses,
            "logits": logits,
            "labels": labels,
            "unknown_labels": features["unknown_labels"],
        }
        return HeadOutput(losses, outputs)

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes the mean over the labels of their divergences from the teacher's."""
        teacher = features[f"{TEACHER}logits"]
        each = softened_binary_divergence(outputs["logits"], teacher, temperature)
        return tf.reduce_mean(each, axis=-1)


class MultilabelTask(LabelledTask):
    """A task whose output is any number of labels.

    A class of your own that inherits from it returns `InputExample`s with `labels`, a tuple that
    may be empty.

    Args:
        config, name, tokenizer, label_list: see `LabelledTask`.
        threshold: labels with at least this probability are predicted; "tuned": the one that gives
            the dev split the best micro F1, or 0.5 as long as none was tuned.
    """

    main_metric = "micro_f1"

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        label_list: Sequence[str],
        threshold: float | str = DEFAULT_THRESHOLD,
    ):
        super().__init__(config, name, tokenizer, label_list)
        self._is_tuned = isinstance(threshold, str)
        self.threshold = DEFAULT_THRESHOLD if isinstance(threshold, str) else threshold

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of `labels`, 0 or 1 each, and `unknown_labels`, how many others."""
        labels = FeatureSpec("labels", is_int_feature=False, size=len(self.label_list))
        return [labels, FeatureSpec("unknown_labels")]

    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns `labels`, 1 for each of the example's and 0 for the others, float32 [labels].

        And how many `unknown_labels` the example has.
        """
        given = set(example.labels or ())
        labels = np.array([label in given for label in self.label_list], np.float32)
        return {"labels": labels, "unknown_labels": len(given.difference(self.label_list))}

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds a head with a logit for each label."""
        return MultilabelHead(len(self.label_list), self.config.head_dropout_prob, dtype=dtype)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer; it tunes the threshold where a run trains and asks for it."""
        tunes = self._is_tuned and self.config.do_train
        return MultilabelScorer(self.label_list, None if tunes else self.threshold)

    def set_tuned(self, tuned: Mapping[str, float]) -> None:
        """Takes the "threshold" that was tuned for a model, if the task asks for one."""
        if not self._is_tuned:
            return
        self.threshold = tuned.get("threshold", DEFAULT_THRESHOLD)
        if "threshold" not in tuned:
            logging.warning(
                f"{self.name}: no threshold was tuned for the model; {self.threshold:g} is used."
            )

    def with_output(self, output: Mapping[str, Any], joined: np.ndarray) -> dict[str, Any]:
        """Returns an example's outputs with other logits."""
        each = np.logaddexp(0, joined) - joined * output["labels"]
        return {**output, "logits": joined, "loss": np.mean(each)}

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the predicted "labels", and the "probabilities" of all."""
        probabilities = expit(np.asarray(output["logits"], np.float64))
        pairs = [*zip(self.label_list, probabilities.tolist(), strict=True)]
        labels = [label for label, probability in pairs if probability >= self.threshold]
        return {"labels": labels, "probabilities": dict(pairs)}

    def get_state(self) -> dict[str, Any]:
        """Returns the labels, and that a text may have several."""
        return {"labels": list(self.label_list), "multilabel": True}

    def trained_labels(self, state: Mapping[str, Any]) -> tuple[str, ...]:
        if state.get("multilabel") is not True:
            raise other_kind(self.name, "multilabel", state)
        return saved_labels(self.name, state)


class _Decided(NamedTuple):
    """Which labels examples have and which are predicted, both bool [examples, labels]."""

    true: np.ndarray
    predicted: np.ndarray
    threshold: float


class MultilabelScorer(Scorer):
    """F1 over all decisions (micro) and of the mean label (macro), as in scikit-learn.

    A label that the model doesn't know counts as missed in micro F1.

    Args:
        label_list: the labels' names.
        threshold: labels with at least this probability count as predicted; None: the one with the
            best micro F1 on the examples taken.
    """

    def __init__(self, label_list: Sequence[str], threshold: float | None = DEFAULT_THRESHOLD):
        self._label_list = label_list
        self._threshold = threshold
        self._losses: list[float] = []
        self._true: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []
        self._unknown: list[int] = []

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example's `loss`, `logits`, `labels` and `unknown_labels`."""
        self._losses.append(float(results["loss"]))
        self._true.append(np.asarray(results["labels"]) > 0.5)
        self._probabilities.append(expit(np.asarray(results["logits"], np.float64)))
        self._unknown.append(int(results["unknown_labels"]))

    def get_loss(self) -> float:
        return float(np.mean(self._losses))

    def get_results(self) -> list[tuple[str, float]]:
        """Returns micro and macro F1, the share of texts with all labels right, and the loss.

        After them comes the threshold (a probability, not a percentage) if it was tuned.
        """
        decided = self._decided()
        *figures, micro = self._figures(decided)
        right = np.all(decided.true == decided.predicted, axis=1) & (np.array(self._unknown) == 0)
        results = [
            ("micro_f1", micro.f1),
            ("macro_f1", float(np.mean([own.f1 for own in figures]))),
            ("subset_accuracy", 100.0 * float(np.mean(right))),
            ("loss", self.get_loss()),
        ]
        return results + [("threshold", decided.threshold)] * (self._threshold is None)

    def class_scores(self) -> ClassScores:
        """Returns the figures of each label, and those over all decisions."""
        return ClassScores(self._figures(self._decided()))

    def tuned(self) -> dict[str, float]:
        """Returns the threshold if it was tuned."""
        return {"threshold": self._decided().threshold} if self._threshold is None else {}

    def stuck_at(self) -> str | None:
        """Names the labels that are predicted for every text, if those of the texts vary."""
        true, predicted, _ = self._decided()
        if not (true != true[0]).any() or (predicted != predicted[0]).any():
            return None
        found = [repr(self._label_list[int(i)]) for i in np.flatnonzero(predicted[0])]
        return "the labels " + ", ".join(found) if found else "no label"

    def _decided(self) -> _Decided:
        true, probabilities = np.stack(self._true), np.stack(self._probabilities)
        threshold = self._threshold
        if threshold is None:
            threshold = best_threshold(true, probabilities, sum(self._unknown))
        return _Decided(true, probabilities >= threshold, threshold)

    def _figures(self, decided: _Decided) -> list[ClassFigures]:
        """The figures of each label, then those over all decisions."""
        true, predicted, _ = decided
        counts = [*zip((true & predicted).sum(0), predicted.sum(0), true.sum(0), strict=True)]
        right, found, there = np.sum(counts, axis=0)
        counts.append((right, found, there + sum(self._unknown)))
        names = [*self._label_list, "(all)"]
        return [
            ClassFigures.of(name, *map(int, own)) for name, own in zip(names, counts, strict=True)
        ]


def best_threshold(true: np.ndarray, probabilities: np.ndarray, missed: int = 0) -> float:
    """Returns the threshold with the best micro F1, halfway between two probabilities.

    Args:
        true: bool [examples, labels].
        probabilities: of the labels, in the same shape.
        missed: labels of the examples that no threshold finds.

    Returns:
        A probability; 0.5 if no example has a label. Of several equally good ones the highest.
    """
    if not true.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-probabilities, axis=None, kind="stable")
    sorted_ = probabilities.ravel()[order]
    right = np.cumsum(true.ravel()[order])
    predicted = np.arange(1, len(order) + 1)
    f1 = 2 * right / (predicted + true.sum() + missed)
    below = np.append(sorted_[1:], 0.0)
    f1[sorted_ == below] = -1  # equal probabilities are predicted together
    best = int(np.argmax(f1))
    return float((sorted_[best] + below[best]) / 2)
