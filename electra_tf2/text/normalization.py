"""Characters to words, exactly as BERT's tokenizer does it.

This is the plain definition: one small function per rule, one character at a time. The fast
tokenizer takes its character tables from here, and the tests compare it with this module.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

from electra_tf2.text.wordpiece import MAX_WORD_CHARACTERS

# The blocks that BERT calls "CJK characters". Hangul, hiragana and katakana are not among them.
IDEOGRAPH_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)

# Other scripts that are written without spaces between words.
_UNSPACED_RANGES = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals of ideographs
    (0x3005, 0x3007),  # marks that stand for ideographs
    (0x3040, 0x312F),  # hiragana, katakana, bopomofo
    (0x31A0, 0x31FF),  # bopomofo, strokes, katakana
    (0xA000, 0xA4CF),  # Yi
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),  # Myanmar
    (0xFF66, 0xFF9F),  # half-width katakana
    (0x1B000, 0x1B16F),  # kana
    (0x2CEB0, 0x323AF),  # ideographs that BERT doesn't know
)
UNSPACED = re.compile(
    "[" + "".join(f"{chr(a)}-{chr(b)}" for a, b in (*IDEOGRAPH_RANGES, *_UNSPACED_RANGES)) + "]"
)
"""A character of a script that is written without spaces between words, such as Thai."""


class _CasingHParams(Protocol):
    """A record with the two settings under the names that hparams and flags give them."""

    @property
    def do_lower_case(self) -> bool: ...

    @property
    def strip_accents(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Casing:
    """What becomes of capitals, accents and very long words.

    Attributes:
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed from lower-cased text; cased text keeps them.
        max_word_characters: characters of the longest word, after that, that is split into pieces;
            a longer one is [UNK].
    """

    lower_case: bool = True
    strip_accents: bool = True
    max_word_characters: int = MAX_WORD_CHARACTERS

    @classmethod
    def from_hparams(cls, hparams: _CasingHParams) -> Casing:
        """Takes the casing from any record with `do_lower_case` and `strip_accents`.

        And `max_word_characters`, if it has that.
        """
        limit = getattr(hparams, "max_word_characters", MAX_WORD_CHARACTERS)
        return cls(hparams.do_lower_case, hparams.strip_accents, limit)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Casing:
        """Makes the casing of settings that `to_dict` or `settings` returned."""
        limit = settings.get("max_word_characters", MAX_WORD_CHARACTERS)
        return cls(settings["do_lower_case"], settings["strip_accents"], limit)

    def settings(self) -> dict[str, Any]:
        """Returns all settings by the names of hparams and flags."""
        return {
            "do_lower_case": self.lower_case,
            "strip_accents": self.strip_accents,
            "max_word_characters": self.max_word_characters,
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as files state them: the limit only if it isn't BERT's."""
        settings = self.settings()
        if self.max_word_characters == MAX_WORD_CHARACTERS:
            del settings["max_word_characters"]
        return settings

    @property
    def removes_accents(self) -> bool:
        """Whether accents are removed: `strip_accents` has no effect on cased text."""
        return self.lower_case and self.strip_accents

    def apply(self, text: str) -> str:
        """Lower-cases a text and removes its accents, each if it is wanted."""
        if self.lower_case:
            text = text.lower()
        return remove_accents(text) if self.removes_accents else text


UNCASED = Casing()
"""Lower-cased and without accents, as the released models have it."""


def is_space(char: str) -> bool:
    """Whether cleaning turns the character into a space: tab, newline, return, category Zs."""
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def is_dropped(char: str) -> bool:
    """Whether cleaning removes the character: U+0000, U+FFFD and category C.

    Tab, newline and return are spaces here. Category C covers control and format characters, lone
    surrogates, private use and code points that this Python's Unicode tables don't know.
    """
    if char in "\t\n\r":
        return False
    return char == "\ufffd" or unicodedata.category(char)[0] == "C"


def is_ideograph(char: str) -> bool:
    """Whether the character stands in one of `IDEOGRAPH_RANGES`."""
    code_point = ord(char)
    if code_point < 0x3400:
        return False
    return any(first <= code_point <= last for first, last in IDEOGRAPH_RANGES)


def is_punctuation(char: str) -> bool:
    """Whether the character is a word of its own.

    That is ASCII but letters, digits, spaces and controls, and category P.
    """
    code_point = ord(char)
    if 33 <= code_point <= 47 or 58 <= code_point <= 64:
        return True
    if 91 <= code_point <= 96 or 123 <= code_point <= 126:
        return True
    return unicodedata.category(char)[0] == "P"


def clean(text: str) -> str:
    """Drops control characters and turns every kind of space into U+0020."""
    kept: list[str] = []
    for char in text:
        if is_dropped(char):
            continue
        kept.append(" " if is_space(char) else char)
    return "".join(kept)


def separate_ideographs(text: str) -> str:
    """Puts a space on both sides of every ideograph."""
    return "".join(f" {char} " if is_ideograph(char) else char for char in text)


