"""Sentences as examples, and their features."""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

from electra_tf2.text.rows import make_row
from electra_tf2.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class TaggingExample:
    """A sentence.

    Attributes:
        eid: its number in the file, from 0.
        words: its words.
        tags: their tags as they are learned (spans in the scheme BIOES); empty where unknown.
    """

    eid: int
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclasses.dataclass
class CutWords:
    """How many words did not fit, and of how many sentences."""

    words: int = 0
    sentences: int = 0


def make_features(
    example: TaggingExample,
    pieces_of: Mapping[str, Sequence[int]],
    label_ids: Mapping[str, int],
    tokenizer: Tokenizer,
    room: int,
    cut: CutWords,
) -> dict[str, Any]:
    """Returns the features of a sentence: of as many of its words as fit whole.

    Segment ids are all 1, as in the official program.

    Args:
        example: the sentence.
        pieces_of: word -> ids of its pieces, at least one.
        label_ids: tag -> id of the label to learn.
        tokenizer: its vocabulary gives the special tokens.
        room: number of pieces that fit.
        cut: counts the words that don't.
    """
    pieces = [pieces_of[word] for word in example.words]
    ends = list(accumulate(map(len, pieces), initial=1))
    kept = bisect_right(ends, room + 1) - 1
    if kept < len(pieces):
        cut.words += len(pieces) - kept
        cut.sentences += 1
    row = make_row([*chain.from_iterable(pieces[:kept])], tokenizer)
    return {
        "eid": example.eid,
        "input_ids": row.input_ids,
        "segment_ids": row.segment_ids + 1,
        "labels": [label_ids[tag] for tag in example.tags[:kept]] or [0] * kept,
        "labels_mask": [1.0] * kept,
        "labeled_positions": ends[:kept],
    }
