"""The tasks of GLUE: their files, and those for the evaluation server (gluebenchmark.com).

What tells the tasks apart is in `glue_tables`.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists, make_dirs, replace_file
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.glue_tables import GLUE, HIGHEST, LOWEST, GlueColumns, GlueTable
from finetune.classification.regression import RegressionTask
from finetune.classification.tables import text_lines
from finetune.classification.tasks import ClassificationTask, InputExample, SingleOutputTask
from finetune.data_files import BadRows
from finetune.task import Scorer

# Lines of a file that a debug run reads, the header included.
_DEBUG_LINES = 100


class GlueRows(NamedTuple):
    """What a file holds.

    Attributes:
        examples: of the usable rows, each with its row's number from 0 as `eid`.
        num_rows: number of all rows, without the header.
    """

    examples: list[InputExample]
    num_rows: int


def read_glue(table: GlueTable, path: str, split: str, max_lines: int | None = None) -> GlueRows:
    """Reads one of a task's files: columns are separated by tabs, and quotes are literal.

    Args:
        table: the task.
        split: the split whose columns it has; "predict": those of a test split, or of the training
            file with or without its label (line 1 tells which).
        max_lines: number of lines to read; None for all.

    Raises:
        UserError: the file can't be read, line 1 lacks a column, or too many rows are bad.
    """
    lines = [line.split("\t") if line else [] for line in text_lines(path, max_lines)]
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
    """Returns the examples with their texts swapped and with the ids that follow, as officially.

    Where rows were skipped, as many ids occur twice; training examples are never looked up by id.
    """
    offset = len(examples)
    return [
        dataclasses.replace(e, eid=e.eid + offset, text_a=e.text_b, text_b=e.text_a)
        for e in examples
    ]


def _example(table: GlueTable, eid: int, cells: list[str], columns: GlueColumns) -> InputExample:
    if len(cells) < columns.min_cells:
        raise ValueError(f"{_shown(cells)}; at least {columns.min_cells} are needed")
    return InputExample(
        eid=eid,
        text_a=cells[columns.text_a],
        text_b=None if columns.text_b is None else cells[columns.text_b],
        label=None if columns.label is None else table.parse_label(cells[columns.label]),
    )


def _columns(table: GlueTable, path: str, split: str, first: list[str]) -> GlueColumns:
    if split != "predict":
        return table.tests.get(split, table.labelled)
    if all(name in first for name in table.text_names):
        places = [first.index(name) for name in table.text_names]
        return GlueColumns(places[0], places[1] if len(places) > 1 else None)
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


def write_submission(
    name: str,
    test_file: str,
    num_rows: int,
    records: Sequence[Mapping[str, Any]],
    folder: str,
) -> str:
    """Writes a file for GLUE's server: `index<tab>prediction` lines under a header of these words.

    Args:
        name: the file's name.
        test_file: the file that was predicted, for messages.
        num_rows: its number of rows.
        records: one per row, with the row's number from 0 as "id" and a "label" or a "score".
        folder: where to write it; made if it is missing.

    Returns:
        The file's path.

    Raises:
        UserError: a row has no prediction, so that the server would refuse the file or assign
            predictions to other rows. Nothing is written.
    """
    by_row = {record["id"]: _prediction(record) for record in records}
    check_rows(name, test_file, num_rows, by_row)
    lines = ["index\tprediction", *(f"{row}\t{by_row[row]}" for row in range(num_rows))]
    make_dirs(folder)
    path = posixpath.join(folder, name)
    replace_file(path, ("\n".join(lines) + "\n").encode())
    return path


def check_rows(name: str, test_file: str, num_rows: int, rows: Collection[int]) -> None:
    """Checks that every row of a test file has a prediction, or will have one.

    Args:
        name: the submission's name.
        num_rows: its number of rows.
        rows: the predicted rows, from 0.

    Raises:
        UserError: a row is missing.
    """
    missing = [row for row in range(num_rows) if row not in rows]
    if missing:
        named = first_of([*map(str, missing)], most=5, separator=", ")
        raise UserError(
            f"The submission {name} would lack {len(missing)} of {num_rows} predictions.",
            where=test_file,
            received=f"no usable row {named} (counted from 0, after the header)",
            remedy="Fix the rows, or copy the file from GLUE again.",
        )


def _prediction(record: Mapping[str, Any]) -> str:
    if "score" in record:
        return f"{min(max(record['score'], LOWEST), HIGHEST):.3f}"
    return record["label"]


class GlueTask(SingleOutputTask):
    """What the tasks of GLUE share, to be inherited from beside a kind of task.

    Attributes:
        table: the task's table.
    """

    table: GlueTable
    features_version = 2  # 2: labels such as "1.0" and " 1" are read

    @property
    def main_metric(self) -> str:
        """The metric by which models are compared."""
        return self.table.main_metric

    @property
    def dev_splits(self) -> Mapping[str, str]:
        """Splits to score; the mismatched one of mnli only where its file is present."""
        first, *others = self.table.dev_splits
        present = [name for name in others if exists(self.data_file(name))]
        return {name: self.table.dev_splits[name] for name in (first, *present)}

    @property
    def test_splits(self) -> Sequence[str]:
        """Splits without labels."""
        return tuple(self.table.tests)

    def data_file(self, split: str) -> str:
        return self.path(self.table.file_name(split))

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task` and `read_glue`."""
        examples = self._read(path, split).examples
        if split == "train" and self.table.doubled and self.config.double_unordered:
            examples = examples + swapped(examples)
        return examples

    def _read(self, path: str, split: str) -> GlueRows:
        max_lines = _DEBUG_LINES if self.config.debug else None
        return read_glue(self.table, path, split, max_lines)

    def check_test_split(self, split: str) -> None:
        """Checks that every row of a test split is usable, as its submission needs.

        Raises:
            UserError: the file can't be read, or a row can't be used.
        """
        path = self.data_file(split)
        examples, num_rows = self._read(path, split)
        rows = {example.eid for example in examples}
        check_rows(self.table.submissions[split], path, num_rows, rows)

    def write_submission(
        self, split: str, records: Sequence[Mapping[str, Any]], folder: str
    ) -> list[str]:
        """Writes the file that GLUE's server takes; see the function `write_submission`."""
        path = self.data_file(split)
        num_rows = self._read(path, split).num_rows
        return [write_submission(self.table.submissions[split], path, num_rows, records, folder)]

    def feature_settings(self) -> dict[str, Any]:
        settings = super().feature_settings()
        if self.table.doubled:
            settings["double_unordered"] = self.config.double_unordered
        return settings


class GlueClassification(GlueTask, ClassificationTask):
    """A classification task of GLUE by its name in `GLUE`; arguments: see `Task`."""

    def __init__(self, config: FinetuningConfig, name: str, tokenizer: Tokenizer):
        self.table = GLUE[name]
        super().__init__(config, name, tokenizer, self.table.labels)

    def get_scorer(self, split: str = "dev") -> Scorer:
        return self.table.scorer(self.label_list)


class GlueRegression(GlueTask, RegressionTask):
    """The regression task of GLUE, sts; arguments: see `Task`."""

    def __init__(self, config: FinetuningConfig, name: str, tokenizer: Tokenizer):
        self.table = GLUE[name]
        super().__init__(config, name, tokenizer, LOWEST, HIGHEST)

    def get_scorer(self, split: str = "dev") -> Scorer:
        return self.table.scorer()
