"""Reading the files of a task, with errors that name what is missing, unreadable or malformed."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import posixpath
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import logging

from electra_tf2 import files
from electra_tf2.errors import UserError, first_of, path_quoted
from electra_tf2.text.encodings import is_mostly_utf8, likely_encoding
from electra_tf2.text.plain_text import HEAD_BYTES, POINTER, recognize
from finetune.task import Task

# Bad rows are an error where there are more than this many and more than this share.
MAX_BAD_ROWS = 20
MAX_BAD_SHARE = 0.01
# How many of them are named.
_NAMED = 5

# What marks the encoding of a text; the longer marks come first, as one begins with another.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
GZIP_MARK = b"\x1f\x8b"
"""What gzipped data begins with."""
GZIP_ERRORS = (EOFError, OSError, zlib.error)
"""What unpacking damaged data may raise."""


def read_text(path: str) -> str:
    """Reads a file of text: UTF-8, or UTF-16 with its byte order mark; gzipped or not.

    Returns:
        Its text without a byte order mark; line ends are as in the file.

    Raises:
        UserError: it is missing (what lies beside it is named), empty, damaged, a web page, a
            pointer of Git LFS, or something other than text in these encodings (says what and,
            where it is text, names the line).
    """
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise UserError(
            "A data file of the task can't be read.",
            where=path,
            received=files.reason(error) if files.exists(path) else _neighbours(path),
            remedy="Put the file there, or check --data-dir and the hparam raw_data_dir.",
        ) from error
    text = decode_text(_unzipped(content, path), path)
    if not text.strip():
        raise UserError(
            "A data file is empty.",
            where=path,
            received=f"{len(content)} bytes without text",
            remedy="Copy it again, or check its source.",
        )
    _refuse_stand_ins(text, path)
    return text


def _refuse_stand_ins(text: str, path: str) -> None:
    """Refuses what a download may give in a file's place: lines of words to some readers."""
    start, end = text[:1000].lstrip().lower(), text[-1000:].rstrip().lower()
    is_page = start.startswith(("<!doctype html", "<html")) and end.endswith("</html>")
    if text.startswith(POINTER.decode()):
        what = "is a pointer of Git LFS"
        remedy = "Download the file itself: git lfs pull, in the repository that it comes from."
    elif is_page or start.startswith("<?xml") and end.endswith(">"):
        what = f"is {'a web page' if is_page else 'XML'}"
        remedy = "Download the file itself: a server may send a page about it, or an error."
    else:
        return
    raise UserError(f"A data file {what}.", where=path, received=text.lstrip()[:60], remedy=remedy)


def _unzipped(content: bytes, path: str) -> bytes:
    if not content.startswith(GZIP_MARK):
        return content
    try:
        return gzip.decompress(content)
    except GZIP_ERRORS as error:
        raise damaged_gzip(path, error) from error


def damaged_gzip(path: str, error: Exception) -> UserError:
    """Returns the error for a gzip file that can't be unpacked, from one of `GZIP_ERRORS`."""
    return UserError(
        "A gzip file can't be unpacked.",
        where=path,
        received=str(error),
        remedy="Copy it again: it is cut off or damaged (gzip -t tells).",
    )


def decode_text(content: bytes, path: str, first_line: int = 1) -> str:
    """Decodes UTF-8, or UTF-16 and UTF-32 with a byte order mark.

    Args:
        content: a file's bytes, or those of some of its lines.
        first_line: the number of the first line of `content`.

    Returns:
        The text without the byte order mark.

    Raises:
        UserError: it is in another encoding (the likely one is named, with a command that converts
            the file), or is not text.
    """
    encoding = _marked_encoding(content)
    try:
        text = content.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = None if encoding else recognize(content[:HEAD_BYTES])
        if kind is not None and not kind.encoding and not kind.is_markup:
            raise UserError(
                "A data file is not text.",
                where=path,
                received=kind.name,
                remedy="Export it as text (CSV in UTF-8, or JSON lines), or unpack it.",
            ) from error
        line = first_line + content.count(b"\n", 0, error.start)
        received = f"byte {content[error.start]:#04x}"
        begin = content.rfind(b"\n", 0, max(0, error.start - HEAD_BYTES)) + 1
        around, wide = content[begin : error.start + HEAD_BYTES], kind.encoding if kind else ""
        raise _other_encoding(around, f"{path}, line {line}", received, path, wide) from error
    start = text[:HEAD_BYTES]
    if not encoding and ("\0" in start or start.isascii()):
        kind = recognize(content[:HEAD_BYTES])
        if kind is not None and kind.encoding:
            raise _other_encoding(content[:HEAD_BYTES], path, kind.name, path, kind.encoding)
    return text


def has_wide_mark(content: bytes) -> bool:
    """Whether bytes begin with the byte order mark of UTF-16 or UTF-32."""
    return bool(_marked_encoding(content))


