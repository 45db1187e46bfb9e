"""Labels as files write them: what is text, what is missing, and what is the same label twice."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

# What stands for no value, in any capitals: pandas, JSON, SQL and Excel write these.
_MISSING = frozenset({"nan", "null", "<na>", "#n/a", "\\n"})
# pandas, Weka, SNLI and Excel's formulas have these for no value too, but they are labels in some
# data sets.
_DOUBTFUL = frozenset({"None", "NA", "N/A", "n/a", "?", "-", "--", "#NV"})
_EXCEL_ERROR = re.compile(r"#[A-Z0/]+[!?]")
_WHOLE_AS_FLOAT = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUTH = {"true": "1", "false": "0"}
# Characters without width that str.strip leaves: from editors, web pages, joined files and fields
# of a fixed length.
_NO_WIDTH = "\ufeff\u200b\u200c\u200d\u2060\0"


def cell_text(value: Any) -> str:
    """Returns a cell as text: a JSON number or truth value as JSON writes it.

    Raises:
        ValueError: it is an object, a list or null.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"{value!r} is not text")


def label_text(value: Any) -> str:
    """Returns a label as text, without white space and characters of no width around it.

    Raises:
        ValueError: it is empty, an object, a list or null, or has a line break or half of a
            surrogate pair in it: programs that use the model list its labels in UTF-8, one a line.
    """
    text, shorter = cell_text(value), None
    while text != shorter:
        text, shorter = text.strip().strip(_NO_WIDTH), text
    if not text:
        raise ValueError(f"{value!r} is not a label")
    if problem := label_problem(text):
        raise ValueError(f"the label {text!r} has {problem} in it")
    return text


def label_problem(text: str) -> str:
    """Says what a label can't have in it; "" if it can stand on a line of UTF-8 text."""
    if len(text.splitlines()) > 1:
        return "a line break"
    return "half of a surrogate pair" if _SURROGATE.search(text) else ""


def is_missing(text: str) -> bool:
    """Whether a label's text stands for no value: empty, nan, null, <NA>, #N/A or \\N."""
    return not text or text.lower() in _MISSING


def is_doubtful(text: str, labels: Collection[str]) -> bool:
    """Whether a label's text may stand for no value, as None and NA do.

    A minus may not beside a plus. -1 may where the others count from 0 to 2 or more: data sets of
    Hugging Face have it in rows without a label.

    Args:
        labels: all labels of the file, by name.
    """
    if label_key(text) == "-1":
        others = {label_key(label) for label in labels} - {"-1"}
        return len(others) > 2 and others == set(map(str, range(len(others))))
    if text == "-" and "+" in labels:
        return False
    return text in _DOUBTFUL or _EXCEL_ERROR.fullmatch(text) is not None


def label_key(text: str) -> str:
    """Returns a text that equal labels share, whatever the program that wrote them.

    `1` and `1.0` (pandas writes whole numbers so where a value of the column is missing), `1` and
    `true`, and the two ways in which Unicode spells a letter with an accent.
    """
    whole = _WHOLE_AS_FLOAT.fullmatch(text)
    if whole:
        return "0" if whole[1] == "-0" else whole[1]
    return _TRUTH.get(text.lower()) or unicodedata.normalize("NFC", text)


def look(text: str) -> str:
    """Returns a text that labels share which look the same but for capitals and spaces.

    Full-width letters and digits are as others, and characters of no width are left out.
    """
    seen = unicodedata.normalize("NFKC", text).translate(dict.fromkeys(map(ord, _NO_WIDTH)))
    return " ".join(seen.casefold().split())


def alike(labels: Collection[str]) -> list[list[str]]:
    """Returns the groups of two labels or more that share a look."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[look(label)].append(label)
    return [group for group in groups.values() if len(group) > 1]


def find_label(text: str, labels: Collection[str]) -> str | None:
    """Returns the one of the labels that a text states; None if it states another.

    Args:
        text: from `label_text`.
        labels: the labels; one that is spelled like the text comes first.
    """
    if text in labels:
        return text
    key = label_key(text)
    return next((label for label in labels if label_key(label) == key), None)


def spellings(labels: Sequence[str]) -> Mapping[str, Counter[str]]:
    """Groups labels that are equal.

    Args:
        labels: the texts of a file's labels, one for each row.

    Returns:
        The name of each label -> its spellings, and how often they occur. The name is the only
        spelling, or the shared key where it is one of several, or else the commonest.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for text in labels:
        groups[label_key(text)][text] += 1
    return {
        key if key in own else min(own, key=lambda text: (-own[text], text)): own
        for key, own in groups.items()
    }
