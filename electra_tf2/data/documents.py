"""Tokenized documents cut into the examples of an epoch.

The rules are `SegmentPlanner`'s, but the random draws of an example are addressed, not taken in
turn from a stream (see `segments.example_draws`). So the examples of a document don't depend on any
other document, and where they end follows from sentence lengths alone, without dealing the
sentences to segments.

A document is addressed by the number of its file, among the sorted files of the data set, and its
own number in the file.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data.segments import UNLIMITED, CutRule, ExampleDraws, example_draws
from electra_tf2.data.tfrecords import Examples

_MORE_DRAWS = 16
_UNBOUNDED = 1 << 62


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


def find_cuts(documents: Documents, epoch: int, rule: CutRule) -> Cuts:
    """Finds the examples of documents.

    Args:
        epoch: the epoch, from 0.
        rule: how they are cut.

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
    """Returns where the examples of the sentences `first` to `last` end; None: too few targets.

    An example ends with the sentence that brings it to its target length, or with the document.
    With more tokens than `room` it ends where that is full, inside the sentence.
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


class _Sentences(NamedTuple):
    """The sentences of all examples, or their parts where an example ends inside; arrays `[s]`.

    Attributes:
        rows: the example of each.
        starts, lengths: its tokens, as `Cuts` counts them.
        splits: `[m]`, the first sentence of each example.
        counts: `[m]`, its number of sentences.
    """

    rows: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    splits: np.ndarray
    counts: np.ndarray


def make_examples(
    documents: Documents,
    token_ids: np.ndarray,
    cuts: Cuts,
    epoch: int,
    rule: CutRule,
    cls_id: int,
    sep_id: int,
) -> Examples:
    """Makes the examples of documents, many at a time.

    What `SegmentPlanner` and `assemble_examples` do for one example after the other is done here by
    array operations over all sentences and tokens of a batch of documents.

    Args:
        token_ids: integers `[total]`, the tokens of all documents.
        cuts: the examples to make: all of `find_cuts(documents, epoch, rule)` or some of them, in
            their order.
        epoch: the epoch, from 0.
        rule: how they are cut.

    Returns:
        One example per cut; `input_ids` are of the type of `token_ids`.
    """
    length = rule.max_seq_length
    input_ids = np.zeros((len(cuts.ends), length), token_ids.dtype)
    if not len(cuts.ends):
        return Examples(input_ids, np.zeros(0, np.int64), np.zeros(0, np.int64))
    sentences, in_first, first, first_offsets, second, second_offsets = _lay_out(
        documents, cuts, epoch, rule
    )
    rows = np.arange(len(cuts.ends))
    input_ids[:, 0] = cls_id
    input_ids[rows, first + 1] = sep_id
    lengths = first + 2 + np.where(second > 0, second + 1, 0)
    input_ids[rows, lengths - 1] = sep_id

    offsets = np.where(in_first, first_offsets, second_offsets)
    rooms = np.where(in_first, first[sentences.rows], second[sentences.rows])
    taken = np.clip(rooms - offsets, 0, sentences.lengths)
    places = sentences.rows * length + 1 + offsets
    places += np.where(in_first, 0, first[sentences.rows] + 1)
    _copy_runs(token_ids, sentences.starts, input_ids.reshape(-1), places, taken)
    return Examples(input_ids, first + 2, lengths)


class ExampleLengths(NamedTuple):
    """Lengths of examples; arrays int64 `[m]`.

    Attributes:
        tokens: tokens of their documents that they hold.
        whole: these with [CLS] and [SEP].
    """

    tokens: np.ndarray
    whole: np.ndarray


def example_lengths(documents: Documents, cuts: Cuts, epoch: int, rule: CutRule) -> ExampleLengths:
    """Returns the lengths of what `make_examples` makes, without making it; arguments as there."""
    layout = _lay_out(documents, cuts, epoch, rule)
    tokens = layout.first + layout.second
    return ExampleLengths(tokens, tokens + 2 + (layout.second > 0))


class _Layout(NamedTuple):
    """Where the sentences of examples go.

    Attributes:
        sentences: the sentences.
        in_first: bool `[s]`, whether each goes to its example's first segment.
        first, second: int64 `[m]`, tokens of the segments.
        first_offsets, second_offsets: int64 `[s]`, tokens of the segment before each sentence.
    """

    sentences: _Sentences
    in_first: np.ndarray
    first: np.ndarray
    first_offsets: np.ndarray
    second: np.ndarray
    second_offsets: np.ndarray


def _lay_out(documents: Documents, cuts: Cuts, epoch: int, rule: CutRule) -> _Layout:
    draws = example_draws(
        rule,
        epoch,
        documents.files[cuts.documents],
        documents.numbers[cuts.documents],
        cuts.numbers,
    )
    length = rule.max_seq_length
    sentences = _sentences_of(cuts, documents.sentence_lengths)
    in_first = _in_first_segment(sentences, draws)
    first_room = np.full(len(cuts.ends), length - 2)
    first, first_offsets = _segment(sentences, in_first, first_room)
    second, second_offsets = _segment(sentences, ~in_first, np.maximum(0, length - 3 - first))
    return _Layout(sentences, in_first, first, first_offsets, second, second_offsets)


def _sentences_of(cuts: Cuts, sentence_lengths: np.ndarray) -> _Sentences:
    sentence_ends = np.cumsum(sentence_lengths)
    firsts = np.searchsorted(sentence_ends, cuts.starts, side="right")
    lasts = np.searchsorted(sentence_ends, cuts.ends, side="left")
    counts = lasts - firsts + 1
    splits = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(counts)), counts)
    sentences = np.arange(len(rows)) + (firsts - splits)[rows]
    ends = sentence_ends[sentences]
    starts = np.maximum(ends - sentence_lengths[sentences], cuts.starts[rows])
    return _Sentences(rows, starts, np.minimum(ends, cuts.ends[rows]) - starts, splits, counts)


def _in_first_segment(sentences: _Sentences, draws: ExampleDraws) -> np.ndarray:
    """Deals the sentences: bool `[s]`, whether each goes to its example's first segment."""
    rows, _, lengths, splits, counts = sentences
    limits = np.where(draws.single_segments, UNLIMITED, (draws.target_lengths - 3) // 2)
    through = np.cumsum(lengths)
    through -= (through[splits] - lengths[splits])[rows]
    in_first = through < limits[rows]
    in_first[splits] = True
    # The sentences that fit come first: lengths are positive. Then one overruns, if there is one.
    n_fitting = np.add.reduceat(in_first, splits, dtype=np.int64)
    overrunning = splits + n_fitting
    rooms = limits - through[overrunning - 1]
    is_open = (n_fitting < counts) & (rooms > 0)
    in_first[overrunning[is_open & draws.joins_first]] = True
    # Where it doesn't join, a later and shorter one still may, as long as there is room.
    rooms = np.where(is_open & ~draws.joins_first, rooms, 0)
    candidates = (lengths < rooms[rows]) & (np.arange(len(rows)) > overrunning[rows])
    left = rooms.tolist()
    for sentence in np.flatnonzero(candidates).tolist():
        row = rows[sentence]
        if lengths[sentence] < left[row]:
            left[row] -= lengths[sentence]
            in_first[sentence] = True
    return in_first


def _segment(
    sentences: _Sentences, members: np.ndarray, rooms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lays the `members` out as one segment: its lengths `[m]`, and offsets of all in it `[s]`."""
    lengths = np.where(members, sentences.lengths, 0)
    before = np.cumsum(lengths) - lengths
    offsets = before - before[sentences.splits][sentences.rows]
    return np.minimum(np.add.reduceat(lengths, sentences.splits), rooms), offsets


def _copy_runs(
    source: np.ndarray,
    source_starts: np.ndarray,
    target: np.ndarray,
    target_starts: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Copies runs of values; those that follow each other on both sides in one go."""
    some = lengths > 0
    source_starts, target_starts, lengths = source_starts[some], target_starts[some], lengths[some]
    continues = (source_starts[1:] == (source_starts + lengths)[:-1]) & (
        target_starts[1:] == (target_starts + lengths)[:-1]
    )
    first = np.flatnonzero(np.concatenate([[True], ~continues]))
    sizes = np.add.reduceat(lengths, first).tolist()
    starts = zip(source_starts[first].tolist(), target_starts[first].tolist(), sizes, strict=True)
    # For runs of some hundred values, slices are faster than arrays of places, and need no memory.
    from_, to = source.data, target.data
    for begin, place, size in starts:
        to[place : place + size] = from_[begin : begin + size]
