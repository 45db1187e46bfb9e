"""Where tokenized documents are cut into the examples of an epoch.

The rules are `SegmentPlanner`'s. The random draws are not taken in turn from a stream: those of an
example are one block of Philox words, addressed by (seed, epoch, document, number of the example in
the document). So the examples of a document don't depend on any other document, and where they end
follows from sentence lengths alone, without dealing the sentences to segments.

A document is addressed by the number of its file, among the sorted files of the data set, and its
own number in the file.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data.philox import philox_words
from electra_tf2.data.segments import (
    MIN_SEQ_LENGTH,
    SHORT_EXAMPLE_PROBABILITY,
    SINGLE_SEGMENT_PROBABILITY,
)

_WORDS = 1 << 32  # number of values of a random word
_MORE_DRAWS = 16
_UNBOUNDED = 1 << 62


@dataclasses.dataclass(frozen=True)
class CutRule:
    """What examples depend on beside the documents.

    Attributes:
        seed: Which random draws; its lowest 64 bits count.
        max_seq_length: Length of an example in tokens with [CLS] and [SEP], at least 5.
        split_long_lines: See `SegmentPlanner`.
    """

    seed: int
    max_seq_length: int
    split_long_lines: bool = False


class Documents(NamedTuple):
    """Documents without their tokens.

    Attributes:
        files: int64 `[n]`, the number of each one's file.
        numbers: int64 `[n]`, its number in the file.
        sentence_lengths: int64 `[sentences]`, tokens of each sentence, at least 1.
        splits: int64 `[n + 1]`: document i has the sentences `splits[i]` to `splits[i + 1]`.
    """

    files: np.ndarray
    numbers: np.ndarray
    sentence_lengths: np.ndarray
    splits: np.ndarray


class Cuts(NamedTuple):
    """Examples as runs of tokens, document by document and in each from its start to its end.

    Attributes:
        documents: int64 `[m]`, the example's document, its place in `Documents`.
        numbers: int64 `[m]`, the example's number in the document.
        starts, ends: int64 `[m]`, its first token and the one after its last, counted through all
            documents.
    """

    documents: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class ExampleDraws(NamedTuple):
    """The random decisions of examples, as `SegmentPlanner` makes them; arrays `[m]`.

    Attributes:
        target_lengths: int64, in tokens.
        single_segments: bool, whether the first segment has no limit.
        joins_first: bool, whether the sentence that overruns the first segment joins it.
    """

    target_lengths: np.ndarray
    single_segments: np.ndarray
    joins_first: np.ndarray


def example_draws(
    rule: CutRule,
    epoch: int,
    files: np.ndarray | int,
    documents: np.ndarray | int,
    numbers: np.ndarray,
) -> ExampleDraws:
    """Makes the random decisions of examples.

    Args:
        rule: Has the seed and the longest target length.
        epoch: The epoch, from 0.
        files: Number of each example's file, an integer or int64 `[m]`.
        documents: Number of its document in the file, likewise.
        numbers: int64 `[m]`, its number in the document.

    Returns:
        The decisions.
    """
    short, length, single, join = philox_words(rule.seed, (numbers, documents, files, epoch))
    longest = rule.max_seq_length
    # The high half of a product with a random word is uniform (to 1 in 2**32 / choices).
    choices = np.uint64(longest - MIN_SEQ_LENGTH + 1)
    drawn = (length * choices >> np.uint64(32)).astype(np.int64) + MIN_SEQ_LENGTH
    is_short = short < int(SHORT_EXAMPLE_PROBABILITY * _WORDS)
    return ExampleDraws(
        np.where(is_short, drawn, longest),
        single < int(SINGLE_SEGMENT_PROBABILITY * _WORDS),
        join < _WORDS // 2,
    )


def find_cuts(documents: Documents, epoch: int, rule: CutRule) -> Cuts:
    """Finds the examples of documents.

    Args:
        documents: The documents.
        epoch: The epoch, from 0.
        rule: How they are cut.

    Returns:
        The examples, in order.
    """
    targets = _Targets(documents, epoch, rule)
    sentence_ends = np.cumsum(documents.sentence_lengths).tolist()
    room = rule.max_seq_length - 3 if rule.split_long_lines else _UNBOUNDED
    splits = documents.splits.tolist()
    counts: list[int] = []
    ends: list[int] = []
    for document in range(len(splits) - 1):
        first, last = splits[document], splits[document + 1]
        own: list[int] | None = []
        if first < last:
            lengths = targets.of(document)
            while (own := _cut(sentence_ends, first, last, lengths, room)) is None:
                lengths += targets.more(document, len(lengths))
        ends += own
        counts.append(len(own))
    return _as_arrays(counts, ends)


def count_examples(documents: Documents, epoch: int, rule: CutRule) -> np.ndarray:
    """Returns the number of examples of each document, int64 `[n]`; arguments as `find_cuts`."""
    return np.bincount(find_cuts(documents, epoch, rule).documents, minlength=len(documents.files))


class _Targets:
    """The target lengths of documents' examples: a guess of how many, and more where it is low."""

    def __init__(self, documents: Documents, epoch: int, rule: CutRule):
        self._documents, self._epoch, self._rule = documents, epoch, rule
        tokens = np.concatenate([[0], np.cumsum(documents.sentence_lengths)])[documents.splits]
        room = rule.max_seq_length - 3
        counts = np.diff(tokens) // room + np.diff(tokens) // (8 * room) + 2
        self._splits = np.concatenate([[0], np.cumsum(counts)]).tolist()
        numbers = np.arange(self._splits[-1]) - np.repeat(self._splits[:-1], counts)
        self._lengths = self._draw(
            np.repeat(documents.files, counts), np.repeat(documents.numbers, counts), numbers
        )

    def of(self, document: int) -> list[int]:
        """Returns the first target lengths of a document."""
        return self._lengths[self._splits[document] : self._splits[document + 1]]

    def more(self, document: int, number: int) -> list[int]:
        """Returns those from an example's number on."""
        own = self._documents
        numbers = np.arange(number, number + _MORE_DRAWS)
        return self._draw(own.files[document], own.numbers[document], numbers)

    def _draw(self, files, documents, numbers: np.ndarray) -> list[int]:
        draws = example_draws(self._rule, self._epoch, files, documents, numbers)
        lengths = draws.target_lengths
        if self._rule.split_long_lines:  # an example never holds more than there is room for
            lengths = np.minimum(lengths, self._rule.max_seq_length - 3)
        return lengths.tolist()


