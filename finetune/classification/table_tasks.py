"""Classification and regression without code: the columns of a TSV, CSV or JSONL file.

`finetune.definitions` says what the hparam `tasks.<name>` may hold.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from absl import logging

from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import MacroF1Scorer
from finetune.classification.regression import (
    RegressionTask,
    ScoreScaling,
    parse_score,
    saved_range,
)
from finetune.classification.tables import SUFFIXES, TableRow, cell_text, label_text, read_table
from finetune.classification.tasks import (
    ClassificationTask,
    InputExample,
    SingleOutputTask,
    saved_classes,
)
from finetune.data_files import BadRows
from finetune.definitions import (
    ClassificationDefinition,
    Column,
    RegressionDefinition,
    TableDefinition,
)
from finetune.task import Scorer, unlike_model

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig

# Rows that a debug run reads of each file.
_DEBUG_ROWS = 100
_LABELLED = ("train", "dev")
# Keys of definitions that version 0.1.0 did not have, and that no feature depends on or that
# stand among the settings of their own.
_LATER_KEYS = ("id", "windows", "class_weights", "threshold")
# More labels than this, and than half of the rows, are hardly meant as labels.
_MANY_LABELS = 50


class TableTask(SingleOutputTask):
    """What both kinds share, to be inherited from beside a kind of task.

    Attributes:
        definition: the columns and files.
    """

    definition: TableDefinition

    def data_file(self, split: str) -> str:
        """Returns the path that the definition gives, or the first existing one of the usual."""
        if split in self.definition.files:
            return self.path(self.definition.files[split])
        usual = [self.path(split + suffix) for suffix in SUFFIXES]
        return next((path for path in usual if tf.io.gfile.exists(path)), usual[0])

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Ids number its rows from 0."""
        rows, bad, examples = self._read(path, split), BadRows(path), []
        rows = rows[:_DEBUG_ROWS] if self.config.debug else rows
        for eid, row in enumerate(rows):
            try:
                examples.append(self._example(eid, row, split))
            except ValueError as error:
                bad.add(row.line, str(error))
        bad.check(len(rows))
        return examples

    def _read(self, path: str, split: str) -> list[TableRow]:
        definition = self.definition
        return read_table(
            path,
            (definition.text, *self._other_columns(split)),
            () if definition.text_b is None else (definition.text_b,),
            definition.header,
        )

    def _other_columns(self, split: str) -> list[Column]:
        """The columns that every row of a split must have besides its text, each once."""
        labels = [column for _, column in self.definition.columns_of_labels()]
        columns = labels if split in _LABELLED else []
        if self.definition.id is not None and split != "train":
            columns.append(self.definition.id)
        return [*dict.fromkeys(c for c in columns if c != self.definition.text)]

    def _example(self, eid: int, row: TableRow, split: str) -> InputExample:
        if row.problem:
            raise ValueError(row.problem)
        definition = self.definition
        second = row.cells.get(definition.text_b) if definition.text_b is not None else None
        return InputExample(
            eid=eid,
            text_a=cell_text(row.cells[definition.text]),
            text_b=None if second is None else cell_text(second),
            id=None if split == "train" else self._id(row),
            **(self._label_fields(row, split) if split in _LABELLED else {}),
        )

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        """Returns the fields of an example that hold its label, in a split with labels."""
        del split  # a task that scores rows with labels of their own looks at it
        value = row.cells[self.definition.label]
        if isinstance(value, list):
            raise ValueError(f'{value!r} is not text (the kind for lists is "multilabel")')
        return {"label": self.parse_label(label_text(value))}

    def _id(self, row: TableRow) -> str | float | None:
        """A row's own id as it stands in the file; a number in JSON stays one."""
        value = None if self.definition.id is None else row.cells.get(self.definition.id)
        return value if value is None or isinstance(value, int | float) else cell_text(value)

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
        # All keys of both kinds, as in version 0.1.0: stored trials are compared by them.
        definition = {"labels": None, "min": None, "max": None} | self.definition.to_dict()
        for key in _LATER_KEYS:
            definition.pop(key, None)
        return {**super().feature_settings(), "definition": definition}

    def _unlike_model(self, key: str, what: str, given: Any, trained: Any) -> UserError:
        return unlike_model(self.name, what, given, trained).with_(
            where=f"hparam tasks.{self.name}.{key}", remedy=f"Leave {key} out, or give the model's."
        )


