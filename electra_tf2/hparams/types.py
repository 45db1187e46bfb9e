"""The types an hparam may have, and the check of a value against them.

They are those that JSON can say (bool, int, float, str, None, list, dict), `Literal` for
enumerations, unions of them, and the ranged numbers below.
"""

from __future__ import annotations

import math
import sys
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from electra_tf2.errors import UserError


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, as `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: smallest number, itself allowed unless `low_open`.
        high: largest number, itself allowed unless `high_open`.
        low_open: whether `low` itself is refused.
        high_open: whether `high` itself is refused.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'more than' if self.low_open else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'less than' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(parts)


PositiveInt = Annotated[int, Range(low=1)]
NonNegativeInt = Annotated[int, Range(low=0)]
PositiveFloat = Annotated[float, Range(low=0, low_open=True)]
NonNegativeFloat = Annotated[float, Range(low=0)]
ProbabilityBelowOne = Annotated[float, Range(0, 1, high_open=True)]
DropoutRate = Annotated[float, Range(0, 0.99)]  # see electra_tf2.modeling.config
MaskProbability = Annotated[float, Range(0, 1, low_open=True, high_open=True)]
WordLimit = Annotated[int, Range(low=1, high=10**8)]  # LARGEST_WORD_LIMIT of text/wordpiece.py
Distribution = Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"]


def check_value(name: str, value: Any, annotation: Any) -> Any:
    """Checks an hparam's value against its type.

    Args:
        name: the hparam, for the error.
        value: what the user gave.
        annotation: a type as the module's docstring lists them.

    Returns:
        The value; an int given for a float becomes a float.

    Raises:
        UserError: the type is wrong or the number lies out of range.
    """
    in_range_of = []
    for option in _options(annotation):
        base, bounds = _split_range(option)
        if not _is_a(value, base):
            continue
        value_as = float(value) if base is float else value
        if bounds is None or value_as in bounds:
            return value_as
        in_range_of.append(bounds)
    if in_range_of:
        expected = " or ".join(map(str, in_range_of))
        raise UserError(
            f"The hparam {name!r} is out of range.",
            where=f"hparam {name}",
            received=repr(value),
            remedy=f"Give a number that is {expected}.",
        )
    raise UserError(
        f"The hparam {name!r} has a value of the wrong type."
        if not _literals(annotation) or not isinstance(value, str)
        else f"The hparam {name!r} has a value that is not supported.",
        where=f"hparam {name}",
        received=f"{value!r} ({_json_type(value)})",
        remedy=f"Give {type_name(annotation)}.{_spelling_hint(value, annotation)}",
    )


def type_name(annotation: Any) -> str:
    """A type in words a user of JSON knows, like "an integer or null".

    Args:
        annotation: a type as the module's docstring lists them.
    """
    names = []
    for option in _options(annotation):
        base, bounds = _split_range(option)
        names.append(_BASE_NAMES[base] if base in _BASE_NAMES else _compound_name(base))
        if bounds is not None:
            names[-1] += f" {bounds}"
    return " or ".join(names)


_BASE_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "null",
    dict: "an object",
    list: "a list",
}


def _compound_name(base: Any) -> str:
    origin = typing.get_origin(base)
    if origin is Literal:
        return " or ".join(f'"{v}"' if isinstance(v, str) else repr(v) for v in _values(base))
    if origin is list:
        return f"a list (each {type_name(typing.get_args(base)[0])})"
    return _BASE_NAMES[origin]


def _values(literal: Any) -> tuple:
    return typing.get_args(literal)


def _options(annotation: Any) -> list[Any]:
    """The members of a union, or the type itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [option for arg in typing.get_args(annotation) for option in _options(arg)]
    return [annotation]


def _literals(annotation: Any) -> list[Any]:
    found = [_values(o) for o in _options(annotation) if typing.get_origin(o) is Literal]
    return [value for values in found for value in values]


def _split_range(annotation: Any) -> tuple[Any, Range | None]:
    if typing.get_origin(annotation) is Annotated:
        base, bounds = typing.get_args(annotation)
        return base, bounds
    return annotation, None


def _is_a(value: Any, base: Any) -> bool:
    origin = typing.get_origin(base)
    if origin is Literal:
        return any(value == v and type(value) is type(v) for v in _values(base))
    if origin is list:
        element = typing.get_args(base)[0]
        return isinstance(value, list) and all(
            any(_is_a(v, o) for o in _options(element)) for v in value
        )
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if base is float:
        # NaN and infinity are not JSON, and no hparam has a use for them.
        # By comparison: an integer with hundreds of digits is not a float at all.
        return _is_number(value) and abs(value) <= sys.float_info.max
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, base)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _json_type(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    names |= {type(None): "null", dict: "an object", list: "a list"}
    return names.get(type(value), type(value).__name__)


def _spelling_hint(value: Any, annotation: Any) -> str:
    bases = [_split_range(option)[0] for option in _options(annotation)]
    if bool in bases and value in ("True", "False"):
        return f" JSON writes {value.lower()}, without quotes."
    if int in bases and isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}, without a point or an exponent."
    if isinstance(value, str) and (int in bases or float in bases) and not _literals(annotation):
        return " Write it without quotes."
    return ""
