"""Which sentences go into which example: the two segments of ELECTRA's pre-training examples.

Whether a sentence joins the first or the second segment depends only on lengths and on random
draws, never on the tokens themselves. So a `SegmentPlanner` looks at sentence lengths and hands out
plans, spans of a long array of token ids, that `tfrecords` turns into records many at a time.

The rules, and the order in which random numbers are drawn, are those of the official program
(google-research/electra, `build_pretraining_dataset.py`): the same stream gives the same examples.
Examples that training cuts from documents draw from no stream: the draws of each are one block of
Philox words, addressed by (seed, epoch, document, number of the example in the document).
"""

from __future__ import annotations

import dataclasses
import random
from typing import NamedTuple

import numpy as np

MIN_SEQ_LENGTH = 5  # the shortest target length that is ever drawn

SINGLE_SEGMENT_PROBABILITY = 0.1  # as in classification tasks, which have one segment
SHORT_EXAMPLE_PROBABILITY = 0.05
UNLIMITED = 100_000  # tokens; the official program's "no limit" for a first segment

# Philox4x32-10.
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_HALF = np.uint64(32)
_MASK = 0xFFFFFFFF
_WORDS = 1 << 32  # number of values of a random word

# A run of token ids: (start, length). A plain tuple, for there are millions of them.
Span = tuple[int, int]


class ExamplePlan(NamedTuple):
    """What one example is made of.

    Attributes:
        first: spans of the first segment, at least one token in all.
        second: spans of the second segment; none where the example has a single segment.
        tokens: tokens gathered for the example, in it or not.
        dropped: tokens of these that didn't fit.
    """

    first: list[Span]
    second: list[Span]
    tokens: int
    dropped: int


class StreamDraws:
    """The random decisions of one example after the other, in the order of the methods.

    They are drawn from a random stream, in the official program's order.
    """

    def __init__(self, stream: random.Random):
        self._stream = stream

    def is_single_segment(self) -> bool:
        """Whether the example's first segment has no limit."""
        return self._stream.random() < SINGLE_SEGMENT_PROBABILITY

    def joins_first(self) -> bool:
        """Whether the sentence that overruns the first segment joins it; asked at most once."""
        return self._stream.random() < 0.5

    def next_target_length(self, max_seq_length: int) -> int:
        """The target length of the example that follows, in tokens."""
        if self._stream.random() < SHORT_EXAMPLE_PROBABILITY:
            return self._stream.randint(MIN_SEQ_LENGTH, max_seq_length)
        return max_seq_length


