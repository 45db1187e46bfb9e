"""Decoding answers: from the head's outputs for the windows of a passage to texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import softmax

from configure_finetuning import FinetuningConfig
from electra_tf2.text.normalization import normalize
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.wordpiece import CONTINUATION
from finetune.data_files import file_changed
from finetune.qa.annotations import has_stray_space
from finetune.qa.examples import QAExample
from finetune.qa.passages import PieceOffsets, TokenizedQuestion, tokenize_questions

if TYPE_CHECKING:
    from finetune.qa.tasks import QATask

NO_ANSWER_LEFT = "empty"
"""The answer where no candidate is left, as in the official program."""

_NULL_WITHOUT_WINDOWS = 1e6


class Candidates(NamedTuple):
    """The part of one window's outputs that decoding needs.

    Attributes:
        starts: int [k], tokens at which the answer may start.
        start_scores: float32 [k], their log-probabilities, or logits without joint prediction.
        ends: int [k, m], tokens at which it may end, for each start.
        end_scores: float32 [k, m], their log-probabilities or logits.
        null: the window's score for "no answer".
    """

    starts: np.ndarray
    start_scores: np.ndarray
    ends: np.ndarray
    end_scores: np.ndarray
    null: float | np.floating


class ScoredAnswer(NamedTuple):
    """An answer's text, and its score: the sum of the scores of its start and its end."""

    text: str
    score: float


class Decoding(NamedTuple):
    """The answers to a question.

    Attributes:
        answers: the best texts, best first, at least one.
        null_odds: the higher, the likelier is "no answer": the lowest answerability logit of all
            windows, or, without that classifier, the lowest score of an answer at [CLS] minus that
            of the best answer.
        nothing_left: whether the only answer is `NO_ANSWER_LEFT`.
    """

    answers: list[ScoredAnswer]
    null_odds: float
    nothing_left: bool = False


class Decoder:
    """Finds the best answers to questions.

    A candidate starts in the passage at a token that has the most context in this window (see
    `TokenizedQuestion.max_context`), ends there or later, and has at most `max_answer_length`
    pieces. Of candidates with the same text the best one is kept.

    Args:
        config: gives `n_best_size`, `max_answer_length`, `joint_prediction`,
            `answerable_classifier` and `qa_spans`.
        tokenizer: the tokenizer of the passages.
    """

    def __init__(self, config: FinetuningConfig, tokenizer: Tokenizer):
        self._config = config
        self._pieces = tokenizer.vocabulary.tokens
        self._aligner = Aligner(tokenizer, official=config.qa_spans == "official")

    def candidates(self, results: Mapping[str, Any]) -> Candidates:
        """Returns what `decode` needs of one window's outputs (see `QAHead.call`)."""
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
            windows: the candidates of each of its windows, in order.
            n_best: the most answers to return; None for `n_best_size`.
        """
        answers: dict[str, float] = {}
        n_best = self._config.n_best_size if n_best is None else n_best
        for text, score in self._ranked(question, windows):
            answers.setdefault(text, score)
            if len(answers) >= n_best:
                break
        if nothing_left := not answers:
            answers[NO_ANSWER_LEFT] = 0.0
        found = [ScoredAnswer(*item) for item in answers.items()]
        null = min((window.null for window in windows), default=_NULL_WITHOUT_WINDOWS)
        if not self._config.answerable_classifier:
            null = null - best_text(found).score
        return Decoding(found, float(null), nothing_left)

    def _ranked(
        self, question: TokenizedQuestion, windows: Sequence[Candidates]
    ) -> Iterator[tuple[str, float]]:
        """Yields the texts of all candidates with their scores, best first, equals in order."""
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
        words = question.passage.words[begin : end + 1]
        place = (first - int(question.word_starts[begin]), last - int(question.word_starts[end]))
        return self._aligner.align(join_pieces(pieces), words, place)


class WindowOutputs:
    """Gathers the outputs of windows, in any order, and decodes them.

    Args:
        task: the task that the windows belong to.
    """

    def __init__(self, task: QATask, split: str):
        self._task = task
        self._split = split
        self._decoder = Decoder(task.config, task.tokenizer)
        self._windows: dict[int, Candidates] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, results: Mapping[str, Any]) -> None:
        """Takes one window's outputs; see `Scorer.update`.

        Raises:
            ValueError: this window was taken before.
        """
        eid = int(results["eid"])
        if eid in self._windows:
            raise ValueError(f"The outputs of a window came twice. Received: eid {eid}")
        self._windows[eid] = self._decoder.candidates(results)

    def decode(
        self, examples: Sequence[QAExample], n_best: int | None = None
    ) -> Iterator[tuple[QAExample, Decoding]]:
        """Decodes the answers.

        Args:
            examples: the questions whose windows were taken.
            n_best: the most answers to find for each; None for the hparam n_best_size.

        Yields:
            Question and answers, in the order of the examples.

        Raises:
            UserError: the questions have other windows than those that were taken: their file was
                changed.
        """
        task, used = self._task, 0
        for question in tokenize_questions(examples, task.tokenizer, task.config):
            eids = [question.eid(i) for i in range(len(question.windows))]
            missing = [eid for eid in eids if eid not in self._windows]
            if missing:
                raise file_changed(
                    task,
                    self._split,
                    f"window {missing[0]} (of question {question.example.id!r}), for which there "
                    "are no outputs",
                )
            used += len(eids)
            windows = [self._windows[eid] for eid in eids]
            yield question.example, self._decoder.decode(question, windows, n_best)
        if used < len(self._windows):
            received = f"{used} windows, and outputs of {len(self._windows)}"
            raise file_changed(task, self._split, received)


def best_text(answers: Sequence[ScoredAnswer]) -> ScoredAnswer:
    """Returns the first of the answers whose text is not empty, or the first one."""
    return next((answer for answer in answers if answer.text), answers[0])


def probabilities(answers: Sequence[ScoredAnswer]) -> list[float]:
    """Returns the softmax of the answers' scores: shares among the n best, not of all answers."""
    return softmax([answer.score for answer in answers]).tolist()


