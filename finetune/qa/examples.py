"""Questions as examples: which words of the passage the annotated answer covers."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from electra_tf2.errors import UserError, first_of
from finetune.data_files import MAX_BAD_ROWS, MAX_BAD_SHARE
from finetune.qa.question_files import Paragraph, QuestionFormat, field, shown

# Questions that a message names.
_NAMED = 5
# Words are separated by these characters only: not by a no-break space, for example.
_WORD = re.compile("[^ \t\r\n\u202f]+")


class AnswerNotFound(Exception):
    """An annotated answer can't be recovered from the words of its passage."""


def split_words(text: str) -> list[str]:
    """Splits a passage at spaces, tabs, line ends and U+202F."""
    return _WORD.findall(text)


class Passage:
    """A passage, and the words at its characters.

    Args:
        text: the passage.
    """

    def __init__(self, text: str):
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        """The passage's words in order."""
        return split_words(self.text)

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [match.start() for match in _WORD.finditer(self.text)]

    def word_at(self, position: int) -> int:
        """Returns the number of the word at a character, or of the one before a separator.

        Args:
            position: position of the character, from 0.

        Returns:
            The number, from 0; -1 before the first word.
        """
        return bisect.bisect_right(self._starts, position) - 1

    def locate(self, answer: str, start: int) -> tuple[int, int]:
        """Finds the words that an answer covers.

        Args:
            answer: its text.
            start: position of its first character in the passage.

        Returns:
            The numbers of its first and its last word.

        Raises:
            AnswerNotFound: it lies outside the passage, or the words there don't contain its text
                (case and the kind of white space don't matter). The message says what is there.
        """
        if not answer.strip():
            raise AnswerNotFound("its answer is empty")
        end = start + len(answer) - 1
        if start < 0 or end >= len(self.text):
            raise AnswerNotFound(
                f"{answer!r} at character {start} lies outside the passage of "
                f"{len(self.text)} characters"
            )
        first, last = self.word_at(start), self.word_at(end)
        covered = " ".join(self.words[max(first, 0) : last + 1])
        if " ".join(answer.split()).lower() not in covered.lower():
            raise AnswerNotFound(
                f"{answer!r} is not what the passage has at character {start}: {covered!r}"
            )
        return max(first, 0), last


@dataclasses.dataclass(frozen=True, slots=True)
class QAExample:
    """A question about a passage.

    Attributes:
        eid: its number, from 0 in the order of the file.
        id: its name in the file, by which predictions are written.
        question: the question.
        passage: the passage.
        gold: the right answers; empty for an unanswerable question, and where answers aren't read.
        answer: the annotated answer to train on, if any.
        first_word: number of the first word of the passage that the answer covers.
        last_word: number of the last one.
        is_impossible: whether to train on "no answer".
    """

    eid: int
    id: str
    question: str
    passage: str
    gold: tuple[str, ...] = ()
    answer: str | None = None
    first_word: int = 0
    last_word: int = 0
    is_impossible: bool = False


def read_questions(
    paragraphs: Iterable[Paragraph],
    path: str,
    form: QuestionFormat,
    *,
    annotated: bool,
    scored: bool,
    unanswerable: bool,
    limit: int | None = None,
) -> list[QAExample]:
    """Reads the questions of a file.

    Args:
        paragraphs: the content of the file, in the format `form`.
        path: the file, for messages.
        form: how it writes questions.
        annotated: whether to read the answers to train on. Questions whose answer is not in the
            passage are skipped, and the first few are named.
        scored: whether to read the right answers.
        unanswerable: whether questions may have no answer.
        limit: the most questions to read; None for all.

    Returns:
        The questions in order.

    Raises:
        UserError: there is no question, a field is missing or wrong (names its place), too many
            answers can't be found, or, except for training, two questions have the same name.
    """
    examples: list[QAExample] = []
    problems: list[str] = []
    for paragraph, question, where in _questions(paragraphs, form):
        if limit is not None and len(examples) >= limit:
            break
        example = QAExample(
            eid=len(examples),
            id=str(question[form.id_field]),
            question=field(question, "question", str, where),
            passage=paragraph.text,
            gold=_gold(question, where, form, unanswerable) if scored else (),
        )
        if annotated:
            try:
                example = _annotate(example, question, where, paragraph, form, unanswerable)
            except AnswerNotFound as error:
                problems.append(f"{example.id}: {error}")
                continue
        examples.append(example)
    _check_skipped(path, problems, len(examples) + len(problems))
    _check_ids(path, examples, fatal=not annotated)
    return examples


