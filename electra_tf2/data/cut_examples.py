"""Cut documents -> examples: sentences dealt to two segments, many examples at a time.

What `SegmentPlanner` and `assemble_examples` do for one example after the other, here as array
operations over all sentences and tokens of a batch of documents.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from electra_tf2.data.cutting import CutRule, Cuts, Documents, ExampleDraws, example_draws
from electra_tf2.data.examples import Examples
from electra_tf2.data.segments import UNLIMITED


class _Sentences(NamedTuple):
    """The sentences of all examples, or their parts where an example ends inside; arrays `[s]`.

    Attributes:
        rows: The example of each.
        starts, lengths: Its tokens, as `Cuts` counts them.
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
    """Makes the examples of documents.

    Args:
        documents: The documents.
        token_ids: Integers `[total]`, the tokens of all documents.
        cuts: The examples to make: all of `find_cuts(documents, epoch, rule)` or some of them, in
            their order.
        epoch: The epoch, from 0.
        rule: How they are cut.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].

    Returns:
        One example per cut; `input_ids` are of the type of `token_ids`.
    """
    length = rule.max_seq_length
    input_ids = np.zeros((len(cuts.ends), length), token_ids.dtype)
    if not len(cuts.ends):
        return Examples(input_ids, np.zeros(0, np.int64), np.zeros(0, np.int64))
    draws = example_draws(
        rule,
        epoch,
        documents.files[cuts.documents],
        documents.numbers[cuts.documents],
        cuts.numbers,
    )
    sentences = _sentences_of(cuts, documents.sentence_lengths)
    in_first = _in_first_segment(sentences, draws)
    first_room = np.full(len(cuts.ends), length - 2)
    first, first_offsets = _segment(sentences, in_first, first_room)
    second, second_offsets = _segment(sentences, ~in_first, np.maximum(0, length - 3 - first))

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
    """Lays one segment of all examples out.

    Args:
        sentences: The sentences.
        members: bool `[s]`, those that are in the segment.
        rooms: `[m]`, tokens that it may have.

    Returns:
        Its lengths `[m]`, and for each sentence the tokens of the segment before it `[s]`.
    """
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
    goes_on = (source_starts[1:] == (source_starts + lengths)[:-1]) & (
        target_starts[1:] == (target_starts + lengths)[:-1]
    )
    first = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    sizes = np.add.reduceat(lengths, first).tolist()
    starts = zip(source_starts[first].tolist(), target_starts[first].tolist(), sizes, strict=True)
    # For runs of some hundred values, slices are quicker than arrays of places, and need no memory.
    from_, to = memoryview(source), memoryview(target)
    for begin, place, size in starts:
        to[place : place + size] = from_[begin : begin + size]
