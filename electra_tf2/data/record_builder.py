"""Passages of text -> tokens -> serialized examples, many at a time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data.examples import Records, assemble_examples, serialize_examples
from electra_tf2.data.segments import SegmentPlanner, StreamDraws
from electra_tf2.text.tokenizer import Tokenizer

# Text is tokenized and encoded in batches of about this many characters: enough for the fixed
# costs of the array operations not to show, little enough to stay small in memory.
BATCH_CHARACTERS = 1 << 19


class ExampleStream:
    """A run of documents that share one random stream, one after the other.

    Args:
        stream: The random stream.
        max_seq_length: Length of an example in tokens.
        split_long_lines: See `SegmentPlanner`.
        in_document: Whether the first passage continues a document that was counted elsewhere.
    """

    def __init__(
        self,
        stream: random.Random,
        max_seq_length: int,
        *,
        split_long_lines: bool = False,
        in_document: bool = False,
    ):
        self.planner = SegmentPlanner(
            max_seq_length, StreamDraws(stream), split_long_lines=split_long_lines
        )
        self.in_document = in_document
        self.carried = np.zeros(0, np.int32)  # the tokens of the planner's gathered sentences


class Passage(NamedTuple):
    """Consecutive lines of one document stream.

    Attributes:
        stream: The stream they belong to.
        lines: The lines, stripped of white space at both ends; empty ones included.
        blanks_separate: Whether an empty line ends a document.
        ends_document: Whether a document ends after the last line, as it does at the end of a file.
        source_bytes: Bytes of the source that are done with this passage, for the progress.
    """

    stream: ExampleStream
    lines: Sequence[str]
    blanks_separate: bool
    ends_document: bool
    source_bytes: int


@dataclasses.dataclass
class Counts:
    """What went in and came out.

    Attributes:
        documents: Documents with at least one line that isn't blank.
        lines: Lines that aren't blank.
        tokens: Tokens of these lines, without [CLS] and [SEP].
        dropped_tokens: Tokens that are in no example, for lack of room.
        examples: Examples written.
        source_bytes: Bytes of the source.
    """

    documents: int = 0
    lines: int = 0
    tokens: int = 0
    dropped_tokens: int = 0
    examples: int = 0
    source_bytes: int = 0

    def add(self, other: Counts) -> None:
        """Adds another's figures to these."""
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)


class Part(NamedTuple):
    """Serialized examples with the figures of the text that they come from."""

    records: Records
    counts: Counts


def passage_batches(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    """Yields passages in batches of about half a megabyte of text."""
    batch: list[Passage] = []
    characters = 0
    for passage in passages:
        batch.append(passage)
        characters += sum(map(len, passage.lines))
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class RecordBuilder:
    """Builds serialized examples from passages.

    Args:
        tokenizer: Makes token ids of lines.
        max_seq_length: Length of an example in tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_seq_length: int):
        self._tokenizer = tokenizer
        self._max_seq_length = max_seq_length

    def parts(self, passages: Iterable[Passage]) -> Iterator[Part]:
        """Yields the examples of passages, in order, in parts of about half a megabyte of text.

        Args:
            passages: The passages; those of one stream come one after the other, and the last one
                of a stream ends its document.
        """
        for batch in passage_batches(passages):
            yield self._build(batch)

    def _build(self, batch: Sequence[Passage]) -> Part:
        lines = [line for passage in batch for line in passage.lines if line]
        encoded = self._tokenizer.encode_lines(lines)
        # Only the first stream can have gathered sentences before, and only the last one after.
        carried = batch[0].stream.carried
        batch[0].stream.planner.relocate(0)
        values = np.concatenate([carried, encoded.values]) if len(carried) else encoded.values
        starts = (encoded.row_splits[:-1] + len(carried)).tolist()
        lengths = np.diff(encoded.row_splits).tolist()
        sentences = iter(zip(starts, lengths, strict=True))

        counts = Counts(lines=len(lines))
        plans = []
        for passage in batch:
            counts.documents += _plan(passage, sentences)
            counts.source_bytes += passage.source_bytes
            plans += passage.stream.planner.take_finished()
        last = batch[-1].stream
        waiting = [values[start : start + length] for start, length in last.planner.gathered]
        last.carried = np.concatenate(waiting) if waiting else values[:0]

        counts.examples = len(plans)
        counts.tokens = sum(plan.tokens for plan in plans)
        counts.dropped_tokens = sum(plan.dropped for plan in plans)
        vocabulary = self._tokenizer.vocabulary
        examples = assemble_examples(
            plans, values, self._max_seq_length, vocabulary.cls_id, vocabulary.sep_id
        )
        return Part(serialize_examples(examples), counts)


def _plan(passage: Passage, sentences: Iterator[tuple[int, int]]) -> int:
    """Feeds a passage's lines to its planner; returns the number of documents that began."""
    stream = passage.stream
    planner = stream.planner
    documents = 0
    for line in passage.lines:
        if line:
            if not stream.in_document:
                stream.in_document = True
                documents += 1
            planner.add_sentence(*next(sentences))
        elif passage.blanks_separate:
            planner.end_document()
            stream.in_document = False
    if passage.ends_document:
        planner.end_document()
        stream.in_document = False
    return documents
