"""What a data set is built from: files, divided into tasks and passages.

Files are cut at places that depend on their content alone, so that the chunks, and what is made of
them, are the same for any number of processes.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from electra_tf2 import files
from electra_tf2.data.building.builders import CorpusPassage, ExampleStream
from electra_tf2.data.sources.chunks import CHUNK_BYTES, LARGEST_CHUNK_BYTES, Chunk, split_lines
from electra_tf2.data.sources.found import CorpusFile
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.data.sources.records import Batch

_CHUNKS_PER_TASK = 512


@dataclasses.dataclass(frozen=True)
class Corpus(abc.ABC):
    """What a data set is built from. Its files are divided into tasks, and these into passages.

    Attributes:
        files: the files, sorted by name.
        max_seq_length: length of an example in tokens.
        split_long_lines: see `SegmentPlanner`.
        seed: the seed of the random streams.
        as_plain_text: whether JSON lines, tables, HTML and XML are taken for the text that they
            are.
    """

    files: Sequence[CorpusFile]
    max_seq_length: int
    split_long_lines: bool = False
    seed: int = 0
    as_plain_text: bool = False

    @property
    def source_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def ends_documents_at_blanks(self) -> bool:
        """Whether empty lines end documents in any of the files."""
        return False

    def in_order(self) -> list[CorpusFile]:
        """The files in an order from the seed: the order of their examples."""
        return shuffled(self.files, random.Random(self.seed))

    def tasks(self) -> Iterator[Any]:
        """Yields the tasks of all files, which come in an order from the seed."""
        yield from self.tasks_of(self.in_order())

    @abc.abstractmethod
    def check(self) -> None:
        """Raises a `UserError` if a file can't be used, as far as a quick look shows."""

    @abc.abstractmethod
    def tasks_of(self, ordered: Iterable[CorpusFile]) -> Iterator[Any]:
        """Yields the tasks of some files, in the order given: what a worker takes at a time."""

    @abc.abstractmethod
    def passages(self, task: Any) -> Iterator[CorpusPassage]:
        """Yields the passages of a task, whose random streams are those of no other task."""

    @abc.abstractmethod
    def official_passages(self) -> Iterator[CorpusPassage]:
        """Yields all text as one stream, whose random draws are those of the official program."""

    def _stream(self, randomness: random.Random, in_document: bool = False) -> ExampleStream:
        return ExampleStream(
            randomness,
            self.max_seq_length,
            split_long_lines=self.split_long_lines,
            in_document=in_document,
        )


@dataclasses.dataclass(frozen=True)
class TextCorpus(Corpus):
    """Files of plain text, a sentence or paragraph per line, or of records that hold such text.

    Attributes:
        blanks_separate_docs: whether an empty line ends a document; None: in plain text it does,
            and a record is one document.
        text_field: the field of records that holds the text.
    """

    blanks_separate_docs: bool | None = None
    text_field: str = "text"

    @property
    def ends_documents_at_blanks(self) -> bool:
        """See `Corpus.ends_documents_at_blanks`."""
        if self.blanks_separate_docs is not None:
            return self.blanks_separate_docs
        return not all(self.reader.kind(file).has_records for file in self.files)

    @property
    def reader(self) -> CorpusReader:
        """What reads the files."""
        return CorpusReader(self.text_field, self.as_plain_text)

    def check(self) -> None:
        """Checks local files and, of remote ones, those with records; see `CorpusReader.check`.

        Raises:
            UserError: a file can't be read, is something else than its name says, is not UTF-8, or
                has no record with a text in the field.
        """
        for file in self.files:
            if files.is_local(file.path) or self.reader.kind(file).has_records:
                self.reader.check(file)

    def tasks_of(self, ordered: Iterable[CorpusFile]) -> Iterator[tuple[Chunk, ...]]:
        """Yields groups of chunks of about equal work."""
        group: list[Chunk] = []
        total = 0
        for file in ordered:
            for chunk in self._chunks(file):
                group.append(chunk)
                total += chunk.end - chunk.start
                if total >= CHUNK_BYTES or len(group) == _CHUNKS_PER_TASK:
                    yield tuple(group)
                    group, total = [], 0
        if group:
            yield tuple(group)

    def passages(self, task: tuple[Chunk, ...]) -> Iterator[CorpusPassage]:
        """Yields the text of chunks; every chunk has a random stream of its own."""
        for chunk in task:
            stream = self._stream(
                chunk_stream(self.seed, chunk.file.name, chunk.number), chunk.continues
            )
            yield from self._passages(stream, chunk, ends_document=True)

    def official_passages(self) -> Iterator[CorpusPassage]:
        """See `Corpus.official_passages`."""
        randomness = random.Random(self.seed)
        ordered = shuffled(self.files, randomness)
        stream = self._stream(randomness)
        for file in ordered:
            for chunk in self._chunks(file):
                yield from self._passages(stream, chunk, ends_document=chunk.end == file.size)

    def _chunks(self, file: CorpusFile) -> Iterator[Chunk]:
        chunks = self.reader.plan(file, at_blank_lines=self.blanks_separate_docs is not False)
        if self.reader.kind(file).has_records:  # each begins a document
            return (chunk._replace(continues=False) for chunk in chunks)
        return chunks

    def _passages(
        self, stream: ExampleStream, chunk: Chunk, *, ends_document: bool
    ) -> Iterator[CorpusPassage]:
        """Yields the text of a chunk; `ends_document`: plain text ends a document with it."""
        has_records = self.reader.kind(chunk.file).has_records
        for batch in self.reader.batches(chunk):
            if has_records:
                yield from self._record_passages(stream, chunk.file.path, batch)
            else:
                ends = ends_document and batch.is_last
                separate = self.blanks_separate_docs is not False
                lines = split_lines(batch.texts[0])
                yield CorpusPassage(stream, lines, separate, ends, batch.source_bytes)

    def _record_passages(
        self, stream: ExampleStream, path: str, batch: Batch
    ) -> Iterator[CorpusPassage]:
        """Yields records, a long one in parts, as plain text with an empty line after each."""
        bad = batch.bad_places(path)
        unreported = batch.source_bytes
        lines: list[str] = []
        characters = 0
        for text in batch.texts:
            for line in itertools.chain(split_lines(text), [None]):
                if line or line is None or self.blanks_separate_docs:
                    lines.append(line or "")
                    characters += len(lines[-1])
                if characters >= LARGEST_CHUNK_BYTES:
                    yield CorpusPassage(stream, lines, True, False, unreported, bad)
                    lines, characters, unreported, bad = [], 0, 0, ()
        yield CorpusPassage(stream, lines, True, False, unreported, bad)


def shuffled(ordered: Sequence[CorpusFile], randomness: random.Random) -> list[CorpusFile]:
    """Returns the files in an order drawn from a random stream."""
    result = list(ordered)
    randomness.shuffle(result)
    return result


def chunk_stream(seed: int, name: str, number: int) -> random.Random:
    """The random stream of a chunk: a function of seed, file name and chunk number alone."""
    # A name that is not UTF-8 has surrogates, which `random` would refuse to encode.
    return random.Random(f"{seed}/{name}/{number}".encode("utf-8", "surrogateescape"))
