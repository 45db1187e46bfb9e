"""Reading files of passages with questions: SQuAD's JSON and MRQA's JSON lines."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from electra_tf2 import files
from electra_tf2.errors import UserError
from finetune.data_files import (
    GZIP_ERRORS,
    GZIP_MARK,
    damaged_gzip,
    decode_text,
    has_wide_mark,
    read_text,
    whole_number,
)

_KINDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_FORMAT = "Fix the file: docs/finetuning.md shows the format of question answering."


def field(record: Any, name: str, kind: type, where: str, remedy: str = _FORMAT) -> Any:
    """Returns a field of a JSON object.

    Args:
        record: the object.
        name: the field's name.
        kind: str, int, bool, list or dict; object for any.
        where: the object's place, for messages.
        remedy: what to do if the field is missing or wrong.

    Raises:
        UserError: `record` is not an object, the field is missing, or its value is of another kind.
    """
    if not isinstance(record, Mapping):
        raise UserError(
            f"Expected an object with the field {name!r}.",
            where=where,
            received=shown(record),
            remedy=remedy,
        )
    if name not in record:
        raise UserError(
            f"The field {name!r} is missing.",
            where=where,
            received="the fields " + (", ".join(map(str, record)) or "(none)"),
            remedy=remedy,
        )
    return checked(record[name], kind, f"{where}, field {name!r}", remedy)


def checked(value: Any, kind: type, where: str, remedy: str = _FORMAT) -> Any:
    """Returns a value if it is of the kind; arguments and errors as for `field`."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(
            f"A value is not {_KINDS[kind]}.", where=where, received=shown(value), remedy=remedy
        )
    return value


def shown(value: Any) -> str:
    """Returns the beginning of a value's `repr`."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_SQUAD_FORM = (
    'SQuAD files have the form {"data": [{"paragraphs": [{"context": …, "qas": [{"id": …, '
    '"question": …, "answers": [{"text": …, "answer_start": …}]}]}]}]}. Paragraphs, or questions '
    "with a context of their own, may also stand in a list, or on a line each."
)
_MRQA_FORM = "MRQA files have a JSON object with the fields context and qas on each line."


class Paragraph(NamedTuple):
    """A passage with its questions, as in the file.

    Attributes:
        where: its place, for messages.
        record: a JSON object with the fields `context` and `qas`; or a single question, which has
            a `context`.
    """

    where: str
    record: Any

    def questions(self) -> Iterator[tuple[Any, str]]:
        """Yields the questions and their places.

        Raises:
            UserError: there is no list of questions.
        """
        if _is_question(self.record):
            yield self.record, self.where
            return
        for i, question in enumerate(field(self.record, "qas", list, self.where)):
            yield question, f"{self.where}.qas[{i}]"


def read_squad(path: str) -> Iterator[Paragraph]:
    """Reads a SQuAD file (JSON), or the same questions in one of the forms that others write.

    What `data` lists may be articles with `paragraphs`, or paragraphs, or single questions with
    their `context`, as Hugging Face's data sets have them. The list may stand alone, and its items
    may stand on a line each (JSON lines). The file may be gzipped.

    Yields:
        Its paragraphs in order.

    Raises:
        UserError: the file is missing, empty, not text, not JSON (names the line), or has no such
            form.
    """
    for where, record in _squad_records(path):
        if _is_question(record) or (isinstance(record, Mapping) and "qas" in record):
            yield Paragraph(where, record)
            continue
        paragraphs = field(record, "paragraphs", list, where, _SQUAD_FORM)
        for j, paragraph in enumerate(paragraphs):
            yield Paragraph(f"{where}.paragraphs[{j}]", paragraph)


def _squad_records(path: str) -> Iterator[tuple[str, Any]]:
    """Yields what a SQuAD file lists, and its places."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _is_json(text.lstrip().partition("\n")[0]):
            yield from _line_records(text.split("\n"), path, _SQUAD_FORM)
            return
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _not_json(f"{path}{line}", error, _SQUAD_FORM) from error
    if isinstance(content, Mapping) and content.keys() & {"context", "paragraphs"}:
        yield path, content
        return
    listed = isinstance(content, list)
    items = content if listed else field(content, "data", list, path, _SQUAD_FORM)
    for i, item in enumerate(items):
        yield f"{path}, {'' if listed else 'data'}[{i}]", item


def _is_question(record: Any) -> bool:
    return isinstance(record, Mapping) and "question" in record and "qas" not in record


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_mrqa(path: str) -> Iterator[Paragraph]:
    """Reads an MRQA file: one JSON object per line, gzipped or not.

    Header lines (objects with a field `header`) and empty lines are skipped.

    Yields:
        Its paragraphs in order.

    Raises:
        UserError: the file is missing, empty, a broken gzip file, not text or not JSON (names the
            line).
    """
    for where, record in _line_records(_text_lines(path), path, _MRQA_FORM):
        yield Paragraph(where, record)


def _line_records(lines: Iterable[str], path: str, form: str) -> Iterator[tuple[str, Any]]:
    """Yields the JSON values of a file's lines, but for headers, and their places."""
    empty = True
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix("\ufeff")  # of files that were joined
        if not line:
            continue
        empty = False
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _not_json(where, error, form) from error
        if not (isinstance(record, dict) and "header" in record):
            yield where, record
    if empty:
        raise UserError(
            "A data file is empty.",
            where=path,
            received="no line with text",
            remedy="Copy it again, or check its source.",
        )


