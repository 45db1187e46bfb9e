"""Reading the files of a task, with errors that name what is missing, unreadable or malformed."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import logging

from electra_tf2 import files
from electra_tf2.errors import UserError, first_of
from finetune.task import Task

# Bad rows are an error where there are more than this many and more than this share.
MAX_BAD_ROWS = 20
MAX_BAD_SHARE = 0.01
# How many of them are named.
_NAMED = 5


def read_text(path: str) -> str:
    """Reads a UTF-8 file.

    Args:
        path: the file.

    Returns:
        Its text without a byte order mark; line ends are as in the file.

    Raises:
        UserError: it is missing (what lies beside it is named), empty, or not UTF-8 (the line is
            named).
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
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            "A data file is not UTF-8 text.",
            where=f"{path}, line {line}",
            received=f"byte {content[error.start]:#04x}",
            remedy="Convert it, for example with iconv -f LATIN1 -t UTF-8.",
        ) from error
    if not text.strip():
        raise UserError(
            "A data file is empty.",
            where=path,
            received=f"{len(content)} bytes without text",
            remedy="Copy it again, or check its source.",
        )
    return text


def _neighbours(path: str) -> str:
    folder = posixpath.dirname(path)
    if not files.is_dir(folder or "."):
        return f"there is no folder {folder}"
    names = files.list_dir(folder or ".")
    return f"no such file; the folder holds {first_of(names, 10, ', ') or 'nothing'}"


class BadRows:
    """Rows of a file that can't be used: a few are skipped with a message, many are an error.

    Args:
        path: the file.
    """

    def __init__(self, path: str):
        self._path = path
        self._problems: list[str] = []

    def add(self, line: int, problem: str) -> None:
        """Records a bad row.

        Args:
            line: its number in the file, from 1.
            problem: what is wrong with it.
        """
        self._problems.append(f"line {line}: {problem}")

    def check(self, num_rows: int) -> None:
        """Logs the bad rows, or refuses the file.

        Args:
            num_rows: all rows of the file that should have been usable, bad ones included.

        Raises:
            UserError: there are more bad rows than `MAX_BAD_ROWS` and than `MAX_BAD_SHARE`, or
                nothing is left.
        """
        bad = len(self._problems)
        named = first_of(self._problems, _NAMED)
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
                received=f"{bad} of {num_rows}: {named}",
                remedy="Fix the rows, or check that the file is what the task expects.",
            )
        if bad:
            logging.warning("%s: %d of %d rows are skipped (%s).", self._path, bad, num_rows, named)


def file_changed(task: Task, split: str, received: str) -> UserError:
    """Returns the error for a data file that changed while a program was using it.

    Args:
        task: the task.
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
        task: the task.
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
