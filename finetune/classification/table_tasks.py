"""Tasks without code, and classification: the columns of a TSV, CSV or JSON file.

`finetune.definitions` says what the hparam `tasks.<name>` may hold.
"""

from __future__ import annotations

import collections
import math
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, first_of
from electra_tf2.files import exists
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import (
    alike,
    cell_text,
    is_doubtful,
    is_missing,
    label_text,
    spellings,
)
from finetune.classification.metrics import MacroF1Scorer
from finetune.classification.regression import parse_score
from finetune.classification.separated_values import Dialect
from finetune.classification.tables import SUFFIXES, TableRow, read_table
from finetune.classification.tasks import (
    ClassificationTask,
    InputExample,
    LabelledTask,
    SingleOutputTask,
    names_of_labels,
)
from finetune.data_files import BadRows
from finetune.definitions import ClassificationDefinition, Column, TableDefinition
from finetune.task import Scorer, unlike_model

DEBUG_ROWS = 100
"""Rows that a debug run reads of each file."""

LABELLED = ("train", "dev")
"""The splits whose rows must have labels."""

# Keys of definitions that version 0.1.0 did not have: those that a feature may depend on, and those
# that none does or that stand among the settings of their own.
_LATER_KEYS = ("separator", "quotes")
_KEYS_APART = ("id", "windows", "class_weights", "threshold", "loss", "ranking", "scale")
# More labels than this, and than half of the rows, are hardly meant as labels.
_MANY_LABELS = 50


class TrainingLabels(NamedTuple):
    """What stands in the training file's column of labels.

    Attributes:
        texts: the labels of the rows whose texts can be used.
        problems: what is wrong with the other rows.
    """

    texts: list[str]
    problems: list[str]

    @property
    def shown_problems(self) -> str:
        """The first problems in parentheses; "" if there is none."""
        return f" ({first_of(self.problems, 3)})" if self.problems else ""


