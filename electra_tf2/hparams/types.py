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
from typing import Annotated, Any, Literal, Union

from electra_tf2.errors import UserError
from electra_tf2.text.wordpiece import LARGEST_WORD_LIMIT


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, as `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: smallest number, itself allowed unless `low_open`.
        high: largest number, itself allowed unless `high_open`.
        low_open: whether `low` itself is refused.
        high_open: whether `high` itself is refused.
        limit: largest number that makes sense anywhere: what lies above is a slip of the keyboard,
            and would overflow or fill the memory. Only those who exceed it are told of it.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    limit: float = math.inf

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and value <= self.limit

    def needed(self, value: float) -> str:
        """Says what a number has to be, where this one is out of range."""
        if value <= self.limit:
            return str(self)
        return " and ".join(filter(None, [str(self), f"at most {self.limit:.15g}"]))

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'more than' if self.low_open else 'at least'} {self.low:g}")
        if self.high < math.inf:
            parts.append(f"{'less than' if self.high_open else 'at most'} {self.high:g}")
        return " and ".join(parts)


# Products of steps and batch sizes stay below 2**63, and floats are numbers in float32 too.
_MOST, _LARGEST_FLOAT, _SMALLEST_FLOAT = 10**12, 1e30, 2.0**-126
_ANY = {
    int: Range(low=-_MOST, limit=_MOST),
    float: Range(low=-_LARGEST_FLOAT, limit=_LARGEST_FLOAT),
}

PositiveInt = Annotated[int, Range(low=1, limit=_MOST)]
NonNegativeInt = Annotated[int, Range(low=0, limit=_MOST)]
PositiveFloat = Annotated[float, Range(low=0, low_open=True, limit=_LARGEST_FLOAT)]
NonNegativeFloat = Annotated[float, Range(low=0, limit=_LARGEST_FLOAT)]
BatchSize = Annotated[int, Range(low=1, limit=10**6)]
NumHeads = Annotated[int, Range(low=1, limit=10**4)]
BeamSize = Annotated[int, Range(low=1, limit=1000)]
Seconds = Annotated[int, Range(low=1, limit=10**6)]
StandardDeviation = Annotated[float, Range(low=0, low_open=True, limit=1000)]
RotaryBase = Annotated[float, Range(low=1, low_open=True, limit=1e10)]
Epochs = Annotated[float, Range(low=0, low_open=True, limit=1e6)]
ProbabilityBelowOne = Annotated[float, Range(0, 1, high_open=True)]
DropoutRate = Annotated[float, Range(0, 0.99)]  # see electra_tf2.modeling.config
ShareAboveZero = Annotated[float, Range(0, 1, low_open=True)]
Temperature = Annotated[float, Range(0.01, limit=1000)]  # of a distribution that is softened
MaskProbability = Annotated[float, Range(0, 1, low_open=True, high_open=True)]
WordLimit = Annotated[int, Range(low=1, high=LARGEST_WORD_LIMIT)]
Weights = dict[str, PositiveFloat]
"""Corpora of a mixture: how much each counts, by its patterns of files."""
Ramp = list[list[float]]
"""The points [[step, value], …] of a number that changes, see `electra_tf2.hparams.ramps`."""
Distribution = Literal["auto", "one_device", "mirrored", "multi_worker", "tpu"]


def check_value(name: str, value: Any, annotation: Any) -> Any:
    """Checks an hparam's value against its type.

    Returns:
        The value; an int given for a float becomes a float.

    Raises:
        UserError: the type is wrong, the number lies out of range, or a text holds a NUL.
    """
    _check_texts(name, value)
    in_range_of = []
    for option in _options(annotation):
        base, bounds = _split_range(option)
        if not _is_a(value, base):
            continue
        if base == Ramp:
            return _checked_points(name, value, annotation)
        if typing.get_origin(base) is dict and (element := typing.get_args(base)[1]) is not Any:
            return {key: check_value(f"{name}: {key}", own, element) for key, own in value.items()}
        value_as = float(value) if base is float else value
        bounds = bounds or _ANY.get(base)
        is_lost = base is float and 0 < abs(value_as) < _SMALLEST_FLOAT
        if bounds is None or (value_as in bounds and not is_lost):
            return value_as
        in_range_of.append("further from 0" if is_lost else bounds.needed(value_as))
    if in_range_of:
        raise UserError(
            f"The hparam {name!r} is out of range.",
            where=f"hparam {name}",
            received=shown_value(value),
            remedy=f"Give a number that is {' or '.join(in_range_of)}.",
        )
    raise UserError(
        f"The hparam {name!r} has a value of the wrong type."
        if not _literals(annotation) or not isinstance(value, str)
        else f"The hparam {name!r} has a value that is not supported.",
        where=f"hparam {name}",
        received=f"{shown_value(value)} ({_json_type(value)})",
        remedy=f"Give {type_name(annotation)}.{_spelling_hint(value, annotation)}",
    )


def _checked_points(name: str, points: Ramp, annotation: Any) -> list[list[Any]]:
    """Checks a ramp; its values have the types and ranges that the number beside it has."""
    numbers = [option for option in _options(annotation) if _split_range(option)[0] != Ramp]
    found: list[list[Any]] = []
    for number, point in enumerate(points, 1):
        where = f"{name}, point {number}"
        if len(point) == 2:
            step = check_value(f"{where}: step", point[0], NonNegativeInt)
            found.append([step, check_value(f"{where}: value", point[1], Union[*numbers])])
    steps = [step for step, _ in found]
    if len(found) < len(points) or steps[:1] != [0] or steps != sorted(set(steps)):
        raise UserError(
            f"The hparam {name!r} is not a ramp.",
            where=f"hparam {name}",
            received=shown_value(points),
            remedy="Give pairs [step, value], the first of step 0 and each of a later step than "
            "the one before: [[0, 0.3], [10000, 0.15]].",
        )
    return found


_DEEPEST = 50


def _check_texts(name: str, value: Any) -> None:
    """Refuses texts that no path or name can be, wherever they stand in a value."""
    values = [(value, 0)]
    while values:
        part, depth = values.pop()
        if isinstance(part, str) and "\0" in part:
            problem, received = "holds the character NUL", shown_value(part)
        elif depth > _DEEPEST:
            problem, received = "is nested too deeply", f"more than {_DEEPEST} levels"
        else:
            if isinstance(part, dict):
                values += [(own, depth + 1) for own in (*part.keys(), *part.values())]
            elif isinstance(part, list):
                values += [(own, depth + 1) for own in part]
            continue
        raise UserError(
            f"The hparam {name!r} {problem}.",
            where=f"hparam {name}",
            received=received,
            remedy="Give it without." if "NUL" in problem else "Give fewer levels.",
        )


def shown_value(value: Any) -> str:
    """Returns a value as Python writes it, shortened; very large integers it does not write."""
    if isinstance(value, int) and value.bit_length() > 512:
        return f"an integer of about {value.bit_length() * 0.30103:.0f} digits"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def type_name(annotation: Any) -> str:
    """A type in words a user of JSON knows, like "an integer or null"."""
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
    if base == Ramp:
        return "a ramp [[step, value], …]"
    if origin is list:
        return f"a list (each {type_name(typing.get_args(base)[0])})"
    if origin is dict and (element := typing.get_args(base)[1]) is not Any:
        return f"an object (each value {type_name(element)})"
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
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) <= sys.float_info.max
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, base)


def _json_type(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    names |= {type(None): "null", dict: "an object", list: "a list"}
    return names.get(type(value), type(value).__name__)


def _spelling_hint(value: Any, annotation: Any) -> str:
    bases = [_split_range(option)[0] for option in _options(annotation)]
    if bool in bases and isinstance(value, str) and value.lower() in ("true", "false"):
        return f" JSON writes {value.lower()}, without quotes."
    if int in bases and isinstance(value, float) and value.is_integer() and abs(value) <= _MOST:
        return f" Write {int(value)}, without a point or an exponent."
    number = _number_in(value)
    if number is None or _literals(annotation):
        return ""
    for base, bounds in map(_split_range, _options(annotation)):
        if base in _ANY and number in (bounds or _ANY[base]):
            if base is float or number.is_integer():
                return f" Write {base(number)!r}, without quotes."
    return ""


def _number_in(text: Any) -> float | None:
    """The number that a text states, perhaps not as JSON does ("1." and ".5"); or None."""
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST_FLOAT else None
