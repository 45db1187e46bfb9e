"""Scores of sentence embeddings: finding the text that belongs to another, and similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from finetune.classification.metrics import RegressionScorer
from finetune.task import Scorer

_BEST = 10
# Anchors that are compared with all candidates at a time: 20 MB for 10,000 candidates.
_BLOCK = 256
# Candidates whose cosines with an anchor differ by less are equal for all practical purposes.
_TIE = 1e-6


def cosine(a: Any, b: Any) -> float:
    """Returns the cosine of two vectors; 0 if one is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 0.0


class SimilarityScorer(RegressionScorer):
    """Correlations of the pairs' cosines with their scores, and their mean squared distance."""

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one pair's `embeddings` and `targets`, a score in 0..1."""
        first, second = np.asarray(results["embeddings"])[:2]
        found, target = cosine(first, second), float(results["targets"])
        super().update({"predictions": found, "targets": target, "loss": (found - target) ** 2})


class _Pair(NamedTuple):
    """Embeddings of an anchor and of its positive, and the numbers of their texts."""

    anchor: np.ndarray
    positive: np.ndarray
    texts: tuple[int, int]


class RetrievalScorer(Scorer):
    """How well the anchors find their positives among the positives of all examples.

    A positive counts once, however many anchors it has. Texts that are not wrong for an anchor are
    no candidates: its other positives, and the anchor's own text. Of candidates with equal cosines
    the wrong ones come first.

    Args:
        scale: what the loss multiplies cosines by.
    """

    def __init__(self, scale: float):
        self._scale = scale
        self._pairs: dict[int, _Pair] = {}
        self._results: tuple[np.ndarray, np.ndarray, float] | None = None

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example's `embeddings`, `texts` and `eid`."""
        anchor, positive = np.asarray(results["embeddings"])[:2]
        texts = np.asarray(results["texts"])
        self._pairs[int(results["eid"])] = _Pair(anchor, positive, (int(texts[0]), int(texts[1])))
        self._results = None

    def get_loss(self) -> float:
        """Returns the mean cross-entropy of the positive among all candidates."""
        return float(np.mean(self._searched()[1]))

    def get_results(self) -> list[tuple[str, float]]:
        """Returns accuracy, the mean reciprocal rank among the best ten, and the loss."""
        ranks, _, _ = self._searched()
        reciprocal = np.where(ranks <= _BEST, 1.0 / ranks, 0.0)
        return [
            ("accuracy", 100.0 * float(np.mean(ranks == 1))),
            ("mrr_at_10", 100.0 * float(np.mean(reciprocal))),
            ("loss", self.get_loss()),
        ]

    def stuck_at(self) -> str | None:
        """Says so if all texts have the same embedding."""
        _, _, spread = self._searched()
        return "one embedding" if spread < _TIE else None

    def _searched(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Returns rank and loss of each example, and by how much the cosines differ."""
        if self._results is None:
            pairs = [self._pairs[eid] for eid in sorted(self._pairs)]
            numbers = np.array([pair.texts for pair in pairs])
            candidates, first = np.unique(numbers[:, 1], return_index=True)
            right: dict[int, list[int]] = {}
            for (anchor, _), place in zip(
                numbers, np.searchsorted(candidates, numbers[:, 1]), strict=True
            ):
                right.setdefault(int(anchor), []).append(int(place))
            positives = _directions([pairs[i].positive for i in first])
            blocks = [
                self._search(pairs[i : i + _BLOCK], positives, candidates, right)
                for i in range(0, len(pairs), _BLOCK)
            ]
            ranks, losses, lowest, highest = (
                np.concatenate(parts) for parts in zip(*blocks, strict=True)
            )
            spread = float(np.max(highest) - np.min(lowest)) if len(candidates) > 1 else 1.0
            self._results = ranks, losses, spread
        return self._results

    def _search(
        self,
        pairs: list[_Pair],
        positives: np.ndarray,
        candidates: np.ndarray,
        right: Mapping[int, list[int]],
    ) -> tuple[np.ndarray, ...]:
        """Ranks candidates for some anchors.

        `positives` are directions, `candidates` the numbers of their texts, rising; `right` has the
        places of all positives of an anchor's text. Returns rank, loss, lowest and highest cosine.
        """
        cosines = _directions([pair.anchor for pair in pairs]) @ positives.T
        numbers = np.array([pair.texts for pair in pairs])
        rows = np.arange(len(pairs))
        own = np.searchsorted(candidates, numbers[:, 1])
        found = cosines[rows, own]
        wrong = candidates != numbers[:, :1]
        for row, anchor in enumerate(numbers[:, 0]):
            wrong[row, right[int(anchor)]] = False
        ranks = 1 + np.sum((cosines >= found[:, None] - _TIE) & wrong, axis=1)
        logits = np.where(wrong, self._scale * cosines, -np.inf)
        logits[rows, own] = self._scale * found
        losses = logsumexp(logits, axis=1) - self._scale * found
        return ranks, losses, cosines.min(axis=1), cosines.max(axis=1)


def _directions(vectors: list[np.ndarray]) -> np.ndarray:
    """Returns vectors as rows of length 1, float64; zero vectors stay."""
    rows = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
