"""The one exception for mistakes that the user can fix, and what belongs to its messages."""

from __future__ import annotations

import contextlib
import difflib
import errno
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of writing, and
# surrogates, which stand for bytes of a file name that are not UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
# A path that a program takes for an option, or (tar) for a file on the host before the colon.
_MISREAD = re.compile("-|[^/]*:(?!//)")
# Before a command on a line of its own, the one line break that a remedy may have.
_COMMAND = "\n    "


def printable(text: str) -> str:
    """Returns a text on one line that a terminal shows as it is, whatever a name or a file holds.

    Characters that would move the cursor, change colours, begin a line or turn the direction of
    writing become escapes such as `\\x1b`; a byte of a file name that is not UTF-8 becomes its own.
    """
    return _UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, by Python's rule for file names
        return f"\\x{code - 0xDC00:02x}"
    # \x is a byte to a shell, so it stands for a character only where both are the same.
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def shell_quoted(text: str) -> str:
    """Returns a text, such as a path, as one word of a command to paste into a shell."""
    if printable(text) == text:
        return shlex.quote(text)
    # What can't be printed has to be written as escapes, which bash and zsh read in $'…' only.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"


def path_quoted(path: str) -> str:
    """Returns a path as one word of a command, which no program takes for an option or a host."""
    return shell_quoted(f"./{path}" if _MISREAD.match(path) else path)


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

    What the message quotes of file names and data is shown by `printable`; the attributes keep it
    as it was.

    Args:
        what: what is wrong, in one sentence.
        where: the file, the line, the field or the flag it was found in.
        received: what was found there; text is shown as it is, anything else by its `repr`.
        remedy: what to do about it; a command in it stands after a line break and four spaces.
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
        lines = [printable(self.what)]
        if self.where is not None:
            lines.append(f"  where: {printable(self.where)}")
        if self.received is not None:
            shown = self.received if isinstance(self.received, str) else repr(self.received)
            lines.append(f"  received: {printable(shown)}")
        if self.remedy is not None:
            parts = map(printable, self.remedy.split(_COMMAND))
            lines.append(f"  what to do: {_COMMAND.join(parts)}")
        return "\n".join(lines)

    def __reduce__(self):
        # The default would pass the finished message as `what`: a worker process that fails would
        # then report its error without the fields.
        fields = {"where": self.where, "received": self.received, "remedy": self.remedy}
        return (_rebuild, (type(self), self.what, fields))


def _rebuild(cls: type[UserError], what: str, fields: dict[str, Any]) -> UserError:
    return cls(what, **fields)


@contextlib.contextmanager
def errors_named_in(place: str, separator: str = ", ") -> Iterator[None]:
    """A context in which a `UserError` says that its place is within a larger one."""
    try:
        yield
    except UserError as error:
        raise error.with_(where=separator.join(filter(None, [place, error.where]))) from error


def first_of(items: Sequence[str], most: int = 8, separator: str = "; ") -> str:
    """Joins the first items of a list for a message, and says how many more there are.

    For example "a is missing; b is missing; and 3 more".
    """
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return separator.join([*items[:most], *more])


def nearest_name_hint(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, or all of them."""
    known = list(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {lowered[close[0]]!r}?"
    return f"Use one of: {', '.join(known)}."


# What the system says about a path that can't be used as it was given.
_REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EBUSY,
    errno.EXDEV,
    errno.EINVAL,  # also a pipe or a device in the place of a file, see `electra_tf2.files`
)


def as_user_error(error: BaseException) -> UserError | None:
    """The `UserError` that an exception stands for.

    Returns:
        The error itself if it is a `UserError`, one that explains a full disk, a path that the
        system refuses or a lack of memory, or None for everything else (a bug).
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
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return UserError(
            "A file is larger than the system allows.",
            where=error.filename and str(error.filename),
            received=error.strerror,
            remedy="Raise the limit (ulimit -f unlimited), or choose another disk.",
        )
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename is not None:
        return UserError(
            "The system refuses a file or a folder.",
            where=str(error.filename),
            received=error.strerror,
            remedy="Make it accessible, or give another path.",
        )
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
    """The error for a disk without room."""
    return UserError(
        "The disk is full.",
        where=path,
        received=str(error).strip().partition("\n")[0],
        remedy="Free some space or choose another output folder, then run the same command again.",
    )
