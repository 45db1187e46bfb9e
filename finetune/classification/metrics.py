"""Metrics of tasks with one label or one score per example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

from finetune.classification.class_report import ClassScores, scores_of_classes
from finetune.task import Scorer

_f1_score: Any = sklearn.metrics.f1_score  # untyped: zero_division is taken for a string
_pearsonr: Any = scipy.stats.pearsonr  # the type of its result hides that it is a pair
_spearmanr: Any = scipy.stats.spearmanr

# Predicted scores whose standard deviation is below this share of that of the true scores are
# constant for all practical purposes.
_IN_ORDER = 10.0  # Spearman's correlation, in percent, of scores that say something
_FLAT = 0.02


class SentenceLevelScorer(Scorer):
    """Collects losses, predictions and true values."""

    _truth = "label_ids"

    def __init__(self):
        self._losses: list[float] = []
        self._true: list[Any] = []
        self._predicted: list[Any] = []

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example's `loss`, `predictions`, and `label_ids` or `targets`."""
        self._losses.append(float(results["loss"]))
        self._true.append(np.asarray(results[self._truth]).item())
        self._predicted.append(np.asarray(results["predictions"]).item())

    def get_loss(self) -> float:
        return float(np.mean(self._losses))


class AccuracyScorer(SentenceLevelScorer):
    """Share of examples whose class is right.

    Args:
        label_list: the classes' names, for messages; numbers are shown without them.
    """

    def __init__(self, label_list: Sequence[str] = ()):
        super().__init__()
        self._label_list = label_list

    def get_results(self) -> list[tuple[str, float]]:
        """Returns accuracy and loss."""
        accuracy = 100.0 * float(np.mean(np.equal(self._true, self._predicted)))
        return [("accuracy", accuracy), ("loss", self.get_loss())]

    def stuck_at(self) -> str | None:
        """Names the one class that is always predicted, if the examples belong to several."""
        if len(set(self._predicted)) != 1 or len(set(self._true)) < 2:
            return None
        label = self._predicted[0]
        return f"the class {self._label_list[label] if self._label_list else str(label)!r}"

    def class_scores(self) -> ClassScores:
        """Returns the figures of each class, and the confusion matrix."""
        return scores_of_classes(self._true, self._predicted, self._label_list)

    def _f1(self) -> tuple[str, float]:
        f1 = _f1_score(np.equal(self._true, 1), np.equal(self._predicted, 1), zero_division=0)
        return "f1", 100.0 * float(f1)


class F1Scorer(AccuracyScorer):
    """Accuracy, and the F1 of class 1, the positive one."""

    def get_results(self) -> list[tuple[str, float]]:
        """Returns accuracy, loss and F1; F1 is 0 where nothing is found."""
        return [*super().get_results(), self._f1()]


class MacroF1Scorer(AccuracyScorer):
    """Accuracy, and the mean of the F1 of all classes; for two classes, also F1 of the second.

    The mean is over the classes that occur among the true or the predicted ones. Numbers below 0
    stand for classes that the model lacks: never right, and without a loss.
    """

    def get_loss(self) -> float:
        """Returns the mean loss of the examples taken so far whose classes the model has."""
        return float(np.mean(np.asarray(self._losses)[np.greater_equal(self._true, 0)]))

    def get_results(self) -> list[tuple[str, float]]:
        """Returns accuracy, loss, macro F1 and, if there are two classes, F1."""
        results = super().get_results()
        macro = _f1_score(self._true, self._predicted, average="macro", zero_division=0)
        results.append(("macro_f1", 100.0 * float(macro)))
        if len(self._label_list) == 2:
            results.append(self._f1())
        return results


class MCCScorer(AccuracyScorer):
    """Matthews correlation coefficient."""

    def get_results(self) -> list[tuple[str, float]]:
        """Returns the coefficient in percent, 0 where it is undefined, and the loss."""
        undefined = len(set(self._true)) < 2 or len(set(self._predicted)) < 2
        mcc = 0.0
        if not undefined:
            mcc = float(sklearn.metrics.matthews_corrcoef(self._true, self._predicted))
        return [("mcc", 100.0 * mcc), ("loss", self.get_loss())]


class RegressionScorer(SentenceLevelScorer):
    """Correlations of predicted and true scores, and their mean squared distance."""

    _truth = "targets"

    def get_results(self) -> list[tuple[str, float]]:
        """Returns Pearson's and Spearman's correlation in percent, mse and loss.

        A correlation is 0 where it is undefined: with a constant, with something infinite, or with
        fewer than two examples. The mse, like the loss, is that of normalized scores.
        """
        true = np.asarray(self._true, np.float64)
        predicted = np.asarray(self._predicted, np.float64)
        pearson = spearman = 0.0
        if _varies(true) and _varies(predicted):
            pearson = float(_pearsonr(true, predicted)[0])
            spearman = float(_spearmanr(true, predicted)[0])
        return [
            ("pearson", 100.0 * pearson),
            ("spearman", 100.0 * spearman),
            ("mse", float(np.mean(np.square(true - predicted)))),
            ("loss", self.get_loss()),
        ]

    def stuck_at(self) -> str | None:
        """Says so if the predictions hardly vary although the true scores do."""
        if not _varies(np.asarray(self._true)):
            return None
        if np.std(self._predicted) < _FLAT * np.std(self._true):
            return "one score"
        return None


class RankingScorer(RegressionScorer):
    """Correlations, and how well the candidates of each query are ranked by their scores.

    Candidates with a normalized score of .5 or more are relevant. Queries without a relevant
    candidate are left out; of candidates with equal predictions the irrelevant ones come first.
    """

    def __init__(self):
        super().__init__()
        self._queries: list[int] = []

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example's `loss`, `predictions`, `targets` and `queries`."""
        super().update(results)
        self._queries.append(int(results["queries"]))

    def get_results(self) -> list[tuple[str, float]]:
        """Returns MRR@10 and MAP in percent, then what the base class does."""
        relevant = np.greater_equal(self._true, 0.5)
        reciprocal, precision = [], []
        # By query, then the highest prediction first.
        keys: Any = (relevant, np.negative(self._predicted), self._queries)
        order = np.lexsort(keys)
        starts = np.flatnonzero(np.diff(np.take(self._queries, order))) + 1
        for own in np.split(relevant[order], starts):
            ranks = 1 + np.flatnonzero(own)
            if len(ranks):
                reciprocal.append(1 / ranks[0] if ranks[0] <= 10 else 0.0)
                precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        means = [100.0 * float(np.mean(values or [0.0])) for values in (reciprocal, precision)]
        return [("mrr_at_10", means[0]), ("map", means[1]), *super().get_results()]

    def stuck_at(self) -> str | None:
        """Says so if the predictions hardly vary and are in no order: the order is what counts."""
        found = super().stuck_at()
        if found and dict(self.get_results())["spearman"] < _IN_ORDER:
            return found
        return None


def _varies(values: np.ndarray) -> bool:
    """Whether a correlation with the values is defined, and not mere rounding."""
    if len(values) < 2 or not np.isfinite(values).all():
        return False
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())
