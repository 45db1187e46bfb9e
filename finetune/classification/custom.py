"""Classification and regression tasks that hparams describe, without code.

    {"task_names": ["reviews"],
     "tasks": {"reviews": {"kind": "classification", "text": "body", "label": "stars",
                           "files": {"train": "reviews.csv", "dev": "held_out.csv"}}}}

`custom_definition.Definition` says what a definition holds.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.classification_metrics import MacroF1Scorer
from finetune.classification.classification_tasks import (
    ClassificationTask,
    InputExample,
    RegressionTask,
    SingleOutputTask,
    parse_score,
)
from finetune.classification.custom_definition import Definition, check_definition, label_text
from finetune.classification.saved_state import saved_labels, saved_range
from finetune.classification.tables import SUFFIXES, Row, read_table
from finetune.data_files import BadRows
from finetune.scorer import Scorer

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
