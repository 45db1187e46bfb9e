"""Reading GLUE's tab-separated files: quotes are literal, and ids count rows."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from electra_tf2.errors import UserError
from finetune.classification.classification_tasks import InputExample
from finetune.classification.glue_tables import Columns, GlueTable
from finetune.data_files import BadRows, read_text


class GlueRows(NamedTuple):
    """What a file holds.

    Attributes:
        examples: of the usable rows, each with its row's number from 0 as `eid`.
        num_rows: all rows, without the header.
    """

    examples: list[InputExample]
    num_rows: int


def read_lines(path: str, max_lines: int | None = None) -> list[list[str]]:
    """Reads a tab-separated file.

    Args:
        path: the file.
        max_lines: how many of its lines to take; None for all.

    Returns:
        The cells of each line. An empty line has none; those at the file's end are left out.

    Raises:
        UserError: see `read_text`.
    """
    lines = read_text(path).split("\n")[:max_lines]
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return [line.split("\t") if line else [] for line in lines]


def read_glue(table: GlueTable, path: str, split: str, max_lines: int | None = None) -> GlueRows:
    """Reads one of a task's files.

    Args:
        table: the task.
        path: the file.
        split: whose columns it has; "predict": those of a test split, or of the training file with
            or without its label (told apart by line 1).
        max_lines: how many lines to read; None for all.

    Raises:
        UserError: the file can't be read, line 1 lacks a column, or too many rows are bad.
    """
    lines = read_lines(path, max_lines)
    first = lines[0] if lines else []
    columns = _columns(table, path, split, first)
    needed = columns.min_cells
    if columns.header and len(first) < needed:
        raise UserError(
            "A data file lacks a column.",
            where=f"{path}, line 1",
            received=f"{_shown(first)}; at least {needed} are needed",
            remedy=f"Check that it is the {split} file of {table.folder} in GLUE.",
        )
    bad = BadRows(path)
    examples = []
    for i, cells in enumerate(lines[columns.header :]):
        try:
            examples.append(_example(table, i, cells, columns))
        except ValueError as error:
            bad.add(i + 1 + columns.header, str(error))
    num_rows = len(lines) - columns.header
    bad.check(num_rows)
    return GlueRows(examples, num_rows)


def swapped(examples: list[InputExample]) -> list[InputExample]:
    """Returns the examples with their texts swapped and ids that follow (the official ones).

    Where rows were skipped the ids overlap by as many; nothing looks examples to train on up.
    """
    offset = len(examples)
    return [
        dataclasses.replace(e, eid=e.eid + offset, text_a=e.text_b, text_b=e.text_a)
        for e in examples
    ]


def _example(table: GlueTable, eid: int, cells: list[str], columns: Columns) -> InputExample:
    if len(cells) < columns.min_cells:
        raise ValueError(f"{_shown(cells)}; at least {columns.min_cells} are needed")
    return InputExample(
        eid=eid,
        text_a=cells[columns.text_a],
        text_b=None if columns.text_b is None else cells[columns.text_b],
        label=None if columns.label is None else table.parse_label(cells[columns.label]),
    )


def _columns(table: GlueTable, path: str, split: str, first: list[str]) -> Columns:
    if split != "predict":
        return table.tests.get(split, table.labelled)
    if all(name in first for name in table.text_names):
        places = [first.index(name) for name in table.text_names]
        return Columns(places[0], places[1] if len(places) > 1 else None)
    labelled = table.labelled
    if not labelled.header and len(first) >= labelled.min_cells:
        return dataclasses.replace(labelled, label=None)
    if first[:1] in (["index"], ["id"]):
        return next(iter(table.tests.values()))
    raise UserError(
        "A file to predict does not name its columns.",
        where=f"{path}, line 1",
        received=_shown(first),
        remedy=f"Name them in line 1, separated by tabs: {', '.join(table.text_names)}.",
    )


def _shown(cells: list[str]) -> str:
    count = f"{len(cells)} column{'' if len(cells) == 1 else 's'}"
    text = " | ".join(cells)
    return f"{count}: {text[:100]}{'…' if len(text) > 100 else ''}" if cells else "an empty line"
