"""The one exception for mistakes that the user can fix, and what belongs to its messages."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Iterable, Sequence
from typing import Any


class UserError(Exception):
    """Something the user gave is wrong: a file, a flag, an hparam, a full disk.

    The programs print it without a traceback (see `electra_tf2.cli`), so the message has to say
    all that is needed to fix it. Raise it before anything is written, with as many fields as are
    known. It is for files, flags and hparams: a mistake in Python code is a `TypeError` or a
    `ValueError`.

    Example:
        >>> raise UserError(
        ...     "The vocabulary lacks a special token.",
        ...     where="data/vocab.txt",
        ...     received="no line [UNK]",
        ...     remedy="Add [UNK] on a line of its own, or rebuild the vocabulary.",
        ... )

    Args:
        what: what is wrong, in one sentence.
        where: the file, the line, the field or the flag it was found in.
        received: what was found there; text is shown as it is, anything else by its `repr`.
        remedy: what to do about it.
    """

    exit_code = 2
    # Whether the process must end without waiting for threads and devices.
    leave_at_once = False

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        received: object = None,
        remedy: str | None = None,
    ):
        self.what = what
        self.where = where
        self.received = received
        self.remedy = remedy
        super().__init__(self._message())

    def with_(self, *, where: str | None = None, remedy: str | None = None) -> UserError:
        """Returns the same error with another place or remedy, for whoever knows it better."""
        error = type(self)(
            self.what,
            where=where or self.where,
            received=self.received,
            remedy=remedy or self.remedy,
        )
        error.exit_code, error.leave_at_once = self.exit_code, self.leave_at_once
        return error

    def _message(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.received is not None:
            shown = self.received if isinstance(self.received, str) else repr(self.received)
            lines.append(f"  received: {shown}")
        if self.remedy is not None:
            lines.append(f"  what to do: {self.remedy}")
        return "\n".join(lines)

    def __reduce__(self):
        # The default would pass the finished message as `what`: a worker process that fails would
        # then report its error without the fields.
        fields = {"where": self.where, "received": self.received, "remedy": self.remedy}
        return (_rebuild, (type(self), self.what, fields))


def _rebuild(cls: type[UserError], what: str, fields: dict[str, Any]) -> UserError:
    return cls(what, **fields)


def first_of(items: Sequence[str], most: int = 8, separator: str = "; ") -> str:
    """Joins the first items of a list for a message, and says how many more there are.

    For example "a is missing; b is missing; and 3 more".
    """
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return separator.join([*items[:most], *more])


def nearest_name_hint(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, or all of them.

    Args:
        name: the unknown name.
        known: the names there are.
    """
    known = list(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {lowered[close[0]]!r}?"
    return f"Use one of: {', '.join(known)}."


def as_user_error(error: BaseException) -> UserError | None:
    """The `UserError` that an exception stands for.

    Args:
        error: any exception.

    Returns:
        The error itself if it is a `UserError`, one that explains a full disk or a lack of memory,
        or None for everything else (a bug).
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, MemoryError):
        return UserError(
            "There is not enough memory.",
            received=str(error) or "MemoryError",
            remedy="Use smaller sizes or fewer processes, or a machine with more memory.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(error.filename, error)
    tf = sys.modules.get("tensorflow")  # an error of TensorFlow's needs TensorFlow loaded
    if tf is not None and isinstance(error, tf.errors.ResourceExhaustedError):
        message = str(error)
        if "No space left on device" in message or "quota" in message.lower():
            return disk_full(None, error)
        return UserError(
            "The device has not enough memory for this run.",
            received=message.strip().partition("\n")[0],
            remedy="Use a smaller batch size or sequence length, or spread the batch over more "
            "micro-batches with gradient_accumulation_steps.",
        )
    return None


def disk_full(path: str | None, error: BaseException) -> UserError:
    """The error for a disk without room.

    Args:
        path: the file that was being written, if known.
        error: what the system said.
    """
    return UserError(
        "The disk is full.",
        where=path,
        received=str(error).strip().partition("\n")[0],
        remedy="Free some space or choose another output folder, then run the same command again.",
    )
