"""Classification and regression tasks that hparams describe, without code.

    {"task_names": ["reviews"],
     "tasks": {"reviews": {"kind": "classification", "text": "body", "label": "stars",
                           "files": {"train": "reviews.csv", "dev": "held_out.csv"}}}}

`custom_definition.Definition` says what a definition holds.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import posixpath
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import MacroF1Scorer
from finetune.classification.tables import SUFFIXES, Row, read_table
from finetune.classification.tasks import (
    ClassificationTask,
    InputExample,
    RegressionTask,
    SingleOutputTask,
    parse_score,
    saved_labels,
    saved_range,
)
from finetune.data_files import BadRows
from finetune.task import Scorer

# The hparam `tasks.<name>` of a classification or regression task, checked.


Column = str | int
"""A column's name, or its number from 0."""

SPLITS = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True)
class Definition:
    """Where a task's files are and what they have.

    Attributes:
        text: column of the text, or of the first one.
        label: column of the label or score.
        text_b: column of the second text; None if there is none.
        files: split -> path in the task's folder; where one is missing, `<split>.tsv`, `.csv` or
            `.jsonl`.
        header: whether line 1 of a TSV or CSV file names the columns.
        labels: the classes; None: those of the training file.
        min: lowest score; None: that of the training file.
        max: highest score; None: that of the training file.
    """

    text: Column
    label: Column
    text_b: Column | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    header: bool = True
    labels: tuple[str, ...] | None = None
    min: float | None = None
    max: float | None = None


_COMMON = ("text", "text_b", "label", "files", "header")
KEYS = {"classification": (*_COMMON, "labels"), "regression": (*_COMMON, "min", "max")}
"""Kind -> the keys that its definition may have; "text" and "label" must be there."""


def check_definition(kind: str, name: str, given: Mapping[str, Any]) -> Definition:
    """Checks a definition.

    Args:
        kind: "classification" or "regression".
        name: the task's name.
        given: the definition without its kind.

    Raises:
        UserError: a key is unknown or missing, or a value is of the wrong type.
    """
    for key in given:
        if key not in KEYS[kind]:
            raise _error(name, key, "is unknown", given[key], nearest_name_hint(key, KEYS[kind]))
    header = given.get("header", True)
    if not isinstance(header, bool):
        raise _error(name, "header", "is neither true nor false", header)
    values: dict[str, Any] = {"header": header, "files": _files(name, given.get("files", {}))}
    for key in ("text", "text_b", "label"):
        values[key] = _column(name, key, given.get(key), header)
    for key in ("text", "text_b"):
        if values[key] == values["label"]:
            remedy = "Name the column of the labels; the model would only learn to read them."
            raise _error(name, "label", f"is the same column as {key}", values["label"], remedy)
    if given.get("labels") is not None:
        values["labels"] = _labels(name, given["labels"])
    for key in ("min", "max"):
        values[key] = _number(name, key, given.get(key))
    low, high = values["min"], values["max"]
    if low is not None and high is not None and not low < high:
        raise _error(name, "max", "is not above min", high, f"Choose more than {low:g}.")
    return Definition(**values)


def label_text(value: Any) -> str:
    """Returns a label as text: a JSON number or truth value as JSON writes it.

    Raises:
        ValueError: it is empty, or an object or a list.
    """
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if value is None or not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no label")
    return value.strip()


def _column(name: str, key: str, value: Any, header: bool) -> Column | None:
    if value is None:
        if key == "text_b":
            return None
        raise _error(name, key, "is missing", None, "Name the column that holds it.")
    blank = isinstance(value, str) and not value.strip()
    if isinstance(value, bool) or not isinstance(value, str | int) or blank:
        raise _error(name, key, "is no column", value, "Give its name, or its number from 0.")
    if isinstance(value, int) and value < 0:
        raise _error(name, key, "is no column", value, "Columns are numbered from 0.")
    if isinstance(value, str) and not header:
        raise _error(name, key, "names a column, and there is no header", value, "Number it.")
    return value


