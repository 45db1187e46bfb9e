"""TSV and CSV as programs write them: which separator, whether quotes are marks, and the cells.

Excel writes `;` between columns where a comma is the decimal mark, `sep=;` before the header when
asked to, and tabs into "Unicode text". pandas and Excel put quotes around some cells of files with
tabs, too; in GLUE and many other TSV files quotes are ordinary characters.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple

from absl import logging

from electra_tf2.data.sources.separators import recognized_separator, split_lines
from electra_tf2.errors import UserError

# A cell may be a whole document; the csv module's own limit is 128 KiB.
_MAX_CELL = 1 << 24
_EXCEL_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)


class Cells(NamedTuple):
    """A row of cells.

    Attributes:
        line: the number of its first line in the file, from 1.
        cells: the texts of its cells.
    """

    line: int
    cells: list[str]


class Dialect(NamedTuple):
    """How a file writes its cells.

    Attributes:
        separator: the character between columns; None: what the first lines look like.
        quotes: whether quotes around a cell are marks, which may hold separators and line breaks;
            None: what the file looks like where tabs separate columns, and True elsewhere.
    """

    separator: str | None = None
    quotes: bool | None = None


ANY_DIALECT = Dialect()


def find_name(column: str, names: Collection[str]) -> str | None:
    """Returns the one of a file's names that names a column; None if there is none.

    A letter with an accent, and a syllable of Hangul, may be one character or several in Unicode:
    what was made on a Mac is often decomposed.

    Args:
        column: as the task's definition has it.
        names: those of the file.
    """
    if column in names:
        return column
    composed = unicodedata.normalize("NFC", column)
    equal = (name for name in names if unicodedata.normalize("NFC", name) == composed)
    return None if column.isascii() else next(equal, None)


def split_cells(
    text: str,
    path: str,
    dialect: Dialect,
    *,
    usual: str,
    columns: Sequence[str | int],
    header: bool,
) -> list[Cells]:
    """Splits a file into rows of cells.

    Empty lines are skipped where quotes are marks. So are rows of blank cells at the file's end,
    which Excel writes.

    Args:
        text: the file's text.
        dialect: what is known of it.
        usual: the separator that the file's name stands for.
        columns: names or numbers of columns that the file probably has, by which the separator is
            recognized.
        header: whether the first row names the columns.

    Raises:
        UserError: a quote is not closed or not doubled, or there is no row.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL))
    excel = _EXCEL_LINE.match(text)
    first_line = 1
    if excel:
        text, first_line = text[excel.end() :], 2
    separator = dialect.separator or (
        excel[1]
        if excel
        else recognized_separator(text, usual, columns, header=header, quotes=dialect.quotes)
    )
    if separator != usual and not dialect.separator:
        logging.info("%s: the columns are separated by %r.", path, separator)
    quotes = dialect.quotes
    if quotes is None:
        quotes = separator != "\t" or usual != "\t" or _has_marks(text, path, header)
    if quotes:
        rows = _quoted_rows(text, path, separator, first_line)
    else:
        lines = enumerate(split_lines(text), first_line)
        rows = [Cells(number, line.split(separator)) for number, line in lines]
    return _without_blank_end(rows, path)


def _without_blank_end(rows: list[Cells], path: str) -> list[Cells]:
    """Drops rows of blank cells at the end of a file, which has to have others."""
    while rows and len(rows[-1].cells) > 1 and not any(map(str.strip, rows[-1].cells)):
        rows.pop()
    if not rows:
        raise UserError(
            "A data file is empty.",
            where=path,
            received="no row with text in it",
            remedy="Copy it again, or check its source.",
        )
    return rows