class TableTask(SingleOutputTask):
    """What tasks over the columns of a file share, to be inherited from before a kind of task.

    Args:
        config, name, tokenizer: see `Task`.
        definition: its columns and files.
        *more: what the kind of task takes besides.

    Attributes:
        definition: as given.
    """

    definition: TableDefinition
    features_version = 4  # 2: separators, quotes, labels; 3: numbers, rows of questions; 4: widths

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: TableDefinition,
        *more: Any,
    ):
        super().__init__(config, name, tokenizer, *more)
        self.definition = definition
        self.windows = definition.windows

    def data_file(self, split: str) -> str:
        """Returns the path that the definition gives, or the first existing one of the usual.

        Where there is none, the path is the one to name: of the kind of the training file.
        """
        if split in self.definition.files:
            return self.path(self.definition.files[split])
        usual = [
            self.path(split + suffix + zipped) for zipped in ("", ".gz") for suffix in SUFFIXES
        ]
        if found := next((path for path in usual if exists(path)), None):
            return found
        train = usual[0] if split == "train" else self.data_file("train")
        suffix = posixpath.splitext(train.removesuffix(".gz"))[1]
        return self.path(split + suffix) if suffix in SUFFIXES else usual[0]

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Ids number its rows from 0."""
        rows, bad, examples = self._read(path, split), BadRows(path), []
        rows = rows[:DEBUG_ROWS] if self.config.debug else rows
        for eid, row in enumerate(rows):
            try:
                examples.append(self._example(eid, row, split))
            except ValueError as error:
                bad.add(row.line, str(error))
        bad.check(len(rows))
        warn_of_ids(path, examples)
        empty = sum(is_missing(example.text_a.strip()) for example in examples)
        if empty and split in LABELLED:
            logging.warning(
                f"{path}: the text of {empty} of {len(rows)} rows is empty, or stands for a "
                "missing value."
            )
        return examples

    def _columns(self, split: str) -> tuple[list[Column], list[Column]]:
        """Returns the columns that a split's rows must have, and those that they may lack."""
        definition = self.definition
        labels = [column for _, column in definition.columns_of_labels()]
        required = [definition.text, *(labels if split in LABELLED else [])]
        return required, [] if definition.text_b is None else [definition.text_b]

    def _read(self, path: str, split: str) -> list[TableRow]:
        definition = self.definition
        columns, nullable = self._columns(split)
        labels = [column for _, column in definition.columns_of_labels()]
        # A file that is one column of texts may have a separator once in each of its lines.
        expects_labels = split in LABELLED or definition.header
        if definition.id is not None and split != "train":
            nullable.append(definition.id)
        return read_table(
            path,
            tuple(dict.fromkeys(columns)),
            nullable,
            definition.header,
            expected=labels if expects_labels else (),
            dialect=Dialect(definition.separator, definition.quotes),
        )

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
            **(self._label_fields(row, split) if split in LABELLED else {}),
        )

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        """Returns the fields of an example that hold its label; ValueError if there is none."""
        del split  # a task that scores rows with labels of their own looks at it
        return {"label": self.parse_label(self._label_text(row))}

    def _label_text(self, row: TableRow) -> str:
        value = row.cells[self.definition.label]
        if isinstance(value, list):
            raise ValueError(f'{value!r} is not text (the kind for lists is "multilabel")')
        return label_text(value)

    def _id(self, row: TableRow) -> str | float | None:
        """A row's own id as it stands in the file, a JSON number as one; None if it has none."""
        value = None if self.definition.id is None else row.cells.get(self.definition.id)
        if value is None or isinstance(value, int | float) and abs(value) != math.inf:
            return value
        return cell_text(value)  # of an infinite number too, which JSON can't hold

    def _training_labels(self) -> TrainingLabels:
        """Reads the labels of the training file's rows whose texts can be used."""
        texts, problems = [], []
        for row in self._read(self.data_file("train"), "train"):
            try:
                self._example(0, row, "predict")
                texts.append(self._label_text(row))
            except ValueError as error:
                problems.append(f"line {row.line}: {error}")
        return TrainingLabels(texts, problems)

    def _warn_of_spellings(self, path: str, names: Mapping[str, collections.Counter[str]]) -> None:
        """Names labels with several spellings, and those that may be missing values or typos."""
        for name, own in names.items():
            if len(own) > 1:
                shown = ", ".join(f"{text!r} ({count} rows)" for text, count in own.items())
                logging.warning(f"{path}: taken for one label, {name!r}: {shown}.")
            if is_doubtful(name, names):
                logging.warning(
                    f"{path}: {name!r} is taken for a label ({own.total()} rows). If it stands for "
                    "a missing value, take the rows out; if not, list all labels in the hparam "
                    f"tasks.{self.name}.labels."
                )
        for group in alike(names):
            shown = ", ".join(f"{name!r} ({names[name].total()} rows)" for name in group)
            logging.warning(
                f"{path}: labels that differ in capitals, spaces or what can't be seen: {shown}."
            )

    def feature_settings(self) -> dict[str, Any]:
        # All keys of both kinds, as in version 0.1.0: stored trials are compared by them.
        definition = {"labels": None, "min": None, "max": None} | self.definition.to_dict()
        for key in _KEYS_APART:
            definition.pop(key, None)
        for key in _LATER_KEYS:
            if definition[key] is None:
                del definition[key]
        return {**super().feature_settings(), "definition": definition}

    def _unlike_model(self, key: str, what: str, given: Any, trained: Any) -> UserError:
        return unlike_model(self.name, what, given, trained).with_(
            where=f"hparam tasks.{self.name}.{key}", remedy=f"Leave {key} out, or give the model's."
        )


class LabelledTable(TableTask, LabelledTask):
    """What tasks with named labels share, to be inherited from beside a kind of task.

    Arguments: see `TableTask`; of a task without labels they are inferred from its training file.
    """

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: TableDefinition,
        labels: tuple[str, ...],
        *more: Any,
    ):
        super().__init__(config, name, tokenizer, definition, labels, *more)
        self._given_labels = labels

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's labels."""
        labels = self.trained_labels(state)
        if self._given_labels not in ((), labels):
            raise self._unlike_model("labels", "labels", list(self._given_labels), list(labels))
        self._label_list = labels

    def _no_known_label(
        self, path: str, split: str, first: InputExample, unknown: collections.Counter[str]
    ) -> UserError:
        """The error that no row of a file has a label of the task; `first` is its first example."""
        line = self._read(path, split)[first.eid].line
        return UserError(
            f"No row has one of the labels of the task {self.name!r}.",
            where=f"{path}, line {line}",
            received=f"{_counted(unknown)}; the labels are {names_of_labels(self.label_list)}",
            remedy=f"Give the {split} file the labels of the task, or name another column in the "
            f"hparam tasks.{self.name}.label.",
        )


