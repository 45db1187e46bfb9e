"""From a predicted answer in word pieces back to the characters of the passage (BERT's rule)."""

from __future__ import annotations

from collections.abc import Sequence

from electra_tf2.text.normalization import normalize
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.wordpiece import CONTINUATION


def join_pieces(pieces: Sequence[str]) -> str:
    """Returns the words that pieces spell, a space between them; a leading "##" is dropped."""
    text = " ".join(pieces).replace(f" {CONTINUATION}", "").replace(CONTINUATION, "")
    return " ".join(text.split())


class Aligner:
    """Finds the original spelling of an answer.

    The words of a passage are lower-cased, without accents and split at punctuation where the
    pieces come from; the answer shall have case and accents, but only as much of its first and last
    word as was predicted: "Steve Smith" out of "Steve Smith's".

    Args:
        tokenizer: what made the pieces; its casing and accents count.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._casing = {
            "lower_case": tokenizer.lower_case,
            "strip_accents": tokenizer.strip_accents,
        }
        self._normalized: dict[str, str] = {}

    def align(self, predicted: str, words: Sequence[str]) -> str:
        """Projects a predicted text onto the words it was taken from.

        The predicted text is looked for in the normalized words. If it is there, and normalization
        has kept the number of characters (spaces apart), they are taken to correspond one by one.

        Args:
            predicted: from `join_pieces`.
            words: the passage's words that hold the predicted pieces.

        Returns:
            The part of `words`, joined by spaces, that corresponds to `predicted`; all of it if
            there is no such part.
        """
        original = " ".join(words)
        normalized = " ".join(filter(None, map(self._normalize, words)))
        start = normalized.find(predicted)
        if start == -1 or not predicted:
            return original
        solid = [place for place, char in enumerate(original) if char != " "]
        if len(solid) != _count_solid(normalized):
            return original
        first = _count_solid(normalized[:start])
        last = first + _count_solid(predicted) - 1
        return original[solid[first] : solid[last] + 1]

    def _normalize(self, word: str) -> str:
        normalized = self._normalized.get(word)
        if normalized is None:
            normalized = " ".join(normalize(word, **self._casing))
            self._normalized[word] = normalized
        return normalized


def _count_solid(text: str) -> int:
    return len(text) - text.count(" ")
