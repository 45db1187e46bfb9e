"""Reading files of passages with questions: SQuAD's JSON and MRQA's JSON lines."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from electra_tf2 import files
from electra_tf2.errors import UserError
from finetune.data_files import read_text

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


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SQUAD_FORM = (
    'SQuAD files have the form {"data": [{"paragraphs": [{"context": …, "qas": [{"id": …, '
    '"question": …, "answers": [{"text": …, "answer_start": …}]}]}]}]}.'
)


class Paragraph(NamedTuple):
    """A passage with its questions, as in the file.

    Attributes:
        where: its place, for messages.
        record: a JSON object with the fields `context` and `qas`.
    """

    where: str
    record: Any


def read_squad(path: str) -> Iterator[Paragraph]:
    """Reads a SQuAD file (JSON).

    Yields:
        Its paragraphs in order.

    Raises:
        UserError: the file is missing, empty, not UTF-8, not JSON (names the line), or lacks the
            lists `data` or `paragraphs`.
    """
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _not_json(f"{path}{line}", error, _SQUAD_FORM) from error
    for i, article in enumerate(field(content, "data", list, path, _SQUAD_FORM)):
        where = f"{path}, data[{i}]"
        paragraphs = field(article, "paragraphs", list, where, _SQUAD_FORM)
        for j, paragraph in enumerate(paragraphs):
            yield Paragraph(f"{where}.paragraphs[{j}]", paragraph)


def read_mrqa(path: str) -> Iterator[Paragraph]:
    """Reads an MRQA file: one JSON object per line, gzipped if the name ends in `.gz`.

    Header lines (objects with a field `header`) and empty lines are skipped.

    Yields:
        Its paragraphs in order.

    Raises:
        UserError: the file is missing, empty, a broken gzip file, not UTF-8 or not JSON (names the
            line).
    """
    empty = True
    for number, line in enumerate(_lines(path), 1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line.strip():
            continue
        empty = False
        where = f"{path}, line {number}"
        record = _parse_line(line, where)
        if not (isinstance(record, dict) and "header" in record):
            yield Paragraph(where, record)
    if empty:
        raise UserError(
            "A data file is empty.",
            where=path,
            received="no line with text",
            remedy="Copy it again, or check its source.",
        )


def _parse_line(line: bytes, where: str) -> Any:
    form = "MRQA files have a JSON object with the fields context and qas on each line."
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            "A data file is not UTF-8 text.",
            where=where,
            received=f"byte {line[error.start]:#04x}",
            remedy="Convert it, for example with iconv -f LATIN1 -t UTF-8.",
        ) from error
    except ValueError as error:
        raise _not_json(where, error, form) from error


def _lines(path: str) -> Iterator[bytes]:
    """Yields the lines of a file without reading all of it: MRQA files have gigabytes."""
    if not files.exists(path) or files.is_dir(path):
        read_text(path)  # its error says what is there instead
    with _opened(path) as file:
        if not path.endswith(".gz"):
            yield from file
            return
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                yield from unzipped
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(
                "A gzip file can't be unpacked.",
                where=path,
                received=str(error),
                remedy="Copy it again: it is cut off or damaged (gzip -t tells).",
            ) from error


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
        annotation: (question object, its place for messages) -> the answer to train on, or None.
        gold: (question object, its place for messages) -> all right answers.
    """

    id_field: str
    annotation: Callable[[Mapping[str, Any], str], Annotation | None]
    gold: Callable[[Mapping[str, Any], str], tuple[str, ...]]


def _squad_annotation(question: Mapping[str, Any], where: str) -> Annotation | None:
    answers = field(question, "answers", list, where)
    if not answers:
        return None
    text = field(answers[0], "text", str, f"{where}, answers[0]")
    return Annotation(text, field(answers[0], "answer_start", int, f"{where}, answers[0]"))


def _squad_gold(question: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers = field(question, "answers", list, where)
    return tuple(field(a, "text", str, f"{where}, answers[{i}]") for i, a in enumerate(answers))


def _mrqa_annotation(question: Mapping[str, Any], where: str) -> Annotation | None:
    answers = field(question, "detected_answers", list, where)
    if not answers:
        return None
    where = f"{where}, detected_answers[0]"
    spans = field(answers[0], "char_spans", list, where)
    span = checked(spans[0] if spans else None, list, f"{where}, char_spans[0]")
    start = checked(span[0] if span else None, int, f"{where}, char_spans[0][0]")
    return Annotation(field(answers[0], "text", str, where), start)


def _mrqa_gold(question: Mapping[str, Any], where: str) -> tuple[str, ...]:
    answers = field(question, "answers", list, where)
    return tuple(checked(a, str, f"{where}, answers[{i}]") for i, a in enumerate(answers))


SQUAD = QuestionFormat("id", _squad_annotation, _squad_gold)
MRQA = QuestionFormat("qid", _mrqa_annotation, _mrqa_gold)
