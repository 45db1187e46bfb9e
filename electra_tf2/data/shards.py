"""Dealing serialized examples to the TFRecord files of a data set."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from electra_tf2 import files
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError

# `metadata.json`: what a folder of pre-training shards holds and how it was built.
#
# Training compares it with its own settings before the model is built. The file is written last,
# so a folder that has it is complete.


FILE_NAME = "metadata.json"
# By segmentation. Programs that know examples only refuse documents by their version.
FORMAT_VERSIONS = {"static": 1, "dynamic": 2}

_BUILD_AGAIN = "Build the data again with build_pretraining_dataset.py."


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
        name: The file's name in the folder.
        examples: Number of its records.
        bytes: Its size.
    """

    name: str
    examples: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
    """What a data set holds. Equal builds have equal metadata: there is no time or host in it.

    Attributes:
        vocab_sha256: `Vocabulary.sha256` of the vocabulary.
        vocab_size: Number of its pieces.
        max_seq_length: Length of every example in tokens; 0 for documents.
        do_lower_case: Whether the tokenizer lower-cased.
        strip_accents: Whether it stripped accents (which it only does where it lower-cases).
        blanks_separate_docs: Whether blank lines ended documents.
        sampling: "chunked", or "official" for the official program's random stream.
        seed: The seed of the random streams.
        num_examples: Number of records in all shards: of examples, or of documents, where pieces of
            a very long one count as documents.
        shards: The files, in order.
        counts: What went in: `files` (archives for OpenWebText), `documents`, `lines` (that are
            not blank), `tokens`, `dropped_tokens` (not for documents).
        split_long_lines: Whether lines that don't fit an example go on in the next.
        electra_tf2_version: The version that built the set.
        segmentation: "static" where the records are examples, "dynamic" where they are documents,
            from which training cuts examples.
        format_version: Version of this file's format.
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
    segmentation: str = "static"
    format_version: int = FORMAT_VERSIONS["static"]


def write_metadata(directory: str, metadata: DatasetMetadata) -> None:
    """Writes `metadata.json`: a temporary name first, then renamed.

    Args:
        directory: The folder of the shards.
        metadata: What to write.

    Raises:
        OSError: The file can't be written.
    """
    path = os.path.join(directory, FILE_NAME)
    content = {"format_version": metadata.format_version} | dataclasses.asdict(metadata)
    temporary = path + ".partial"
    with files.reported_as_os_errors(path), files.open_binary(temporary, "wb") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode("utf-8"))
    files.sync(temporary)
    files.rename(temporary, path)


def read_metadata(directory: str) -> DatasetMetadata | None:
    """Reads `metadata.json`.

    Args:
        directory: The folder of the shards; empty for the working directory.

    Returns:
        What it says, or None where there is no such file (the official program writes none).

    Raises:
        UserError: The file can't be read, is not JSON, is of a newer format, or lacks a field.
    """
    path = os.path.join(directory, FILE_NAME)
    if not files.exists(path):
        return None
    try:
        content = json.loads(files.read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise UserError(
            "The metadata of the data set can't be read.",
            where=path,
            received=error.strerror or str(error),
            remedy="Make the file readable, or build the data again.",
        ) from error
    except ValueError as error:
        raise UserError(
            "The metadata of the data set is not JSON.",
            where=path,
            received=str(error),
            remedy=_BUILD_AGAIN,
        ) from error
    return _from_json(content, path)


def _from_json(content: Any, path: str) -> DatasetMetadata:
    if not isinstance(content, dict):
        raise _damaged(path, f"a JSON {type(content).__name__} instead of an object")
    version = content.get("format_version")
    if version != FORMAT_VERSIONS.get(content.get("segmentation", "static")):
        known = " and ".join(f"{number} ({name})" for name, number in FORMAT_VERSIONS.items())
        raise UserError(
            "The data set's metadata is of a format that this version doesn't know.",
            where=path,
            received=f"format_version {version!r} with segmentation "
            f"{content.get('segmentation', 'static')!r}; this version reads {known}",
            remedy="Use the electra-tf2 that built the data, or build it again with this one.",
        )
    values = {}
    for field in dataclasses.fields(DatasetMetadata):
        if field.name in content:
            values[field.name] = _checked(field.name, content[field.name], path)
        elif field.default is dataclasses.MISSING:
            raise _damaged(path, f"no field {field.name}")
    metadata = DatasetMetadata(**values)
    if sum(shard.examples for shard in metadata.shards) != metadata.num_examples:
        raise _damaged(path, "num_examples is not the sum of the shards' examples")
    return metadata


def _checked(name: str, value: Any, path: str) -> Any:
    """Converts one field's value; raises where it has the wrong type."""
    if name == "shards":
        shard_fields = {"name": str, "examples": int, "bytes": int}
        well_formed = isinstance(value, list) and all(
            isinstance(shard, dict)
            and shard.keys() == shard_fields.keys()
            and all(type(shard[key]) is kind for key, kind in shard_fields.items())
            for shard in value
        )
        if not well_formed:
            raise _damaged(path, "shards is not a list of {name, examples, bytes}")
        return tuple(Shard(**shard) for shard in value)
    if name == "counts":
        if not isinstance(value, dict) or not all(type(n) is int for n in value.values()):
            raise _damaged(path, "counts is not an object of integers")
        return value
    annotation = DatasetMetadata.__dataclass_fields__[name].type
    if type(value).__name__ != annotation:
        raise _damaged(path, f"{name} is {value!r}, which is not of type {annotation}")
    return value


def _damaged(path: str, received: str) -> UserError:
    return UserError(
        "The metadata of the data set is damaged.",
        where=path,
        received=received,
        remedy=_BUILD_AGAIN,
    )


_BUFFERED_BYTES = 64 << 20
_SYNC_THREADS = 8


def shard_name(index: int, num_shards: int) -> str:
    """The name of a shard, as the official program has it."""
    return f"pretrain_data.tfrecord-{index}-of-{num_shards}"


def shard_examples(total: int, index: int, num_shards: int) -> int:
    """How many of `total` examples, dealt in turn, a shard has."""
    return total // num_shards + (index < total % num_shards)


class DealtRecords:
    """Records in memory, dealt to shards in turn, so that neighbours in the corpus part.

    Args:
        num_shards: Number of shards.

    Attributes:
        buffers: The records of each shard, framed, in order.
        num_examples: How many records have been dealt.
        size: Their bytes since the last `clear`.
    """

    def __init__(self, num_shards: int):
        self.buffers = [bytearray() for _ in range(num_shards)]
        self.num_examples = 0
        self.size = 0

    def deal(self, records: Records) -> None:
        """Deals the next records; goes on at the shard after the last one."""
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
        directory: An existing folder.
        num_shards: Number of files; all are made, even those that get no record.

    Raises:
        OSError: A file can't be made; later, from the methods: it can't be written.
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
        """Writes the next records.

        Args:
            records: Framed records, in order.
        """
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
