"""The normalization of `normalization.py` for many lines at once, at the speed of `str.translate`.

ASCII needs one byte table. For the rest, nearly every character can be normalized by itself, so one
table from characters to strings does. The exceptions depend on their neighbours: a capital sigma is
lower-cased differently at the end of a word, and NFD sorts runs of combining characters (which only
shows where some of them are not removed as accents). Text with one of these goes through the
general steps, which work on whole text with C functions too.

All methods return text in which words are separated by spaces, but for ASCII punctuation: that
stands where it stood, and whoever splits the text has to make it a word of its own.
"""

import unicodedata

from electra_tf2.text.normalization import (
    is_dropped,
    is_ideograph,
    is_punctuation,
    is_space,
)

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
    """Normalizes blocks of lines; a newline only ever separates lines, and stays.

    Args:
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed (only when lower-casing).
    """

    def __init__(self, *, lower_case: bool, strip_accents: bool):
        self._lower_case = lower_case
        self._remove_accents = lower_case and strip_accents
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
