"""The files of a Beam job: pieces that become shards, and the folder that its workers share.

The plain builder deals all examples to the shards in turn. Where many workers build, none knows how
many examples come before its own, so each deals its examples to groups, beginning at group 0, and
writes them to a file, a piece, group by group. Once all pieces are there, so are the numbers of
their examples: where a piece's first example belongs to shard s, its group g belongs to shard
s + g, modulo the number of shards. A shard is these groups, one of each piece, in the order of the
pieces: byte for byte the plain builder's.

A piece begins with the offsets of its groups, and of its end, in 8 bytes each (little-endian).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import traceback
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from electra_tf2 import files, outputs
from electra_tf2.data.building.builders import Counts, Part
from electra_tf2.data.shards import DealtRecords, Shard, shard_examples, shard_name
from electra_tf2.data.sources.found import CorpusFile
from electra_tf2.errors import UserError, as_user_error

PIECE_BYTES = 64 << 20  # as much as the plain builder keeps in memory
STRETCH_FILES = 4096  # so that a corpus of small files is planned by more than one worker
NOT_SHARED = "A Beam worker doesn't see the output folder."
_OFFSET = np.dtype("<u8")
_LIST = "files.jsonl"
_CRASH = "crash"
_ERRORS = "errors"
_RESULT = "result.json"
_PARTIAL = ".partial"


class WrittenPiece(NamedTuple):
    """A written piece.

    Attributes:
        place: where its examples stand among all: pieces are in the order of their places.
        path: the file.
        counts: the figures of its text.
    """

    place: tuple[int, ...]
    path: str
    counts: Counts


class Layout(NamedTuple):
    """All pieces, in order.

    Attributes:
        paths: their files.
        starts: for each, the number of examples before it.
        counts: the figures of all text.
    """

    paths: tuple[str, ...]
    starts: tuple[int, ...]
    counts: Counts


def write_pieces(
    parts: Iterable[Part], folder: str, place: tuple[int, ...], num_shards: int, piece_bytes: int
) -> Iterator[WrittenPiece]:
    """Writes the examples of a slice of the corpus.

    Files have new names in every attempt: Beam may run a step several times, even at the same time,
    and keeps the result of one.

    Args:
        parts: the examples, in order.
        folder: where the files go.
        place: the slice's place.
        num_shards: number of shards.
        piece_bytes: a piece is ended when it has this many bytes.

    Yields:
        The pieces, whose places begin with the slice's.

    Raises:
        OSError: a file can't be written; it has been removed.
    """
    dealt, counts, number = DealtRecords(num_shards), Counts(), 0
    for part in parts:
        dealt.deal(part.records)
        counts.add(part.counts)
        if dealt.size >= piece_bytes:
            yield WrittenPiece((*place, number), _write_piece(dealt, folder), counts)
            dealt, counts, number = DealtRecords(num_shards), Counts(), number + 1
    if counts != Counts():
        yield WrittenPiece((*place, number), _write_piece(dealt, folder), counts)


def lay_out(pieces: Iterable[WrittenPiece]) -> Layout:
    """Puts pieces in order and adds up their figures."""
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
        layout: the pieces.
        index: the shard's number, from 0.
        num_shards: number of shards.
        directory: where the shard goes; it has its name there when all of it is on the disk.
        folder: where it is until then.

    Returns:
        The shard.

    Raises:
        UserError: a piece is gone or has become shorter.
        OSError: the shard can't be written.
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
        raise _damaged(path, files.reason(error)) from error


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
    with contextlib.suppress(OSError):  # the error that led here is the one to report
        files.remove(path)


class Stretch(NamedTuple):
    """Consecutive files of the corpus, in the order of their examples.

    Attributes:
        number: its place among the stretches, from 0.
        start: the byte at which it begins in the list of files.
        size: its bytes in that list.
    """

    number: int
    start: int
    size: int


@dataclasses.dataclass(frozen=True)
class JobFolder:
    """The folder through which a Beam job and the program that started it talk.

    It lies in the temporary output folder, which all workers must see. The program writes the list
    of the corpus files into it; workers write pieces, a file for each error, and in the end the
    result. Errors go this way, not through Beam: a runner would retry a failing step a few times,
    and then report it in a traceback of its own.

    Attributes:
        directory: the folder that the shards go to, in which this one lies.
        output_dir: the output folder as the user knows it, for messages.
    """

    directory: str
    output_dir: str

    @property
    def path(self) -> str:
        """The folder."""
        return os.path.join(self.directory, ".beam")

    @property
    def pieces(self) -> str:
        """The folder in it for pieces and unfinished shards."""
        return os.path.join(self.path, "pieces")

    def make(self, ordered: Iterable[CorpusFile], stretch_bytes: int) -> list[Stretch]:
        """Makes the folder and writes the list of files.

        Args:
            ordered: the corpus files, in the order of their examples.
            stretch_bytes: a stretch is ended when its files have this many bytes.

        Returns:
            The stretches.
        """
        for folder in (self.pieces, os.path.join(self.path, _ERRORS)):
            files.make_dirs(folder)
        stretches = []
        start = end = total = count = 0
        path = os.path.join(self.path, _LIST)
        with files.reported_as_os_errors(path), files.open_binary(path, "wb") as listing:
            for file in ordered:
                end += _write_line(listing, file)
                total, count = total + file.size, count + 1
                if total >= stretch_bytes or count == STRETCH_FILES:
                    stretches.append(Stretch(len(stretches), start, end - start))
                    start, total, count = end, 0, 0
        if end > start:
            stretches.append(Stretch(len(stretches), start, end - start))
        return stretches

    def check(self) -> None:
        """Raises a `UserError` where this folder can't be seen."""
        if not files.exists(os.path.join(self.path, _LIST)):
            raise self.not_shared()

    def not_shared(self) -> UserError:
        """The error for a worker that doesn't see this folder."""
        return UserError(
            NOT_SHARED,
            where="--output-dir",
            received=self.output_dir,
            remedy="Give a folder of a network file system or of an object store that all workers "
            "reach under the same path, and the corpus likewise.",
        )

    def files_of(self, stretch: Stretch) -> list[CorpusFile]:
        """Reads a stretch's part of the list of files."""
        path = os.path.join(self.path, _LIST)
        with files.reported_as_os_errors(path), files.open_binary(path) as listing:
            listing.seek(stretch.start)
            lines = listing.read(stretch.size).splitlines()
        return [CorpusFile(*json.loads(line)) for line in lines]

    @contextlib.contextmanager
    def errors_reported(self, place: tuple[int, ...]) -> Iterator[None]:
        """A context in which an error ends up in an error file, and the step without a result.

        Args:
            place: where in the corpus; of several errors the first one in the corpus is shown.
        """
        name = os.path.join(_ERRORS, "-".join(f"{number:012}" for number in place))
        try:
            with outputs.output_errors_explained(self.output_dir):
                yield
        except Exception as error:
            self._write_json(name, _described(error))

    def has_failed(self) -> bool:
        """Whether a worker has reported an error."""
        return bool(self._reported())

    def raise_reported(self) -> None:
        """Raises the first error that a worker has reported, if any.

        Raises:
            UserError: a worker raised it, or had not enough memory or disk.
            RuntimeError: a worker raised anything else; the message holds its traceback.
        """
        for name in self._reported():
            content = self._read_json(os.path.join(_ERRORS, name))
            if _CRASH in content:
                raise RuntimeError(f"A Beam worker failed:\n{content[_CRASH]}")
            raise UserError(**content)

    def write_result(self, counts: Counts, shards: Iterable[Shard]) -> None:
        """Writes what was built."""
        content = {
            "counts": dataclasses.asdict(counts),
            "shards": [dataclasses.asdict(shard) for shard in shards],
        }
        self._write_json(_RESULT, content)

    def read_result(self) -> tuple[Counts, tuple[Shard, ...]] | None:
        """Returns the figures and the shards, in order; None where there is no result."""
        if not files.exists(os.path.join(self.path, _RESULT)):
            return None
        content = self._read_json(_RESULT)
        counts = Counts(**content["counts"])
        counts.bad_places = tuple(counts.bad_places)  # a list in JSON
        return counts, tuple(Shard(**shard) for shard in content["shards"])

    def remove(self) -> None:
        """Removes the folder."""
        files.remove_tree(self.path, ignore_errors=True)

    def _reported(self) -> list[str]:
        names = files.list_dir(os.path.join(self.path, _ERRORS))
        return [name for name in names if not name.endswith(_PARTIAL)]

    def _write_json(self, name: str, content: Any) -> None:
        path = os.path.join(self.path, name)
        temporary = f"{path}.{uuid.uuid4().hex}{_PARTIAL}"
        with files.reported_as_os_errors(path):
            with files.open_binary(temporary, "wb") as file:
                file.write(json.dumps(content).encode("ascii"))
        files.rename(temporary, path)

    def _read_json(self, name: str) -> Any:
        return json.loads(files.read_bytes(os.path.join(self.path, name)))


def _described(error: Exception) -> dict[str, str | None]:
    """An error's fields in JSON, or the traceback of a bug."""
    known = as_user_error(error)
    if known is None:
        return {_CRASH: traceback.format_exc()}
    received = known.received
    if received is not None and not isinstance(received, str):
        received = repr(received)
    return {"what": known.what, "where": known.where, "received": received, "remedy": known.remedy}


def _write_line(listing: BinaryIO, file: CorpusFile) -> int:
    """Writes a file's line; returns its size. Workers don't share the working directory."""
    path = os.path.abspath(file.path) if files.is_local(file.path) else file.path
    # ASCII with escapes: a name that is not UTF-8 comes back as it was.
    line = json.dumps([file.name, path, file.size]).encode("ascii") + b"\n"
    listing.write(line)
    return len(line)
