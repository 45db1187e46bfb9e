"""Reading TSV, CSV and JSONL files, by the names or numbers of their columns."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple

from electra_tf2.errors import UserError, nearest_name_hint
from finetune.data_files import read_text

SUFFIXES = (".tsv", ".csv", ".jsonl")
"""Endings of the files that `read_table` reads."""

# A cell may be a whole document; the csv module's own limit is 128 KiB.
_MAX_CELL = 1 << 24


class TableRow(NamedTuple):
    """One row.

    Attributes:
        line: the number of its first line, from 1.
        cells: column -> value (text in TSV and CSV); empty if the row can't be used.
        problem: what is wrong with the row, "" if nothing is.
    """

    line: int
    cells: dict[str | int, Any]
    problem: str = ""


def read_table(
    path: str,
    required: Sequence[str | int],
    nullable: Sequence[str | int] = (),
    header: bool = True,
) -> list[TableRow]:
    """Reads some columns of a file.

    Quotes are literal in TSV, so a cell can hold neither a tab nor a line break; in CSV they have
    the meaning that Python's csv module gives them. Empty lines are skipped in CSV and JSONL, and
    at the end of any file.

    Args:
        path: the file; its ending says which format it has.
        required: columns that each row must have.
        nullable: columns that the file must have, but that rows of JSONL may lack or have as null.
        header: whether line 1 of a TSV or CSV file names the columns.

    Returns:
        All rows, including the bad ones.

    Raises:
        UserError: the file can't be read, lacks a column, or is not CSV.
    """
    suffix = posixpath.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise UserError(
            "The format of a data file is unknown.",
            where=path,
            received=f"a name that ends in {suffix!r}" if suffix else "a name without an ending",
            remedy=f"Use a file whose name ends in {', '.join(SUFFIXES)}.",
        )
    if suffix == ".jsonl":
        return _json_rows(path, required, nullable)
    lines = _csv_lines(path) if suffix == ".csv" else _tsv_lines(path)
    names = [name.strip() for name in lines.pop(0)[1]] if header else None
    width = len(lines[0][1]) if names is None else len(names)
    places = {column: _place(path, column, names, width) for column in (*required, *nullable)}
    return [_row(line, cells, places, width if header else None) for line, cells in lines]


def text_lines(path: str, max_lines: int | None = None) -> list[str]:
    """Returns the lines of a file without their ends, and without empty ones at the file's end.

    Args:
        path: the file.
        max_lines: number of lines to take from its start; None for all.

    Raises:
        UserError: see `read_text`.
    """
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")[:max_lines]]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _row(line: int, cells: list[str], places: dict[str | int, int], width: int | None) -> TableRow:
    count = f"{len(cells)} column{'' if len(cells) == 1 else 's'}"
    needed = max(places.values()) + 1
    if len(cells) < needed:
        return TableRow(line, {}, f"{count} where {needed} are needed: {_shown(cells)}")
    if width is not None and any(cells[width:]):
        # A separator inside a text that should have been quoted shifts what follows.
        return TableRow(line, {}, f"{count} where the header has {width}: {_shown(cells)}")
    return TableRow(line, {column: cells[place] for column, place in places.items()})


def _place(path: str, column: str | int, names: list[str] | None, width: int) -> int:
    """Returns a column's number; the file must have it."""
    found = _shown(names) if names is not None else f"{width} columns"
    if isinstance(column, int):
        if column < width:
            return column
        what, hint = f"column {column} (counted from 0)", "Choose an existing column."
    else:
        assert names is not None, "without a header, definitions have numbers"
        if names.count(column) == 1:
            return names.index(column)
        if column in names:
            raise UserError(
                f"A data file has several columns {column!r}.",
                where=f"{path}, line 1",
                received=found,
                remedy="Rename one, or choose it by its number, from 0.",
            )
        what, hint = f"the column {column!r}", nearest_name_hint(column, names)
    if width == 1 and any(separator in found for separator in ",;\t"):
        hint = "Columns are separated by tabs in .tsv files, and by commas in .csv files."
    raise UserError(
        f"A data file lacks {what}.", where=f"{path}, line 1", received=found, remedy=hint
    )


def _tsv_lines(path: str) -> list[tuple[int, list[str]]]:
    return [(i + 1, line.split("\t")) for i, line in enumerate(text_lines(path))]


def _csv_lines(path: str) -> list[tuple[int, list[str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    # strict: a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    lines, start = [], 1
    try:
        for cells in reader:
            if cells:
                lines.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            "A data file is not CSV.",
            where=f"{path}, line {start}",
            received=str(error),
            remedy='Put cells with a comma, a quote or a line break in quotes, and write " inside '
            'as "". Where quotes are ordinary text, use tabs and a name that ends in .tsv.',
        ) from error
    return lines


def _json_rows(
    path: str, required: Sequence[str | int], nullable: Sequence[str | int]
) -> list[TableRow]:
    numbers = [c for c in (*required, *nullable) if isinstance(c, int)]
    if numbers:
        raise UserError(
            "JSONL files have names, not numbers, for their columns.",
            where=path,
            received=f"column {numbers[0]}",
            remedy="Name the fields in the task's definition.",
        )
    rows, fields = [], {}
    for i, line in enumerate(read_text(path).split("\n")):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            rows.append(TableRow(i + 1, {}, f"it is not JSON: {getattr(error, 'msg', error)}"))
            continue
        if not isinstance(value, dict):
            rows.append(TableRow(i + 1, {}, f"it is not a JSON object: {line[:50]}"))
            continue
        fields |= dict.fromkeys(value)
        lacking = [c for c in required if value.get(c) is None]
        problem = f"no value of {lacking[0]!r}; its fields: {_shown(value)}" if lacking else ""
        cells = {c: value[c] for c in (*required, *nullable) if value.get(c) is not None}
        rows.append(TableRow(i + 1, cells, problem))
    for column in (*required, *nullable):
        if fields and column not in fields:
            raise UserError(
                f"A data file lacks the field {column!r}.",
                where=f"{path}, line {rows[0].line}",
                received=_shown(fields),
                remedy=nearest_name_hint(str(column), fields),
            )
    return rows


def cell_text(value: Any) -> str:
    """Returns a cell as text: a JSON number or truth value as JSON writes it.

    Raises:
        ValueError: it is an object, a list or null.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"{value!r} is not text")


def label_text(value: Any) -> str:
    """Returns a label as text, without white space around it.

    Raises:
        ValueError: it is empty, or an object, a list or null.
    """
    text = cell_text(value).strip()
    if not text:
        raise ValueError(f"{value!r} is not a label")
    return text


def _shown(cells) -> str:
    text = ", ".join(map(str, cells))
    return text[:100] + ("…" if len(text) > 100 else "")
