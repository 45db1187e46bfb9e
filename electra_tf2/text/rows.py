"""Texts to the rows of token ids that networks take."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import RaggedIds, Tokenizer

# How much of two texts is kept where both don't fit.


def truncated_lengths(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """Returns how many tokens of two texts are kept.

    The result of removing one token at a time from the end of the longer text, of the second one
    on a tie, until both fit.

    Args:
        length_a: tokens of the first text.
        length_b: tokens of the second text.
        room: tokens there is room for.
    """
    if length_a + length_b <= room:
        return length_a, length_b
    half_b = room // 2
    half_a = room - half_b
    if length_b <= half_b:
        return room - length_b, length_b
    if length_a <= half_a:
        return length_a, room - length_a
    return half_a, half_b


# [CLS] and two [SEP], and a token of either text.
SHORTEST = 5
_SHOWN = 60  # characters of a text in a message

Text = str | tuple[str, str]


class Row(NamedTuple):
    """A text or pair of texts with its special tokens.

    Attributes:
        input_ids: int32 [length]: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.
        segment_ids: int32 [length], 1 from the second text on.
    """

    input_ids: np.ndarray
    segment_ids: np.ndarray


def check_texts(texts: Sequence[Text], *, pairs: bool = False) -> list[Text]:
    """Refuses what is not a list of texts.

    Args:
        texts: what the user gave.
        pairs: whether pairs of texts are allowed.

    Returns:
        The texts as a list.

    Raises:
        UserError: it is no list, or something in it is no text; names its place.
    """
    kinds = "texts or pairs of texts" if pairs else "texts"
    if isinstance(texts, str | bytes | Mapping) or not hasattr(texts, "__iter__"):
        raise UserError(
            f"A list of {kinds} is needed.",
            where="texts",
            received=f"{type(texts).__name__} {_shown(texts)}",
            remedy="Put a single text in a list: [text].",
        )
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str) and not (pairs and _is_pair(text)):
            raise UserError(
                "What is to be read is no text.",
                where=f"texts[{number}]",
                received=f"{type(text).__name__} {_shown(text)}",
                remedy=f"Give {kinds}, all of them Python strings.",
            )
    return texts


def check_positive(name: str, value: int, at_least: int = 1) -> None:
    """Refuses a value that is no whole number of at least `at_least`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < at_least:
        raise UserError(
            "An argument is out of range.",
            where=name,
            received=repr(value),
            remedy=f"Give a whole number, {at_least} or more.",
        )


def resolve_length(max_length: int | None, longest: int) -> int:
    """Returns the length in tokens that texts are cut to.

    Args:
        max_length: what the user asked for; None: as long as the network allows.
        longest: rows of the network's position table.

    Raises:
        UserError: it is too short for two texts, or longer than the position table.
    """
    if max_length is None:
        return longest
    check_positive("max_length", max_length, SHORTEST)
    if max_length > longest:
        raise UserError(
            "The sequences would be longer than the model's position table.",
            where="max_length",
            received=f"{max_length}; the model has {longest} positions",
            remedy=f"Give at most {longest}.",
        )
    return max_length


def make_rows(texts: Sequence[Text], tokenizer: Tokenizer, max_length: int) -> list[Row]:
    """Tokenizes texts and puts the special tokens around them.

    What is too long is cut: a single text at its end, a pair one token at a time at the end of the
    longer text. How many texts that befell is logged.

    Args:
        texts: texts or pairs of texts.
        tokenizer: text -> ids.
        max_length: of a row, special tokens included.
    """
    pairs = [(text, "") if isinstance(text, str) else tuple(text) for text in texts]
    firsts = tokenizer.encode_lines([first for first, _ in pairs])
    seconds = tokenizer.encode_lines([second for _, second in pairs])
    rows = [
        _row(_ids(firsts, i), _ids(seconds, i), tokenizer, max_length) for i in range(len(pairs))
    ]
    specials = np.where(np.diff(seconds.row_splits), 3, 2)
    whole = np.diff(firsts.row_splits) + np.diff(seconds.row_splits) + specials
    cut = int(np.sum(whole > max_length))
    if cut:
        logging.warning("%d of %d texts are cut to %d tokens.", cut, len(texts), max_length)
    return rows


def make_row(ids: Sequence[int], tokenizer: Tokenizer) -> Row:
    """Puts [CLS] and [SEP] around the ids of one text."""
    vocabulary = tokenizer.vocabulary
    input_ids = np.array([vocabulary.cls_id, *ids, vocabulary.sep_id], np.int32)
    return Row(input_ids, np.zeros(len(input_ids), np.int32))


def _row(first: np.ndarray, second: np.ndarray, tokenizer: Tokenizer, max_length: int) -> Row:
    if not len(second):
        return make_row(first[: max_length - 2], tokenizer)
    keep_first, keep_second = truncated_lengths(len(first), len(second), max_length - 3)
    start = make_row(first[:keep_first], tokenizer)
    end = make_row(second[:keep_second], tokenizer).input_ids[1:]
    return Row(
        np.concatenate([start.input_ids, end]),
        np.concatenate([start.segment_ids, np.ones(len(end), np.int32)]),
    )


def _ids(ragged: RaggedIds, i: int) -> np.ndarray:
    return ragged.values[ragged.row_splits[i] : ragged.row_splits[i + 1]]


def _is_pair(text: object) -> bool:
    if not isinstance(text, tuple | list) or len(text) != 2:
        return False
    return all(isinstance(part, str) for part in text)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
