"""Reading TSV, CSV and JSON files, by the names or numbers of their columns."""

from __future__ import annotations

import json
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from electra_tf2.data.sources.separators import split_lines
from electra_tf2.errors import UserError, nearest_name_hint
from finetune.classification.separated_values import (
    ANY_DIALECT,
    Cells,
    Dialect,
    find_name,
    split_cells,
)
from finetune.data_files import read_text

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
"""Endings of the files that `read_table` reads; each may be followed by `.gz`."""

_JSON = (".jsonl", ".json")
_USUAL_SEPARATORS = {".tsv": "\t", ".csv": ","}
# Characters without width that editors and joined files put before a name.
_NO_WIDTH = "\ufeff\u200b"
# Objects whose fields are named in a message.
_NAMED_OBJECTS = 100


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


def table_suffix(path: str) -> str:
    """Returns the ending that says a table's format, in small letters and without `.gz`."""
    return posixpath.splitext(path.lower().removesuffix(".gz"))[1]


def read_table(
    path: str,
    required: Sequence[str | int],
    nullable: Sequence[str | int] = (),
    header: bool = True,
    *,
    expected: Sequence[str | int] = (),
    dialect: Dialect = ANY_DIALECT,
) -> list[TableRow]:
    """Reads some columns of a file.

    CSV and TSV are read as `separated_values` describes. JSON is an object a line, or one list of
    objects; a column `a.b` is the field `b` of the object in the field `a`. Empty lines are skipped
    in CSV and JSON, and at the end of any file.

    Args:
        path: the file; its ending says which format it has.
        required: columns that each row must have.
        nullable: columns that the file must have, but that rows of JSON may lack or have as null.
        header: whether the first row of a TSV or CSV file names the columns.
        expected: columns that a TSV or CSV file may have besides: its separator is recognized by
            them, too.
        dialect: what is known of a TSV or CSV file's separator and quotes.

    Returns:
        All rows, including the bad ones.

    Raises:
        UserError: the file can't be read, lacks a column, or is not of the format.
    """
    suffix = table_suffix(path)
    if suffix not in SUFFIXES:
        raise UserError(
            "The format of a data file is unknown.",
            where=path,
            received=f"a name that ends in {suffix!r}" if suffix else "a name without an ending",
            remedy=f"Use a file whose name ends in {', '.join(SUFFIXES)}.",
        )
    text = read_text(path)
    if suffix in _JSON:
        return _json_rows(path, text, required, nullable)
    rows = split_cells(
        text,
        path,
        dialect,
        usual=_USUAL_SEPARATORS[suffix],
        columns=(*required, *nullable, *expected),
        header=header,
    )
    return _table_rows(path, rows, (*required, *nullable), header)


