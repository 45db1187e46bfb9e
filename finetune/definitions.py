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
from electra_tf2.hparams.types import NonNegativeInt, PositiveFloat, ProbabilityBelowOne
from finetune.classification.labels import find_label, label_problem, label_text
from finetune.classification.tables import SUFFIXES, table_suffix

SPLITS = ("train", "dev", "test")

# Characters that end a line or a cell anyway.
_NO_SEPARATORS = '"\r\n'

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
    """What kinds of tasks over tables have: columns of a TSV, CSV or JSON file."""

    text: Column = ""  # column of the text: its name, or its number from 0; required
    text_b: Column | None = None  # column of a second text
    label: Column = ""  # column of the label or the score; required
    id: Column | None = None  # column of what predictions call a row; null: the row's number
    header: bool = True  # whether line 1 of a TSV or CSV file names the columns
    separator: str | None = None  # character between the columns of a TSV or CSV file; null: what
    # the file looks like
    quotes: bool | None = None  # whether quotes around cells are marks, not text; null: in CSV, and
    # in TSV where it looks so
    windows: Literal["mean", "max"] | None = None  # read a long text in windows, one every
    # doc_stride tokens, and take the mean or the maximum of their outputs; null: cut the text

    file_remedy = f"Give a file whose name ends in {', '.join(SUFFIXES)}."
    missing_remedy = "Name the column that holds it."

    def is_data_file(self, file: str) -> bool:
        """Whether a name has one of the endings of tables."""
        return table_suffix(file) in SUFFIXES

    def check(self) -> None:
        """Refuses missing columns, names of columns without a header, and a text as label."""
        super().check()
        texts, labels = self.columns_of_texts(), self.columns_of_labels()
        for key, column in (*texts.items(), ("id", self.id), *labels):
            if isinstance(column, str) and not column.strip():
                raise refusal(key, "is missing", None, self.missing_remedy)
            if isinstance(column, str) and not self.header:
                remedy = "Give the column's number, from 0."
                raise refusal(key, "names a column, but there is no header", column, remedy)
        for key, text in texts.items():
            for label, column in labels:
                if text == column:
                    remedy = (
                        "Name the column of the labels; the model would only learn to read them."
                    )
                    raise refusal(label, f"is the same column as {key}", column, remedy)
        if self.windows is not None and self.text_b is not None:
            remedy = "Leave one of the two out."
            raise refusal("windows", "needs single texts: there is text_b", self.windows, remedy)
        if self.separator is not None and (
            len(self.separator) != 1 or self.separator in _NO_SEPARATORS
        ):
            remedy = 'Give one character, such as ";" or "\\t", or leave it out.'
            raise refusal("separator", "can't separate columns", self.separator, remedy)

    def columns_of_texts(self) -> dict[str, Column | None]:
        """Returns the columns that hold texts by the keys that name them."""
        return {"text": self.text, "text_b": self.text_b}

    def columns_of_labels(self) -> list[tuple[str, Column]]:
        """Returns the columns that hold labels, each with the key that names it."""
        return [("label", self.label)]


class ClassificationDefinition(TableDefinition):
    """A classification task."""

    labels: list[str | bool | float] | None = None  # the classes, in order; null: those of the
    # training file
    class_weights: Literal["balanced"] | dict[str, Any] | None = None  # label -> what the losses
    # of its training examples are multiplied by; balanced: the rarer, the more; null: 1 for all

    def check(self) -> None:
        """Refuses lists without two different labels, and bad weights; turns labels into text."""
        super().check()
        self.labels = _label_list(self.labels, at_least=2)
        if isinstance(self.class_weights, dict):
            self.class_weights = dict(_weight(*pair) for pair in self.class_weights.items())
            known = [*map(str, self.labels or self.class_weights)]
            for name in self.class_weights:
                if find_label(name, known) is None:
                    remedy = nearest_name_hint(name, known)
                    raise refusal("class_weights", "names another label", name, remedy)