def _marked_encoding(content: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")


def _other_encoding(
    around: bytes, where: str, received: str, path: str, encoding: str
) -> UserError:
    """The error for text that has to be converted, from `encoding` where that is certain."""
    unzipped = path.removesuffix(".gz")
    text, original = path_quoted(unzipped), path_quoted(f"{unzipped}.original")
    unzip = "" if unzipped == path else f"gunzip {path_quoted(path)} && "

    def command(options: str) -> str:
        # An original of an earlier conversion stays.
        keep = f"test ! -e {original} && mv {text} {original}"
        return f"{unzip}{keep} && iconv {options} -t UTF-8 {original} > {text}"

    is_damaged = not encoding and is_mostly_utf8(around)
    encoding = encoding or likely_encoding(around) or ""
    if is_damaged:
        received += "; the rest of the file is UTF-8"
        remedy = f"Fix the line, or leave such bytes out ({command('-c -f UTF-8')})."
    elif encoding:
        remedy = f"It looks like {encoding}. Convert it ({command(f'-f {encoding}')})."
    else:
        remedy = (
            f"Convert it: Cyrillic text of Windows with ({command('-f WINDOWS-1251')}), other "
            "text likewise: Western European from WINDOWS-1252, Central European from "
            "WINDOWS-1250, Greek from WINDOWS-1253, Turkish from WINDOWS-1254, Baltic from "
            "WINDOWS-1257, Chinese from GB18030 or BIG5, Japanese from CP932, Korean from CP949."
        )
    return UserError(
        "A data file is not UTF-8 text.", where=where, received=received, remedy=remedy
    )


def _neighbours(path: str) -> str:
    folder = posixpath.dirname(path)
    if not files.is_dir(folder or "."):
        return f"there is no folder {folder}"
    names = files.list_dir(folder or ".")
    return f"no such file; the folder holds {first_of(names, 10, ', ') or 'nothing'}"


def whole_number(value: Any) -> int | None:
    """Returns the whole number that a value states: 1, 1.0, "1", " 1.0" or "1e0".

    Programs write one with a point where a column has gaps, and as text where it holds text too.

    Returns:
        The number; None if the value states none, as a truth value does not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:  # of Python, and of no data file
        return None
    if not isinstance(value, float):
        with contextlib.suppress(ValueError):
            return int(value)  # exact, however large
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


class BadRows:
    """Rows of a file that can't be used: a few are skipped with a message, many are an error.

    Args:
        noun: what is counted, where a row holds several.
    """

    def __init__(self, path: str, noun: str = "rows"):
        self._path, self._noun = path, noun
        self._problems: list[str] = []
        self._bad = 0

    def add(self, line: int, problem: str, count: int = 1) -> None:
        """Records a bad row.

        Args:
            line: its number in the file, from 1.
            problem: what is wrong with it.
            count: how many of what is counted are lost.
        """
        self._problems.append(f"line {line}: {problem}")
        self._bad += count

    def check(self, num_rows: int) -> None:
        """Logs the bad rows, or refuses the file.

        Args:
            num_rows: all of what is counted that should have been usable, what is bad included.

        Raises:
            UserError: there are more bad rows than `MAX_BAD_ROWS` and than `MAX_BAD_SHARE`, or
                nothing is left.
        """
        bad = self._bad
        named = first_of(self._problems, _NAMED)
        counted = f"{bad} of {num_rows} {self._noun}"
        if num_rows <= bad:
            raise UserError(
                "A data file has no usable row.",
                where=self._path,
                received=named if bad else "a header and no row",
                remedy="Check that the file is what the task expects: see docs/finetuning.md.",
            )
        if bad > MAX_BAD_ROWS and bad > MAX_BAD_SHARE * num_rows:
            raise UserError(
                "Too many rows of a data file are bad.",
                where=self._path,
                received=f"{counted}: {named}",
                remedy="Fix the rows, or check that the file is what the task expects.",
            )
        if bad:
            logging.warning("%s: %s are skipped (%s).", self._path, counted, named)


def file_changed(task: Task, split: str, received: str) -> UserError:
    """Returns the error for a data file that changed while a program was using it.

    Args:
        split: whose file it is; "predict": a file of the user's own.
        received: how that shows.
    """
    return UserError(
        "The file was changed while it was in use.",
        where="the file to predict" if split == "predict" else task.data_file(split),
        received=received,
        remedy="Start again, and leave the data files as they are until the program has ended.",
    )


def outputs_by_eid(
    task: Task, split: str, outputs: Iterable[Mapping[str, Any]], examples: Sequence[Any]
) -> dict[int, Mapping[str, Any]]:
    """Returns the outputs of each example, by its `eid`.

    Args:
        split: where the examples are from.
        outputs: one mapping per example, in any order.
        examples: as they stand in the file.

    Raises:
        UserError: they are not the examples that the outputs are of.
    """
    by_eid = {int(output["eid"]): output for output in outputs}
    if by_eid.keys() != {example.eid for example in examples}:
        received = f"{len(examples)} examples; the model's outputs are of {len(by_eid)}"
        raise file_changed(task, split, received)
    return by_eid
