"""Multiple choice (SWAG, RACE): which of several texts continues a context or answers a question.

Each choice is a row of its own, `[CLS] context [SEP] question choice [SEP]`, and gets one logit;
the softmax is over the choices of an example, as in SWAG's fine-tuning of BERT (arXiv:1810.04805,
section 4.4).
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from scipy.special import softmax

from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig
from finetune.classification.class_report import ClassScores
from finetune.classification.labels import cell_text, label_text
from finetune.classification.metrics import AccuracyScorer
from finetune.classification.table_tasks import DEBUG_ROWS, LABELLED, TableTask, warn_of_ids
from finetune.classification.tables import TableRow
from finetune.classification.tasks import SingleOutputHead, SingleOutputTask
from finetune.data_files import BadRows, whole_number
from finetune.definitions import ChoiceDefinition, Column
from finetune.feature_tables import text_features
from finetune.task import (
    MORE_MASK,
    MORE_STATES,
    MORE_TEXTS,
    TEACHER,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Seed,
    SoftTargets,
    TaskHead,
    Tensors,
    other_kind,
    softened_divergence,
)

# The logit of a choice that is not there, to be divided by any temperature.
_NOWHERE = -1e9


@dataclasses.dataclass(frozen=True)
class ChoiceExample:
    """A context, and texts of which one fits.

    Attributes:
        eid: its number, unique in the split.
        context: what is read first.
        choices: two texts or more.
        question: what stands before every choice; None or empty if there is none.
        label: the number of the right choice, from 0; None where unknown.
        id: what predictions call it; None: its `eid`.
    """

    eid: int
    context: str
    choices: tuple[str, ...]
    question: str | None = None
    label: int | None = None
    id: str | float | None = None


class ChoiceHead(SingleOutputHead):
    """One logit for each choice, from its row's [CLS]; the loss is the cross-entropy in nats."""

    def __init__(self, dropout_prob: float, **kwargs):
        super().__init__(1, dropout_prob, **kwargs)

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Chooses; see `TaskHead.call`.

        The features `MORE_STATES` and `MORE_MASK` are of all choices but the first. The outputs are
        loss, predictions, label_ids and num_choices [batch], and logits [batch, choices], the
        lowest number where an example has no such choice.
        """
        first = tf.concat([states[:, tf.newaxis, 0], features[MORE_STATES][:, :, 0]], axis=1)
        rows = tf.reshape(first, [-1, 1, first.shape[-1]])
        logits = tf.reshape(self.project(rows, training, seed), tf.shape(first)[:2])
        more = features[MORE_MASK][:, :, 0]
        there = tf.concat([tf.ones_like(more[:, :1]), more], axis=1)
        logits = tf.where(there > 0, logits, logits.dtype.min)
        labels = features["label_ids"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        outputs = {
            "loss": losses,
            "logits": logits,
            "predictions": tf.argmax(logits, axis=-1),
            "label_ids": labels,
            "num_choices": tf.reduce_sum(there, axis=1),
        }
        return HeadOutput(losses, outputs)

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes the divergence from the teacher's choices."""
        logits = outputs["logits"]
        there = tf.sequence_mask(outputs["num_choices"], tf.shape(logits)[1])
        student, teacher = (
            tf.where(there, x, _NOWHERE) for x in (logits, features[f"{TEACHER}logits"])
        )
        return softened_divergence(student, teacher, temperature)


class ChoiceScorer(AccuracyScorer):
    """Share of examples whose right choice is found."""

    def stuck_at(self) -> str | None:
        """Names the one place whose choice is always taken."""
        return super().stuck_at() and f"choice {self._predicted[0]}"

    def class_scores(self) -> ClassScores | None:
        """Returns nothing: places of choices are no classes."""
        return None