class MultilabelDefinition(TableDefinition):
    """A task with any number of labels a text."""

    label_columns: list[str | int] | None = None  # columns that hold 0 or 1, one for
    # each label; null: label names a column of lists, or of texts with separators in them
    label_separator: str = ","  # what stands between labels in a text; a list needs none
    labels: list[str | bool | float] | None = None  # the labels, in order; null: the names of the
    # columns, or the labels of the training file
    threshold: Literal["tuned"] | ProbabilityBelowOne = 0.5  # labels with at least this
    # probability are predicted; tuned: what gives the dev split the best micro F1, kept with the
    # model

    def check(self) -> None:
        """Refuses bad lists of labels; turns labels into text."""
        if self.label == "" and self.label_columns is None:
            remedy = "Name the column of lists, or give the columns of 0 and 1 as label_columns."
            raise refusal("label", "is missing", None, remedy)
        super().check()
        self.labels = _label_list(self.labels, at_least=1)
        if not self.label_separator:
            remedy = 'Give a text such as ";".'
            raise refusal("label_separator", "is empty", self.label_separator, remedy)
        if self.label_columns is None:
            return
        if self.label != "":
            remedy = "Give the column of lists or the columns of 0 and 1."
            raise refusal("label_columns", "is there beside label", self.label_columns, remedy)
        numbers = [column for column in self.label_columns if isinstance(column, int)]
        different = len(set(self.label_columns)) == len(self.label_columns) > 0
        if not different or min(numbers, default=0) < 0:
            remedy = "Give the name of each label's column, or its number from 0, once."
            raise refusal(
                "label_columns", "is not a list of different columns", self.label_columns, remedy
            )
        if self.labels is None and numbers:
            remedy = "Name the labels, in the order of their columns."
            raise refusal("labels", "is missing: these columns have no names", None, remedy)
        if self.labels is None:
            for name in self.label_columns:
                if problem := label_problem(str(name).strip()):
                    what = f"has a name with {problem} in it"
                    raise refusal("label_columns", what, name, "Rename the column.")
        if self.labels is not None and len(self.labels) != len(self.label_columns):
            remedy = f"Give {len(self.label_columns)} labels, one for each column, or leave it out."
            raise refusal("labels", "is not as long as the list of columns", self.labels, remedy)

    def columns_of_labels(self) -> list[tuple[str, Column]]:
        """Returns the columns that hold labels, each with the key that names it."""
        if self.label_columns is None:
            return super().columns_of_labels()
        return [("label_columns", column) for column in self.label_columns]


def _label_list(labels: list[Any] | None, at_least: int) -> list[Any] | None:
    """Returns labels as text; refuses lists without so many different ones."""
    if labels is None:
        return None
    try:
        texts = [label_text(label) for label in labels]
    except ValueError as error:
        raise refusal("labels", f"holds something else: {error}", labels) from error
    if len(texts) < at_least or len(set(texts)) < len(texts):
        number = {1: "one label", 2: "two labels"}[at_least]
        remedy = f"List {number} or more, each once, or leave it out to take those of the data."
        raise refusal("labels", "is not a list of different labels", texts, remedy)
    return texts


