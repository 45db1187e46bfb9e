"""Fields of a JSON object, checked: what is missing or of the wrong kind is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError

_KINDS = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_FORMAT = "Mend the file: docs/finetuning.md shows the format of question answering."


def field(record: Any, name: str, kind: type, where: str, remedy: str = _FORMAT) -> Any:
    """Returns a field of a JSON object.

    Args:
        record: the object.
        name: the field's name.
        kind: str, int, bool, list or dict.
        where: the object's place, for the message.
        remedy: what to do if it is missing or wrong.

    Raises:
        UserError: `record` is no object, the field is missing, or its value is of another kind.
    """
    if not isinstance(record, Mapping):
        raise UserError(
            f"There is no object where one with the field {name!r} should be.",
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
    """Returns `value` if it is of the kind; arguments and errors as `field`."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(
            f"A value is not {_KINDS[kind]}.", where=where, received=shown(value), remedy=remedy
        )
    return value


def shown(value: Any) -> str:
    """Returns the beginning of a value, as Python writes it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
