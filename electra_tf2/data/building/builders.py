"""Passages of text -> tokens -> serialized examples or documents, many at a time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.data.segments import SegmentPlanner, StreamDraws
from electra_tf2.data.tfrecords import (
    Records,
    assemble_examples,
    serialize_documents,
    serialize_examples,
)
from electra_tf2.text.tokenizer import RaggedIds, Tokenizer
from electra_tf2.text.unknown import UnknownCounter

# Text is tokenized and encoded in batches of about this many characters: enough for the fixed
# costs of the array operations not to show, little enough to stay small in memory.
BATCH_CHARACTERS = 1 << 19


class ExampleStream:
    """A run of documents that share one random stream, one after the other.

    Args:
        max_seq_length: length of an example in tokens.
        split_long_lines: see `SegmentPlanner`.
        in_document: whether the first passage continues a document that was counted elsewhere.
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


class CorpusPassage(NamedTuple):
    """Consecutive lines of one document stream.

    Attributes:
        stream: the stream they belong to.
        lines: the lines, stripped of white space at both ends; empty ones included.
        blanks_separate: whether an empty line ends a document.
        ends_document: whether a document ends after the last line, as it does at the end of a file.
        source_bytes: bytes of the source that this passage completes, for the progress.
        bad: records among them that are left out, each with its place and what is wrong.
    """

    stream: ExampleStream
    lines: Sequence[str]
    blanks_separate: bool
    ends_document: bool
    source_bytes: int
    bad: tuple[str, ...] = ()


_NAMED_RECORDS = 5  # of those that are left out


@dataclasses.dataclass
class Counts:
    """What went in and came out.

    Attributes:
        documents: documents with at least one line that isn't blank.
        lines: lines that aren't blank.
        tokens: tokens of these lines, without [CLS] and [SEP].
        unknown_tokens, characters, unknown_characters, long_word_characters: see `UnknownText`.
        dropped_tokens: tokens that are in no example, for lack of room.
        example_tokens: tokens of the examples with [CLS] and [SEP]; the rest is padding.
        tokens_in_lines_over_128, tokens_in_lines_over_512: tokens of the lines that are longer than
            that many.
        examples: records written: examples, or documents and pieces of long ones.
        source_bytes: bytes of the source.
        bad_records: records that are left out.
        bad_places: the first ones of them, each with its place and what is wrong.
    """

    documents: int = 0
    lines: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    characters: int = 0
    unknown_characters: int = 0
    long_word_characters: int = 0
    dropped_tokens: int = 0
    example_tokens: int = 0
    tokens_in_lines_over_128: int = 0
    tokens_in_lines_over_512: int = 0
    examples: int = 0
    source_bytes: int = 0
    bad_records: int = 0
    bad_places: tuple[str, ...] = ()

    @classmethod
    def of_lines(cls, lines: Sequence[str], encoded: RaggedIds, counter: UnknownCounter) -> Counts:
        """Counts what is known of lines once they are tokenized."""
        return cls(lines=len(lines), **counter.count(lines, encoded)._asdict())

    def add(self, other: Counts) -> None:
        """Adds another's figures to these."""
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)
        self.bad_places = self.bad_places[:_NAMED_RECORDS]

    def add_source(self, passage: CorpusPassage) -> None:
        """Adds what a passage says of its source."""
        self.source_bytes += passage.source_bytes
        self.add_bad(passage.bad)

    def add_bad(self, places: Sequence[str]) -> None:
        """Adds records that are left out, each with its place and what is wrong."""
        self.bad_records += len(places)
        self.bad_places = (*self.bad_places, *places)[:_NAMED_RECORDS]

    @property
    def left_out(self) -> str:
        """How many records were left out, in words, and the first ones of them."""
        total = self.documents + self.bad_records
        more = "; …" if self.bad_records > len(self.bad_places) else ""
        places = "; ".join(self.bad_places)
        return f"{self.bad_records:,} of {total:,} documents were left out: {places}{more}"


class Part(NamedTuple):
    """Serialized records with the figures of the text that they come from."""

    records: Records
    counts: Counts


