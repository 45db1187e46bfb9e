"""Multiple choice without code: the columns of a TSV, CSV or JSON file.

{"kind": "choice", "text": "sent1", "text_b": "sent2", "label": "label",
 "choices": ["ending0", "ending1", "ending2", "ending3"]}                     SWAG's CSV
{"kind": "choice", "text": "article", "text_b": "questions", "label": "answers",
 "choices": "options"}                                                        RACE's JSON
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import cell_text, label_text
from finetune.classification.table_tasks import DEBUG_ROWS, LABELLED, TableTask, warn_of_ids
from finetune.classification.tables import TableRow
from finetune.data_files import BadRows, whole_number
from finetune.definitions import ChoiceDefinition, Column
from finetune.sentences.choice import ChoiceExample, ChoiceTask

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig


class _Question(NamedTuple):
    """A question as its row has it: only the context is known to be text."""

    context: str
    asked: Any
    choices: Any
    label: Any
    id: str | float | None


class TableChoice(TableTask, ChoiceTask):
    """A multiple-choice task over the columns of a file.

    A row of JSON may have several questions about its text: a list of them in `text_b`, of lists
    of choices, and of labels.

    Args:
        config: the run's hparams.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files.
    """

    definition: ChoiceDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: ChoiceDefinition,
    ):
        super().__init__(config, name, tokenizer)
        self.definition = definition

    def read_examples(self, path: str, split: str) -> list[ChoiceExample]:
        """Reads a file; see `Task`. Ids number its questions from 0, those without use as well.

        Raises:
            UserError: besides the usual, the labels seem to count the choices from another number.
        """
        rows, bad = self._read(path, split), BadRows(path, "questions")
        examples: list[ChoiceExample] = []
        rows = rows[:DEBUG_ROWS] if self.config.debug else rows
        eid, one_off = 0, ""
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
                except ValueError as error:
                    if isinstance(error, _OneOff):
                        one_off = f"line {row.line}: {error}"
                    which = f"question {number} of {len(questions)}: "
                    bad.add(row.line, f"{which if len(questions) > 1 else ''}{error}")
                eid += 1
        if one_off and not any(example.label == 0 for example in examples):
            raise self._counted_otherwise(path, one_off)
        bad.check(eid)
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
        number = whole_number(text)
        if number is not None:
            number -= self.definition.first_number
        elif len(text) == 1 and text.isascii() and text.isalpha():
            number = ord(text.upper()) - ord("A")
        else:
            raise ValueError(f"the label {text!r} is not the number or the letter of a choice")
        if not 0 <= number < count:
            error = _OneOff if number == count and not text.isalpha() else ValueError
            raise error(f"the label {text!r} is beyond the {count} choices")
        return number

    def _counted_otherwise(self, path: str, problem: str) -> UserError:
        first = self.definition.first_number
        return UserError(
            "The labels seem to count the choices from another number.",
            where=path,
            received=f"{problem}, and no label is {first}",
            remedy=f"Set first_number to {first + 1} in the hparam tasks.{self.name}, or fix the "
            "labels.",
        )


class _OneOff(ValueError):
    """A label is a number that would be right if choices were counted from the next one."""


def _several(choices: Sequence[Any]) -> bool:
    """Whether these are the choices of several questions: lists, or nothing where one has none."""
    return any(isinstance(c, list) for c in choices) and all(
        isinstance(choice, list | None) for choice in choices
    )
