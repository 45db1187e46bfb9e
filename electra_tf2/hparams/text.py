"""Reads hparams as users write them: JSON text, a file, or key=value pairs."""

from __future__ import annotations

import json
import re
from typing import Any

from electra_tf2.errors import UserError

# Spaces after the sign are skipped, but not up to the next pair: "a= b=1" leaves a empty.
_NAME_AND_EQUALS = re.compile(r"([A-Za-z_]\w*)\s*=(?:\s*(?![A-Za-z_]\w*\s*=)|)")
_SEPARATORS = re.compile(r"[\s,]*")
_NEXT_PAIR = re.compile(r"[\s,]+[A-Za-z_]\w*\s*=")
_REMEDY = (
    "Give a JSON object ('{\"learning_rate\": 0.001}'), a path ending in .json, @file, or pairs "
    "like learning_rate=0.001."
)


def parse_hparams(text: str, flag: str = "--hparams") -> dict[str, Any]:
    """Parses hparams given as text.

    Args:
        text: One of
            a JSON object: `{"model_size": "base", "num_train_steps": 1000}`;
            a path that ends in .json, or `@` and a path, of a file that holds one of the others;
            pairs separated by spaces or commas: `model_size=base num_train_steps=1000`. A value is
            read as JSON, or taken as a string where it is none. A comma with no `name=` after it
            belongs to the value (lists of globs); a string with spaces has to stand in double
            quotes. Empty text gives no hparams.
        flag: Where the text was given, for errors.

    Returns:
        The values by name, unchecked.

    Raises:
        UserError: If the file can't be read or parsed; names file, line and column.
    """
    stripped = text.strip()
    if stripped.startswith("@"):
        path = stripped[1:]
        return _parse_content(_read_file(path), path)
    if stripped.endswith(".json") and not stripped.startswith("{") and "=" not in stripped:
        return _parse_content(_read_file(stripped), stripped)
    return _parse_content(text, flag)


def _parse_content(text: str, source: str) -> dict[str, Any]:
    start = text.lstrip()[:1]
    if not start:
        return {}
    # Text that can't begin a pair is meant as JSON, and JSON's error is the one that helps.
    if start.isalpha() or start == "_":
        return _parse_pairs(text, source)
    return _parse_json(text, source)


def _parse_json(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _syntax_error(f"not valid JSON: {error.msg}", text, error.pos, source) from error
    except _Refused as error:
        raise UserError(
            f"The hparams are not usable: {error}.",
            where=source,
            received=_shorten(text.strip()),
            remedy=_REMEDY,
        ) from error
    except (ValueError, RecursionError) as error:  # Python's limits on digits and on depth
        raise UserError(
            "The hparams can't be read.",
            where=source,
            received=f"{_shorten(text.strip())} ({error})",
            remedy=_REMEDY,
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            "The hparams are no JSON object.",
            where=source,
            received=_shorten(text.strip()),
            remedy=_REMEDY,
        )
    return value


def _parse_pairs(text: str, source: str) -> dict[str, Any]:
    pairs: list[tuple[str, Any]] = []
    position = _SEPARATORS.match(text).end()
    while position < len(text):
        match = _NAME_AND_EQUALS.match(text, position)
        if match is None:
            raise _syntax_error("expected name=value", text, position, source)
        value, position = _pair_value(text, match.end())
        pairs.append((match[1], value))
        position = _SEPARATORS.match(text, position).end()
    try:
        return _unique(pairs)
    except _Refused as error:
        raise UserError(
            f"The hparams are not usable: {error}.",
            where=source,
            received=_shorten(text),
            remedy="Give each hparam once.",
        ) from error


def _pair_value(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start` and the position after it."""
    try:
        decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
        value, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):  # no JSON: a string
        pass
    else:
        rest = text[end:]
        # "3,4" is a string: a number ends at white space, at the end or before the next pair.
        if not rest or rest[0].isspace() or not rest.strip(" ,\t\r\n") or _NEXT_PAIR.match(rest):
            return value, end
    end = start
    while end < len(text) and not text[end].isspace():
        if text[end] == "," and (not text[end:].strip(" ,\t\r\n") or _NEXT_PAIR.match(text, end)):
            break
        end += 1
    return text[start:end], end


class _Refused(ValueError):
    """JSON that Python's parser takes and hparams don't."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _Refused(f"{name!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _Refused(f"{name} is no JSON")


def _read_file(path: str) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            "The hparams file is not UTF-8 text.",
            where=path,
            received=f"byte 0x{error.object[error.start]:02x} at offset {error.start}",
            remedy="Save the file as UTF-8.",
        ) from error


def _read_bytes(path: str) -> bytes:
    if "://" not in path:
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise _unreadable(path, error.strerror) from error
    import tensorflow as tf  # only for remote paths: it takes seconds to load

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise _unreadable(path, error.message) from error


def _unreadable(path: str, reason: str) -> UserError:
    return UserError(
        "The hparams file can't be read.",
        where=path,
        received=reason,
        remedy="Check the path; text that is no path has to be JSON or name=value pairs.",
    )


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