def passage_batches(passages: Iterable[CorpusPassage]) -> Iterator[list[CorpusPassage]]:
    """Yields passages in batches of about half a megabyte of text."""
    batch: list[CorpusPassage] = []
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
        tokenizer: makes token ids of lines.
        max_seq_length: length of an example in tokens.
    """

    def __init__(self, tokenizer: Tokenizer, max_seq_length: int):
        self._tokenizer = tokenizer
        self._counter = UnknownCounter(tokenizer)
        self._max_seq_length = max_seq_length

    def parts(self, passages: Iterable[CorpusPassage]) -> Iterator[Part]:
        """Yields the examples of passages, in order, in parts of about half a megabyte of text.

        Args:
            passages: the passages; those of one stream come one after the other, and the last one
                of a stream ends its document.
        """
        for batch in passage_batches(passages):
            yield self._build(batch)

    def _build(self, batch: Sequence[CorpusPassage]) -> Part:
        lines = [line for passage in batch for line in passage.lines if line]
        encoded = self._tokenizer.encode_lines(lines)
        # Only the first stream can have gathered sentences before, and only the last one after.
        carried = batch[0].stream.carried
        batch[0].stream.planner.relocate(0)
        values = np.concatenate([carried, encoded.values]) if len(carried) else encoded.values
        starts = (encoded.row_splits[:-1] + len(carried)).tolist()
        lengths = np.diff(encoded.row_splits).tolist()
        sentences = iter(zip(starts, lengths, strict=True))

        counts = Counts.of_lines(lines, encoded, self._counter)
        plans = []
        for passage in batch:
            counts.documents += _plan(passage, sentences)
            counts.add_source(passage)
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
        counts.example_tokens = int(examples.lengths.sum())
        return Part(serialize_examples(examples), counts)


def _plan(passage: CorpusPassage, sentences: Iterator[tuple[int, int]]) -> int:
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


# A document is cut after the sentence that brings it to this many tokens, and continues in another
# record: 128 examples of 128 tokens, 32 of 512. A record's examples lie close together in the order
# of training, which is mixed in windows; and the fewer the pieces, the fewer examples end early.
PIECE_TOKENS = 1 << 14


class _Open(NamedTuple):
    """What has been read of an unfinished document: token ids, and the sentences' lengths."""

    token_ids: np.ndarray
    lengths: list[int]


class DocumentBuilder:
    """Builds serialized documents from passages, for data sets whose examples training cuts."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._counter = UnknownCounter(tokenizer)

    def parts(self, passages: Iterable[CorpusPassage]) -> Iterator[Part]:
        """Yields the documents of passages, in order, in parts of about half a megabyte of text.

        Args:
            passages: see `RecordBuilder.parts`.
        """
        carried = _Open(np.zeros(0, np.int32), [])
        for batch in passage_batches(passages):
            part, carried = self._build(batch, carried)
            yield part

    def _build(self, batch: Sequence[CorpusPassage], carried: _Open) -> tuple[Part, _Open]:
        lines = [line for passage in batch for line in passage.lines if line]
        encoded = self._tokenizer.encode_lines(lines)
        counts = Counts.of_lines(lines, encoded, self._counter)
        counts.tokens = len(encoded.values)
        sizes = np.diff(encoded.row_splits)
        counts.tokens_in_lines_over_128 = int(sizes[sizes > 128].sum())
        counts.tokens_in_lines_over_512 = int(sizes[sizes > 512].sum())
        token_ids = np.concatenate([carried.token_ids, encoded.values])
        lengths = carried.lengths + sizes.tolist()
        ends = self._divide(batch, carried, lengths, counts)

        closed = ends[-1] if ends else 0
        token_splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        still_open = _Open(token_ids[token_splits[closed] :], lengths[closed:])
        # There is nothing to cut in a document of lines without tokens: the next one takes them.
        sizes = np.diff(token_splits[ends], prepend=0)
        splits = [0, *(end for end, size in zip(ends, sizes, strict=True) if size)]
        sentences = np.array(lengths[:closed], np.int64)
        sentence_splits = np.concatenate([[0], np.cumsum(sentences > 0)])[splits]
        records = serialize_documents(
            token_ids[: token_splits[closed]],
            token_splits[splits],
            sentences[sentences > 0],
            sentence_splits,
            len(self._tokenizer.vocabulary),
        )
        counts.examples = len(records.sizes)
        return Part(records, counts), still_open

    def _divide(
        self, batch: Sequence[CorpusPassage], carried: _Open, lengths: list[int], counts: Counts
    ) -> list[int]:
        """Returns the sentences at which records end, and counts documents and source bytes."""
        ends: list[int] = []
        sentence, tokens = len(carried.lengths), sum(carried.lengths)

        def close() -> None:
            nonlocal tokens
            tokens = 0
            if sentence > (ends[-1] if ends else 0):
                ends.append(sentence)

        for passage in batch:
            stream = passage.stream
            for line in [*passage.lines, None] if passage.ends_document else passage.lines:
                if line:
                    counts.documents += not stream.in_document
                    stream.in_document = True
                    tokens += lengths[sentence]
                    sentence += 1
                    if tokens >= PIECE_TOKENS:
                        close()
                elif line is None or passage.blanks_separate:
                    close()
                    stream.in_document = False
            counts.add_source(passage)
        return ends
