"""What a task without code may say of itself: the hparam `tasks.<name>`, typed and checked.

    {"task_names": ["reviews"],
     "tasks": {"reviews": {"kind": "classification", "text": "body", "label": "stars",
                           "files": {"train": "reviews.csv", "dev": "held_out.csv"}}}}

Each kind of task has one record here, with a line and a comment for every key.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Literal

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.record import HParams
from electra_tf2.hparams.types import NonNegativeInt
from finetune.classification.tables import SUFFIXES, label_text

SPLITS = ("train", "dev", "test")

Column = str | NonNegativeInt
"""A column's name, or its number from 0."""


class TaskDefinition(HParams):
    """What all kinds of tasks have. Arguments, attributes and errors: see `HParams`."""

    files: dict[str, Any] = {}  # split (train, dev or test) -> file in the task's folder

    file_remedy = "Give the name of a file."

    def check(self) -> None:
        """Refuses files of unknown splits, and names that are not those of data files."""
        for split, file in self.files.items():
            key = f"files.{split}"
            if split not in SPLITS:
                raise refusal(key, "is not a split", file, nearest_name_hint(split, SPLITS))
            if not isinstance(file, str) or not self.is_data_file(file):
                raise refusal(key, "does not name a data file", file, self.file_remedy)

    def is_data_file(self, file: str) -> bool:
        """Whether this may be the name of a data file."""
        return posixpath.basename(file) != ""


class TableDefinition(TaskDefinition):
    """What classification and regression have: columns of a TSV, CSV or JSONL file."""

    text: Column = ""  # column of the text: its name, or its number from 0; required
    text_b: Column | None = None  # column of a second text
    label: Column = ""  # column of the label or the score; required
    header: bool = True  # whether line 1 of a TSV or CSV file names the columns

    file_remedy = f"Give a file whose name ends in {', '.join(SUFFIXES)}."

    def is_data_file(self, file: str) -> bool:
        """Whether a name has one of the endings of tables."""
        return posixpath.splitext(file)[1].lower() in SUFFIXES

    def check(self) -> None:
        """Refuses missing columns, names of columns without a header, and a text as label."""
        super().check()
        for key in ("text", "text_b", "label"):
            column = getattr(self, key)
            if isinstance(column, str) and not column.strip():
                raise refusal(key, "is missing", None, "Name the column that holds it.")
            if isinstance(column, str) and not self.header:
                remedy = "Give the column's number, from 0."
                raise refusal(key, "names a column, but there is no header", column, remedy)
        for key in ("text", "text_b"):
            if getattr(self, key) == self.label:
                remedy = "Name the column of the labels; the model would only learn to read them."
                raise refusal("label", f"is the same column as {key}", self.label, remedy)


class ClassificationDefinition(TableDefinition):
    """A classification task."""

    labels: list[str | bool | float] | None = None  # the classes, in order; null: those of the
    # training file

    def check(self) -> None:
        """Refuses lists without two different labels; turns labels into text."""
        super().check()
        if self.labels is None:
            return
        try:
            labels = [label_text(label) for label in self.labels]
        except ValueError as error:
            raise refusal("labels", f"holds something else: {error}", self.labels) from error
        if len(labels) < 2 or len(set(labels)) < len(labels):
            remedy = (
                "List two labels or more, each once, or leave it out to take those of the data."
            )
            raise refusal("labels", "is not a list of different labels", labels, remedy)
        self.labels = [*labels]


class RegressionDefinition(TableDefinition):
    """A regression task."""

    min: float | None = None  # lowest score; null: the lowest of the training file
    max: float | None = None  # highest score; null: the highest of the training file

    def check(self) -> None:
        """Refuses an empty range."""
        super().check()
        if self.min is not None and self.max is not None and not self.min < self.max:
            raise refusal("max", "is not above min", self.max, f"Choose more than {self.min:g}.")


class TaggingDefinition(TaskDefinition):
    """A tagging task: words and tags in columns, by default in the files `<split>.txt`."""

    word_column: int = 0  # column of the word, from 0; negative: from the end
    tag_column: int = -1  # column of the tag, counted likewise
    separator: str | None = None  # what separates columns; null: tabs if all lines have them, else
    # white space
    scheme: Literal["iob", "bioes", "bilou", "bmes", "bmewo", "bare", "token"] | None = None
    # how tags mark spans (iob: IOB1 or IOB2; bare: types without letters), or token: they stand for
    # themselves; null: what the tags of the training split look like

    def check(self) -> None:
        """Refuses an empty separator, and the same column for word and tag."""
        super().check()
        if self.separator == "":
            remedy = 'Give a text such as "\\t", or leave it out for any white space.'
            raise refusal("separator", "is empty", self.separator, remedy)
        if self.word_column == self.tag_column:
            remedy = "Choose different columns."
            raise refusal("tag_column", "is the column of the words too", self.tag_column, remedy)


class QADefinition(TaskDefinition):
    """A question answering task: files of SQuAD's format, by default `<split>.json`."""

    unanswerable: bool = False  # whether questions may have no answer, as in SQuAD 2.0


DEFINITIONS: dict[str, type[TaskDefinition]] = {
    "classification": ClassificationDefinition,
    "regression": RegressionDefinition,
    "tagging": TaggingDefinition,
    "qa": QADefinition,
}
"""Kind -> the record of its keys."""


def read_definition(name: str, given: Mapping[str, Any]) -> TaskDefinition:
    """Checks the definition of a task.

    Args:
        name: the task's name.
        given: its entry in the hparam `tasks`.

    Returns:
        The record of its kind.

    Raises:
        UserError: the kind or a key is missing or unknown, or a value is of the wrong type or
            impossible; names the place, such as `hparam tasks.reviews.text`.
    """
    values = dict(given)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in DEFINITIONS:
        raise UserError(
            f"The kind of the task {name!r} is unknown.",
            where=f"hparam tasks.{name}.kind",
            received="no kind" if kind is None else repr(kind),
            remedy=nearest_name_hint(str(kind), DEFINITIONS),
        )
    try:
        return DEFINITIONS[kind](**values)
    except UserError as error:
        key = str(error.where).removeprefix("hparam ")
        raise error.with_(where=f"hparam tasks.{name}.{key}") from None


def refusal(key: str, problem: str, received: Any, remedy: str | None = None) -> UserError:
    """The error that a key of a definition has an impossible value."""
    return UserError(
        f"In the task's definition, {key} {problem}.",
        where=f"hparam {key}",
        received="nothing" if received is None else repr(received),
        remedy=remedy or "See docs/finetuning_reference.md for what a definition holds.",
    )