@dataclasses.dataclass(frozen=True)
class CutRule:
    """What examples cut from documents depend on besides the documents.

    Attributes:
        seed: which random draws; only its lowest 64 bits matter.
        max_seq_length: length of an example in tokens with [CLS] and [SEP], at least 5.
        split_long_lines: see `SegmentPlanner`.
    """

    seed: int
    max_seq_length: int
    split_long_lines: bool = False


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
    """Makes the random decisions of examples that are cut from documents.

    Args:
        rule: has the seed and the longest target length.
        epoch: the epoch, from 0.
        files: number of each example's file, an integer or int64 `[m]`.
        documents: number of its document in the file, likewise.
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


def philox_words(key: int, counter: tuple[np.ndarray | int, ...]) -> np.ndarray:
    """Computes blocks of random words with Philox4x32-10.

    A block of four 32-bit words is a function of a 128-bit counter and a 64-bit key (Salmon et al.,
    "Parallel random numbers: as easy as 1, 2, 3", 2011). NumPy's own Philox draws in turn; here the
    draws are addressed, and many blocks are computed at once.

    Args:
        key: which generator; only its lowest 64 bits matter.
        counter: the four words of the counters, the lowest first: integers of at least 0 and below
            2**32, or arrays `[n]` of such.

    Returns:
        uint64 `[4, n]`, words below 2**32.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(part, np.uint64) for part in counter))
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    mask = np.uint64(_MASK)
    for _ in range(_ROUNDS):
        even, odd = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (odd >> _HALF) ^ c1 ^ np.uint64(k0), (even >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = odd & mask, even & mask
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack([c0, c1, c2, c3])


class SegmentPlanner:
    """Gathers sentences and cuts them into examples.

    Sentences gather until they have as many tokens as the target length, or until the document
    ends. The next target length and the draws carry over from document to document.

    Args:
        max_seq_length: length of an example in tokens with [CLS] and [SEP], at least 5.
        draws: the random decisions; asked for only when an example is closed.
        first_target: target length of the first example in tokens; None for `max_seq_length`.
        split_long_lines: cut a sentence where the example is full and carry the rest into the next
            example, so that no token is lost. By default the rest is dropped, as the official
            program does.

    Raises:
        ValueError: `max_seq_length` is too small.
    """

    def __init__(
        self,
        max_seq_length: int,
        draws: StreamDraws,
        *,
        first_target: int | None = None,
        split_long_lines: bool = False,
    ):
        if max_seq_length < MIN_SEQ_LENGTH:
            raise ValueError(
                f"max_seq_length must be at least {MIN_SEQ_LENGTH}. Received: {max_seq_length}"
            )
        self._max_length = max_seq_length
        self._room = max_seq_length - 3  # tokens beside [CLS] and two [SEP]
        self._draws = draws
        self._split_long_lines = split_long_lines
        self._set_target(first_target or max_seq_length)
        self._gathered: list[Span] = []
        self._gathered_length = 0
        self._finished: list[ExamplePlan] = []

    @property
    def gathered(self) -> list[Span]:
        """The sentences that wait for their example to be closed."""
        return self._gathered

    def relocate(self, start: int) -> None:
        """Moves the gathered sentences: they now lie one after the other from `start` on."""
        moved = []
        for _, length in self._gathered:
            moved.append((start, length))
            start += length
        self._gathered = moved

    def add_sentence(self, start: int, length: int) -> None:
        """Adds a sentence of the document.

        Args:
            start: place of its first token id.
            length: number of its tokens; a sentence without tokens changes nothing.
        """
        if self._split_long_lines:
            while self._gathered_length + length > self._room:
                fitting = self._room - self._gathered_length
                self._gather(start, fitting)
                self._finish_example()
                start += fitting
                length -= fitting
        self._gather(start, length)
        if self._gathered_length >= self._full_length:
            self._finish_example()

    def end_document(self) -> None:
        """Closes the example being gathered, if there is one: examples don't span documents."""
        if self._gathered_length:
            self._finish_example()

    def take_finished(self) -> list[ExamplePlan]:
        """Returns the plans finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _gather(self, start: int, length: int) -> None:
        if length:
            self._gathered.append((start, length))
            self._gathered_length += length

    def _finish_example(self) -> None:
        first, second = self._deal_sentences()
        first_spans, first_length = _trim(first, self._max_length - 2)
        second_spans, second_length = _trim(second, self._max_length - first_length - 3)
        tokens = self._gathered_length
        dropped = tokens - first_length - second_length
        self._finished.append(ExamplePlan(first_spans, second_spans, tokens, dropped))
        self._gathered = []
        self._gathered_length = 0
        self._set_target(self._draws.next_target_length(self._max_length))

    def _set_target(self, length: int) -> None:
        self._target_length = length
        # What would overrun the example is cut, so it never holds more than there is room for.
        self._full_length = min(length, self._room) if self._split_long_lines else length

    def _deal_sentences(self) -> tuple[list[Span], list[Span]]:
        """Deals the gathered sentences to two segments."""
        limit = (self._target_length - 3) // 2
        if self._draws.is_single_segment():
            limit = UNLIMITED
        first: list[Span] = []
        second: list[Span] = []
        length = 0
        for sentence in self._gathered:
            # The coin is tossed last, only where it decides: the official stream depends on it.
            if (
                not first
                or length + sentence[1] < limit
                or (not second and length < limit and self._draws.joins_first())
            ):
                first.append(sentence)
                length += sentence[1]
            else:
                second.append(sentence)
        return first, second


def _trim(spans: list[Span], room: int) -> tuple[list[Span], int]:
    """Cuts spans down to `room` tokens, joins neighbours; returns them and their length."""
    kept: list[Span] = []
    length = 0
    room = max(0, room)
    run_start = run_end = -1
    for start, sentence_length in spans:
        taken = min(sentence_length, room - length)
        if start != run_end:
            if run_end > run_start:
                kept.append((run_start, run_end - run_start))
            run_start = start
        run_end = start + taken
        length += taken
        if length == room:
            break
    if run_end > run_start:
        kept.append((run_start, run_end - run_start))
    return kept, length
