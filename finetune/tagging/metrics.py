"""Metrics of tagged sentences, and the records of predictions."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from finetune.classification.class_report import ClassFigures, ClassScores
from finetune.tagging.spans import OUTSIDE, Span, official_spans, seqeval_spans
from finetune.tagging.words import join_words
from finetune.task import Scorer


class TaggingScorer(Scorer):
    """Compares predicted tags with the true ones (gold).

    Args:
        labels: the tag of each id.
        gold: the tags of each example, by its number. Tags of words that were cut off are included:
            a model must not gain from a shorter `max_seq_length`.
        mismatch: makes an error from a text that says how the examples differ from those of `gold`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        gold: Sequence[Sequence[str]],
        mismatch: Callable[[str], Exception] = ValueError,
    ):
        self._labels = labels
        self._gold = gold
        self._mismatch = mismatch
        self._loss = 0.0
        self._num_words = 0
        self._predicted: list[tuple[int, list[str]]] = []

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example: `eid`, `loss`, and `predictions` and `labels_mask` of its words."""
        tags, eid = predicted_tags(results, self._labels), int(results["eid"])
        if eid >= len(self._gold):
            raise self._mismatch(f"{len(self._gold)} sentences, and outputs of number {eid + 1}")
        if len(tags) > len(self._gold[eid]):
            raise self._mismatch(
                f"sentence {eid + 1} of {len(self._gold[eid])} words, and outputs of {len(tags)}"
            )
        self._loss += float(np.sum(results["loss"], dtype=np.float64))
        self._num_words += len(tags)
        self._predicted.append((eid, tags))

    def check_complete(self) -> None:
        """Raises the mismatch error unless there is one prediction for each gold sentence."""
        if len(self._predicted) != len(self._gold):
            raise self._mismatch(
                f"{len(self._gold)} sentences, and outputs of {len(self._predicted)}"
            )

    def get_loss(self) -> float:
        """Returns the mean loss per word; words that were cut off have none."""
        return self._loss / max(1, self._num_words)

    def stuck_at(self) -> str | None:
        """Returns "the tag …" if the same uninformative tag is predicted for every word."""
        predicted = {tag for _, tags in self._predicted for tag in tags}
        if len(predicted) == 1 and self._is_uninformative(tag := predicted.pop()):
            return f"the tag {tag!r}"
        return None

    @abc.abstractmethod
    def _is_uninformative(self, tag: str) -> bool:
        """Whether a model that only knows this tag has learned nothing."""


class WordAccuracyScorer(TaggingScorer):
    """The share of words with the right tag. A word that was cut off counts as wrong."""

    def get_results(self) -> list[tuple[str, float]]:
        """Returns accuracy (percent) and loss."""
        self.check_complete()
        correct = total = 0
        for eid, predicted in self._predicted:
            gold = self._gold[eid]
            total += len(gold)
            # There are fewer predictions where words were cut off.
            correct += sum(a == b for a, b in zip(gold, predicted, strict=False))
        return [("accuracy", 100.0 * correct / max(1, total)), ("loss", self.get_loss())]

    def class_scores(self) -> ClassScores:
        """Returns the figures of each tag."""
        gold: Counter[str] = Counter(tag for own, _ in self._predicted for tag in self._gold[own])
        predicted: Counter[str] = Counter(tag for _, tags in self._predicted for tag in tags)
        right: Counter[str] = Counter(
            a
            for own, tags in self._predicted
            for a, b in zip(self._gold[own], tags, strict=False)
            if a == b
        )
        names = sorted(gold.keys() | predicted.keys())
        return ClassScores([ClassFigures.of(n, right[n], predicted[n], gold[n]) for n in names])

    def _is_uninformative(self, tag: str) -> bool:
        return True


class SpanScorer(TaggingScorer):
    """Precision, recall and F1 of spans; a span is right if its words and its type are.

    A word that was cut off counts as predicted O.
    """

    def get_results(self) -> list[tuple[str, float]]:
        """Returns precision, recall, f1 (official rule), loss, and F1 by seqeval's rule."""
        self.check_complete()
        official, seqeval = (self._figures(find)[-1] for find in (official_spans, seqeval_spans))
        return [
            ("precision", official.precision),
            ("recall", official.recall),
            ("f1", official.f1),
            ("loss", self.get_loss()),
            ("seqeval_f1", seqeval.f1),
        ]

    def class_scores(self) -> ClassScores:
        """Returns the figures of each type of span by the official rule, sorted by type."""
        return ClassScores(self._figures(official_spans)[:-1])

    def _is_uninformative(self, tag: str) -> bool:
        return tag == OUTSIDE

    def _figures(self, find: Callable[[Sequence[str]], list[Span]]) -> list[ClassFigures]:
        """The figures of each type of span, sorted by type, then those of all spans."""
        counts: list[Counter[str]] = [Counter(), Counter(), Counter()]  # right, predicted, gold
        for eid, tags in self._predicted:
            gold, predicted = set(find(self._gold[eid])), set(find(tags))
            for counter, spans in zip(counts, (gold & predicted, predicted, gold), strict=True):
                counter.update(span.type for span in spans)
        kinds = sorted(counts[1].keys() | counts[2].keys())
        figures = [ClassFigures.of(kind, *(own[kind] for own in counts)) for kind in kinds]
        return [*figures, ClassFigures.of("all", *(own.total() for own in counts))]


def predicted_tags(results: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """Returns the predicted tags of an example's words, without those that were cut off.

    Args:
        results: the example's `predictions` and `labels_mask`, from the head.
        labels: the tag of each id.
    """
    num_words = round(float(np.sum(results["labels_mask"])))
    ids: list[int] = np.asarray(results["predictions"])[:num_words].tolist()
    return [labels[i] for i in ids]


def tagged_sentence(
    words: Sequence[str], result: Mapping[str, Any], labels: Sequence[str], is_token_level: bool
) -> dict[str, Any]:
    """Returns the record of a sentence for a predictions file.

    Args:
        words: the words of the sentence.
        result: its `logits`, `predictions` and `labels_mask`, from the head.
        labels: the tag of each id.
        is_token_level: whether tags stand for themselves or mark spans.

    Returns:
        See `TaggingTask.prediction_records`.
    """
    tags = predicted_tags(result, labels)
    cut = len(words) - len(tags)
    logits = np.asarray(result["logits"], np.float64)[: len(tags)]
    probabilities = softmax(logits, axis=-1).max(axis=-1)
    record: dict[str, Any] = {
        "words": list(words),
        "tags": tags + [None if is_token_level else OUTSIDE] * cut,
        "probabilities": probabilities.tolist() + [None] * cut,
    }
    if not is_token_level:
        record["spans"] = [
            {
                "start": span.start,
                "end": span.end + 1,
                "type": span.type,
                "text": join_words(words, span.start, span.end + 1),
            }
            for span in official_spans(tags)
        ]
    return record