def _best(logits: np.ndarray, n_best: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-np.asarray(logits), kind="stable")[:n_best]
    return order, np.asarray(logits)[order]


def join_pieces(pieces: Sequence[str]) -> str:
    """Returns the words that pieces spell, with spaces between; a leading "##" is dropped."""
    text = " ".join(pieces).replace(f" {CONTINUATION}", "").replace(CONTINUATION, "")
    return " ".join(text.split())


class Aligner:
    """Finds the original spelling of an answer.

    Word pieces come from words that are lower-cased, without accents and split at punctuation. The
    answer must have case and accents again, but no more of its first and last words than was
    predicted: "Steve Smith" from "Steve Smith's".

    By the rule of BERT's authors the predicted text is searched in the normalized words. If it is
    found, and normalization kept the number of characters (without spaces), they are taken to
    correspond one by one. That fails for Hangul, invisible characters, unknown words and others,
    and of two places that differ in accents it takes the first. There the characters that the
    pieces come from are the answer.

    Args:
        tokenizer: the tokenizer of the pieces.
        official: whether all of the words are the answer where the rule of BERT's authors fails, as
            in the official program.
    """

    def __init__(self, tokenizer: Tokenizer, *, official: bool = False):
        self._casing = tokenizer.casing
        self._official = official
        self._offsets = PieceOffsets(tokenizer)
        self._normalized: dict[str, str] = {}

    def align(self, predicted: str, words: Sequence[str], place: tuple[int, int]) -> str:
        """Projects a predicted text onto the words that it was taken from.

        Args:
            predicted: from `join_pieces`.
            words: the words of the passage that contain the predicted pieces.
            place: the number of the first predicted piece in the first word, and of the last one in
                the last word.

        Returns:
            The part of `words`, joined by spaces, that corresponds to `predicted`.
        """
        original = " ".join(words)
        found = self._corresponding(predicted, words, original)
        if self._official or (found is None and has_stray_space(original)):
            return original if found is None else found
        if found is not None and original.isascii():
            return found
        exact = self._at(words, place)
        return found if found is not None and found.casefold() == exact.casefold() else exact

    def _corresponding(self, predicted: str, words: Sequence[str], original: str) -> str | None:
        """Returns the answer by the rule of BERT's authors; None where it fails."""
        normalized = " ".join(filter(None, map(self._normalize, words)))
        start = normalized.find(predicted)
        if start == -1 or not predicted:
            return None
        solid = [place for place, char in enumerate(original) if char != " "]
        if len(solid) != _count_solid(normalized):
            return None
        first = _count_solid(normalized[:start])
        last = first + _count_solid(predicted) - 1
        return original[solid[first] : solid[last] + 1]

    def _at(self, words: Sequence[str], place: tuple[int, int]) -> str:
        """Returns what the pieces from one in the first word to one in the last come from."""
        start, _ = self._offsets.of(words[0])[place[0]]
        _, end = self._offsets.of(words[-1])[place[1]]
        words = [*words[:-1], words[-1][:end]]
        return " ".join([words[0][start:], *words[1:]])

    def _normalize(self, word: str) -> str:
        normalized = self._normalized.get(word)
        if normalized is None:
            normalized = " ".join(normalize(word, self._casing))
            self._normalized[word] = normalized
        return normalized


def _count_solid(text: str) -> int:
    return len(text) - text.count(" ")
