"""Whether a casing fits a vocabulary and a language."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.text.normalization import UNCASED, Casing, is_dropped
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
        example: a frequent one that does, of the pieces of the text that lose many.
        left: what it becomes.
        in_part: the same two numbers of the pieces of the text that lose many: another language
            may stand beside one without marks.
    """

    script: str
    words: int
    changed: int
    example: str
    left: str
    in_part: tuple[int, int]

    def told(self) -> str | None:
        """Says what share of the words changes, in all of the text or a part; None if few do."""
        words, changed, part = self.words, self.changed, ""
        if changed < _MARKS_COUNT * words:
            if self.in_part[0] < _MARKS_COUNT * words:
                return None
            (words, changed), part = self.in_part, " in a part of the text"
        return (
            f"{changed / words:.0%} of the {self.script} words{part} ({_short(self.example)} "
            f"becomes {_short(self.left)})"
        )


class TextSample(NamedTuple):
    """What was counted in a sample of text.

    Attributes:
        words: number of words, as the tokenizer sees them.
        losses: of each script, the one with the most words first.
        decomposed: number of words that Unicode's composition (NFC) shortens.
        dropped: the characters that BERT's cleaning drops, with their numbers. Of ASCII's control
            characters and zero-width spaces, those that stand between other characters.
        markup: tags and entities of HTML or XML, times of subtitles, and numbers of sentences, with
            how often they occur.
        characters: number of characters, white space included.
    """

    words: int
    losses: list[MarkLoss]
    decomposed: int
    dropped: Mapping[str, int]
    markup: Mapping[str, int]
    characters: int


_KEEPING = Casing(True, False)
_DIVIDERS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b"
_BETWEEN_CHARACTERS = re.compile(rf"(?<=[^\s{_DIVIDERS}])[{_DIVIDERS}]+(?=[^\s{_DIVIDERS}])")
_ALL_DIVIDERS = re.compile(f"[{_DIVIDERS}]+")
_TIME = r"(?:[0-9]+:)?[0-9]{2}:[0-9]{2}[.,][0-9]{3}"
# The sentences of the Leipzig corpora have numbers and tabs before them. Smaller numbers are those
# of verses, lists and years.
_MARKUP = re.compile(
    r"</?[A-Za-z][\w:-]*(?:\s[^<>=\n]+=[^<>\n]{0,500})?\s?/?>"
    r"|&(?:#[0-9]+|#x[0-9A-Fa-f]+|[A-Za-z]{2,}[0-9]*);"
    rf"|^{_TIME}[ \t]+-->[ \t]+{_TIME}"
    r"|^(?:[3-9][0-9]{3}|[1-9][0-9]{4,})(?=\t[^\t\n]*[^\W\d_][^\t\n]*$)",
    re.MULTILINE,
)


def inspect_text(texts: Iterable[str]) -> TextSample:
    """Counts what removing accents would do to a text, what BERT's cleaning drops, and markup.

    A word changes if it holds a non-spacing mark (category Mn) once it is decomposed: the dots of
    "ä", vowel signs of Indic scripts, tones of Thai, the voicing mark of "が".
    """
    pieces, characters = list[Mapping[str, int]](), collections.Counter[str]()
    markup, total = collections.Counter[str](), 0
    for text in texts:
        counter = WordCounter(_KEEPING)
        counter.add(text)
        pieces.append(counter.words())
        characters.update(_ALL_DIVIDERS.sub("", text))
        characters.update("".join(_BETWEEN_CHARACTERS.findall(text)))
        markup.update(_MARKUP.findall(text))
        total += len(text)
    counts = collections.Counter[str]()
    for piece in pieces:
        counts.update(piece)
    losses = _mark_losses(pieces, counts)
    dropped = {char: count for char, count in characters.items() if is_dropped(char)}
    decomposed = sum(
        count
        for word, count in counts.items()
        if len(unicodedata.normalize("NFC", word)) < len(word)
    )
    return TextSample(sum(counts.values()), losses, decomposed, dropped, markup, total)


def _mark_losses(
    pieces: Sequence[Mapping[str, int]], counts: collections.Counter[str]
) -> list[MarkLoss]:
    """Counts the words that lose a mark; of each script, the one with the most words first."""
    scripts = {word: script for word in counts if (script := _script(word))}
    marked = {
        word
        for word in scripts
        if any(unicodedata.category(c) == "Mn" for c in unicodedata.normalize("NFD", word))
    }

    def count(words: Mapping[str, int]) -> tuple[collections.Counter[str], dict[str, int]]:
        """Words of each script, and those of them that lose a mark."""
        found, changed = collections.Counter[str](), collections.Counter[str]()
        for word, number in words.items():
            if script := scripts.get(word):
                found[script] += number
                changed[script] += number * (word in marked)
        return found, changed

    words, changed = count(counts)
    lossy = {script: (0, 0) for script in words}
    there = collections.Counter[str]()  # the words of these pieces
    for piece in pieces:
        some, lost = count(piece)
        for script, number in some.items():
            if lost[script] >= _MARKS_COUNT * number:
                before = lossy[script]
                lossy[script] = (before[0] + number, before[1] + lost[script])
                there.update({word: n for word, n in piece.items() if scripts.get(word) == script})
    examples: dict[str, str] = {}
    for word, _ in there.most_common() + counts.most_common():
        if word in marked:
            examples.setdefault(scripts[word], word)
    return [
        MarkLoss(script, number, changed[script], word, UNCASED.apply(word), lossy[script])
        for script, number in words.most_common()
        for word in (examples.get(script, ""),)
    ]