def _questions(paragraphs: Iterable[Paragraph], form: QuestionFormat):
    """Yields (passage, question, its place)."""
    for where, record in paragraphs:
        passage = Passage(field(record, "context", str, where))
        for i, question in enumerate(field(record, "qas", list, where)):
            name = field(question, form.id_field, object, f"{where}.qas[{i}]")
            if not isinstance(name, str | int) or isinstance(name, bool):
                raise UserError(
                    "The name of a question is neither text nor a number.",
                    where=f"{where}.qas[{i}], field {form.id_field!r}",
                    received=shown(name),
                    remedy="Give it a name: predictions are written by name.",
                )
            yield passage, question, f"{where}, question {str(name)!r}"


def _gold(
    question: Mapping[str, Any], where: str, form: QuestionFormat, unanswerable: bool
) -> tuple[str, ...]:
    gold = form.gold(question, where)
    if not gold and not unanswerable:
        raise UserError(
            "A question to be scored has no answer.",
            where=where,
            received="an empty list of answers",
            remedy="Unanswerable questions are scored by the rules of SQuAD 2.0: task squad, or "
            '"unanswerable": true.',
        )
    return gold


def _annotate(
    example: QAExample,
    question: Mapping[str, Any],
    where: str,
    passage: Passage,
    form: QuestionFormat,
    unanswerable: bool,
) -> QAExample:
    if unanswerable:
        remedy = "Questions without an answer need it. A file without the field has the form of "
        remedy += 'SQuAD 1.1: task squadv1, or "unanswerable": false.'
        if field(question, "is_impossible", bool, where, remedy):
            return dataclasses.replace(example, is_impossible=True)
    annotation = form.annotation(question, where)
    if annotation is None:
        raise AnswerNotFound("it has no answer")
    first, last = passage.locate(*annotation)
    return dataclasses.replace(example, answer=annotation.text, first_word=first, last_word=last)


def _check_skipped(path: str, problems: list[str], num_questions: int) -> None:
    bad = len(problems)
    named = first_of(problems, most=_NAMED)
    if not num_questions:
        raise UserError(
            "A data file has no question.",
            where=path,
            received="no question in any passage",
            remedy="Check that the file is what the task expects: see docs/finetuning.md.",
        )
    if bad == num_questions or (bad > MAX_BAD_ROWS and bad > MAX_BAD_SHARE * num_questions):
        raise UserError(
            "Too many answers can't be found in their passages.",
            where=path,
            received=f"{bad} of {num_questions}: {named}",
            remedy="Fix the positions of the answers (characters from 0), or remove the questions. "
            "A file with unanswerable questions has the form of SQuAD 2.0: task squad, or "
            '"unanswerable": true.',
        )
    if bad:
        logging.warning(
            "%s: %d of %d questions are skipped: their answers are not in the passage (%s).",
            path,
            bad,
            num_questions,
            named,
        )


def _check_ids(path: str, examples: list[QAExample], *, fatal: bool) -> None:
    logging.info("%s: %d questions.", path, len(examples))
    seen: set[str] = set()
    doubled = [e.id for e in examples if e.id in seen or seen.add(e.id)]
    if not doubled:
        return
    named = first_of(doubled, most=_NAMED, separator=", ")
    if fatal:
        raise UserError(
            f"{len(doubled)} questions have the name of another question.",
            where=path,
            received=named,
            remedy="Give each question a name of its own: predictions are written by name.",
        )
    logging.warning("%s: questions with the name of another question: %s.", path, named)
