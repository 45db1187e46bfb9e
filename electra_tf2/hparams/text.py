"""Reads hparams as users write them: JSON text, a file, or name=value pairs."""

from __future__ import annotations

import json
import re
from typing import Any

from electra_tf2 import files
from electra_tf2.errors import UserError

_NAME_AND_EQUALS = re.compile(r"([A-Za-z_]\w*)=")
# What ends a value: white space, or a comma before another pair or at the end of the text.
_BREAK = re.compile(r"\s+,?\s*|,\s*(?=[A-Za-z_]\w*=|$)")
_REMEDY = (
    "Give a JSON object ('{\"learning_rate\": 0.001}'), a path ending in .json, @file, or pairs "
    "like learning_rate=0.001."
)


def parse_hparams(text: str, flag: str = "--hparams") -> dict[str, Any]:
    """Parses hparams given as text.

    Args:
        text: one of
            a JSON object: `{"model_size": "base", "num_train_steps": 1000}`;
            a path that ends in .json, or `@` and a path, of a file that holds one of the others;
            pairs separated by spaces or commas: `model_size=base num_train_steps=1000`. A value is
            read as JSON, or taken as a string where it isn't. A comma with no `name=` after it
            belongs to the value (lists of globs); a string with spaces has to stand in double
            quotes. Empty text gives no hparams.
        flag: where the text was given, for errors.

    Returns:
        The values by name, unchecked.

    Raises:
        UserError: the file can't be read or parsed (names file, line and column), or has what is
            not an hparam but a flag.
    """
    stripped = text.strip()
    if stripped.startswith("@"):
        hparams = _parse_content(_read_file(stripped[1:]), stripped[1:])
    elif stripped.endswith(".json") and not stripped.startswith("{") and "=" not in stripped:
        hparams = _parse_content(_read_file(stripped), stripped)
    else:
        hparams = _parse_content(text, flag)
    for name in ("data_dir", "model_name"):
        if name in hparams:
            raise UserError(
                f"{name} is a flag of its own, not an hparam.",
                where=flag,
                received=f"{name} = {hparams[name]!r}",
                remedy=f"Give it as --{name.replace('_', '-')}.",
            )
    return hparams


def _parse_content(text: str, source: str) -> dict[str, Any]:
    start = text.lstrip()[:1]
    if not start:
        return {}
    # Text that can't begin a pair is meant as JSON, and JSON's error is the one that helps.
    parse = _parse_pairs if start.isalpha() or start == "_" else _parse_json
    try:
        return parse(text, source)
    except json.JSONDecodeError as error:
        raise _syntax_error(f"not valid JSON: {error.msg}", text, error.pos, source) from error
    # _unique, _no_constant, Python's limits on digits and on nesting
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"The hparams are not usable: {error}.",
            where=source,
            received=_shorten(text.strip()),
            remedy=_REMEDY,
        ) from error


def _parse_json(text: str, source: str) -> dict[str, Any]:
    value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _parse_pairs(text: str, source: str) -> dict[str, Any]:
    pairs: list[tuple[str, Any]] = []
    position = len(text) - len(text.lstrip())
    while position < len(text):
        match = _NAME_AND_EQUALS.match(text, position)
        if match is None:
            raise _syntax_error("expected name=value", text, position, source)
        value, end = _pair_value(text, match.end())
        pairs.append((match[1], value))
        gap = _BREAK.match(text, end)
        position = gap.end() if gap else end
    return _unique(pairs)


def _pair_value(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start` and the position after it."""
    try:
        decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
        value, end = decoder.raw_decode(text, start)
        if end == len(text) or _BREAK.match(text, end):  # "3,4" is a string
            return value, end
    except json.JSONDecodeError:  # a string
        pass
    except ValueError:  # not JSON, such as NaN: a string too, but not what is in an object
        if text[start] in "{[":
            raise
    gap = _BREAK.search(text, start)
    end = gap.start() if gap else len(text)
    return text[start:end], end


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_file(path: str) -> str:
    try:
        return files.read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            "The hparams file can't be read.",
            where=path,
            received=files.reason(error),
            remedy="Check the path; text that is not a path has to be JSON or name=value pairs.",
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            "The hparams file is not UTF-8 text.",
            where=path,
            received=f"byte 0x{error.object[error.start]:02x} at offset {error.start}",
            remedy="Save the file as UTF-8.",
        ) from error


def _syntax_error(what: str, text: str, position: int, source: str) -> UserError:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    lines = text.splitlines() or [""]
    return UserError(
        f"The hparams can't be parsed: {what}.",
        where=f"{source}, line {line} column {column}",
        received=_shorten(lines[min(line, len(lines)) - 1].strip()),
        remedy=_REMEDY,
    )


def _shorten(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
