"""Which sentences go into which example: the two segments of ELECTRA's pre-training examples.

Whether a sentence joins the first or the second segment depends on lengths and on a random stream
only, never on the tokens themselves. So a `SegmentPlanner` looks at sentence lengths and hands out
plans, spans of a long array of token ids, that `examples` turns into records many at a time.

The rules, and the order in which random numbers are drawn, are those of the official program
(google-research/electra, `build_pretraining_dataset.py`): with the same stream the same examples
come out.
"""

from __future__ import annotations

import random
from typing import NamedTuple, Protocol

MIN_SEQ_LENGTH = 5  # the shortest target length that is ever drawn

SINGLE_SEGMENT_PROBABILITY = 0.1  # as in classification tasks, which have one segment
SHORT_EXAMPLE_PROBABILITY = 0.05
UNLIMITED = 100_000  # tokens; the official program's "no limit" for a first segment


# A run of token ids: (start, length). A plain tuple, for there are millions of them.
Span = tuple[int, int]


class ExamplePlan(NamedTuple):
    """What one example is made of.

    Attributes:
        first: Spans of the first segment, at least one token in all.
        second: Spans of the second segment; none where the example has a single segment.
        tokens: Tokens gathered for the example, in it or not.
        dropped: Tokens of these that found no room.
    """

    first: list[Span]
    second: list[Span]
    tokens: int
    dropped: int


class Draws(Protocol):
    """The random decisions of one example after the other, in the order of the methods."""

    def is_single_segment(self) -> bool:
        """Whether the example's first segment has no limit."""

    def joins_first(self) -> bool:
        """Whether the sentence that overruns the first segment joins it; asked at most once."""

    def next_target_length(self, max_seq_length: int) -> int:
        """The target length of the example that follows, in tokens."""


class StreamDraws:
    """Decisions drawn from a random stream, in the official program's order.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: random.Random):
        self._stream = stream

    def is_single_segment(self) -> bool:
        """See `Draws`."""
        return self._stream.random() < SINGLE_SEGMENT_PROBABILITY

    def joins_first(self) -> bool:
        """See `Draws`."""
        return self._stream.random() < 0.5

    def next_target_length(self, max_seq_length: int) -> int:
        """See `Draws`."""
        if self._stream.random() < SHORT_EXAMPLE_PROBABILITY:
            return self._stream.randint(MIN_SEQ_LENGTH, max_seq_length)
        return max_seq_length


class SegmentPlanner:
    """Gathers sentences and cuts them into examples.

    Sentences gather until they have as many tokens as the target length, or until the document
    ends. The next target length and the draws carry over from document to document.

    Args:
        max_seq_length: Length of an example in tokens with [CLS] and [SEP], at least 5.
        draws: The random decisions; asked for only when an example is closed.
        first_target: Target length of the first example in tokens; None for `max_seq_length`.
        split_long_lines: Cut a sentence where the example is full and carry the rest into the next
            example, so that no token is lost. By default the rest is dropped, as the official
            program does.

    Raises:
        ValueError: `max_seq_length` is too small.
    """

    def __init__(
        self,
        max_seq_length: int,
        draws: Draws,
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
        """Tells that the gathered sentences lie one after the other from `start` on."""
        moved = []
        for _, length in self._gathered:
            moved.append((start, length))
            start += length
        self._gathered = moved

    def add_sentence(self, start: int, length: int) -> None:
        """Adds a sentence of the document.

        Args:
            start: Place of its first token id.
            length: Number of its tokens; a sentence without tokens changes nothing.
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
            # The coin is tossed last: only where it decides, or the streams would part.
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