class TableClassification(TableTask, ClassificationTask):
    """A classification task over the columns of a file.

    Args:
        config: the run's hparams.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files. Without labels, those of the training file are read
            when they are first needed, sorted as numbers if all are numbers, else as text.
    """

    definition: ClassificationDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: ClassificationDefinition,
    ):
        self._given_labels = tuple(map(str, definition.labels or ()))
        super().__init__(config, name, tokenizer, self._given_labels)
        self.definition = definition
        self.windows, self.class_weights = definition.windows, definition.class_weights
        self._unknown: collections.Counter[str] = collections.Counter()

    @property
    def label_list(self) -> tuple[str, ...]:
        """The classes' names."""
        if not self._label_list:
            self._label_list = self._inferred_labels()
        return self._label_list

    def _inferred_labels(self) -> tuple[str, ...]:
        found = self._training_labels()
        labels = sorted_labels(set(found))
        path = self.data_file("train")
        if len(labels) < 2:
            raise UserError(
                "The training data have fewer than two labels.",
                where=path,
                received=f"the label {labels[0]!r} alone" if labels else "no label",
                remedy=f"Check the column of labels in the hparam tasks.{self.name}.label. (If it "
                'holds lists of labels, the kind is "multilabel".)',
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
        """Reads a file; see `Task`. Warns of labels that the training data lack."""
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
        """Returns the label itself; raises ValueError if it is not one of the classes."""
        try:
            return super().parse_label(text)
        except ValueError as error:
            if self._given_labels:
                raise
            self._unknown[text] += 1
            raise ValueError(f"{error}, the labels of the training data") from None

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy and macro F1; F1 of the second one of two classes."""
        return MacroF1Scorer(self.label_list)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's labels."""
        labels = saved_classes(self.name, state)
        if self._given_labels not in ((), labels):
            raise self._unlike_model("labels", "labels", list(self._given_labels), list(labels))
        self._label_list = labels


class TableRegression(TableTask, RegressionTask):
    """A regression task over the columns of a file.

    The network is trained on scores scaled to [0, 1].

    Args:
        config: the run's hparams.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files. Without min or max, the training file's lowest or
            highest score is taken; scores of other files may then lie beyond.
    """

    definition: RegressionDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: RegressionDefinition,
    ):
        super().__init__(config, name, tokenizer, math.nan, math.nan)
        self.definition = definition
        self.windows = definition.windows
        self._range: tuple[float, float] | None = None

    def score_range(self) -> tuple[float, float]:
        """Returns the lowest and the highest score."""
        if self._range is None:
            self._range = self._inferred_range()
        return self._range

    @property
    def scaling(self) -> ScoreScaling:
        """How scores are scaled to [0, 1], and back."""
        low, high = self.score_range()
        return ScoreScaling(low, high - low)

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
        """Returns the score; raises ValueError if it is not a number, or outside a given range."""
        return parse_score(text, self.definition.min, self.definition.max)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's range of scores."""
        trained = saved_range(self.name, state)
        for key, value in zip(("min", "max"), trained, strict=True):
            given = getattr(self.definition, key)
            if given not in (None, value):
                raise self._unlike_model(key, "lowest and highest score", given, value)
        self._range = trained


def sorted_labels(labels: set[str]) -> tuple[str, ...]:
    """Returns labels sorted as numbers if all are numbers, else as text."""
    try:
        return tuple(sorted(labels, key=lambda label: (parse_score(label), label)))
    except ValueError:
        return tuple(sorted(labels))
