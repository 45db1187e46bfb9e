"""From the examples of stretches of a corpus to the shards of the plain builder.

The plain builder deals all examples to the shards in turn. Where many workers build, none knows how
many examples come before its own, so each deals its examples to groups, beginning at group 0, and
writes them to a file, a piece, group by group. Once all pieces are there, so are the numbers of
their examples: where a piece's first example belongs to shard s, its group g belongs to shard
s + g, modulo the number of shards. A shard is these groups, one of each piece, in the order of the
pieces: byte for byte the plain builder's.

A piece begins with the offsets of its groups, and of its end, in 8 bytes each (little-endian).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from electra_tf2.data import files
from electra_tf2.data.metadata import Shard
from electra_tf2.data.record_builder import Counts, Part
from electra_tf2.data.shards import DealtRecords, shard_examples, shard_name
from electra_tf2.errors import UserError

PIECE_BYTES = 64 << 20  # as much as the plain builder keeps in memory
_OFFSET = np.dtype("<u8")


class Piece(NamedTuple):
    """A written piece.

    Attributes:
        place: Where its examples stand among all: pieces are in the order of their places.
        path: The file.
        counts: The figures of its text.
    """

    place: tuple[int, ...]
    path: str
    counts: Counts


class Layout(NamedTuple):
    """All pieces, in order.

    Attributes:
        paths: Their files.
        starts: For each, the number of examples before it.
        counts: The figures of all text.
    """

    paths: tuple[str, ...]
    starts: tuple[int, ...]
    counts: Counts


def write_pieces(
    parts: Iterable[Part], folder: str, place: tuple[int, ...], num_shards: int, piece_bytes: int
) -> Iterator[Piece]:
    """Writes the examples of a slice of the corpus.

    Files have names of their own in every attempt: Beam may run a step several times, also at the
    same time, and keeps the result of one.

    Args:
        parts: The examples, in order.
        folder: Where the files go.
        place: The slice's place.
        num_shards: Number of shards.
        piece_bytes: A piece is ended when it has this many bytes.

    Yields:
        The pieces, whose places begin with the slice's.

    Raises:
        OSError: A file can't be written; it has been removed.
    """
    dealt, counts, number = DealtRecords(num_shards), Counts(), 0
    for part in parts:
        dealt.deal(part.records)
        counts.add(part.counts)
        if dealt.size >= piece_bytes:
            yield Piece((*place, number), _write_piece(dealt, folder), counts)
            dealt, counts, number = DealtRecords(num_shards), Counts(), number + 1
    if counts != Counts():
        yield Piece((*place, number), _write_piece(dealt, folder), counts)


def lay_out(pieces: Iterable[Piece]) -> Layout:
    """Puts pieces in order and adds their figures up."""
    ordered = sorted(pieces, key=lambda piece: piece.place)
    starts = []
    counts = Counts()
    for piece in ordered:
        starts.append(counts.examples)
        counts.add(piece.counts)
    return Layout(tuple(piece.path for piece in ordered), tuple(starts), counts)


def write_shard(layout: Layout, index: int, num_shards: int, directory: str, folder: str) -> Shard:
    """Puts a shard together.

    Args:
        layout: The pieces.
        index: The shard's number, from 0.
        num_shards: Number of shards.
        directory: Where the shard goes; it has its name there when all of it is on the disk.
        folder: Where it is until then.

    Returns:
        The shard.

    Raises:
        UserError: A piece is gone or has become shorter.
        OSError: The shard can't be written.
    """
    name = shard_name(index, num_shards)
    temporary = os.path.join(folder, f"{name}.{uuid.uuid4().hex}")
    size = 0
    try:
        with files.reported_as_os_errors(temporary), files.open_binary(temporary, "wb") as shard:
            for path, start in zip(layout.paths, layout.starts, strict=True):
                group = _read_group(path, (index - start) % num_shards)
                shard.write(group)
                size += len(group)
        files.sync(temporary)
        files.rename(temporary, os.path.join(directory, name))
    except BaseException:
        _remove_if_there(temporary)
        raise
    return Shard(name, shard_examples(layout.counts.examples, index, num_shards), size)


def _write_piece(dealt: DealtRecords, folder: str) -> str:
    path = os.path.join(folder, f"piece-{uuid.uuid4().hex}")
    sizes = [_OFFSET.itemsize * (len(dealt.buffers) + 1), *map(len, dealt.buffers)]
    try:
        with files.reported_as_os_errors(path), files.open_binary(path, "wb") as file:
            file.write(np.cumsum(sizes).astype(_OFFSET).tobytes())
            for buffer in dealt.buffers:
                if buffer:
                    file.write(bytes(buffer))
    except BaseException:
        _remove_if_there(path)
        raise
    return path


def _read_group(path: str, group: int) -> bytes:
    try:
        with files.reported_as_os_errors(path), files.open_binary(path) as file:
            file.seek(_OFFSET.itemsize * group)
            start, end = np.frombuffer(_read(file, path, 2 * _OFFSET.itemsize), _OFFSET).tolist()
            file.seek(start)
            return _read(file, path, end - start)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def _read(file: BinaryIO, path: str, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise _damaged(path, f"{len(content)} bytes where there were {size}")
    return content


def _damaged(path: str, received: str) -> UserError:
    return UserError(
        "An intermediate file of the build is gone or damaged.",
        where=path,
        received=received,
        remedy="Leave the output folder alone while the data set is built, and run the same "
        "command again.",
    )


def _remove_if_there(path: str) -> None:
    try:
        files.remove(path)
    except OSError:
        pass  # what made the removal necessary is what has to be reported
