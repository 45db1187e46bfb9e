"""Whether a casing fits a vocabulary and a language."""

from __future__ import annotations

import collections
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary, is_blank
from electra_tf2.text.vocabulary_training import WordCounter
from electra_tf2.text.wordpiece import CONTINUATION

# Share of pieces that can't occur, from which on the casing is doubted.
DOUBTFUL = 0.01
# Cased letters in lower case, in so many pieces: a vocabulary without capitals is meant to be so.
_ENOUGH_LETTERS = 10
_CASINGS = (UNCASED, Casing(True, False), Casing(False, True))

Option = Callable[[str, Any], str]


def unreachable_pieces(vocabulary: Vocabulary, casing: Casing) -> list[str]:
    """Returns the pieces that no text can give under a casing, such as those with capitals.

    Args:
        vocabulary: special tokens, [unused…] and white space in it are not counted.
        casing: what becomes of capitals and accents.
    """
    return [piece for piece in _ordinary(vocabulary) if casing.apply(piece) != piece]


def casing_advice(vocabulary: Vocabulary, casing: Casing, option: Option) -> str | None:
    """Says so where a vocabulary was made for another casing.

    Args:
        vocabulary: the vocabulary.
        casing: what becomes of capitals and accents.
        option: setting and value -> how a user gives it, such as "--no-lower-case".

    Returns:
        How many pieces are lost and what to try instead; None if the two fit.
    """
    ordinary, lost = _ordinary(vocabulary), unreachable_pieces(vocabulary, casing)
    if lost and len(lost) >= DOUBTFUL * len(ordinary):
        left = {other: len(unreachable_pieces(vocabulary, other)) for other in _CASINGS}
        least = min(left.values())
        if least > len(lost) / 2:
            return None
        # The one that changes least, of those that are about as good as the best: with it the
        # advice ends.
        few = least + min(DOUBTFUL * len(ordinary), (len(lost) - least) // 4)
        better = next(other for other in _CASINGS if left[other] <= few)
        setting = "strip_accents" if better.lower_case else "do_lower_case"
        text = "lower-cased text" + (" without accents" if casing.removes_accents else "")
        return (
            f"{len(lost):,} of {len(ordinary):,} pieces of the vocabulary can never occur in "
            f"{text} (such as {_shown(lost[len(lost) // 2])}): is it {option(setting, False)}?"
        )
    letters = [piece for piece in ordinary if piece.lower() != piece.upper()]
    lower = [piece for piece in letters if piece == piece.lower()]
    if not casing.lower_case and len(lower) == len(letters) >= _ENOUGH_LETTERS:
        return (
            "No piece of the vocabulary has a capital, so that words with capitals are unknown: is "
            f"it {option('do_lower_case', True)}?"
        )
    return None


def _ordinary(vocabulary: Vocabulary) -> list[str]:
    return [
        piece
        for piece in vocabulary.tokens
        if piece not in SPECIAL_TOKENS
        and not is_blank(piece)
        and not (piece.startswith("[") and piece.endswith("]") and len(piece) > 1)
    ]


def _shown(piece: str) -> str:
    return repr(piece.removeprefix(CONTINUATION) or piece)


class MarkLoss(NamedTuple):
    """What removing accents does to the words of a script.

    Attributes:
        script: its name in Unicode, such as "Devanagari".
        words: number of its words in the text.
        changed: how many of them lose a mark.
        example: a frequent one that does.
        left: what it becomes.
    """

    script: str
    words: int
    changed: int
    example: str
    left: str

    @property
    def share(self) -> float:
        """Share of the script's words that lose a mark, 0 to 1."""
        return self.changed / self.words


class TextSample(NamedTuple):
    """What was counted in a sample of text.

    Attributes:
        words: number of words, as the tokenizer sees them.
        losses: of each script, the one with the most words first.
        zero_width_spaces: number of characters U+200B.
    """

    words: int
    losses: list[MarkLoss]
    zero_width_spaces: int


_KEEPING = Casing(True, False)
_ZERO_WIDTH_SPACE = "\u200b"


def inspect_text(texts: Iterable[str]) -> TextSample:
    """Counts what removing accents would do to a text, and separators that BERT's cleaning drops.

    A word changes if it holds a non-spacing mark (category Mn) once it is decomposed: the dots of
    "ä", vowel signs of Indic scripts, tones of Thai, the voicing mark of "が".

    Args:
        texts: pieces of the text.
    """
    counter, spaces = WordCounter(_KEEPING), 0
    for text in texts:
        counter.add(text)
        spaces += text.count(_ZERO_WIDTH_SPACE)
    counts = collections.Counter(counter.words())
    words: collections.Counter[str] = collections.Counter()
    changed: collections.Counter[str] = collections.Counter()
    examples: dict[str, str] = {}
    for word, count in counts.most_common():
        script = _script(word)
        if script is None:
            continue
        words[script] += count
        if any(unicodedata.category(c) == "Mn" for c in unicodedata.normalize("NFD", word)):
            changed[script] += count
            examples.setdefault(script, word)
    losses = [
        MarkLoss(script, count, changed[script], word, UNCASED.apply(word))
        for script, count in words.most_common()
        for word in (examples.get(script, ""),)
    ]
    return TextSample(sum(counts.values()), losses, spaces)


# A script counts from this share of the words, and its marks from this share of its own words.
_SCRIPT_COUNTS = 0.01
_MARKS_COUNT = 0.05
_SPACES_COUNT = 0.01
_EXAMPLE_CHARACTERS = 20


def text_advice(sample: TextSample, casing: Casing, option: Option) -> list[str]:
    """Says what a casing, and BERT's cleaning, take away from a text that carries meaning.

    Args:
        sample: of the text.
        casing: what becomes of capitals and accents.
        option: setting and value -> how a user gives it, such as "--no-strip-accents".

    Returns:
        Sentences; none for a text that loses little, such as English.
    """
    advice = []
    lossy = [
        loss
        for loss in sample.losses
        if loss.words >= _SCRIPT_COUNTS * sample.words and loss.share >= _MARKS_COUNT
    ]
    if casing.removes_accents and lossy:
        shown = ", ".join(
            f"{loss.share:.0%} of the {loss.script} words ({_short(loss.example)} becomes "
            f"{_short(loss.left)})"
            for loss in lossy
        )
        advice.append(
            f"removing accents changes {shown}. Where these marks carry meaning, give "
            f"{option('strip_accents', False)}, for the vocabulary and for the data "
            "(docs/languages.md)."
        )
    if sample.zero_width_spaces and sample.zero_width_spaces >= _SPACES_COUNT * sample.words:
        advice.append(
            f"the text has zero-width spaces (U+200B), {sample.zero_width_spaces:,} in a sample of "
            f"{sample.words:,} words. They are dropped, so that the words they separate run "
            "together: put spaces in their place first (docs/languages.md)."
        )
    return advice


def _script(word: str) -> str | None:
    """The first word of its first letter's name: near enough to Unicode's property Script."""
    for char in word:
        if unicodedata.category(char)[0] == "L":
            return unicodedata.name(char, "").partition(" ")[0].title() or None
    return None


def _short(word: str) -> str:
    return word if len(word) <= _EXAMPLE_CHARACTERS else word[:_EXAMPLE_CHARACTERS] + "…"
