"""Questions as examples: what is asked, and where the annotated answer stands."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from electra_tf2.errors import UserError, first_of
from finetune.data_files import MAX_BAD_ROWS, MAX_BAD_SHARE, whole_number
from finetune.qa.annotations import AnswerNotFound, Passage, Span
from finetune.qa.question_files import (
    Annotation,
    Paragraph,
    QuestionFormat,
    field,
    format_of,
    shown,
)

# Questions that a message names.
_NAMED = 5


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
        span: the answer's first character in the passage, and the one after its last; None to
            search the words for it, as the official program does.
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
    span: tuple[int, int] | None = None
    is_impossible: bool = False


def read_questions(
    paragraphs: Iterable[Paragraph],
    path: str,
    form: QuestionFormat,
    *,
    annotated: bool,
    scored: bool,
    unanswerable: bool,
    official: bool = False,
    limit: int | None = None,
) -> list[QAExample]:
    """Reads the questions of a file.

    Args:
        paragraphs: the content of the file, in the format `form`.
        form: how it writes questions.
        annotated: whether to read the answers to train on. Questions whose answer is not in the
            passage are skipped, and the first few are named.
        scored: whether to read the right answers.
        unanswerable: whether questions may have no answer.
        official: whether answers to train on are found by the official rule.
        limit: the most questions to read; None for all.

    Returns:
        The questions in order.

    Raises:
        UserError: there is no question, a field is missing or wrong (names its place), too many
            answers can't be found, or, except for training, two questions have the same name.
    """
    examples: list[QAExample] = []
    problems: list[str] = []
    remarks: Counter[str] = Counter()
    for passage, question, name, where in _questions(paragraphs, form):
        if limit is not None and len(examples) >= limit:
            break
        own = format_of(question, form)
        example = QAExample(
            eid=len(examples),
            id=name,
            question=field(question, "question", str, where),
            passage=passage.text,
            gold=_gold(question, where, own, unanswerable) if scored else (),
        )
        if annotated:
            try:
                example, remark = _annotate(
                    example, question, where, passage, own, unanswerable, official
                )
            except AnswerNotFound as error:
                problems.append(f"{example.id}: {error}")
                continue
            remarks[remark] += 1
        examples.append(example)
    _check_skipped(path, problems, len(examples) + len(problems))
    _check_ids(path, examples, fatal=not annotated)
    _report(path, remarks, unanswerable and annotated and limit is None, examples)
    if (annotated or scored) and not any(example.answer or example.gold for example in examples):
        logging.warning("%s: no question has an answer in a field 'answers'.", path)
    return examples


def _questions(paragraphs: Iterable[Paragraph], form: QuestionFormat):
    """Yields (passage, question, its name, its place)."""
    for paragraph in paragraphs:
        passage = Passage(field(paragraph.record, "context", str, paragraph.where))
        for question, where in paragraph.questions():
            id_field = format_of(question, form).id_field
            name = field(question, id_field, object, where)
            if isinstance(name, float) and name.is_integer():
                name = int(name)
            if not isinstance(name, str | int | float) or isinstance(name, bool):
                raise UserError(
                    "The name of a question is neither text nor a number.",
                    where=f"{where}, field {id_field!r}",
                    received=shown(name),
                    remedy="Give it a name: predictions are written by name.",
                )
            yield passage, question, str(name), f"{paragraph.where}, question {str(name)!r}"


def _gold(
    question: Mapping[str, Any], where: str, form: QuestionFormat, unanswerable: bool
) -> tuple[str, ...]:
    if unanswerable and _marked_impossible(question, where):
        return ()  # what is annotated there, as in KLUE-MRC, is plausible but wrong
    gold = form.gold(question, where)
    if not gold and not unanswerable:
        raise UserError(
            "A question to be scored has no answer.",
            where=where,
            received="no answer with a text",
            remedy="Unanswerable questions are scored by the rules of SQuAD 2.0: task squad, or "
            '"unanswerable": true.',
        )
    return gold


def _marked_impossible(question: Mapping[str, Any], where: str) -> bool | None:
    """Returns what a question's `is_impossible` says; None where that is missing or null."""
    value = question.get("is_impossible")
    number = whole_number(value)
    if number in (0, 1):  # as tables have true and false
        return bool(number)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None if value is None else field(question, "is_impossible", bool, where)


def _annotate(
    example: QAExample,
    question: Mapping[str, Any],
    where: str,
    passage: Passage,
    form: QuestionFormat,
    unanswerable: bool,
    official: bool,
) -> tuple[QAExample, str]:
    """Returns the example with what to train on, and a remark on the answer's position."""
    marked = _marked_impossible(question, where) if unanswerable else None
    if marked:
        return dataclasses.replace(example, is_impossible=True), ""
    annotations = form.annotations(question, where)
    annotation = next(annotations, None)
    if annotation is None and unanswerable and marked is None:
        return dataclasses.replace(example, is_impossible=True), ""
    if annotation is None:
        raise AnswerNotFound("it has no answer")
    if official:
        first, last = passage.official_words(*annotation)
        answer = {"answer": annotation.text, "first_word": first, "last_word": last}
        return dataclasses.replace(example, **answer), ""
    text, (start, end, remark) = _located(passage, itertools.chain([annotation], annotations))
    first, last = passage.word_at(start), passage.word_at(end - 1)
    example = dataclasses.replace(
        example, answer=text, first_word=first, last_word=last, span=(start, end)
    )
    return example, remark


def _located(passage: Passage, annotations: Iterable[Annotation]) -> tuple[str, Span]:
    """Returns the first answer that the passage has, and where; or raises the first one's error."""
    problem = None
    for annotation in annotations:
        try:
            return annotation.text, passage.locate(*annotation)
        except AnswerNotFound as error:
            problem = problem or error
    assert problem is not None, "there is an answer"
    raise problem


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
            f"{path}: {bad} of {num_questions} questions are skipped: their answers are not in the "
            f"passage ({named})."
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


def _report(
    path: str, remarks: Mapping[str, int], expects_impossible: bool, examples: list[QAExample]
) -> None:
    """Warns of positions that were understood otherwise, and of files without "no answer"."""
    for remark, count in remarks.items():
        if remark:
            logging.warning(
                f"{path}: the position of {count} of {len(examples)} answers {remark}; the "
                "answer's place was used."
            )
    if expects_impossible and not any(example.is_impossible for example in examples):
        logging.warning(
            f"{path}: every question has an answer, so that the model can't learn which have none. "
            'If that is right, the task is squadv1, or "unanswerable": false.'
        )
