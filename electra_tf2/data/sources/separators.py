"""What separates the columns of a table: TSV and CSV as programs write them.

Excel writes `;` between columns where a comma is the decimal mark, and tabs into "Unicode text".
"""

from __future__ import annotations

import collections
import csv
import io
import itertools
import unicodedata
from collections.abc import Sequence

SEPARATORS = (",", ";", "\t", "|")
"""What may separate columns without being named."""

# Without a header, so many rows must agree on their number of columns.
_COMPARED_ROWS = 20
_COMPARED_CHARACTERS = 1 << 20


def recognized_separator(
    text: str,
    usual: str,
    columns: Sequence[str | int],
    *,
    header: bool = True,
    quotes: bool | None = True,
) -> str:
    """Returns the separator with which the first rows have the most of the columns.

    It is the usual one unless another finds more.

    Args:
        text: of the table, as much as there is at hand.
        usual: the separator that the file's name stands for.
        columns: names or numbers of columns that the table probably has.
        header: whether the first row names the columns.
        quotes: whether quotes around a cell are marks; None: with tabs they may be text.
    """
    names = {_alike(column) for column in columns if isinstance(column, str)}
    numbers = {column for column in columns if isinstance(column, int)}

    def found(separator: str, marks: bool) -> int:
        rows = _first_rows(text, separator, marks, 1 if header else _COMPARED_ROWS)
        widths = {len(row) for row in rows}
        if len(widths) != 1:
            return 0
        (width,) = widths
        if width == 1 and len(names) + len(numbers) > 1:
            return 0
        known = names.intersection(map(_alike, rows[0]))
        return len(known) + sum(number < width for number in numbers)

    def most(separator: str) -> int:
        if quotes is not None:
            return found(separator, quotes)
        ways = (True, False) if separator == "\t" else (True,)
        return max(found(separator, marks) for marks in ways)

    return max((usual, *SEPARATORS), key=most)


def has_column(text: str, separator: str, name: str) -> bool:
    """Whether a table's first row names a column, in capitals or not."""
    return any(_alike(name) in map(_alike, row) for row in _first_rows(text, separator, True, 1))


def likeliest_separator(text: str, usual: str) -> str:
    """Returns the separator with which most of the first rows have as many cells, if more than one.

    It is for tables of which no column is known by its name. Of several that fit as many rows, it
    is not a mark of prose: no cell begins with a space, or has another separator before a quotation
    mark, as `1;"a` where commas don't separate.

    Args:
        text: of the table, as much as there is at hand.
        usual: the separator that the file's name stands for; it is kept where others are no better.
    """

    def fit(separator: str) -> tuple[int, bool]:
        rows = _first_rows(text, separator, True, _COMPARED_ROWS)
        widths = collections.Counter(len(row) for row in rows if len(row) > 1)
        count = max(widths.values(), default=0)
        opened = [f'{mark}"' for mark in SEPARATORS if mark != separator]
        cells = [cell for row in rows for cell in row]
        is_prose = any(c.startswith(" ") or any(mark in c for mark in opened) for c in cells)
        return (count if 2 * count > len(rows) else 0), not is_prose

    return max((usual, *SEPARATORS), key=fit)


def split_lines(text: str) -> list[str]:
    """Splits text into lines, without their ends and without empty ones at the text's end."""
    if "\n" not in text:
        text = text.replace("\r", "\n")  # the line end of old Macs
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().lower()


def _first_rows(text: str, separator: str, quotes: bool, count: int) -> list[list[str]]:
    """Splits a file's first rows that aren't empty, all of them to their ends."""
    start = text[:_COMPARED_CHARACTERS]
    if quotes:
        reader = csv.reader(io.StringIO(start, newline=""), delimiter=separator)
        rows = list(itertools.islice(filter(None, reader), count))
    else:
        lines = split_lines(start)[:_COMPARED_ROWS]
        rows = [line.split(separator) for line in lines if line][:count]
    is_cut = len(start) < len(text) and len(rows) < count
    return rows[:-1] if is_cut and len(rows) > 1 else rows
