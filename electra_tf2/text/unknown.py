"""How much of a text its ids don't say: [UNK], and what is behind it.

A share of [UNK] among tokens says little where words are long: a protein of 500 letters that is one
[UNK] weighs as much as a comma. So characters are counted too, of normalized text without white
space. The characters of known pieces follow from the ids; only lines with an [UNK] are looked at
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from electra_tf2.text.normalization import FastNormalizer, split_at_punctuation
from electra_tf2.text.tokenizer import RaggedIds, Tokenizer
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.text.wordpiece import CONTINUATION

UNKNOWN_WARNING = 0.05
"""Share of a corpus or a task that is unknown from which on it is a warning."""
UNKNOWN_IN_CALL = 0.2
"""Likewise of the texts of one call: a name or an emoji is a large share of a short text."""


class UnknownText(NamedTuple):
    """What became of a text.

    Attributes:
        unknown_tokens: how many of its tokens are [UNK].
        characters: characters of all words, after normalization.
        unknown_characters: those of the words that are [UNK].
        long_word_characters: those of the words that are [UNK] because they are longer than the
            tokenizer's limit.
    """

    unknown_tokens: int
    characters: int
    unknown_characters: int
    long_word_characters: int


class UnknownCounter:
    """Counts what the ids of texts don't say."""

    def __init__(self, tokenizer: Tokenizer):
        self._unk_id = tokenizer.vocabulary.unk_id
        self._limit = tokenizer.casing.max_word_characters
        self._normalizer = FastNormalizer(tokenizer.casing)
        tokens = tokenizer.vocabulary.tokens
        self._lengths = np.array([len(token.removeprefix(CONTINUATION)) for token in tokens])
        self._lengths = self._lengths.astype(np.uint16)  # small: looked up once for every token
        self._lengths[self._unk_id] = 0

    def count(self, lines: Sequence[str], encoded: RaggedIds) -> UnknownText:
        """Counts the unknown pieces of lines and their ids."""
        values, splits = encoded
        lengths = np.take(self._lengths, values)
        known = int(lengths.sum(dtype=np.int64))
        places = np.flatnonzero(values == self._unk_id)
        if not len(places):
            return UnknownText(0, known, 0, 0)
        rows = np.unique(np.searchsorted(splits, places, side="right") - 1)
        numbers: list[int] = rows.tolist()
        words = self._normalizer.words("\n".join(lines[number] for number in numbers))
        whole = sum(map(len, words))
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        known_there = int((ends[splits[rows + 1]] - ends[splits[rows]]).sum())
        parts = (p for word in words if len(word) > self._limit for p in split_at_punctuation(word))
        too_long = sum(len(part) for part in parts if len(part) > self._limit)
        unknown = max(whole - known_there, 0)
        return UnknownText(len(places), known + unknown, unknown, too_long)


def warn_of_unknown(what: str, ids: np.ndarray, vocabulary: Vocabulary, most: float) -> None:
    """Logs a warning where a large share of tokens is [UNK].

    Args:
        what: whose tokens, for the message.
        ids: integers of any shape; padding, [CLS] and [SEP] don't count.
        vocabulary: gives their meaning.
        most: share of the tokens from which on it is a warning.
    """
    specials = (vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id)
    tokens = ids.size - sum(int(np.count_nonzero(ids == special)) for special in specials)
    unknown = int(np.count_nonzero(ids == vocabulary.unk_id))
    if unknown > most * tokens:
        logging.warning(
            f"{what}: {100 * unknown / tokens:.0f} % of the tokens are [UNK] ({unknown} of "
            f"{tokens}): words that the vocabulary can't spell, or that are longer than "
            "max_word_characters. Is it the vocabulary, with the casing, of this text?"
        )
