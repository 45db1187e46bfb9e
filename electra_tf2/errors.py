"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user gave is wrong: a file, a flag, a hparam, a full disk.

    The programs print it without a traceback (see `electra_tf2.cli`), so the message has to say
    all that is needed to mend it. Raise it before anything is written, with as many fields as are
    known.

    Example:
        >>> raise UserError(
        ...     "The vocabulary lacks a special token.",
        ...     where="data/vocab.txt",
        ...     received="no line [UNK]",
        ...     remedy="Add [UNK] on a line of its own, or build the vocabulary anew.",
        ... )

    Args:
        what: What is wrong, in one sentence.
        where: The file, the line, the field or the flag it was found in.
        received: What was found there; text is shown as it is, anything else by its `repr`.
        remedy: What to do about it.
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


def _rebuild(cls: type[UserError], what: str, fields: dict[str, object]) -> UserError:
    return cls(what, **fields)


def first_of(items: Sequence[str], most: int = 8, separator: str = "; ") -> str:
    """Joins the first items of a list for a message, and says how many more there are.

    For example "a is missing; b is missing; and 3 more".
    """
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return separator.join([*items[:most], *more])
