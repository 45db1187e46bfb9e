"""Records, each of which is a document: what is read of JSON lines and of tables."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.data.sources.chunks import CHUNK_BYTES
from electra_tf2.data.sources.found import CorpusFile
from electra_tf2.data.sources.packed import TextBlock
from electra_tf2.data.sources.separators import (
    has_column,
    likeliest_separator,
    recognized_separator,
)
from electra_tf2.errors import UserError, path_quoted, shell_quoted

# A cell may be a whole document; the csv module's own limit is 128 KiB. Behind a quote that is
# never closed, so much text is lost.
_MAX_CELL = 1 << 24
_MARK = "\ufeff"  # a byte order mark
_NAMED = 20  # fields in a message
_WORDS, _CHARACTERS = 5, 50  # of the name of a column; more are text
_DEPTH = 2  # of objects in objects whose fields it names
_ABSENT: Any = object()
_AS_TEXT = "If it is plain text: --as-plain-text, or a name that ends in .txt."
_EXCEL_LINE = re.compile(r'"?sep=([,;|\t])"?\r?\n', re.IGNORECASE)


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


def no_such_field(
    path: str, field: str, fields: Mapping[str, Any], as_text: bool, found_type: str = ""
) -> UserError:
    """The error for a file none of whose records has a text in the field.

    Args:
        fields: those that are there; the value of one is of some record, or None.
        as_text: whether the file can be taken as the text that it is.
        found_type: the type of the field; "": that of its value.
    """
    found = dict(_named_values(fields))
    texts = [name for name, value in found.items() if isinstance(value, str) and name != field]
    # Where one field holds the text, it is the longest.
    likely = max(texts, key=lambda name: len(found[name]), default="FIELD")
    names = ", ".join(map(repr, list(found)[:_NAMED])) + (", …" if len(found) > _NAMED else "")
    remedy = f"Name the field that holds the text: --text-field {shell_quoted(likely)}."
    # Of the columns of a table without rows it is not known what they hold.
    if not texts and not (as_text and all(value is None for value in fields.values())):
        remedy = "Write the file again with text in a field of its own, a text per record."
    received = f"the fields {names}" if fields else "no fields"
    if field in found:
        value = found[field]
        of_type = "null" if value is None else f"of the type {type(value).__name__}, not a text"
        received += f"; {field!r} is {f'of the type {found_type}' if found_type else of_type}"
        if not texts:
            remedy = f"Write the file again with text in the field {field!r}, a text per record."
    if as_text:
        remedy += " " + _AS_TEXT
    return UserError(
        f"No record of the file has a text in the field {field!r}.",
        where=path,
        received=received,
        remedy=remedy,
    )


def _named_values(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yields fields by name; after an object those in it, as --text-field takes them."""
    for name, value in fields.items():
        yield before + name, value
        if isinstance(value, dict) and before.count(".") < _DEPTH:
            yield from _named_values(value, f"{before}{name}.")


