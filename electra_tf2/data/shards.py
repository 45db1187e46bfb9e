"""The files of a data set: shards of records, and `metadata.json`, which says what they hold.

Training compares the metadata with its own settings before the model is built. They are written
last, so a folder that has them is complete.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

from electra_tf2 import files
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError
from electra_tf2.stored_json import bad_field, parse_record
from electra_tf2.text.wordpiece import MAX_WORD_CHARACTERS

METADATA = "metadata.json"

_BUFFERED_BYTES = 64 << 20
_SYNC_THREADS = 8
_WHAT = "The metadata of the data set"
_REBUILD = "Rebuild the data with build_pretraining_dataset.py."


class RecordKind(NamedTuple):
    """What the records of a data set are.

    Attributes:
        name: what a data set consists of.
        noun: the name of the records, among which each piece of a very long document counts.
        title: what is built, with a place for the length of examples.
        has_length: whether the records have a length, `max_seq_length`.
        counts: the figures of their text that are known when they are built.
        format_version: version of `metadata.json`; programs that know only examples refuse
            documents by it.
    """

    name: str
    noun: str
    title: str
    has_length: bool
    counts: tuple[str, ...]
    format_version: int


TEXT_COUNTS = ("documents", "lines", "tokens")
_UNKNOWN_COUNTS = ("unknown_tokens", "characters", "unknown_characters", "long_word_characters")

# By segmentation: "static" where training takes examples as they are, "dynamic" where it cuts them
# from documents.
RECORD_KINDS = {
    "static": RecordKind(
        name="examples",
        noun="examples",
        title="examples of {} tokens",
        has_length=True,
        counts=(*TEXT_COUNTS, *_UNKNOWN_COUNTS, "dropped_tokens", "example_tokens"),
        format_version=1,
    ),
    "dynamic": RecordKind(
        name="documents",
        noun="records",
        title="tokenized documents",
        has_length=False,
        counts=(
            *TEXT_COUNTS,
            *_UNKNOWN_COUNTS,
            "tokens_in_lines_over_128",
            "tokens_in_lines_over_512",
        ),
        format_version=2,
    ),
}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
        name: the file's name in the folder.
        examples: number of its records.
        bytes: its size.
    """

    name: str
    examples: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
    """What a data set holds. Equal builds have equal metadata: there is no time or host in it.

    Attributes:
        vocab_sha256: `Vocabulary.sha256` of the vocabulary.
        vocab_size: number of its pieces.
        max_seq_length: length of every example in tokens; 0 for documents.
        do_lower_case: whether the tokenizer lower-cased.
        strip_accents: whether it stripped accents (which it only does where it lower-cases).
        blanks_separate_docs: whether blank lines ended documents.
        sampling: "chunked", or "official" for the official program's random stream.
        seed: the seed of the random streams.
        num_examples: number of records in all shards: of examples, or of documents, where pieces of
            a very long one count as documents.
        shards: the files, in order.
        counts: what went in: `files` (archives for OpenWebText) and the `counts` of the kind, see
            `builders.Counts`. Data sets of older versions lack some.
        electra_tf2_version: the version that built the set.
        split_long_lines: whether what doesn't fit into an example is carried into the next.
        max_word_characters: characters of the longest word that the tokenizer split.
        segmentation: which of `RECORD_KINDS` the records are.
        format_version: version of this file's format.
    """

    vocab_sha256: str
    vocab_size: int
    max_seq_length: int
    do_lower_case: bool
    strip_accents: bool
    blanks_separate_docs: bool
    sampling: str
    seed: int
    num_examples: int
    shards: tuple[Shard, ...]
    counts: Mapping[str, int]
    electra_tf2_version: str
    split_long_lines: bool = False
    max_word_characters: int = MAX_WORD_CHARACTERS
    segmentation: str = "static"
    format_version: int = RECORD_KINDS["static"].format_version

    @property
    def kind(self) -> RecordKind:
        """What the records are."""
        return RECORD_KINDS[self.segmentation]


def write_metadata(directory: str, metadata: DatasetMetadata) -> None:
    """Writes `metadata.json` in one step.

    Raises:
        OSError: the file can't be written.
    """
    content = {"format_version": metadata.format_version} | dataclasses.asdict(metadata)
    files.write_json(os.path.join(directory, METADATA), content)


def read_metadata(directory: str) -> DatasetMetadata | None:
    """Reads `metadata.json`.

    Args:
        directory: the folder of the shards; empty for the working directory.

    Returns:
        What it says, or None where there is no such file (the official program writes none).

    Raises:
        UserError: the file can't be read, is not JSON, is of a newer format, or lacks a field.
    """
    path = os.path.join(directory, METADATA)
    if not files.exists(path):
        return None
    content = files.read_json(path, _WHAT, _REBUILD)
    version, segmentation = content.get("format_version"), content.get("segmentation", "static")
    if (segmentation, version) not in (
        known := [(name, kind.format_version) for name, kind in RECORD_KINDS.items()]
    ):
        raise UserError(
            "The metadata of the data set has a format that this version doesn't know.",
            where=path,
            received=f"format_version {version!r} with segmentation {segmentation!r}; this version "
            "reads " + " and ".join(f"{number} ({name})" for name, number in known),
            remedy="Use the electra-tf2 that built the data, or rebuild them with this one.",
        )
    metadata = parse_record(DatasetMetadata, content, path, _WHAT, _REBUILD)
    for field, number in _sizes(metadata).items():
        if number < 0:
            raise bad_field(path, _WHAT, _REBUILD, field, f"{number}, which is below 0")
    if sum(shard.examples for shard in metadata.shards) != metadata.num_examples:
        received = f"{metadata.num_examples}, which is not the sum of the shards' examples"
        raise bad_field(path, _WHAT, _REBUILD, "num_examples", received)
    return metadata