class TableClassification(LabelledTable, ClassificationTask):
    """A classification task over the columns of a file.

    Args:
        config, name, tokenizer: see `Task`.
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
        labels = tuple(map(str, definition.labels or ()))
        super().__init__(config, name, tokenizer, definition, labels)
        self.class_weights = definition.class_weights
        # Labels that the task lacks, in the order in which the files have them.
        self._unknown: dict[str, int] = {}

    def _inferred_labels(self) -> tuple[str, ...]:
        path = self.data_file("train")
        training = self._training_labels()
        found = [text for text in training.texts if not is_missing(text)]
        names = spellings(found)
        labels = sorted_labels(set(names))
        if len(labels) < 2:
            raise UserError(
                "The training data have fewer than two labels.",
                where=path,
                received=(f"the label {labels[0]!r} alone" if labels else "no label")
                + training.shown_problems,
                remedy=f"Check the column of labels in the hparam tasks.{self.name}.label. (If it "
                'holds lists of labels, the kind is "multilabel".)',
            )
        self._warn_of_spellings(path, names)
        if len(labels) > max(_MANY_LABELS, len(found) // 2):
            logging.warning(
                f"{path}: {len(labels)} different labels in {len(found)} rows. Is it a task of the "
                'kind "regression"?'
            )
        return labels

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`.

        Rows of the dev file with a label that the task lacks are kept, with their label as it is:
        no prediction is right for them.

        Raises:
            UserError: besides the usual, no row of the dev file has a label of the task.
        """
        examples = super().read_examples(path, split)
        if split != "dev":
            return examples
        known = set(self.label_list)
        unknown = collections.Counter(str(e.label) for e in examples if e.label not in known)
        if examples and unknown.total() == len(examples):
            raise self._no_known_label(path, split, examples[0], unknown)
        if unknown:
            logging.warning(
                f"{path}: {unknown.total()} of {len(examples)} rows have labels that the task "
                f"lacks, so whatever is predicted for them counts as wrong: {_counted(unknown)}. "
                f"The labels are {names_of_labels(self.label_list)}. Take the rows out of the file "
                "if they are not to be scored."
            )
        return examples

    def parse_label(self, text: str) -> str:
        """Returns the class that a text states; raises ValueError if it states none."""
        if not text or is_missing(text) and text not in self.label_list:
            raise ValueError(
                f"the label {text!r} stands for a missing value (unless the hparam "
                f"tasks.{self.name}.labels lists it)"
            )
        return super().parse_label(text)

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        text = self._label_text(row)
        try:
            return {"label": self.parse_label(text)}
        except ValueError:
            if split == "train" or is_missing(text):
                raise
            return {"label": text}

    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns `label_ids`, the class's number; below 0 for a label that the task lacks."""
        if example.label is None or example.label in self.label_list:
            return super().label_feature(example)
        number = self._unknown.setdefault(str(example.label), -1 - len(self._unknown))
        return {"label_ids": number}

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy and macro F1; F1 of the second one of two classes."""
        return MacroF1Scorer(self.label_list)


def warn_of_ids(path: str, examples: Sequence[Any]) -> None:
    """Warns of ids that several of a file's examples have."""
    counts = collections.Counter(example.id for example in examples if example.id is not None)
    doubled = [(name, count) for name, count in counts.items() if count > 1]
    if doubled:
        logging.warning(
            f"{path}: {len(doubled)} ids belong to several rows, such as {doubled[0][0]!r} to "
            f"{doubled[0][1]}."
        )


def _counted(labels: collections.Counter[str]) -> str:
    return first_of([f"{text!r} ({n} rows)" for text, n in labels.most_common()], 10, ", ")


def sorted_labels(labels: set[str]) -> tuple[str, ...]:
    """Returns labels sorted as numbers if all are numbers, else as text."""
    try:
        return tuple(sorted(labels, key=lambda label: (parse_score(label), label)))
    except ValueError:
        return tuple(sorted(labels))