def _files(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _error(name, "files", "is no object", value, 'Write {"train": "reviews.csv", …}.')
    for split, path in value.items():
        if split not in SPLITS:
            hint = nearest_name_hint(split, SPLITS)
            raise _error(name, f"files.{split}", "is no split", path, hint)
        if not isinstance(path, str) or posixpath.splitext(path)[1].lower() not in SUFFIXES:
            endings = ", ".join(SUFFIXES)
            raise _error(name, f"files.{split}", f"is no path ending in {endings}", path)
    return dict(value)


def _labels(name: str, value: Any) -> tuple[str, ...]:
    try:
        labels = tuple(label_text(label) for label in value) if isinstance(value, list) else ()
    except ValueError as error:
        raise _error(name, "labels", f"holds something else: {error}", value) from error
    if len(labels) < 2 or len(set(labels)) < len(labels):
        remedy = "List two labels or more, each once, or leave it out to take those of the data."
        raise _error(name, "labels", "is no list of different labels", value, remedy)
    return labels


def _number(name: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except OverflowError:  # a whole number beyond all floating-point ones
        number = math.inf
    if not math.isfinite(number):
        raise _error(name, key, "is no number", value)
    return number


def _error(name: str, key: str, what: str, value: Any, remedy: str | None = None) -> UserError:
    return UserError(
        f"In the definition of the task {name!r}, {key} {what}.",
        where=f"hparam tasks.{name}.{key}",
        received="nothing" if value is None else repr(value),
        remedy=remedy or "See docs/finetuning.md for what a definition holds.",
    )


# Rows that are read of each file in debug mode.
_DEBUG_ROWS = 100
# More labels than this, and than half of the rows, are hardly meant.
_MANY_LABELS = 50


class TableTask(SingleOutputTask):
    """What both kinds share, to be inherited from beside a kind of task.

    Attributes:
        definition: the columns and files.
    """

    definition: Definition

    def data_file(self, split: str) -> str:
        """Returns the path that the definition gives, or the first of the usual ones there is."""
        if split in self.definition.files:
            return self.path(self.definition.files[split])
        usual = [self.path(split + suffix) for suffix in SUFFIXES]
        return next((path for path in usual if tf.io.gfile.exists(path)), usual[0])

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Ids number its rows from 0."""
        definition, labelled = self.definition, split in ("train", "dev")
        rows = read_table(
            path,
            (definition.text, definition.label) if labelled else (definition.text,),
            () if definition.text_b is None else (definition.text_b,),
            definition.header,
        )
        bad, examples = BadRows(path), []
        rows = rows[:_DEBUG_ROWS] if self.config.debug else rows
        for eid, row in enumerate(rows):
            try:
                examples.append(self._example(eid, row, labelled))
            except ValueError as error:
                bad.add(row.line, str(error))
        bad.check(len(rows))
        return examples

    def _example(self, eid: int, row: Row, labelled: bool) -> InputExample:
        if row.problem:
            raise ValueError(row.problem)
        definition = self.definition
        second = row.cells.get(definition.text_b) if definition.text_b is not None else None
        return InputExample(
            eid=eid,
            text_a=_text(row.cells[definition.text]),
            text_b=None if second is None else _text(second),
            label=self.parse_label(label_text(row.cells[definition.label])) if labelled else None,
        )

    def _training_labels(self) -> list[str]:
        """Returns the labels of the training file's usable rows."""
        path, found = self.data_file("train"), []
        for row in read_table(path, (self.definition.label,), header=self.definition.header):
            try:
                if not row.problem:
                    found.append(label_text(row.cells[self.definition.label]))
            except ValueError:
                continue  # counted when the examples are read
        return found

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on."""
        return {**super().feature_settings(), "definition": dataclasses.asdict(self.definition)}


class TableClassification(TableTask, ClassificationTask):
    """A classification task over the columns of a file.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files. Without labels, those of the training file are taken
            when they are first asked for, sorted as numbers if all are numbers, else as text.
    """

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer, definition: Definition):
        super().__init__(config, name, tokenizer, definition.labels or ())
        self.definition = definition
        self._unknown: collections.Counter[str] = collections.Counter()

    @property
    def label_list(self) -> tuple[str, ...]:
        """The classes' names."""
        if not self._label_list:
            self._label_list = self._inferred_labels()
        return self._label_list

    def _inferred_labels(self) -> tuple[str, ...]:
        found = self._training_labels()
        labels = _sorted_labels(set(found))
        path = self.data_file("train")
        if len(labels) < 2:
            raise UserError(
                "The training data have fewer than two labels.",
                where=path,
                received=f"the label {labels[0]!r} alone" if labels else "no label",
                remedy=f"Check the column of labels in the hparam tasks.{self.name}.label.",
            )
        if len(labels) > max(_MANY_LABELS, len(found) // 2):
            logging.warning(
                '%s: %d different labels in %d rows. Is it a task of the kind "regression"?',
                path,
                len(labels),
                len(found),
            )
        return labels

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Labels that training does not have are named."""
        self._unknown.clear()
        try:
            return super().read_examples(path, split)
        finally:
            for label, count in self._unknown.most_common(10):
                logging.warning(
                    "%s: the label %r of %d rows is not in the training data, and never predicted.",
                    path,
                    label,
                    count,
                )

    def parse_label(self, text: str) -> str:
        """Returns the label itself; ValueError if it is none of the classes."""
        try:
            return super().parse_label(text)
        except ValueError as error:
            if self.definition.labels:
                raise
            self._unknown[text] += 1
            raise ValueError(f"{error}, the labels of the training data") from None

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy and macro F1; F1 of the second one of two classes."""
        return MacroF1Scorer(self.label_list)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's labels."""
        labels = saved_labels(self.name, state)
        if self.definition.labels not in (None, labels):
            raise _unlike_model(self.name, "labels", list(self.definition.labels), list(labels))
        self._label_list = labels


class TableRegression(TableTask, RegressionTask):
    """A regression task over the columns of a file.

    The network is trained on scores scaled to 0..1.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files. Without min or max, the training file's lowest or
            highest score is taken; scores of other files may then lie beyond.
    """

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer, definition: Definition):
        super().__init__(config, name, tokenizer, math.nan, math.nan)
        self.definition = definition
        self._range: tuple[float, float] | None = None

    def score_range(self) -> tuple[float, float]:
        """Returns the lowest and the highest score."""
        if self._range is None:
            self._range = self._inferred_range()
        return self._range

    def scale(self) -> float:
        """Returns the distance of the highest score from the lowest."""
        low, high = self.score_range()
        return high - low

    def _inferred_range(self) -> tuple[float, float]:
        low, high = self.definition.min, self.definition.max
        if low is None or high is None:
            scores = self._training_scores()
            low = min(scores, default=math.nan) if low is None else low
            high = max(scores, default=math.nan) if high is None else high
        if not low < high:
            raise UserError(
                "The training data's scores span no range.",
                where=self.data_file("train"),
                received="no score" if math.isnan(low + high) else f"from {low:g} to {high:g}",
                remedy=f"Check the hparam tasks.{self.name}: label, min and max.",
            )
        return low, high

    def _training_scores(self) -> list[float]:
        scores = []
        for text in self._training_labels():
            try:
                scores.append(parse_score(text))
            except ValueError:
                continue  # counted when the examples are read
        return scores

    def parse_label(self, text: str) -> float:
        """Returns the score; ValueError if it is no number or outside a range that was given."""
        return parse_score(text, self.definition.min, self.definition.max)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's range of scores."""
        trained = saved_range(self.name, state)
        for key, value in zip(("min", "max"), trained, strict=True):
            given = getattr(self.definition, key)
            if given not in (None, value):
                raise _unlike_model(self.name, key, given, value)
        self._range = trained


def make_classification(
    config: Any, name: str, tokenizer: Tokenizer, definition: Mapping[str, Any]
) -> TableClassification:
    """Builds the classification task that a definition (without its kind) describes.

    Raises:
        UserError: see `check_definition`.
    """
    checked = check_definition("classification", name, definition)
    return TableClassification(config, name, tokenizer, checked)


def make_regression(
    config: Any, name: str, tokenizer: Tokenizer, definition: Mapping[str, Any]
) -> TableRegression:
    """Builds the regression task that a definition (without its kind) describes.

    Raises:
        UserError: see `check_definition`.
    """
    checked = check_definition("regression", name, definition)
    return TableRegression(config, name, tokenizer, checked)


def _text(value: Any) -> str:
    """Returns a cell's text; numbers and truth values of JSON as JSON writes them."""
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"{value!r} is no text")
    return value if isinstance(value, str) else label_text(value)


def _sorted_labels(labels: set[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(labels, key=lambda label: (parse_score(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _unlike_model(name: str, key: str, given: Any, trained: Any) -> UserError:
    return UserError(
        f"The definition of the task {name!r} is not that of the trained model.",
        where=f"hparam tasks.{name}.{key}",
        received=f"{given!r}; the model was trained with {trained!r}",
        remedy=f"Leave {key} out, or give the model's.",
    )
