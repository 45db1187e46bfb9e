"""Word pieces with the places in the text that they come from."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from electra_tf2.text.normalization import (
    Casing,
    is_dropped,
    is_ideograph,
    is_space,
    remove_accents,
    split_at_punctuation,
)
from electra_tf2.text.tokenizer import Tokenizer


class Piece(NamedTuple):
    """A word piece of a text.

    Attributes:
        id: its id; that of [UNK] for an unknown word.
        start: the first character of the text that it comes from.
        end: the character after the last one.
    """

    id: int
    start: int
    end: int


class Char(NamedTuple):
    """A normalized character of a text.

    Attributes:
        char: the character.
        start: the first character of the text that it comes from.
        end: the character after the last one.
    """

    char: str
    start: int
    end: int


def tokenize_with_offsets(text: str, tokenizer: Tokenizer) -> list[Piece]:
    """Tokenizes a text; the ids are those that the tokenizer gives.

    Accents and control characters that normalization removes may lie between two pieces or within
    one.

    Returns:
        The pieces in order.
    """
    vocabulary, pieces = tokenizer.vocabulary, []
    for word in _words(text):
        normalized = _normalized(word, tokenizer.casing)
        rest = iter(normalized)
        for run in split_at_punctuation("".join(char.char for char in normalized)):
            part = list(itertools.islice(rest, len(run)))
            found = tokenizer.split_word(run)
            if found is None:
                pieces.append(Piece(vocabulary.unk_id, part[0].start, part[-1].end))
                continue
            first = 0
            for piece in found:
                last = first + len(piece) - 2 * (first > 0)  # without the "##"
                pieces.append(Piece(vocabulary.ids[piece], part[first].start, part[last - 1].end))
                first = last
    return pieces


def _words(text: str) -> Iterator[list[Char]]:
    """Yields what stands between white space, ideographs alone, without dropped characters."""
    word: list[Char] = []
    for position, char in enumerate(text):
        if is_dropped(char):
            continue
        alone = is_ideograph(char)
        if word and (alone or is_space(char) or char.isspace()):
            yield word
            word = []
        if alone:
            yield [Char(char, position, position + 1)]
        elif not is_space(char) and not char.isspace():
            word.append(Char(char, position, position + 1))
    if word:
        yield word


def _normalized(word: list[Char], casing: Casing) -> list[Char]:
    if not casing.lower_case:
        return word
    # Of the word as a whole: a capital sigma has another small letter at its end.
    lowered = "".join(char.char for char in word).lower()
    places = [char for char in word for _ in char.char.lower()]
    word = [char._replace(char=c) for c, char in zip(lowered, places, strict=True)]
    if not casing.strip_accents:
        return word
    plain = remove_accents(lowered)
    decomposed = [
        char._replace(char=part)
        for char in word
        for part in unicodedata.normalize("NFD", char.char)
        if unicodedata.category(part) != "Mn"
    ]
    if plain == "".join(char.char for char in decomposed):
        return decomposed
    # Combining characters have changed places: each may come from anywhere in the word.
    return [Char(char, word[0].start, word[-1].end) for char in plain]