def _weight(label: str, value: Any) -> tuple[str, float]:
    """Returns a label as the data have it, and its weight."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        remedy = "Give a number above 0 and below 1000000."
        raise refusal(f"class_weights.{label}", "is not a weight", value, remedy)
    try:
        return label_text(label), float(value)
    except ValueError as error:
        raise refusal("class_weights", f"names something else: {error}", label) from error


class RegressionDefinition(TableDefinition):
    """A regression task."""

    min: float | None = None  # lowest score; null: the lowest of the training file
    max: float | None = None  # highest score; null: the highest of the training file
    loss: Literal["squared", "logistic"] = "squared"  # squared error, or cross-entropy with a
    # sigmoid: for labels that are 0 or 1, or probabilities
    ranking: bool = False  # whether rows with the same text are one query's candidates: MRR and MAP
    # are reported

    def check(self) -> None:
        """Refuses an empty range, and a ranking of single texts."""
        super().check()
        if self.ranking and self.text_b is None:
            remedy = "Name the column of a query's candidates in text_b, or leave ranking out."
            raise refusal("ranking", "needs pairs: there is no text_b", self.ranking, remedy)
        if self.min is None or self.max is None:
            return
        if not self.min < self.max:
            raise refusal("max", "is not above min", self.max, f"Choose more than {self.min:g}.")


class EmbeddingDefinition(TableDefinition):
    """A task of sentence embeddings: texts and what belongs to them."""

    negative: Column | None = None  # column of the training file's texts that are similar to text
    # but do not belong to it
    label: Column | None = None  # column of the dev file's scores of similarity; null: texts look
    # for their text_b among all of the dev file
    scale: PositiveFloat = 20.0  # what cosines are multiplied by before the softmax

    def check(self) -> None:
        """Refuses windows, a missing second text, and one column for two texts."""
        if self.windows is not None:
            raise refusal("windows", "is not for embeddings", self.windows, "Leave it out.")
        if self.text_b is None:
            remedy = "Name the column of the texts that belong to those in text."
            raise refusal("text_b", "is missing", None, remedy)
        super().check()
        texts = self.columns_of_texts()
        for key, other in (("text_b", "text"), ("negative", "text"), ("negative", "text_b")):
            if texts[key] == texts[other]:
                what = f"is the same column as {other}"
                raise refusal(key, what, texts[key], "Name another column.")

    def columns_of_texts(self) -> dict[str, Column | None]:
        """Returns the columns that hold texts by the keys that name them."""
        return {**super().columns_of_texts(), "negative": self.negative}

    def columns_of_labels(self) -> list[tuple[str, Column]]:
        """Returns the column of scores, if there is one."""
        return [] if self.label is None else [("label", self.label)]


class ChoiceDefinition(TableDefinition):
    """A multiple-choice task; `text_b` is the question."""

    choices: str | list[str | int] = ""  # columns of the choices, or the one that holds lists of
    # them; required
    first_number: NonNegativeInt = 0  # what labels that are numbers call the first choice

    def check(self) -> None:
        """Refuses windows, and columns of choices that are missing or are others' too."""
        if self.windows is not None:
            raise refusal("windows", "is not for choices", self.windows, "Leave it out.")
        super().check()
        columns = self.columns_of_choices()
        taken = {self.text, self.text_b, self.label}
        remedy = "Name two columns of choices or more, each once, or the one that holds lists."
        if not columns or any(isinstance(c, str) and not c.strip() for c in columns):
            raise refusal("choices", "is missing", self.choices or None, remedy)
        if isinstance(self.choices, list) and len(set(columns)) != max(len(columns), 2):
            raise refusal("choices", "is not a list of different columns", columns, remedy)
        if taken & set(columns):
            raise refusal("choices", "has a column of another key", self.choices, remedy)
        if not self.header and any(isinstance(column, str) for column in columns):
            remedy = "Give the columns' numbers, from 0."
            raise refusal("choices", "names columns, but there is no header", columns, remedy)
        if any(isinstance(column, int) and column < 0 for column in columns):
            raise refusal("choices", "has a number below 0", columns, "Count columns from 0.")

    def columns_of_choices(self) -> list[str | int]:
        """Returns the columns of the choices, or the one that holds lists of them."""
        return self.choices if isinstance(self.choices, list) else [self.choices]


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
    "multilabel": MultilabelDefinition,
    "regression": RegressionDefinition,
    "embedding": EmbeddingDefinition,
    "choice": ChoiceDefinition,
    "tagging": TaggingDefinition,
    "qa": QADefinition,
}
"""Kind -> the record of its keys."""


def read_definition(name: str, given: Mapping[str, Any]) -> TaskDefinition:
    """Checks the definition of a task.

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