def remove_accents(text: str) -> str:
    """Decomposes the text (NFD) and removes the non-spacing marks (category Mn)."""
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(char for char in decomposed if unicodedata.category(char) != "Mn")


def split_at_punctuation(word: str) -> list[str]:
    """Cuts a word so that each punctuation character stands alone."""
    parts = []
    start = 0
    for position, char in enumerate(word):
        if is_punctuation(char):
            if start < position:
                parts.append(word[start:position])
            parts.append(char)
            start = position + 1
    if start < len(word):
        parts.append(word[start:])
    return parts


def normalize(text: str, casing: Casing = UNCASED) -> list[str]:
    """Returns the words of a text, in order.

    Args:
        text: any string; lone surrogates are allowed (and dropped).
        casing: what becomes of capitals and accents.

    Returns:
        Non-empty words without white space, each one punctuation character or free of them.
    """
    words: list[str] = []
    for word in separate_ideographs(clean(text)).split():
        words.extend(split_at_punctuation(casing.apply(word)))
    # Neither lower-casing nor decomposition is known to yield white space; the definition has it
    # split once more, and so does this.
    return " ".join(words).split()


_CAPITAL_SIGMA = "\u03a3"


class _LazyTable(dict):
    """A table for `str.translate` that computes an entry when a character first occurs."""

    def __init__(self, replacement):
        super().__init__()
        self._replacement = replacement

    def __missing__(self, code_point: int) -> str:
        result = self[code_point] = self._replacement(chr(code_point))
        return result


class FastNormalizer:
    """Normalizes blocks of lines, at the speed of `str.translate`; newlines stay.

    ASCII needs one byte table. For the rest, nearly every character can be normalized by itself, so
    one table from characters to strings does. The exceptions depend on their neighbours: a capital
    sigma is lower-cased differently at the end of a word, and NFD sorts runs of combining
    characters (which only shows where some of them are not removed as accents). Text with one of
    these goes through the general steps, which work on whole text with C functions too.

    The words of the results are separated by spaces, except that ASCII punctuation stands where it
    stood: whoever splits the text has to make it a word of its own.

    Args:
        casing: what becomes of capitals and accents.
    """

    def __init__(self, casing: Casing):
        self._lower_case = casing.lower_case
        self._remove_accents = casing.removes_accents
        ascii_chars = [chr(code_point) for code_point in range(128)]
        self._ascii_dropped = "".join(filter(is_dropped, ascii_chars)).encode("ascii")
        self._ascii_table = b"".join(map(self._ascii_byte, ascii_chars)) + bytes(range(128, 256))
        self._cleaned = _LazyTable(_cleaned_character)
        self._split = _LazyTable(self._split_character)
        self._normalized = _LazyTable(self._normalized_character)
        self._contextual: set[str] = set()

    def normalize_ascii(self, block: str) -> bytes:
        """Normalizes lines of pure ASCII."""
        return block.encode("ascii").translate(self._ascii_table, self._ascii_dropped)

    def normalize(self, block: str) -> str:
        """Normalizes lines of any text."""
        normalized = block.translate(self._normalized)
        if any(char in block for char in self._contextual):
            return self._normalize_in_context(block)
        return normalized

    def words(self, block: str) -> list[str]:
        """Returns the words of any text, but ASCII punctuation still with its neighbours."""
        if block.isascii():
            return self.normalize_ascii(block).decode("ascii").split()
        return self.normalize(block).split()

    def _normalize_in_context(self, block: str) -> str:
        block = block.translate(self._cleaned)
        if self._lower_case:
            block = block.lower()
            if self._remove_accents:
                block = unicodedata.normalize("NFD", block)
        return block.translate(self._split)

    def _ascii_byte(self, char: str) -> bytes:
        if is_space(char) and char != "\n":
            char = " "
        return (char.lower() if self._lower_case else char).encode("ascii")

    def _normalized_character(self, char: str) -> str:
        if self._depends_on_context(char):
            self._contextual.add(char)
        return self._normalize_in_context(char)

    def _depends_on_context(self, char: str) -> bool:
        if not self._lower_case:
            return False
        if char == _CAPITAL_SIGMA:
            return True
        return self._remove_accents and any(
            unicodedata.combining(part) and unicodedata.category(part) != "Mn"
            for part in unicodedata.normalize("NFD", char.lower())
        )

    def _split_character(self, char: str) -> str:
        """What a character becomes in the last step, after lower-casing and decomposition."""
        if char.isascii():
            return char
        if self._remove_accents and unicodedata.category(char) == "Mn":
            return ""
        # White space that is not of category Zs (U+2028, U+2029) survives the cleaning.
        return f" {char} " if is_punctuation(char) else " " if char.isspace() else char


def _cleaned_character(char: str) -> str:
    """What a character becomes in the first step."""
    if char == "\n":
        return char
    if is_dropped(char):
        return ""
    if is_space(char):
        return " "
    return f" {char} " if is_ideograph(char) else char
