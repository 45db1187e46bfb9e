"""Words that are already separated, to word pieces."""

from __future__ import annotations

from collections.abc import Iterable

from electra_tf2.text.normalization import (
    clean,
    is_ideograph,
    remove_accents,
    split_at_punctuation,
)
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.wordpiece import split_word


def word_ids(tokenizer: Tokenizer, words: Iterable[str]) -> dict[str, list[int]]:
    """Returns the ids of each distinct word's pieces.

    As the tokenizer treats text, but that ideographs don't stand alone: the official program leaves
    words whole there. Every word is ordinary text: `[CLS]` is `[`, `cls`, `]`. A word of which
    nothing is left (control characters only) becomes [UNK], so that each word has a first piece to
    be tagged at.

    Args:
        tokenizer: vocabulary, and whether to lower-case and to strip accents.
        words: words, each of which may occur many times.

    Returns:
        Word -> ids, at least one.
    """
    distinct = list(dict.fromkeys(words))
    unknown = [tokenizer.vocabulary.unk_id]
    plain = [word for word in distinct if word.isascii() or not any(map(is_ideograph, word))]
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
    word = clean(word)
    if tokenizer.lower_case:
        word = word.lower()
        if tokenizer.strip_accents:
            word = remove_accents(word)
    vocabulary = tokenizer.vocabulary
    ids: list[int] = []
    for part in word.split():
        for run in split_at_punctuation(part):
            pieces = split_word(run, vocabulary.ids)
            ids.extend([vocabulary.unk_id] if pieces is None else map(vocabulary.ids.get, pieces))
    return ids