def check_one_column(path: str, field: str, places: Sequence[int], total: int) -> None:
    """Refuses a table of which several columns, those at `places`, have the name of the field.

    Raises:
        UserError: there are several.
    """
    if len(places) > 1:
        raise UserError(
            f"Several columns of the file have the name {field!r}.",
            where=path,
            received=f"the columns {', '.join(str(place + 1) for place in places)} of {total}",
            remedy="Write the file again with another name for each but one of them.",
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
        field: the field that holds the text; `a.b` is the field b of the object in a.
        lines_before: counts the lines of the file before those that the block counts.

    Returns:
        The texts. The places of bad records are numbers of lines.
    """
    texts: list[str] = []
    bad: list[BadRecord] = []
    for number, line in enumerate(block.text.split("\n"), block.line):
        line = line.removeprefix(_MARK)  # also where files that begin with it were joined
        if not line or line.isspace():
            continue
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
    value = record[field] if field in record else _inner_field(record, field)
    if value is _ABSENT:
        return BadRecord("", f"no field {field!r}", record)
    found = checked_text(value, field)
    return found if isinstance(found, str) else found._replace(fields=record)


def _inner_field(record: Any, field: str) -> Any:
    """Returns a field, `a.b` that of the object in `a`; `_ABSENT` if there is none."""
    if not isinstance(record, dict):
        return _ABSENT
    if field in record:
        return record[field]
    dots = [place for place, char in enumerate(field) if char == "."]
    inner = (_inner_field(record.get(field[:dot]), field[dot + 1 :]) for dot in dots)
    return next((value for value in inner if value is not _ABSENT), _ABSENT)


def table_batches(
    file: CorpusFile, blocks: Iterable[TextBlock], separator: str, field: str
) -> Iterator[Batch]:
    """Reads a table whose first row names the columns.

    Cells in quotes may hold separators and line breaks; a quote in them is doubled.

    Args:
        separator: what separates the cells, unless a line of Excel's before the header names
            another, or the header has the field only with another.
        field: the name of the column that holds the text.

    Yields:
        Batches of about half a megabyte of text. The places of bad records are numbers of rows,
        from 1, without the header.

    Raises:
        UserError: there is no such column.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    separator, blocks = _with_separator(blocks, separator, field)
    source_bytes = 0

    def lines() -> Iterator[str]:
        nonlocal source_bytes
        for block in blocks:
            source_bytes += block.source_bytes
            # Byte order marks begin lines where files were joined, and behind an added header.
            text = block.text.removeprefix(_MARK).replace(f"\n{_MARK}", "\n")
            yield from io.StringIO(text, newline="")

    # strict: what is around quotes that are no marks would silently become part of the text.
    rows = _rows(csv.reader(lines(), delimiter=separator, strict=True))
    header = _read_header(rows, file, separator, field)
    column, characters = header.index(field), 0
    texts: list[str] = []
    bad: list[BadRecord] = []
    for number, (cells, problem) in enumerate(rows, 1):
        if problem := problem or _row_problem(cells, header, separator):
            bad.append(BadRecord(f"record {number}", problem))
        else:
            texts.append(cells[column])
            characters += len(texts[-1])
        if characters >= CHUNK_BYTES or len(bad) >= CHUNK_BYTES:
            yield Batch(texts, source_bytes, bad=bad)
            texts, bad, characters, source_bytes = [], [], 0, 0
    yield Batch(texts, source_bytes, bad=bad)


def _read_header(
    rows: Iterator[tuple[list[str], str]], file: CorpusFile, separator: str, field: str
) -> list[str]:
    """Takes the names of the columns, `field` among them, from the rows of a table."""
    header, problem = next(rows, ([field], ""))
    if problem:
        raise UserError(
            "The header of the table can't be read.",
            where=f"{file.path}, first row",
            received=problem,
            remedy="Take the quotation marks out of the names of the columns. " + _AS_TEXT,
        )
    if field not in header:
        if any(len(name.split()) > _WORDS or len(name) > _CHARACTERS for name in header):
            raise _no_header(file, header, separator, field)
        example, _ = next(rows, ([], ""))
        fields = dict.fromkeys(header) | dict(zip(header, example, strict=False))
        raise no_such_field(file.path, field, fields, as_text=True)
    places = [place for place, name in enumerate(header) if name == field]
    check_one_column(file.path, field, places, len(header))
    return header


def _no_header(file: CorpusFile, row: Sequence[str], separator: str, field: str) -> UserError:
    """The error for a table that begins with a row of text, where the names should be."""
    longest = max(range(len(row)), key=lambda place: len(row[place]))
    names = [field if place == longest else f"c{place + 1}" for place in range(len(row))]
    remedy = f"If it does: --text-field and one of the names. {_AS_TEXT} Otherwise put a row with "
    remedy += "the names of the columns before it"
    if file.path.lower().endswith((".csv", ".tsv")):
        line = shell_quoted(separator.join(names).replace("\t", r"\t") + r"\n")
        path, new = path_quoted(file.path), path_quoted(f"{file.path}.new")
        remedy += f": (printf {line}; cat {path}) > {new} && mv {new} {path}"
    return UserError(
        "The first row of the table does not seem to name its columns.",
        where=f"{file.path}, first row",
        received=", ".join(map(repr, row[:_NAMED])),
        remedy=remedy,
    )


def _with_separator(
    blocks: Iterable[TextBlock], separator: str, field: str
) -> tuple[str, Iterator[TextBlock]]:
    """Returns what separates the cells of a table, and its text without a line that names it."""
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return separator, blocks
    text = first.text.removeprefix(_MARK)
    if found := _EXCEL_LINE.match(text):
        separator, text = found[1], text[found.end() :]
    else:
        found = recognized_separator(text, separator, [field])
        # Without a column of that name, the table is read for an error that shows its columns.
        separator = found if has_column(text, found, field) else likeliest_separator(text, found)
    return separator, itertools.chain([first._replace(text=text)], blocks)


def _row_problem(cells: Sequence[str], header: Sequence[str], separator: str) -> str:
    """Says what is wrong with a row; "" if nothing is."""
    if len(cells) != len(header):
        return f"{len(cells)} cells, where the header has {len(header)}"
    # A single cell may be a text.
    if len(cells) > 1 and cells == header:
        return "it is the header again: were files joined?"
    return _merged_rows(cells) if separator == "\t" else ""


def _merged_rows(cells: Sequence[str]) -> str:
    """Says what is wrong with a row of which a cell looks like the rest of some rows of TSV.

    Many write TSV without quoting: a quotation mark that begins a cell is text then, and takes all
    up to the next one into the cell. Most of the lines in it have as many tabs as rows have.
    """
    for column, cell in enumerate(cells):
        if "\n" not in cell or "\t" not in cell:
            continue
        first, *more = cell.split("\n")
        tabs = [line.count("\t") for line in (first, *filter(str.strip, more))]
        last = len(cells) - 1
        expected = [last - column, *([last] * (len(tabs) - 2)), column]
        fits = [count == right for count, right in zip(tabs, expected, strict=False)]
        if fits[0] and sum(fits[1:]) > len(fits[1:]) / 2:
            return (
                f"{len(tabs)} lines in one cell look like rows: if the quotation mark before "
                f"{cell[:20]!r} is text, put the cell in quotes and double the mark, or leave it "
                "out"
            )
    return ""


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