def _has_marks(text: str, path: str, header: bool) -> bool:
    """Whether the quotes of a file with tabs are marks around cells rather than ordinary text.

    They are if every quote belongs to a cell in quotes, and if more speaks for it: a quote that is
    doubled inside, a header in quotes, commas in these cells and nowhere else (Excel's), no other
    cells than numbers, or lines that lack columns unless quotes may hold them.
    """
    whole = [match[1] for match in _QUOTED_CELL.finditer(text)]
    if not whole or text.count('"') != sum(2 + cell.count('"') for cell in whole):
        return False
    plain = [line.split("\t") for line in split_lines(text) if line]
    try:
        marked = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t") if row]
    except csv.Error:  # a cell of many megabytes
        return False
    width = len(marked[0])
    mended = sum(len(row) != width for row in plain) - sum(len(row) != width for row in marked)
    doubled = any('""' in cell for cell in whole)
    named = header and all(cell.startswith('"') for cell in plain[0])
    rest = _QUOTED_CELL.sub("", text)
    commas = len(whole) > 1 and all(map(_NEEDS_QUOTES.search, whole)) and "," not in rest
    numbers = len(plain) > 1 and _NUMBERS.fullmatch(rest)
    if mended > 0 or mended == 0 and (doubled or named or commas or numbers):
        logging.warning("%s: quotes around cells are taken for marks, as in CSV.", path)
        return True
    if len(whole) > len(plain) / 2:
        logging.warning(
            f"{path}: {len(whole)} cells are in quotes, which are taken for text. If they are "
            'marks around the cells, set "quotes": true in the task\'s definition.'
        )
    return False


_NEEDS_QUOTES = re.compile('[,"\t\r\n]')  # to Excel
_NUMBERS = re.compile(r"[0-9.+\-\s]*")
# A whole cell in quotes, which may hold tabs and line breaks, and quotes that are doubled.
_QUOTED_CELL = re.compile(r'(?<![^\t\n])"([^"]*(?:""[^"]*)*)"(?=\t|\r?\n|\r?\Z)')


def _skips_blanks(text: str, path: str, separator: str) -> bool:
    """Whether quotes behind a blank are marks, too, as in `"a, b", "x"`.

    They are if all of the file can be read so and more rows are then as long as the first; or as
    many, where each such cell ends in a quote as well.
    """
    if separator == " " or not re.search(rf'(?:^|{re.escape(separator)}) +"', text, re.MULTILINE):
        return False

    def rows(**options) -> tuple[list[str], int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, **options)
        each = [row for row in reader if row]
        return [*itertools.chain(*each)], sum(len(row) != len(each[0]) for row in each)

    try:
        cells, ragged = rows()
    except csv.Error:  # a cell without an end; who reads the rows says where it begins
        return False
    behind = [cell for cell in cells if _BLANK_AND_QUOTE.match(cell)]
    if not behind:
        return False
    try:
        _, still_ragged = rows(skipinitialspace=True, strict=True)
    except csv.Error:
        still_ragged = len(cells)
    whole = all(map(_BLANKS_AND_QUOTES.fullmatch, behind))
    skips = still_ragged < ragged or whole and still_ragged == ragged
    taken_for = "a mark around the cell" if skips else "text"
    logging.warning(
        f"{path}: {len(behind)} cells have a quote behind a blank, which is taken for {taken_for}."
    )
    return skips


_BLANK_AND_QUOTE = re.compile(' +"')
_BLANKS_AND_QUOTES = re.compile(' +"(?:[^"]|"")*" *')


def _quoted_rows(text: str, path: str, separator: str, first_line: int) -> list[Cells]:
    # strict: a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=_skips_blanks(text, path, separator),
    )
    rows, start = [], first_line
    try:
        for cells in reader:
            if cells:
                rows.append(Cells(start, cells))
            start = reader.line_num + first_line
    except csv.Error as error:
        raise UserError(
            "A data file is not CSV.",
            where=f"{path}, line {start}",
            received=str(error),
            remedy='Put cells with a separator, a quote or a line break in quotes, and write " '
            'inside as "". Where quotes are ordinary text, set "quotes": false in the task\'s '
            "definition.",
        ) from error
    return rows
