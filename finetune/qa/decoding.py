"""From the head's outputs for a question's windows to its answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from electra_tf2.text.normalization import normalize
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.wordpiece import CONTINUATION
from finetune.qa.passages import TokenizedQuestion

# From a predicted answer in word pieces back to the characters of the passage (BERT's rule).


def join_pieces(pieces: Sequence[str]) -> str:
    """Returns the words that pieces spell, a space between them; a leading "##" is dropped."""
    text = " ".join(pieces).replace(f" {CONTINUATION}", "").replace(CONTINUATION, "")
    return " ".join(text.split())


class Aligner:
    """Finds the original spelling of an answer.

    The words of a passage are lower-cased, without accents and split at punctuation where the
    pieces come from; the answer shall have case and accents, but only as much of its first and last
    word as was predicted: "Steve Smith" out of "Steve Smith's".

    Args:
        tokenizer: what made the pieces; its casing and accents count.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._casing = {
            "lower_case": tokenizer.lower_case,
            "strip_accents": tokenizer.strip_accents,
        }
        self._normalized: dict[str, str] = {}

    def align(self, predicted: str, words: Sequence[str]) -> str:
        """Projects a predicted text onto the words it was taken from.

        The predicted text is looked for in the normalized words. If it is there, and normalization
        has kept the number of characters (spaces apart), they are taken to correspond one by one.

        Args:
            predicted: from `join_pieces`.
            words: the passage's words that hold the predicted pieces.

        Returns:
            The part of `words`, joined by spaces, that corresponds to `predicted`; all of it if
            there is no such part.
        """
        original = " ".join(words)
        normalized = " ".join(filter(None, map(self._normalize, words)))
        start = normalized.find(predicted)
        if start == -1 or not predicted:
            return original
        solid = [place for place, char in enumerate(original) if char != " "]
        if len(solid) != _count_solid(normalized):
            return original
        first = _count_solid(normalized[:start])
        last = first + _count_solid(predicted) - 1
        return original[solid[first] : solid[last] + 1]

    def _normalize(self, word: str) -> str:
        normalized = self._normalized.get(word)
        if normalized is None:
            normalized = " ".join(normalize(word, **self._casing))
            self._normalized[word] = normalized
        return normalized


def _count_solid(text: str) -> int:
    return len(text) - text.count(" ")


NO_ANSWER_LEFT = "empty"
"""Stands for the answer where no candidate is left, as officially."""

_NULL_WITHOUT_WINDOWS = 1e6


class Candidates(NamedTuple):
    """What one window's outputs hold of use.

    Attributes:
        starts: int [k], tokens that the answer may start at.
        start_scores: float32 [k], their log-probabilities, or logits without joint prediction.
        ends: int [k, m], tokens that it may end at, for each start.
        end_scores: float32 [k, m].
        null: the window's score for "no answer".
    """

    starts: np.ndarray
    start_scores: np.ndarray
    ends: np.ndarray
    end_scores: np.ndarray
    null: float


class Answer(NamedTuple):
    """An answer's text, and its score: the sum of those of its start and its end."""

    text: str
    score: float


class Decoding(NamedTuple):
    """The answers to a question.

    Attributes:
        answers: the best texts, best first, at least one.
        null_odds: how much speaks for "no answer": the lowest answerability logit of all windows,
            or, without that classifier, the lowest score of an answer at [CLS] minus that of the
            best answer.
    """

    answers: list[Answer]
    null_odds: float