def text_lines(path: str, max_lines: int | None = None) -> list[str]:
    """Returns the lines of a file without their ends, and without empty ones at the file's end.

    Args:
        max_lines: number of lines to take from its start; None for all.

    Raises:
        UserError: see `read_text`.
    """
    lines = split_lines(read_text(path))[:max_lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _table_rows(
    path: str, rows: list[Cells], columns: Sequence[str | int], header: bool
) -> list[TableRow]:
    where, width = f"{path}, line {rows[0].line}", _width(rows, header)
    names = [_name(cell) for cell in rows.pop(0).cells] if header else None
    places = {column: _place(where, column, names, width) for column in columns}
    _warn_of_lost_row(where, names, rows, [column for column in columns if isinstance(column, int)])
    last = max(places.values())
    short = [row.line for row in rows if last < len(row.cells) < width]
    if names is not None and short:
        logging.warning(
            f"{path}: rows with fewer columns than the header's {width}: {len(short)}, the first "
            f"on line {short[0]}."
        )
    return [_row(row, places, last + 1, names, width) for row in rows]


def _width(rows: list[Cells], header: bool) -> int:
    """Returns how many columns a file has: its header, or most of its rows; the fewer of two."""
    if header:
        return len(rows[0].cells)
    counts = Counter(len(row.cells) for row in rows)
    return max(counts, key=lambda width: (counts[width], -width))


def _warn_of_lost_row(
    where: str, names: list[str] | None, rows: list[Cells], numbers: list[int]
) -> None:
    """Says so if what are taken for names are cells of a row, such as a label."""
    if names is None:
        return
    for number in numbers:
        cells = (row.cells for row in rows if [*map(_name, row.cells)] != names)
        if any(number < len(row) and _name(row[number]) == names[number] for row in cells):
            logging.warning(
                f"{where} is taken for names of columns, but its {names[number]!r} stands in other "
                'rows too. If it is a row, set "header": false in the task\'s definition.'
            )
            return


def _name(cell: str) -> str:
    return cell.strip().strip(_NO_WIDTH).strip()


def _row(
    row: Cells,
    places: Mapping[str | int, int],
    needed: int,
    names: list[str] | None,
    width: int,
) -> TableRow:
    line, cells = row
    count = f"{len(cells)} column{'' if len(cells) == 1 else 's'}"
    if len(cells) < needed:
        return TableRow(line, {}, f"{count} where {needed} are needed: {_shown(cells)}")
    if any(cells[width:]):
        # A separator inside a text that should have been quoted shifts what follows.
        others = "most rows have" if names is None else "the header has"
        return TableRow(line, {}, f"{count} where {others} {width}: {_shown(cells)}")
    if names and width > 1 and _name(cells[0]) == names[0] and [*map(_name, cells)] == names:
        return TableRow(line, {}, "it is the header again: were files joined?")
    return TableRow(line, {column: cells[place] for column, place in places.items()})


def _place(where: str, column: str | int, names: list[str] | None, width: int) -> int:
    """Returns a column's number; the file must have it."""
    found = _shown(names) if names is not None else f"{width} columns"
    if isinstance(column, int):
        if column < width:
            return column
        what, hint = f"column {column} (counted from 0)", "Choose an existing column."
    else:
        assert names is not None, "without a header, definitions have numbers"
        name = find_name(column, names)
        if name is not None and names.count(name) == 1:
            return names.index(name)
        if name is not None:
            raise UserError(
                f"A data file has several columns {column!r}.",
                where=where,
                received=found,
                remedy="Rename one, or choose it by its number, from 0.",
            )
        what, hint = f"the column {column!r}", _name_hint(column, names)
        if not hint.startswith("Did you mean"):
            hint += (
                " If the first line is a row already, give the columns by number, from 0, and set "
                '"header": false.'
            )
    if width == 1:
        hint += (
            ' If another character separates the columns, name it with "separator" in the task\'s '
            "definition."
        )
    raise UserError(f"A data file lacks {what}.", where=where, received=found, remedy=hint)


class _Item(NamedTuple):
    """A value of a JSON file: the number of its first line, and what is wrong with it."""

    line: int
    value: Any
    problem: str = ""


def _json_rows(
    path: str, text: str, required: Sequence[str | int], nullable: Sequence[str | int]
) -> list[TableRow]:
    columns = (*required, *nullable)
    numbers = [column for column in columns if isinstance(column, int)]
    if numbers:
        raise UserError(
            "JSON files have names, not numbers, for their columns.",
            where=path,
            received=f"column {numbers[0]}",
            remedy="Name the fields in the task's definition.",
        )
    items = _list_items(path, text) if text.lstrip().startswith("[") else None
    items = [*_line_items(text)] if items is None else items
    if not items:
        raise UserError(
            "A data file is empty.",
            where=path,
            received="a list without objects",
            remedy="Copy it again, or check its source.",
        )
    _refuse_one_object(path, text, items, required)
    objects = [item for item in items if not item.problem]
    for column in columns:
        if objects and all(_field(item.value, column) is _ABSENT for item in objects):
            raise _lacks_field(path, str(column), objects)
    return [_json_row(item, required, columns) for item in items]


def _json_row(item: _Item, required: Sequence[str | int], columns: Sequence[str | int]) -> TableRow:
    if item.problem:
        return TableRow(item.line, {}, item.problem)
    found = ((column, _field(item.value, column)) for column in columns)
    cells = {column: value for column, value in found if not _is_null(value)}
    lacking = [column for column in required if column not in cells]
    fields = _shown(item.value)
    problem = f"no value of {lacking[0]!r}; its fields: {fields}" if lacking else ""
    return TableRow(item.line, {} if problem else cells, problem)


def _refuse_one_object(
    path: str, text: str, items: Sequence[_Item], required: Sequence[str | int]
) -> None:
    """Refuses a file that is one object: of columns, around the list of rows, or over lines."""
    if len(items) > 1 and all(item.problem for item in items) and text.lstrip().startswith("{"):
        try:
            value = _DECODER.decode(text.strip())
        except (ValueError, RecursionError):
            return
    else:
        value = items[0].value if len(items) == 1 and not items[0].problem else None
        found = [_field(value, column) for column in required]
        by_columns = all(isinstance(column, dict | list) for column in found)
        holds_rows = all(column is _ABSENT for column in found) and any(
            isinstance(inner, list) and inner and isinstance(inner[0], dict | list)
            for inner in (value or {}).values()
        )
        if not by_columns and not holds_rows:
            return
    raise UserError(
        "A JSON file is one object, not rows.",
        where=f"{path}, line {items[0].line}",
        received=f"an object with the fields {_shown(_field_names(value or {}))}",
        remedy="Write an object for each row: on a line of its own, or in one list (in pandas, "
        'to_json(path, orient="records", lines=True)).',
    )


def _line_items(text: str) -> Iterator[_Item]:
    """Yields the values of a file with a JSON object on each line."""
    for number, line in enumerate(split_lines(text), 1):
        if line.strip():
            try:
                yield _checked(number, _DECODER.decode(line.strip().strip(_NO_WIDTH)), line)
            except (ValueError, RecursionError) as error:
                yield _Item(number, None, f"it is not JSON: {getattr(error, 'msg', error)}")


def _list_items(path: str, text: str) -> list[_Item] | None:
    """Returns the items of a file that is one JSON list; None if it is anything else.

    Raises:
        UserError: the list ends in the middle or has a mistake; names the line.
    """
    items, place, line, counted = [], text.index("[") + 1, 1, 0
    while True:
        place = _after_space(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            return None if text[place + 1 :].strip() else items
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            if not items:
                return None
            raise UserError(
                "A JSON list has a mistake.",
                where=f"{path}, line {getattr(error, 'lineno', line)}",
                received=str(getattr(error, "msg", error)),
                remedy="Write the list again with a JSON library, or an object on each line.",
            ) from error
        items.append(_checked(line, value, text[place:end]))
        place = _after_space(text, end)
        if text[place : place + 1] == ",":
            place += 1


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\r", "\n"):
        place += 1
    return place


def _checked(line: int, value: Any, source: str) -> _Item:
    if not isinstance(value, dict):
        return _Item(line, None, f"it is not a JSON object: {source[:50]}")
    twice = value.get(_TWICE)
    return _Item(line, value, f"it has the field {twice!r} twice" if twice is not None else "")


# A key that no JSON has: the name of a field that an object has twice.
_TWICE: Any = object()


def _unique(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    value: dict[Any, Any] = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        value[_TWICE] = next(name for name in names if names.count(name) > 1)
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_ABSENT: Any = object()


def _field(value: Any, column: str | int) -> Any:
    """Returns a field, `a.b` that of the object in `a`; `_ABSENT` if there is none."""
    if not isinstance(value, dict):
        return _ABSENT
    name = find_name(str(column), value)
    if name is not None:
        return value[name]
    parts = str(column).split(".")
    for count in range(1, len(parts)):
        outer = find_name(".".join(parts[:count]), value)
        inner = _ABSENT if outer is None else _field(value[outer], ".".join(parts[count:]))
        if inner is not _ABSENT:
            return inner
    return _ABSENT


def _is_null(value: Any) -> bool:
    """Whether there is no value: JSON's null, or the NaN that Python and pandas write for it."""
    return value is _ABSENT or value is None or isinstance(value, float) and math.isnan(value)


def _lacks_field(path: str, column: str, objects: Sequence[_Item]) -> UserError:
    names = dict.fromkeys(
        name for item in objects[:_NAMED_OBJECTS] for name in _field_names(item.value)
    )
    return UserError(
        f"A data file lacks the field {column!r}.",
        where=f"{path}, line {objects[0].line}",
        received=_shown(names),
        remedy=_name_hint(column, names),
    )


def _name_hint(column: str, names: Iterable[str]) -> str:
    """The remedy for a column that a file lacks, and its task's other files may have."""
    hint = nearest_name_hint(column, names)
    if not hint.startswith("Did you mean"):
        return hint
    return (
        f"{hint} A task's files have the same names: where the others have {column!r}, rename the "
        "column of this one."
    )


def _field_names(value: Mapping[Any, Any], before: str = "", depth: int = 3) -> Iterator[str]:
    for name, inner in value.items():
        if isinstance(name, str):
            yield before + name
            if isinstance(inner, dict) and depth > 1:
                yield from _field_names(inner, f"{before}{name}.", depth - 1)


def _shown(cells) -> str:
    text = ", ".join(map(str, cells))
    return text[:100] + ("…" if len(text) > 100 else "")