# A script counts from this share of the words, and its marks from this share of its own words, in
# the text or in a part of it that has this share of them.
_SCRIPT_COUNTS = 0.01
_MARKS_COUNT = 0.05
_EXAMPLE_CHARACTERS = 20
# So do decomposed words.
_DECOMPOSED_COUNT = 0.01
# From this number per word on, dropped characters count.
_DROPPED_COUNT = 0.01
# So does markup, from this share of the characters on.
_MARKUP_COUNTS = 0.01
_MANY_DROPPED = 10  # where there is no word


class _Dropped(NamedTuple):
    """Characters whose loss is told.

    Attributes:
        name: what they are.
        are_they: of one of them.
        advice: what becomes of them, and what to do.
    """

    name: str
    are_they: Callable[[str], bool]
    advice: str


_DROPPED = (
    _Dropped(
        "control characters within lines (U+0000 to U+001F)",
        lambda char: char < " " or char == "\x7f",
        "They are dropped, so that the words around them, as where form feeds or vertical tabs "
        "divide lines, run together: put spaces or line feeds in their place first "
        "(docs/languages.md).",
    ),
    _Dropped(
        "zero-width spaces (U+200B)",
        lambda char: char == "\u200b",
        "They are dropped, so that the words they separate run together: put spaces in their place "
        "first (docs/languages.md).",
    ),
    _Dropped(
        "replacement characters (U+FFFD)",
        lambda char: char == "\ufffd",
        "They are dropped, and stand where text was decoded wrongly: convert it again from its "
        "source, with the encoding that it has.",
    ),
    _Dropped(
        "control characters (U+0080 to U+009F)",
        lambda char: "\x80" <= char <= "\x9f",
        "They are dropped, and mostly stand where text was decoded wrongly: convert it again from "
        "its source, with the encoding that it has, such as WINDOWS-1252 instead of ISO-8859-1.",
    ),
    _Dropped(
        "characters without a meaning in Unicode (private use, or unknown to this Python)",
        lambda char: unicodedata.category(char) in ("Co", "Cn"),
        "They are dropped: put the characters that they stand for in their place first.",
    ),
)


def text_advice(sample: TextSample, casing: Casing, option: Option) -> list[str]:
    """Says what a casing, and BERT's cleaning, take away from a text that carries meaning.

    Args:
        casing: what becomes of capitals and accents.
        option: setting and value -> how a user gives it, such as "--no-strip-accents".

    Returns:
        Sentences; none for a text that loses little, such as English.
    """
    advice = []
    lossy = [
        told
        for loss in sample.losses
        if loss.words >= _SCRIPT_COUNTS * sample.words and (told := loss.told())
    ]
    if casing.removes_accents and lossy:
        advice.append(
            f"removing accents changes {', '.join(lossy)}. Where these marks carry meaning, give "
            f"{option('strip_accents', False)}, for the vocabulary and for the data "
            "(docs/languages.md)."
        )
    if not casing.removes_accents and sample.decomposed > _DECOMPOSED_COUNT * sample.words:
        advice.append(
            f"{sample.decomposed / sample.words:.0%} of the words are decomposed, a letter and its "
            "mark being two characters (NFD). With one character for both (NFC), as most texts and "
            "vocabularies have it, they are other words to the tokenizer: compose them first "
            "(docs/languages.md)."
        )
    advice += [_loss(kind, sample) for kind in _DROPPED if _counts(kind, sample)]
    share = sum(len(tag) * n for tag, n in sample.markup.items()) / max(1, sample.characters)
    if share >= _MARKUP_COUNTS:
        common = sorted(sample.markup, key=lambda tag: (-sample.markup[tag], tag))[:3]
        advice.append(
            f"{share:.0%} of the text's characters are markup, or numbers and times of lines, such "
            f"as {', '.join(map(_short, common))}. They are text like any other to the builders: "
            "take them out first (docs/pretraining.md)."
        )
    return advice


def _counts(kind: _Dropped, sample: TextSample) -> bool:
    least = max(1, _DROPPED_COUNT * sample.words) if sample.words else _MANY_DROPPED
    return _number(kind, sample) >= least


def _number(kind: _Dropped, sample: TextSample) -> int:
    return sum(count for char, count in sample.dropped.items() if kind.are_they(char))


def _loss(kind: _Dropped, sample: TextSample) -> str:
    return (
        f"the text has {kind.name}, {_number(kind, sample):,} in a sample of {sample.words:,} "
        f"words. {kind.advice}"
    )


def _script(word: str) -> str | None:
    """The first word of its first letter's name: near enough to Unicode's property Script."""
    for char in word:
        if unicodedata.category(char)[0] == "L":
            return unicodedata.name(char, "").partition(" ")[0].title() or None
    return None


def _short(word: str) -> str:
    return word if len(word) <= _EXAMPLE_CHARACTERS else word[:_EXAMPLE_CHARACTERS] + "…"
