"""The hparam `tasks.<name>` of a classification or regression task, checked."""

from __future__ import annotations

import dataclasses
import json
import math
import posixpath
from collections.abc import Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.errors import nearest_name_hint
from finetune.classification.tables import SUFFIXES

Column = str | int
"""A column's name, or its number from 0."""

SPLITS = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True)
class Definition:
    """Where a task's files are and what they have.

    Attributes:
        text: column of the text, or of the first one.
        label: column of the label or score.
        text_b: column of the second text; None if there is none.
        files: split -> path in the task's folder; where one is missing, `<split>.tsv`, `.csv` or
            `.jsonl`.
        header: whether line 1 of a TSV or CSV file names the columns.
        labels: the classes; None: those of the training file.
        min: lowest score; None: that of the training file.
        max: highest score; None: that of the training file.
    """

    text: Column
    label: Column
    text_b: Column | None = None
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    header: bool = True
    labels: tuple[str, ...] | None = None
    min: float | None = None
    max: float | None = None


_COMMON = ("text", "text_b", "label", "files", "header")
KEYS = {"classification": (*_COMMON, "labels"), "regression": (*_COMMON, "min", "max")}
"""Kind -> the keys that its definition may have; "text" and "label" must be there."""


def check_definition(kind: str, name: str, given: Mapping[str, Any]) -> Definition:
    """Checks a definition.

    Args:
        kind: "classification" or "regression".
        name: the task's name.
        given: the definition without its kind.

    Raises:
        UserError: a key is unknown or missing, or a value is of the wrong type.
    """
    for key in given:
        if key not in KEYS[kind]:
            raise _error(name, key, "is unknown", given[key], nearest_name_hint(key, KEYS[kind]))
    header = given.get("header", True)
    if not isinstance(header, bool):
        raise _error(name, "header", "is neither true nor false", header)
    values: dict[str, Any] = {"header": header, "files": _files(name, given.get("files", {}))}
    for key in ("text", "text_b", "label"):
        values[key] = _column(name, key, given.get(key), header)
    for key in ("text", "text_b"):
        if values[key] == values["label"]:
            remedy = "Name the column of the labels; the model would only learn to read them."
            raise _error(name, "label", f"is the same column as {key}", values["label"], remedy)
    if given.get("labels") is not None:
        values["labels"] = _labels(name, given["labels"])
    for key in ("min", "max"):
        values[key] = _number(name, key, given.get(key))
    low, high = values["min"], values["max"]
    if low is not None and high is not None and not low < high:
        raise _error(name, "max", "is not above min", high, f"Choose more than {low:g}.")
    return Definition(**values)


def label_text(value: Any) -> str:
    """Returns a label as text: a JSON number or truth value as JSON writes it.

    Raises:
        ValueError: it is empty, or an object or a list.
    """
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if value is None or not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no label")
    return value.strip()


def _column(name: str, key: str, value: Any, header: bool) -> Column | None:
    if value is None:
        if key == "text_b":
            return None
        raise _error(name, key, "is missing", None, "Name the column that holds it.")
    blank = isinstance(value, str) and not value.strip()
    if isinstance(value, bool) or not isinstance(value, str | int) or blank:
        raise _error(name, key, "is no column", value, "Give its name, or its number from 0.")
    if isinstance(value, int) and value < 0:
        raise _error(name, key, "is no column", value, "Columns are numbered from 0.")
    if isinstance(value, str) and not header:
        raise _error(name, key, "names a column, and there is no header", value, "Number it.")
    return value


def _files(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _error(name, "files", "is no object", value, 'Write {"train": "reviews.csv", …}.')
    for split, path in value.items():
        if split not in SPLITS:
            hint = nearest_name_hint(split, SPLITS)
            raise _error(name, f"files.{split}", "is no split", path, hint)
        if not isinstance(path, str) or posixpath.splitext(path)[1].lower() not in SUFFIXES:
            endings = ", ".join(SUFFIXES)
            raise _error(name, f"files.{split}", f"is no path ending in {endings}", path)
    return dict(value)


def _labels(name: str, value: Any) -> tuple[str, ...]:
    try:
        labels = tuple(label_text(label) for label in value) if isinstance(value, list) else ()
    except ValueError as error:
        raise _error(name, "labels", f"holds something else: {error}", value) from error
    if len(labels) < 2 or len(set(labels)) < len(labels):
        remedy = "List two labels or more, each once, or leave it out to take those of the data."
        raise _error(name, "labels", "is no list of different labels", value, remedy)
    return labels


def _number(name: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except OverflowError:  # a whole number beyond all floating-point ones
        number = math.inf
    if not math.isfinite(number):
        raise _error(name, key, "is no number", value)
    return number


def _error(name: str, key: str, what: str, value: Any, remedy: str | None = None) -> UserError:
    return UserError(
        f"In the definition of the task {name!r}, {key} {what}.",
        where=f"hparam tasks.{name}.{key}",
        received="nothing" if value is None else repr(value),
        remedy=remedy or "See docs/finetuning.md for what a definition holds.",
    )