class Decoder:
    """Finds the best answers to questions.

    A candidate starts in the passage at a token whose context is largest in this window (see
    `TokenizedQuestion.max_context`), ends there or later, and has at most `max_answer_length`
    pieces. Of candidates with the same text the best one is kept.

    Args:
        config: n_best_size, max_answer_length, joint_prediction and answerable_classifier of a
            `FinetuningConfig`.
        tokenizer: what made the pieces.
    """

    def __init__(self, config: Any, tokenizer: Tokenizer):
        self._config = config
        self._pieces = tokenizer.vocabulary.tokens
        self._aligner = Aligner(tokenizer)

    def candidates(self, results: Mapping[str, Any]) -> Candidates:
        """Takes from one window's outputs (see `QAHead.call`) what `decode` needs."""
        config = self._config
        if config.answerable_classifier:
            null = np.float32(results["answerable_logit"])
        else:
            null = results["start_logits"][0] + results["end_logits"][0]
        if config.joint_prediction:
            return Candidates(
                np.array(results["start_top_index"]),
                np.array(results["start_top_log_probs"]),
                np.array(results["end_top_index"]),
                np.array(results["end_top_log_probs"]),
                null,
            )
        starts, start_scores = _best(results["start_logits"], config.n_best_size)
        ends, end_scores = _best(results["end_logits"], config.n_best_size)
        shape = (len(starts), len(ends))
        return Candidates(
            starts,
            start_scores,
            np.broadcast_to(ends, shape),
            np.broadcast_to(end_scores, shape),
            null,
        )

    def decode(
        self,
        question: TokenizedQuestion,
        windows: Sequence[Candidates],
        n_best: int | None = None,
    ) -> Decoding:
        """Finds the best answers to a question.

        Args:
            question: the question.
            windows: what `candidates` gave for each of its windows, in order.
            n_best: how many answers to return at most; default `n_best_size`.
        """
        answers: dict[str, float] = {}
        n_best = self._config.n_best_size if n_best is None else n_best
        for text, score in self._ranked(question, windows):
            answers.setdefault(text, score)
            if len(answers) >= n_best:
                break
        if not answers:
            answers[NO_ANSWER_LEFT] = 0.0
        found = [Answer(*item) for item in answers.items()]
        null = min((window.null for window in windows), default=_NULL_WITHOUT_WINDOWS)
        if not self._config.answerable_classifier:
            null = null - best_text(found).score
        return Decoding(found, float(null))

    def _ranked(
        self, question: TokenizedQuestion, windows: Sequence[Candidates]
    ) -> Iterator[tuple[str, float]]:
        """Yields the texts of all candidates and their scores, best first; the first of equals is
        that of the first window, start and end in the order of the outputs.
        """
        spans, scores = [], []
        for window, most_context, found in zip(
            question.windows, question.max_context(), windows, strict=True
        ):
            starts = found.starts[:, None] - question.offset
            ends = found.ends - question.offset
            in_passage = (starts >= 0) & (starts < window.length) & (ends < window.length)
            lengths = ends - starts + 1
            allowed = in_passage & (lengths >= 1) & (lengths <= self._config.max_answer_length)
            allowed &= most_context[np.clip(starts, 0, window.length - 1)]
            row, column = np.nonzero(allowed)
            first = starts[row, 0] + window.start
            spans.append(np.stack([first, first + lengths[row, column] - 1], axis=1))
            scores.append(found.start_scores[row] + found.end_scores[row, column])
        if not scores:
            return
        spans, scores = np.concatenate(spans), np.concatenate(scores)
        for i in np.argsort(-scores, kind="stable"):
            first, last = spans[i]
            yield self._text(question, int(first), int(last)), float(scores[i])

    def _text(self, question: TokenizedQuestion, first: int, last: int) -> str:
        pieces = [self._pieces[i] for i in question.pieces[first : last + 1]]
        begin, end = np.searchsorted(question.word_starts, [first, last], side="right") - 1
        return self._aligner.align(join_pieces(pieces), question.words[begin : end + 1])


def best_text(answers: Sequence[Answer]) -> Answer:
    """Returns the first of the answers whose text is not empty, or the first one."""
    return next((answer for answer in answers if answer.text), answers[0])


def probabilities(answers: Sequence[Answer]) -> list[float]:
    """Returns the softmax of the answers' scores: shares among the n best, not of all answers."""
    scores = np.array([answer.score for answer in answers])
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()).tolist()


def _best(logits: np.ndarray, n_best: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-np.asarray(logits), kind="stable")[:n_best]
    return order, np.asarray(logits)[order]
