"""A folder of text files, cut into chunks of whole documents.

Lines end only at "\\n". Files are cut at places that depend on their content alone, so that the
chunks, and what is made of them, are the same for any number of processes.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from electra_tf2 import files
from electra_tf2.data.builders import CorpusPassage, ExampleStream
from electra_tf2.errors import UserError, shell_quoted
from electra_tf2.text.plain_text import check_plain_text, is_blank, not_utf8

CHUNK_BYTES = 1 << 19
# A document without a blank line for this long is cut at the end of a line: a chunk is read whole.
LARGEST_CHUNK_BYTES = 8 * CHUNK_BYTES
_CHECKED_BLOCK_BYTES = 1 << 22
_CHUNKS_PER_TASK = 512


class CorpusFile(NamedTuple):
    """A file: its `name` relative to the corpus folder, its `path` and its `size` in bytes."""

    name: str
    path: str
    size: int


class Chunk(NamedTuple):
    """A part of a file from a line's start to a line's end.

    Attributes:
        file: the file.
        number: the chunk's place in the file, from 0.
        start: its first byte.
        end: the byte after its last.
        continues: whether its first line continues a document of the chunk before.
    """

    file: CorpusFile
    number: int
    start: int
    end: int
    continues: bool


@dataclasses.dataclass(frozen=True)
class Corpus(abc.ABC):
    """What a data set is built from. Its files are divided into tasks, and these into passages.

    Attributes:
        files: the files, sorted by name.
        max_seq_length: length of an example in tokens.
        split_long_lines: see `SegmentPlanner`.
        seed: the seed of the random streams.
        as_plain_text: whether JSON lines, HTML and XML are taken for the text that they are.
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

    def in_order(self) -> list[CorpusFile]:
        """The files in an order from the seed: the order of their examples."""
        return shuffled(self.files, random.Random(self.seed))

    def tasks(self) -> Iterator[Any]:
        """Yields the tasks of all files, which come in an order from the seed."""
        yield from self.tasks_of(self.in_order())

    @abc.abstractmethod
    def check(self) -> None:
        """Raises a `UserError` if a local file can't be used, as far as a quick look shows."""

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
    """Text files with a sentence or paragraph per line.

    Attributes:
        blanks_separate_docs: whether an empty line ends a document.
    """

    blanks_separate_docs: bool = True

    def check(self) -> None:
        """Reads the local files once, to check that they are plain UTF-8 text.

        Raises:
            UserError: a file can't be read, is something else than text (says what), or is not
                UTF-8; names the line and the byte.
        """
        for file in self.files:
            if files.is_local(file.path):
                check_utf8(file, as_plain_text=self.as_plain_text)

    def tasks_of(self, ordered: Iterable[CorpusFile]) -> Iterator[tuple[Chunk, ...]]:
        """Yields groups of chunks of about equal work."""
        group: list[Chunk] = []
        total = 0
        for file in ordered:
            for chunk in plan_chunks(file, at_blank_lines=self.blanks_separate_docs):
                group.append(chunk)
                total += chunk.end - chunk.start
                if total >= CHUNK_BYTES or len(group) == _CHUNKS_PER_TASK:
                    yield tuple(group)
                    group, total = [], 0
        if group:
            yield tuple(group)

    def passages(self, task: tuple[Chunk, ...]) -> Iterator[CorpusPassage]:
        """Yields the chunks; every chunk has a random stream of its own."""
        for chunk in task:
            stream = self._stream(
                chunk_stream(self.seed, chunk.file.name, chunk.number), chunk.continues
            )
            yield self._passage(stream, chunk, ends_document=True)

    def official_passages(self) -> Iterator[CorpusPassage]:
        """See `Corpus.official_passages`."""
        randomness = random.Random(self.seed)
        ordered = shuffled(self.files, randomness)
        stream = self._stream(randomness)
        for file in ordered:
            for chunk in plan_chunks(file, at_blank_lines=self.blanks_separate_docs):
                yield self._passage(stream, chunk, ends_document=chunk.end == file.size)

    def _passage(
        self, stream: ExampleStream, chunk: Chunk, *, ends_document: bool
    ) -> CorpusPassage:
        lines = split_lines(read_chunk(chunk, as_plain_text=self.as_plain_text))
        size = chunk.end - chunk.start
        return CorpusPassage(stream, lines, self.blanks_separate_docs, ends_document, size)


