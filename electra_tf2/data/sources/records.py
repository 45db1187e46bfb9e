"""Records, each of which is a document: what is read of JSON lines and of tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.data.sources.chunks import CHUNK_BYTES
from electra_tf2.data.sources.found import CorpusFile
from electra_tf2.data.sources.packed import TextBlock
from electra_tf2.errors import UserError, shell_quoted

# A cell may be a whole document; the csv module's own limit is 128 KiB. Behind a quote that is
# never closed, so much text is lost.
_MAX_CELL = 1 << 24
_NAMED = 20  # fields in a message


class BadRecord(NamedTuple):
    """A record that is left out.

    Attributes:
        place: where in its file it is.
        what: what is wrong with it.
        fields: what it has, by name; None where there are no fields.
    """

    place: str
    what: str
    fields: Mapping[str, Any] | None = None


class Batch(NamedTuple):
    """Some text of a file.

    Attributes:
        texts: documents; or, where the file is plain text, one text of whole lines.
        source_bytes: bytes of the file that it completes.
        is_last: whether nothing follows of this part of the file. Of records it means nothing.
        bad: the records among them that are left out.
    """

    texts: list[str]
    source_bytes: int
    is_last: bool = False
    bad: Sequence[BadRecord] = ()

    def bad_places(self, path: str) -> tuple[str, ...]:
        """Names what is left out, each with its place and what is wrong."""
        return tuple(f"{path}, {record.place}: {record.what}" for record in self.bad)


def no_such_field(path: str, field: str, fields: Mapping[str, Any], as_text: bool) -> UserError:
    """The error for a file none of whose records has a text in the field.

    Args:
        path: the file.
        field: the field.
        fields: those that are there; the value of one is of some record, or None.
        as_text: whether the file can be taken as the text that it is.
    """
    texts = [name for name, value in fields.items() if isinstance(value, str) and name != field]
    # Where one field holds the text, it is the longest.
    likely = max(texts, key=lambda name: len(fields[name]), default="FIELD")
    names = ", ".join(map(repr, list(fields)[:_NAMED])) + (", …" if len(fields) > _NAMED else "")
    remedy = f"Name the field that holds the text: --text-field {shell_quoted(likely)}."
    if as_text:
        remedy += " If it is plain text: --as-plain-text, or a name that ends in .txt."
    return UserError(
        f"No record of the file has a text in the field {field!r}.",
        where=path,
        received=f"the fields {names}" if fields else "no fields",
        remedy=remedy,
    )


def checked_text(value: Any, field: str) -> str | BadRecord:
    """Returns a field's text, or what is wrong with it."""
    if isinstance(value, str):
        return value if value.isascii() else _without_halves(value)
    problem = "null" if value is None else f"of the type {type(value).__name__}, not a text"
    return BadRecord("", f"its field {field!r} is {problem}")


def _without_halves(text: str) -> str:
    """Replaces halves of surrogate pairs, which JSON may hold and UTF-8 may not, by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def json_batch(block: TextBlock, field: str, lines_before: Callable[[], int]) -> Batch:
    """Reads lines of JSON objects.

    Args:
        block: the lines; blank ones are skipped.
        field: the field that holds the text.
        lines_before: counts the lines of the file before those that the block counts.

    Returns:
        The texts. The places of bad records are numbers of lines.
    """
    texts: list[str] = []
    bad: list[BadRecord] = []
    for number, line in enumerate(block.text.split("\n"), block.line):
        if not line or line.isspace():
            continue
        if number == 1:
            line = line.removeprefix("\ufeff")
        found = _json_text(line, field)
        if isinstance(found, str):
            texts.append(found)
        else:
            bad.append(found._replace(place=f"line {lines_before() + number}"))
    return Batch(texts, block.source_bytes, block.is_last, bad)


def _json_text(line: str, field: str) -> str | BadRecord:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRecord("", f"not JSON: {error}")
    if not isinstance(record, dict):
        return BadRecord("", f"a JSON {type(record).__name__}, not an object with fields")
    if field not in record:
        return BadRecord("", f"no field {field!r}", record)
    found = checked_text(record[field], field)
    return found if isinstance(found, str) else found._replace(fields=record)


def table_batches(
    file: CorpusFile, blocks: Iterable[TextBlock], separator: str, field: str
) -> Iterator[Batch]:
    """Reads a table whose first row names the columns.

    Cells in quotes may hold separators and line breaks; a quote in them is doubled.

    Args:
        file: the file, for messages.
        blocks: its text.
        separator: what separates the cells.
        field: the name of the column that holds the text.

    Yields:
        Batches of about half a megabyte of text. The places of bad records are numbers of rows,
        from 1, without the header.

    Raises:
        UserError: there is no such column.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    source_bytes = 0

    def lines() -> Iterator[str]:
        nonlocal source_bytes
        for block in blocks:
            source_bytes += block.source_bytes
            text = block.text.removeprefix("\ufeff") if block.line == 1 else block.text
            yield from io.StringIO(text, newline="")

    # strict: what is around quotes that are no marks would silently become part of the text.
    rows = _rows(csv.reader(lines(), delimiter=separator, strict=True))
    header, _ = next(rows, ([field], ""))
    if field not in header:
        example, _ = next(rows, ([], ""))
        fields = dict.fromkeys(header) | dict(zip(header, example, strict=False))
        raise no_such_field(file.path, field, fields, as_text=True)
    column, characters = header.index(field), 0
    texts: list[str] = []
    bad: list[BadRecord] = []
    for number, (cells, problem) in enumerate(rows, 1):
        if not problem and len(cells) != len(header):
            problem = f"{len(cells)} cells, where the header has {len(header)}"
        if problem:
            bad.append(BadRecord(f"record {number}", problem))
        else:
            texts.append(cells[column])
            characters += len(texts[-1])
        if characters >= CHUNK_BYTES or len(bad) >= CHUNK_BYTES:
            yield Batch(texts, source_bytes, bad=bad)
            texts, bad, characters, source_bytes = [], [], 0, 0
    yield Batch(texts, source_bytes, bad=bad)


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[list[str], str]]:
    """Yields the rows that aren't empty lines, each with what is wrong with it, if anything."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            yield [], f"not a row of a table: {error}"
        else:
            if cells:
                yield cells, ""