def _cut(
    sentence_ends: list[int], first: int, last: int, targets: Sequence[int], room: int
) -> list[int] | None:
    """Cuts the document of the sentences `first` to `last`.

    An example ends with the sentence that brings it to its target length, or with the document.
    With more tokens than `room` it ends where that is full, inside the sentence.

    Returns:
        The examples' ends; None if there are too few targets.
    """
    start = sentence_ends[first - 1] if first else 0
    final = sentence_ends[last - 1]
    sentence = first
    ends = []
    for target in targets:
        sentence = bisect.bisect_left(sentence_ends, start + target, sentence, last)
        end = sentence_ends[sentence] if sentence < last else final
        if end - start > room:
            end = start + room
        else:
            sentence += 1
        ends.append(end)
        if end == final:
            return ends
        start = end
    return None


def _as_arrays(counts: list[int], ends: list[int]) -> Cuts:
    counts_, ends_ = np.array(counts, np.int64), np.array(ends, np.int64)
    splits = np.cumsum(counts_) - counts_
    numbers = np.arange(len(ends)) - np.repeat(splits, counts_)
    # Documents lie one after the other and every token is in an example.
    starts = np.concatenate([np.zeros(1, np.int64), ends_])[:-1]
    return Cuts(np.repeat(np.arange(len(counts)), counts_), numbers, starts, ends_)
