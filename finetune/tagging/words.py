"""Words: of a file to pieces, of a sentence to features, of a span back to text."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any

from electra_tf2.text.normalization import (
    IDEOGRAPH_RANGES,
    UNSPACED,
    clean,
    is_ideograph,
    split_at_punctuation,
)
from electra_tf2.text.rows import make_row
from electra_tf2.text.tokenizer import Tokenizer

_IDEOGRAPHS = "".join(f"{chr(first)}-{chr(last)}" for first, last in IDEOGRAPH_RANGES)
# Scripts without spaces, and the punctuation, symbols and fullwidth forms of their texts.
_JOINED = re.compile(UNSPACED.pattern + "|[\u3000-\u303f\u3190-\u33ff\uff01-\uff65]")
ADDITIONS = {
    "language": re.compile(r"(?!https?:)[a-z]{2,}(?:-[a-z]+)*:(.*)", re.DOTALL),
    "digit": re.compile("(.)[0-9]", re.DOTALL),
}
"""What data sets add to every word, and the word in it: WikiANN its language, as in `en:New`, and
Weibo's names, of which each word is a character, the character's place in its word, as in `科0`."""


@dataclasses.dataclass(frozen=True)
class TaggingExample:
    """A sentence.

    Attributes:
        eid: its number in the file, from 0.
        words: its words.
        tags: their tags as they are learned (spans in the scheme BIOES); empty where unknown.
    """

    eid: int
    words: tuple[str, ...]
    tags: tuple[str, ...]


def has_ideographs(text: str) -> bool:
    """Whether a text has a character of those that BERT makes words of their own."""
    return re.search(f"[{_IDEOGRAPHS}]", text) is not None


def has_addition(words: Collection[str], addition: str) -> bool:
    """Whether all words have one of `ADDITIONS`; digits only count behind East Asian characters."""
    if addition == "digit" and 2 * sum(map(_is_east_asian, words)) <= len(words):
        return False
    return all(map(ADDITIONS[addition].fullmatch, words))


def without_addition(word: str, addition: str) -> str:
    """Returns a word that has one of `ADDITIONS` without it."""
    return ADDITIONS[addition].sub(r"\1", word)


def word_ids(
    tokenizer: Tokenizer, words: Iterable[str], *, separate_ideographs: bool = True
) -> dict[str, list[int]]:
    """Tokenizes words that are already separated.

    They become what the tokenizer makes of text. Every word is ordinary text: `[CLS]` is `[`,
    `cls`, `]`. A word of which normalization leaves nothing becomes [UNK], so that each word has a
    first piece to be tagged at.

    Args:
        tokenizer: vocabulary and casing.
        words: words, each of which may occur many times.
        separate_ideographs: whether ideographs in a word stand alone, as in pre-training; if not,
            they are letters, as the official program has them.

    Returns:
        Word -> ids of its pieces, at least one.
    """
    distinct = list(dict.fromkeys(words))
    unknown = [tokenizer.vocabulary.unk_id]
    plain = [
        word
        for word in distinct
        if separate_ideographs or word.isascii() or not any(map(is_ideograph, word))
    ]
    encoded = tokenizer.encode_lines(plain)
    values, splits = encoded.values.tolist(), encoded.row_splits.tolist()
    ids = {
        word: values[start:end] or unknown
        for word, start, end in zip(plain, splits[:-1], splits[1:], strict=True)
    }
    for word in distinct:
        if word not in ids:
            ids[word] = _ids_with_ideographs(tokenizer, word) or unknown
    return ids


def _ids_with_ideographs(tokenizer: Tokenizer, word: str) -> list[int]:
    word = tokenizer.casing.apply(clean(word))
    vocabulary = tokenizer.vocabulary
    ids: list[int] = []
    for part in word.split():
        for run in split_at_punctuation(part):
            pieces = tokenizer.split_word(run)
            known = [vocabulary.unk_id] if pieces is None else [vocabulary.ids[p] for p in pieces]
            ids.extend(known)
    return ids


def make_features(
    example: TaggingExample,
    pieces_of: Mapping[str, Sequence[int]],
    label_ids: Mapping[str, int],
    tokenizer: Tokenizer,
    room: int,
) -> dict[str, Any]:
    """Returns the features of a sentence: of as many of its words as fit whole.

    Segment ids are all 1, as in the official program.

    Args:
        example: the sentence.
        pieces_of: word -> ids of its pieces, at least one.
        label_ids: tag -> id of the label to learn.
        tokenizer: its vocabulary gives the special tokens.
        room: number of pieces that fit.
    """
    pieces = [pieces_of[word] for word in example.words]
    ends = list(accumulate(map(len, pieces), initial=1))
    kept = bisect_right(ends, room + 1) - 1
    row = make_row([*chain.from_iterable(pieces[:kept])], tokenizer)
    return {
        "eid": example.eid,
        "input_ids": row.input_ids,
        "segment_ids": row.segment_ids + 1,
        "labels": [label_ids[tag] for tag in example.tags[:kept]] or [0] * kept,
        "labels_mask": [1.0] * kept,
        "labeled_positions": ends[:kept],
    }


def are_mostly_characters(words: Iterable[str]) -> bool:
    """Whether nearly all words are single characters, and most of them of East Asia."""
    lengths = Counter((_is_single(word), _is_east_asian(word)) for word in words)
    single = lengths[True, True] + lengths[True, False]
    return single >= 0.9 * lengths.total() and lengths[True, True] > lengths.total() / 2


def unsplit_text(words: Iterable[str]) -> str | None:
    """Returns the first of the words that are East Asian text of several characters.

    None unless most words are. Where a model knows single characters, they are sentences.
    """
    total, found = 0, []
    for word in words:
        total += 1
        if not _is_single(word) and _is_east_asian(word):
            found.append(word)
    return found[0] if len(found) > total / 2 else None


def _is_single(word: str) -> bool:
    return len(unicodedata.normalize("NFC", word)) <= 1


def _is_east_asian(word: str) -> bool:
    """Whether a word has a character of a script without spaces, or Hangul."""
    return bool(_JOINED.search(word)) or any("가" <= char <= "힣" for char in word)


def join_words(words: Sequence[str], start: int, end: int) -> str:
    """Returns the text of some words of a sentence.

    A space stands between two words, unless a character beside it is of a script without spaces.
    Where a sentence's words are its characters, they are joined as they are: spaces then are
    among them, or have been left out of the data.

    Args:
        words: all words of the sentence.
        start: number of the first word, from 0.
        end: number of the word after the last one.
    """
    if _are_characters(words):
        return "".join(words[start:end])
    has_script = any(map(_JOINED.search, words))
    text = ""
    for before, word in pairwise(["", *words[start:end]]):
        beside = before[-1:] + word[:1]
        # The digits of a year, each on its own: 2, 0, 2, 6, 年.
        single = has_script and before + word == beside and beside.isascii() and beside.isalnum()
        text += word if not text or single or _JOINED.search(beside) else f" {word}"
    return text


def _are_characters(words: Sequence[str]) -> bool:
    """Whether a space is among the words, or all are single characters and some of East Asia."""
    if any(word and not word.strip() for word in words):
        return True
    return len(words) > 1 and all(map(_is_single, words)) and any(map(_is_east_asian, words))