def find_files(directory: str, flag: str) -> tuple[list[CorpusFile], int]:
    """Finds the files of a folder and of the folders in it.

    Files and folders whose name begins with a dot are left out.

    Args:
        directory: the folder.
        flag: the flag that named it, for messages.

    Returns:
        The files sorted by their names relative to the folder, and how many entries were left out.

    Raises:
        UserError: there is no such folder, it holds no file, an entry can't be read, or a link
            leads back to a folder that it lies in.
    """
    if not files.is_dir(directory):
        missing = not files.exists(directory)
        raise UserError(
            "The corpus folder does not exist." if missing else "The corpus is not a folder.",
            where=flag,
            received=directory,
            remedy="Give the path of the folder that holds the corpus files.",
        )
    found: list[CorpusFile] = []
    hidden = _collect(directory, "", found)
    if not found:
        raise UserError(
            "The corpus folder holds no files.",
            where=directory,
            received=f"no file ({hidden} hidden)" if hidden else "an empty folder",
            remedy=f"Put the corpus there, or give another folder with {flag}.",
        )
    return sorted(found), hidden


def _collect(
    directory: str, prefix: str, found: list[CorpusFile], links: tuple[str, ...] = ()
) -> int:
    """Adds the files of a folder, and returns how many entries were left out.

    Args:
        directory: the folder.
        prefix: of its files' names.
        found: gets the files.
        links: the real folders of the links on the way to it.
    """
    hidden = 0
    path = directory
    try:
        for name in files.list_dir(directory):
            if name.startswith("."):
                hidden += 1
                continue
            path = os.path.join(directory, name)
            if files.is_dir(path):
                way = _way_through(path, links) if os.path.islink(path) else links
                hidden += _collect(path, f"{prefix}{name}/", found, way)
            elif files.exists(path) and not files.is_file(path):
                raise UserError(
                    "The corpus holds something that is neither a file nor a folder.",
                    where=path,
                    received="a pipe, a socket or a device",
                    remedy="Take it out of the corpus folder.",
                )
            else:
                found.append(CorpusFile(prefix + name, path, files.size(path)))
    except OSError as error:
        raise unreadable(path, error) from error
    return hidden


