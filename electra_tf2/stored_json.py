"""Stored JSON, which may be damaged or of another program, read by the types of a record.

Whatever a file holds, reading it ends in a record whose fields have their types, or in a
`UserError` that names the file and the field.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from electra_tf2.errors import UserError
from electra_tf2.files import read_json

LARGEST = (1 << 63) - 1
"""The largest integer that arrays and TensorFlow know."""
Record = TypeVar("Record")


def read_record(cls: type[Record], path: str, what: str, remedy: str) -> Record:
    """Reads a file that holds a record.

    Args:
        cls: a dataclass or named tuple with annotated fields. Those without a default have to be
            there; others in the file are passed over, as a newer version may have them. Types are
            bool, int (of 64 bits), float (finite; null stands for NaN, which JSON lacks), str,
            None, Any, Literal, list, tuple, dict, Mapping, unions, and further such records.
        what: what the file is, the first words of the message if it can't be read.
        remedy: what to do then.

    Raises:
        UserError: there is no such file, or it is not such a record; names the field.
    """
    return parse_record(cls, read_json(path, what, remedy), path, what, remedy)


def parse_record(
    cls: type[Record], content: Mapping[str, Any], where: str, what: str, remedy: str
) -> Record:
    """Makes a record of a JSON object; `where` is the file, the rest as in `read_record`."""
    try:
        return _record(cls, content, "")
    except _Unfit as unfit:
        raise bad_field(where, what, remedy, unfit.field, unfit.received) from unfit


def bad_field(where: str, what: str, remedy: str, field: str, received: str) -> UserError:
    """The error for a field of a stored file; arguments as `read_record`, and what is wrong."""
    return UserError(
        f"{what} can't be read.",
        where=f"{where}, field {field}" if field else where,
        received=received,
        remedy=remedy,
    )


def shown(value: Any) -> str:
    """Returns a value of any size in a few words for a message."""
    return reprlib.repr(value)


class _Unfit(Exception):
    def __init__(self, field: str, received: str):
        super().__init__(field, received)
        self.field, self.received = field, received


def _record(cls: Any, value: Any, field: str) -> Any:
    make, hints = cls, typing.get_type_hints(cls)
    if isinstance(value, list) and hasattr(cls, "_fields"):  # as JSON writes a named tuple
        value = dict(zip(cls._fields, value, strict=False))
    content = _of_type(value, dict, "an object", field)
    if not hasattr(cls, "_fields"):
        fields = dataclasses.fields(cls)
        names = [own.name for own in fields]
        missing = dataclasses.MISSING
        required = {f.name for f in fields if f.default is missing and f.default_factory is missing}
    else:
        names, required = cls._fields, set(cls._fields) - set(cls._field_defaults)
    for name in names:
        if name in required and name not in content:
            raise _Unfit(_inside(field, name), "no such field")
    there = [name for name in names if name in content]
    return make(**{n: _typed(hints[n], content[n], _inside(field, n)) for n in there})


def _inside(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _typed(hint: Any, value: Any, field: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, field)
    if origin is Literal:
        if not isinstance(value, str | int) or value not in arguments:
            raise _Unfit(field, f"{shown(value)}, not one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (list, tuple, Sequence):
        items = _of_type(value, list, "a list", field)
        found = [_typed(arguments[0], v, f"{field}[{i}]") for i, v in enumerate(items)]
        return tuple(found) if origin is tuple else found
    if origin in (dict, Mapping):
        items = _of_type(value, dict, "an object", field)
        return {name: _typed(arguments[1], v, _inside(field, name)) for name, v in items.items()}
    if hint in _SCALARS:
        return _scalar(hint, value, field)
    return _record(hint, value, field)


def _union(options: Sequence[Any], value: Any, field: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is not type(None):
            try:
                return _typed(option, value, field)
            except _Unfit as unfit:
                problems.append(unfit)
    raise problems[0]


_SCALARS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer of 64 bits",
    float: "a number",
    str: "a string",
    dict: "an object",
}


def _scalar(kind: Any, value: Any, field: str) -> Any:
    if kind is float and value is None:
        return math.nan
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number and abs(value) < math.inf:
        if not isinstance(value, int) or abs(value) <= LARGEST:
            return float(value)
    elif kind is int and is_number and isinstance(value, int) and abs(value) <= LARGEST:
        return value
    elif kind not in (int, float):
        return _of_type(value, kind, _SCALARS[kind], field)
    raise _Unfit(field, f"{shown(value)}, not {_SCALARS[kind]}")


def _of_type(value: Any, kind: type, described: str, field: str) -> Any:
    if not isinstance(value, kind):
        raise _Unfit(field, f"{shown(value)}, not {described}")
    return value
