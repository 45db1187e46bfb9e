"""Plain text: cut into chunks of whole documents, read and checked.

Lines end only at "\\n".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from electra_tf2.data.sources.found import CorpusFile, opened
from electra_tf2.errors import UserError
from electra_tf2.text.plain_text import HEAD_BYTES, check_plain_text, is_blank, not_utf8

CHUNK_BYTES = 1 << 19
# A document without a blank line for this long is cut at the end of a line: a chunk is read whole.
LARGEST_CHUNK_BYTES = 8 * CHUNK_BYTES
_CHECKED_BLOCK_BYTES = 1 << 22


class Chunk(NamedTuple):
    """A part of a file from a line's start to a line's end.

    Attributes:
        file: the file.
        number: the chunk's place in the file, from 0.
        start: its first byte.
        end: the byte after its last.
        continues: whether its first line continues a document of the chunk before.
        units: of a file of parts that are read as a whole, the numbers of the first one and of the
            one after the last; of others (0, 0).
    """

    file: CorpusFile
    number: int
    start: int
    end: int
    continues: bool
    units: tuple[int, int] = (0, 0)


def plan_chunks(
    file: CorpusFile,
    *,
    at_blank_lines: bool,
    chunk_bytes: int = CHUNK_BYTES,
    largest_bytes: int = LARGEST_CHUNK_BYTES,
) -> Iterator[Chunk]:
    """Cuts a file, reading only around the cuts.

    Args:
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
    with opened(file.path) as reader:
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
    with opened(path) as reader:
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
    except UnicodeDecodeError:  # only then are the lines before it counted
        line = line_number(chunk.file, chunk.start)
        return decoded(path, content, line=line, offset=chunk.start)


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


def check_head(file: CorpusFile, *, as_plain_text: bool = False) -> None:
    """Checks that a file begins like plain text, of which only a part may be read.

    Args:
        as_plain_text: take JSON lines, HTML and XML for the text that they are.

    Raises:
        UserError: it can't be read, or is something else than text.
    """
    with opened(file.path) as reader:
        check_plain_text(file.path, reader.read(HEAD_BYTES), as_plain_text=as_plain_text)


def check_utf8(file: CorpusFile, *, as_plain_text: bool = False) -> None:
    """Reads a file once.

    Args:
        as_plain_text: take JSON lines, HTML and XML for the text that they are.

    Raises:
        UserError: it can't be read, is something else than text, or is not UTF-8.
    """
    offset, line = 0, 1
    with opened(file.path) as reader:
        while block := reader.read(_CHECKED_BLOCK_BYTES):
            content = block + reader.readline()
            if not offset:
                check_plain_text(file.path, content, as_plain_text=as_plain_text)
            if not content.isascii():
                decoded(file.path, content, line=line, offset=offset)
            offset += len(content)
            line += content.count(b"\n")


def decoded(path: str, content: bytes, *, line: int, offset: int, member: str | None = None) -> str:
    """Decodes some lines of a file.

    Args:
        content: the lines in UTF-8.
        line, offset: number of the first one, from 1, and of its first byte, from 0.
        member: name of the text in a packed file; None where the file is the text.

    Raises:
        UserError: they are not UTF-8; names line and byte.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(
            path,
            line=line + content.count(b"\n", 0, error.start),
            offset=offset + error.start,
            before=content[: error.start],
            content=content[error.start :],
            member=member,
        ) from error


def line_number(file: CorpusFile, position: int) -> int:
    """Returns the number, from 1, of the line that begins at a byte."""
    line = 1
    with opened(file.path) as reader:
        while position > 0 and (block := reader.read(min(position, _CHECKED_BLOCK_BYTES))):
            line += block.count(b"\n")
            position -= len(block)
    return line
