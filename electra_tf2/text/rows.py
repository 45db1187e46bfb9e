"""From texts to the rows of token ids that networks take: `[CLS] a [SEP] b [SEP]`."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from absl import logging

from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.unknown import UNKNOWN_IN_CALL, warn_of_unknown
from electra_tf2.text.vocabulary import CLS, SEP

SHORTEST = 5
"""Length of the shortest row for two texts: [CLS], two [SEP] and a token of each text."""

Text = str | tuple[str, str]
Ids = Sequence[int] | np.ndarray


class Row(NamedTuple):
    """A text or pair of texts with its special tokens.

    Attributes:
        input_ids: int32 [length]: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.
        segment_ids: int32 [length], 1 from the second text on.
    """

    input_ids: np.ndarray
    segment_ids: np.ndarray


@overload
def check_texts(
    texts: Sequence[str], *, pairs: Literal[False] = False, name: str = ...
) -> list[str]: ...
@overload
def check_texts(texts: Sequence[Text], *, pairs: Literal[True], name: str = ...) -> list[Text]: ...
def check_texts(
    texts: Sequence[Text], *, pairs: bool = False, name: str = "texts"
) -> Sequence[Text]:
    """Refuses what is not a list of texts.

    Args:
        name: what the texts are given as, for messages.

    Returns:
        The texts as a list.

    Raises:
        TypeError: it is no list, or something in it is not a text; names its place.
    """
    texts = check_list(name, texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str) and not (pairs and _is_pair(text)):
            kinds = "a text or a pair of texts" if pairs else "a text"
            raise TypeError(f"{name}[{number}] must be {kinds}. Received: {text!r:.100}")
    return texts


def check_list(name: str, values: Iterable[Any]) -> list[Any]:
    """Returns what the user gave as a list.

    Raises:
        TypeError: it is a single thing, a text above all, has no order, or is a table, whose
            items are the names of its columns.
    """
    is_scalar = not isinstance(values, Iterable) or getattr(values, "shape", None) == ()
    if is_scalar or isinstance(values, str | bytes | bytearray | Mapping | Set):
        raise TypeError(
            f"{name} must be a list; put a single input in one: [input]. Received: {values!r:.100}"
        )
    if hasattr(values, "columns"):
        raise TypeError(
            f"{name} must be a list; give a column of the table, such as table['text'], or pairs "
            f"as list(zip(…, …)). Received: {type(values).__name__}"
        )
    return list(values)


def check_positive(name: str, value: int, at_least: int = 1) -> None:
    """Raises a ValueError for what is not a whole number of at least `at_least`."""
    if not isinstance(value, numbers.Integral) or value < at_least:
        raise ValueError(f"{name} must be a whole number, {at_least} or more. Received: {value!r}")


def resolve_length(max_length: int | None, longest: int) -> int:
    """Returns the length in tokens that texts are cut to.

    Args:
        max_length: what the user asked for; None: as long as the network allows.
        longest: rows of the network's position table.

    Raises:
        ValueError: it is too short for two texts, or longer than the position table.
    """
    if max_length is None:
        return longest
    check_positive("max_length", max_length, SHORTEST)
    if max_length > longest:
        raise ValueError(
            f"max_length must be at most {longest}, the model's positions (grow_model.py gives it "
            f"more). Received: {max_length}"
        )
    return max_length


def make_rows(texts: Sequence[Text], tokenizer: Tokenizer, max_length: int) -> list[Row]:
    """Tokenizes texts and puts the special tokens around them.

    How many texts had to be cut is logged (see `make_row` for how), and that many words are [UNK].

    Args:
        texts: texts or pairs of texts.
        tokenizer: text -> ids.
        max_length: longest row, special tokens included.
    """
    pairs = [(text, "") if isinstance(text, str) else tuple(text) for text in texts]
    firsts = tokenizer.encode_lines([first for first, _ in pairs])
    seconds = tokenizer.encode_lines([second for _, second in pairs])
    rows = [
        make_row(first, tokenizer, second=second, max_length=max_length)
        for first, second in zip(firsts.rows(), seconds.rows(), strict=True)
    ]
    values = np.concatenate([firsts.values, seconds.values])
    warn_of_unknown(f"{len(texts)} texts", values, tokenizer.vocabulary, UNKNOWN_IN_CALL)
    specials = np.where(np.diff(seconds.row_splits), 3, 2)
    whole = np.diff(firsts.row_splits) + np.diff(seconds.row_splits) + specials
    cut = int(np.sum(whole > max_length))
    if cut:
        logging.warning("%d of %d texts are cut to %d tokens.", cut, len(texts), max_length)
    return rows


def make_row(
    first: Ids, tokenizer: Tokenizer, *, second: Ids = (), max_length: int | None = None
) -> Row:
    """Puts [CLS] and [SEP] around the ids of a text or of a pair of texts.

    Args:
        first: ids of the text, or of the first one.
        tokenizer: gives the special tokens.
        second: ids of the second text; where there are none the row is that of a single text.
        max_length: longest row, special tokens included. What is too long is cut: a single text at
            its end, a pair as `truncated_lengths` says. None: nothing is cut.
    """
    a, b = len(first), len(second)
    specials = 3 if b else 2
    if max_length is not None and a + b + specials > max_length:
        a, b = truncated_lengths(a, b, max_length - specials)
        first, second = first[:a], second[:b]
    ids, length = tokenizer.vocabulary.ids, a + b + specials
    input_ids, segment_ids = np.empty(length, np.int32), np.zeros(length, np.int32)
    input_ids[0] = ids[CLS]
    input_ids[1 : a + 1] = first
    input_ids[a + 1] = input_ids[-1] = ids[SEP]
    if b:
        input_ids[a + 2 : -1] = second
        segment_ids[a + 2 :] = 1
    return Row(input_ids, segment_ids)


def check_segments(rows: Sequence[Row], type_vocab_size: int) -> None:
    """Refuses pairs for a network without an embedding of the second segment.

    Raises:
        ValueError: a row has a segment that the table lacks; names its place.
    """
    for number, row in enumerate(rows):
        if row.segment_ids[-1] >= type_vocab_size:
            raise ValueError(
                f"texts[{number}] is a pair, and the model knows single texts only "
                f"(type_vocab_size {type_vocab_size})."
            )


def truncated_lengths(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """Returns how many tokens of two texts are kept.

    That is the result of removing one token at a time from the end of the longer text, or of the
    second one on a tie, until both fit.

    Args:
        length_a: tokens of the first text.
        length_b: tokens of the second text.
        room: tokens that fit.
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


def _is_pair(text: Any) -> bool:
    is_two = isinstance(text, tuple | list) and len(text) == 2
    return is_two and all(isinstance(part, str) for part in text)