def _text_lines(path: str) -> Iterator[str]:
    for number, line in enumerate(_lines(path), 1):
        if number == 1 and has_wide_mark(line):  # its lines don't end at single bytes
            yield from read_text(path).split("\n")
            return
        yield decode_text(line, path, number)


def _lines(path: str) -> Iterator[bytes]:
    """Yields the lines of a file without reading all of it: MRQA files have gigabytes."""
    if not files.exists(path) or files.is_dir(path):
        read_text(path)  # its error says what is there instead
    with _opened(path) as file:
        is_gzipped = file.read(len(GZIP_MARK)) == GZIP_MARK
        file.seek(0)
        if not (is_gzipped or path.endswith(".gz")):
            yield from file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield from unzipped
        except GZIP_ERRORS as error:
            raise damaged_gzip(path, error) from error


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    try:
        with files.reported_as_os_errors(path), files.open_binary(path) as file:
            yield file
    except OSError as error:
        raise UserError(
            "A data file of the task can't be read.",
            where=path,
            received=files.reason(error),
            remedy="Give a file that can be read from its start to its end.",
        ) from error


def _not_json(where: str, error: Exception, form: str) -> UserError:
    received = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return UserError("A data file is not JSON.", where=where, received=received, remedy=form)


class Annotation(NamedTuple):
    """An answer to train on: its text and its first character in the passage."""

    text: str
    start: int


@dataclasses.dataclass(frozen=True)
class QuestionFormat:
    """How a format writes questions.

    Attributes:
        id_field: the field with a question's name.
        annotations: (question object, its place for messages) -> the answers, to train on the first
            that the passage has.
        gold: (question object, its place for messages) -> all right answers.
    """

    id_field: str
    annotations: Callable[[Mapping[str, Any], str], Iterator[Annotation]]
    gold: Callable[[Mapping[str, Any], str], tuple[str, ...]]


def _squad_annotations(question: Mapping[str, Any], where: str) -> Iterator[Annotation]:
    for text, answer, place in _squad_answers(question, where):
        start = field(answer, "answer_start", object, place)
        yield Annotation(text, _position(start, f"{place}, field 'answer_start'"))


def _squad_gold(question: Mapping[str, Any], where: str) -> tuple[str, ...]:
    return tuple(text for text, _, _ in _squad_answers(question, where))


def _squad_answers(question: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any, str]]:
    """Yields text, record and place of the answers; empty texts and null stand for none."""
    answers = question.get("answers")
    if answers is None:
        return
    if isinstance(answers, Mapping):
        answers = _rows(answers, f"{where}, field 'answers'")
    for i, answer in enumerate(checked(answers, list, f"{where}, field 'answers'")):
        place = f"{where}, answers[{i}]"
        if isinstance(answer, Mapping) and answer.get("text", "") is None:
            continue
        text = answer if isinstance(answer, str) else field(answer, "text", str, place)
        if text.strip():
            yield text, answer, place


def _rows(columns: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Returns answers that Hugging Face's data sets have as columns, {"text": [], …}, as rows."""
    columns = {
        name: columns[name] if isinstance(columns[name], list) else [columns[name]]
        for name in ("text", "answer_start")
        if name in columns
    }
    sizes = {name: len(values) for name, values in columns.items()}
    if "text" not in columns or len({*sizes.values()}) > 1:
        raise UserError(
            "The columns of a question's answers don't fit together.",
            where=where,
            received=", ".join(f"{size} in {name}" for name, size in sizes.items()) or "no text",
            remedy='Give each text its position: {"text": ["a", "b"], "answer_start": [0, 7]}.',
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _position(value: Any, where: str) -> int:
    number = whole_number(value)
    return checked(value, int, where) if number is None else number


def _mrqa_annotations(question: Mapping[str, Any], where: str) -> Iterator[Annotation]:
    for i, answer in enumerate(field(question, "detected_answers", list, where)):
        place = f"{where}, detected_answers[{i}]"
        for j, span in enumerate(field(answer, "char_spans", list, place) or [None]):
            own = f"{place}, char_spans[{j}]"
            span = checked(span, list, own)
            start = _position(span[0] if span else None, f"{own}[0]")
            yield Annotation(field(answer, "text", str, place), start)


def _mrqa_gold(question: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers = field(question, "answers", list, where)
    return tuple(checked(a, str, f"{where}, answers[{i}]") for i, a in enumerate(answers))


SQUAD = QuestionFormat("id", _squad_annotations, _squad_gold)
MRQA = QuestionFormat("qid", _mrqa_annotations, _mrqa_gold)
KLUE = dataclasses.replace(SQUAD, id_field="guid")


def format_of(question: Any, form: QuestionFormat) -> QuestionFormat:
    """Returns the format of a question in a file of a format: SQuAD's tasks read others' too.

    MRQA's questions have an `id` besides, that of the data set that they come from.
    """
    if form is not SQUAD or not isinstance(question, Mapping):
        return form
    if question.keys() >= {MRQA.id_field, "detected_answers"}:
        return MRQA
    if form.id_field not in question:
        others = (other for other in (MRQA, KLUE) if other.id_field in question)
        return next(others, form)
    return form