def _sizes(metadata: DatasetMetadata) -> dict[str, int]:
    """The numbers that can't be negative, by their places in the file."""
    sizes = {
        name: getattr(metadata, name)
        for name in ("vocab_size", "max_seq_length", "max_word_characters")
    }
    sizes.update({f"counts.{name}": count for name, count in metadata.counts.items()})
    for i, shard in enumerate(metadata.shards):
        sizes.update(
            {f"shards[{i}].{name}": getattr(shard, name) for name in ("examples", "bytes")}
        )
    return sizes


def combine_metadata(parts: Iterable[DatasetMetadata | None]) -> DatasetMetadata | None:
    """Returns the metadata of data sets that were built alike as those of one.

    Args:
        parts: the data sets' own; None for one that has none, such as records of the official
            program.

    Returns:
        The settings of the first that has metadata, and the sums over all that have. `counts` are
        those that all state, so of data sets without metadata among others none. None if none has
        metadata.
    """
    parts = list(parts)
    known = [own for own in parts if own is not None]
    if not known:
        return None
    stored = [set() if own is None else set(own.counts) for own in parts]
    names = set.intersection(*stored)
    if names:  # only what lacks some of its records states these
        names |= {"bad_records"} & set.union(*stored)
    return dataclasses.replace(
        known[0],
        num_examples=sum(own.num_examples for own in known),
        shards=tuple(shard for own in known for shard in own.shards),
        counts={name: sum(own.counts.get(name, 0) for own in known) for name in sorted(names)},
    )


def shard_name(index: int, num_shards: int) -> str:
    """The name of a shard, as the official program has it."""
    return f"pretrain_data.tfrecord-{index}-of-{num_shards}"


def shard_examples(total: int, index: int, num_shards: int) -> int:
    """How many of `total` examples, dealt in turn, a shard has."""
    return total // num_shards + (index < total % num_shards)


class DealtRecords:
    """Records in memory, dealt to shards in turn, so that neighbours in the corpus part.

    Attributes:
        buffers: the records of each shard, framed, in order.
        num_examples: how many records have been dealt.
        size: their bytes since the last `clear`.
    """

    def __init__(self, num_shards: int):
        self.buffers = [bytearray() for _ in range(num_shards)]
        self.num_examples = 0
        self.size = 0

    def deal(self, records: Records) -> None:
        """Deals the next records, from the shard after the last one on."""
        shard = self.num_examples % len(self.buffers)
        view = memoryview(records.data)
        start = 0
        for end in np.cumsum(records.sizes).tolist():
            self.buffers[shard] += view[start:end]
            start = end
            shard += 1
            if shard == len(self.buffers):
                shard = 0
        self.num_examples += len(records.sizes)
        self.size += len(records.data)

    def clear(self) -> None:
        """Empties the buffers; the turn stays where it is."""
        for buffer in self.buffers:
            buffer.clear()
        self.size = 0


class ShardWriter:
    """Deals records to the files of a data set.

    Records wait in memory, 64 MB in all, and are appended to the files many at a time. Local files
    are open only while that happens: a thousand shards are more than many systems let a process
    have open.

    Args:
        directory: an existing folder.
        num_shards: number of files; all are made, even those that get no record.

    Raises:
        OSError: a file can't be made; later, from the methods: it can't be written.
    """

    def __init__(self, directory: str, num_shards: int):
        self._paths = [
            os.path.join(directory, shard_name(index, num_shards)) for index in range(num_shards)
        ]
        self._dealt = DealtRecords(num_shards)
        self._sizes = [0] * num_shards
        self._remote: dict[str, BinaryIO] = {}
        for path in self._paths:
            self._append(path, b"")

    def write(self, records: Records) -> None:
        """Writes the next framed records."""
        self._dealt.deal(records)
        if self._dealt.size >= _BUFFERED_BYTES:
            self._flush()

    def finish(self) -> tuple[Shard, ...]:
        """Writes what waits, and returns when all is on the disk.

        Returns:
            The shards with their counts and sizes.
        """
        self._flush()
        for path, file in self._remote.items():
            with files.reported_as_os_errors(path):
                file.close()
        with concurrent.futures.ThreadPoolExecutor(_SYNC_THREADS) as threads:
            list(threads.map(files.sync, self._paths))
        count = len(self._paths)
        return tuple(
            Shard(
                name=os.path.basename(path),
                examples=shard_examples(self._dealt.num_examples, index, count),
                bytes=self._sizes[index],
            )
            for index, path in enumerate(self._paths)
        )

    def _flush(self) -> None:
        for index, (path, buffer) in enumerate(zip(self._paths, self._dealt.buffers, strict=True)):
            if buffer:
                self._append(path, bytes(buffer))
                self._sizes[index] += len(buffer)
        self._dealt.clear()

    def _append(self, path: str, content: bytes) -> None:
        if files.is_local(path):
            with open(path, "ab") as file:
                file.write(content)
            return
        with files.reported_as_os_errors(path):
            if path not in self._remote:  # object stores can't append to a finished file
                self._remote[path] = files.open_binary(path, "wb")
            self._remote[path].write(content)