def _way_through(link: str, links: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the real folders of links with that of another one, which must not lead back."""
    way = (*links, os.path.realpath(os.path.dirname(link)))
    target = os.path.realpath(link)
    if any(os.path.commonpath([target, folder]) == target for folder in way):
        raise UserError(
            "A link in the corpus leads back to a folder that it lies in.",
            where=link,
            received=f"a link to {os.readlink(link)}",
            remedy=f"Take the link out of the corpus folder: rm {shell_quoted(link)}",
        )
    return way


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Opens a corpus file for reading; if the system refuses, raises a `UserError`."""
    try:
        with files.reported_as_os_errors(path), files.open_binary(path) as reader:
            yield reader
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> UserError:
    """The error for a file or folder that the system refuses to read."""
    received, remedy = files.reason(error), "Make it readable, or take it out of the corpus folder."
    if os.path.islink(path):
        received = f"a link to {os.readlink(path)}: {received}"
        remedy = (
            "Make the link lead to a file or folder that can be read, or take it out of the corpus "
            "folder."
        )
    elif isinstance(error, FileNotFoundError):  # it was there when the folder was listed
        remedy = "Leave the corpus as it is while the program runs, and start again."
    return UserError(
        "A part of the corpus can't be read.",
        where=path,
        received=received,
        remedy=remedy,
    )


def shuffled(ordered: Sequence[CorpusFile], randomness: random.Random) -> list[CorpusFile]:
    """Returns the files in an order drawn from a random stream."""
    result = list(ordered)
    randomness.shuffle(result)
    return result


def chunk_stream(seed: int, name: str, number: int) -> random.Random:
    """The random stream of a chunk: a function of seed, file name and chunk number alone."""
    # A name that is not UTF-8 has surrogates, which `random` would refuse to encode.
    return random.Random(f"{seed}/{name}/{number}".encode("utf-8", "surrogateescape"))


def plan_chunks(
    file: CorpusFile,
    *,
    at_blank_lines: bool,
    chunk_bytes: int = CHUNK_BYTES,
    largest_bytes: int = LARGEST_CHUNK_BYTES,
) -> Iterator[Chunk]:
    """Cuts a file, reading only around the cuts.

    Args:
        file: the file.
        at_blank_lines: cut after blank lines, where documents end; otherwise the file is one
            document, which is cut after any line (an example ends early there).
        chunk_bytes: a cut is the first possible place after this many bytes.
        largest_bytes: where no blank line comes until then, the file is cut at the end of a line.

    Yields:
        Chunks that cover the file, in order.

    Raises:
        UserError: the file can't be read.
    """
    start = number = 0
    continues = False
    while start < file.size:
        end, at_boundary = file.size, True
        if start + chunk_bytes < file.size:
            limit = start + (largest_bytes if at_blank_lines else 0)
            end, at_boundary = _find_cut(file, start + chunk_bytes, limit)
        yield Chunk(file, number, start, end, continues)
        continues = not at_boundary
        start = end
        number += 1


def _find_cut(file: CorpusFile, position: int, limit: int) -> tuple[int, bool]:
    """Returns the first cut at or after a byte, and whether a document ends there."""
    with _opened(file.path) as reader:
        # From the byte before: a line that ends exactly there is complete.
        reader.seek(position - 1)
        position += len(reader.readline()) - 1
        while position < min(limit, file.size):
            line = reader.readline()
            if not line:
                break
            position += len(line)
            if is_blank(line.decode("utf-8", "replace").strip()):
                return position, True
    return min(position, file.size), position >= file.size


def read_chunk(chunk: Chunk, *, as_plain_text: bool = False) -> str:
    """Reads a chunk's text.

    Args:
        chunk: the chunk; of a file's first one, it is checked that it is the start of plain text.
        as_plain_text: take JSON lines, HTML and XML for the text that they are.

    Raises:
        UserError: it can't be read, is not plain UTF-8 text, or the file is shorter than it was.
    """
    path = chunk.file.path
    with _opened(path) as reader:
        reader.seek(chunk.start)
        content = reader.read(chunk.end - chunk.start)
    if len(content) < chunk.end - chunk.start:
        raise UserError(
            "A corpus file became shorter while it was being read.",
            where=path,
            received=f"{chunk.start + len(content)} bytes instead of {chunk.file.size}",
            remedy="Leave the corpus as it is while the data set is built, and start again.",
        )
    if not chunk.start:
        check_plain_text(path, content, as_plain_text=as_plain_text)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(
            path,
            line=_line_number(chunk.file, chunk.start) + content.count(b"\n", 0, error.start),
            offset=chunk.start + error.start,
            before=content[: error.start],
            content=content[error.start :],
        ) from error


def split_lines(text: str) -> list[str]:
    """Splits text at "\\n" and strips every line of white space at both ends.

    Lines without a visible character are empty, as they look in an editor.
    """
    lines = [line.strip() for line in text.split("\n")]
    if any(line and not line[0].isprintable() for line in lines):
        lines = ["" if is_blank(line) else line for line in lines]
    if not lines[-1]:
        lines.pop()  # what follows the end of the last line is not a line
    return lines


def check_utf8(file: CorpusFile, *, as_plain_text: bool = False) -> None:
    """Reads a file once.

    Args:
        file: the file.
        as_plain_text: take JSON lines, HTML and XML for the text that they are.

    Raises:
        UserError: it can't be read, is something else than text, or is not UTF-8.
    """
    offset = 0
    line = 1
    content = b""
    try:
        with _opened(file.path) as reader:
            while block := reader.read(_CHECKED_BLOCK_BYTES):
                content = block + reader.readline()
                if not offset:
                    check_plain_text(file.path, content, as_plain_text=as_plain_text)
                if not content.isascii():
                    content.decode("utf-8")
                offset += len(content)
                line += content.count(b"\n")
    except UnicodeDecodeError as error:
        raise not_utf8(
            file.path,
            line=line + content.count(b"\n", 0, error.start),
            offset=offset + error.start,
            before=content[: error.start],
            content=content[error.start :],
        ) from error


def _line_number(file: CorpusFile, position: int) -> int:
    """The number, from 1, of the line that begins at a byte."""
    line = 1
    with _opened(file.path) as reader:
        while position > 0 and (block := reader.read(min(position, _CHECKED_BLOCK_BYTES))):
            line += block.count(b"\n")
            position -= len(block)
    return line