class ChoiceTask(SingleOutputTask):
    """A task whose output is one of several texts; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `ChoiceExample`s.
    """

    main_metric = "accuracy"

    def parse_label(self, text: str) -> int:
        """Returns the number of the right choice, from 0; ValueError if it is not one."""
        number = whole_number(text)
        if number is None:
            raise ValueError(f"the label {text!r} is not the number of a choice")
        return number

    def label_feature(self, example: ChoiceExample) -> dict[str, Any]:
        """Returns `label_ids`, the number of the right choice."""
        return {"label_ids": example.label or 0}

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the further choices and of `label_ids`."""
        return [*MORE_TEXTS, FeatureSpec("label_ids")]

    def featurize(
        self, examples: Sequence[ChoiceExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `[CLS] context [SEP] question choice [SEP]` for each choice of an example.

        Args:
            examples: from `get_examples`.
            is_training: whether every example must have a label.

        Raises:
            UserError: `max_seq_length` leaves no room for two texts.
            ValueError: a label is missing: an error of the task.
        """
        self.check_room()
        most = max(len(example.choices) for example in examples)
        contexts = self.tokenizer.encode_lines([example.context for example in examples]).rows()
        texts = [f"{e.question or ''} {choice}" for e in examples for choice in e.choices]
        choices = iter(self.tokenizer.encode_lines(texts).rows())
        for example, context in zip(examples, contexts, strict=True):
            if is_training and example.label is None:
                raise ValueError(f"An example to train on has no label. Received: {example}")
            pairs = [(context, next(choices)) for _ in example.choices]
            missing = [None] * (most - len(pairs))
            row = text_features([*pairs, *missing], self.tokenizer, self.config.max_seq_length)
            yield {"eid": example.eid, **self.label_feature(example), **row}

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        return ChoiceHead(self.config.head_dropout_prob, dtype=dtype)

    def soft_targets(self) -> SoftTargets:
        """Returns the logits, as many as the example with the most choices has."""
        spec = FeatureSpec("logits", is_int_feature=False, size=-1)
        return SoftTargets([spec], self.get_state())

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy."""
        return ChoiceScorer()

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the number of the likeliest "choice", from 0, and the "probabilities" of all."""
        logits = np.asarray(output["logits"], np.float64)[: int(output["num_choices"])]
        return {"choice": int(output["predictions"]), "probabilities": softmax(logits).tolist()}

    def get_state(self) -> dict[str, Any]:
        """Returns what tells this kind from others."""
        return {"choices": True}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a model was trained on a task of this kind.

        Raises:
            UserError: it was not.
        """
        if state != self.get_state():
            raise other_kind(self.name, "choice", state)


class _Question(NamedTuple):
    """A question as its row has it: only the context is known to be text."""

    context: str
    asked: Any
    choices: Any
    label: Any
    id: str | float | None


class TableChoice(TableTask, ChoiceTask):
    """A multiple-choice task without code: the columns of a TSV, CSV or JSON file.

        {"kind": "choice", "text": "sent1", "text_b": "sent2", "label": "label",
         "choices": ["ending0", "ending1", "ending2", "ending3"]}                 SWAG's CSV
        {"kind": "choice", "text": "article", "text_b": "questions", "label": "answers",
         "choices": "options"}                                                    RACE's JSON

    A row of JSON may have several questions about its text: a list of them in `text_b`, of lists
    of choices, and of labels.

    Arguments: see `TableTask`.
    """

    definition: ChoiceDefinition

    def read_examples(self, path: str, split: str) -> list[ChoiceExample]:
        """Reads a file; see `Task`. Ids number its questions from 0, those without use as well.

        Raises:
            UserError: besides the usual, the labels seem to count the choices from another number.
        """
        rows, bad = self._read(path, split), BadRows(path, "questions")
        examples: list[ChoiceExample] = []
        rows = rows[:DEBUG_ROWS] if self.config.debug else rows
        eid, one_off = 0, dict[int, str]()
        kinds: dict[bool, str] = {}  # whether it is a letter -> a label
        for row in rows:
            try:
                questions = self._questions(row, split)
            except ValueError as error:
                count = self._number_of_questions(row)
                bad.add(row.line, str(error), count)
                eid += count
                continue
            for number, question in enumerate(questions, 1):
                try:
                    examples.append(self._example_of(eid, question, split))
                    kinds.setdefault(str(question.label).isalpha(), str(question.label))
                except ValueError as error:
                    if isinstance(error, _OneOff):
                        one_off[error.step] = f"line {row.line}: {error}"
                    which = f"question {number} of {len(questions)}: "
                    bad.add(row.line, f"{which if len(questions) > 1 else ''}{error}")
                eid += 1
        for step, problem in one_off.items():
            if not any(_rules_out(example, step) for example in examples):
                raise self._counted_otherwise(path, problem, step)
        bad.check(eid)
        if split in LABELLED and len(kinds) > 1 and self.definition.first_number == 0:
            logging.warning(
                f"{path}: labels are letters, such as {kinds[True]!r}, and numbers, such as "
                f"{kinds[False]!r}. The first choice is A or 0: set first_number to 1 in the "
                f"hparam tasks.{self.name} if it is A or 1."
            )
        warn_of_ids(path, examples)
        return examples

    def _columns(self, split: str) -> tuple[list[Column], list[Column]]:
        required, nullable = super()._columns(split)
        choices = self.definition.columns_of_choices()
        # Some rows may have fewer choices than others.
        return [*required, *choices[:2]], [*nullable, *choices[2:]]

    def _questions(self, row: TableRow, split: str) -> list[_Question]:
        """Returns the questions of a row; ValueError if none can be used."""
        if row.problem:
            raise ValueError(row.problem)
        given = self.definition
        context = cell_text(row.cells[given.text])
        asked = None if given.text_b is None else row.cells.get(given.text_b)
        label = row.cells[given.label] if split in LABELLED else None
        name = None if split == "train" else self._id(row)
        choices = self._choices(row)
        lists = [isinstance(cell, list) for cell in (asked, label)]
        if not any(lists) and not _several(choices):
            return [_Question(context, asked, choices, label, name)]
        count = len(choices)
        for column, cell in ((given.text_b, asked), (given.label, label)):
            if cell is not None and (not isinstance(cell, list) or len(cell) != count):
                raise ValueError(f"{column!r} is not a list of {count}, as are the choices")
        return [
            _Question(
                context,
                None if asked is None else asked[i],
                choices[i],
                None if label is None else label[i],
                None if name is None else f"{name}-{i}",
            )
            for i in range(count)
        ]

    def _number_of_questions(self, row: TableRow) -> int:
        """How many questions a row has that can't be read: as many as lists of choices."""
        columns = self.definition.choices
        cell = None if row.problem or isinstance(columns, list) else row.cells.get(columns)
        return len(cell) if isinstance(cell, list) and _several(cell) else 1

    def _choices(self, row: TableRow) -> list[Any]:
        columns = self.definition.choices
        if isinstance(columns, list):
            cells = [row.cells.get(column, "") for column in columns]
            while cells and cells[-1] == "":
                cells.pop()
            return cells or [""]
        cell = row.cells[columns]
        if not isinstance(cell, list) or not cell:
            raise ValueError(f"the choices in {columns!r} are not a list: {cell!r:.50}")
        return cell

    def _example_of(self, eid: int, question: _Question, split: str) -> ChoiceExample:
        """Returns a question as an example; ValueError if it can't be used."""
        context, asked, choices, label, name = question
        if not isinstance(choices, list) or len(choices) < 2:
            raise ValueError(f"a question needs two choices or more: {choices!r:.50}")
        texts = tuple(cell_text(choice) for choice in choices)
        if not all(text.strip() for text in texts):
            raise ValueError("a choice is empty")
        is_labelled = split in LABELLED
        number = self._number(label_text(label), len(texts)) if is_labelled else None
        asked = None if asked is None else cell_text(asked)
        return ChoiceExample(eid, context, texts, asked, number, name)

    def _number(self, text: str, count: int) -> int:
        """Returns a choice's number from 0: labels are numbers, or letters from A."""
        number, letter = whole_number(text), unicodedata.normalize("NFKC", text).upper()
        if number is not None:
            number -= self.definition.first_number
        elif len(letter) == 1 and "A" <= letter <= "Z":
            number = ord(letter) - ord("A")
        else:
            raise ValueError(f"the label {text!r} is not the number or the letter of a choice")
        if 0 <= number < count:
            return number
        problem = f"the label {text!r} is beyond the {count} choices"
        step = {-1: -1, count: 1}.get(number)
        raise ValueError(problem) if step is None or text.isalpha() else _OneOff(problem, step)

    def _counted_otherwise(self, path: str, problem: str, step: int) -> UserError:
        return UserError(
            "The labels seem to count the choices from another number.",
            where=path,
            received=f"{problem}, and no label is the {'first' if step > 0 else 'last'} one",
            remedy=f"Set first_number to {self.definition.first_number + step} in the hparam "
            f"tasks.{self.name}, or fix the labels, or choices that are empty.",
        )


class _OneOff(ValueError):
    """A label would be right if the first choice had the number before or after its own."""

    def __init__(self, problem: str, step: int):
        super().__init__(problem)
        self.step = step


def _rules_out(example: ChoiceExample, step: int) -> bool:
    """Whether its label would be beyond its choices if they were counted from `step` further."""
    return example.label == (0 if step > 0 else len(example.choices) - 1)


def _several(choices: Sequence[Any]) -> bool:
    """Whether these are the choices of several questions: lists, or nothing where one has none."""
    return any(isinstance(c, list) for c in choices) and all(
        isinstance(choice, list | None) for choice in choices
    )
