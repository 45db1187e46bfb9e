"""Passages, and where annotated answers stand in them."""

from __future__ import annotations

import bisect
import functools
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from electra_tf2.text.normalization import UNSPACED, is_dropped, is_space

# Words are separated by these characters only: not by a no-break space, for example.
_SEPARATORS = " \t\r\n\u202f"
_WORD = re.compile(f"[^{_SEPARATORS}]+")
_STRAY_SPACE = re.compile(f"(?:^|[{_SEPARATORS}])\u00a0|\u00a0(?:[{_SEPARATORS}]|$)")
_DOT, _DOTLESS_I = "\u0307", "\u0131"
_LAST_LATIN = "\u024f"
# What positions may count, if not the passage's characters -> the size of a text in these units.
_OTHER_UNITS: dict[str, Callable[[str], int]] = {
    "UTF-16 units": lambda text: len(text.encode("utf-16-le", "surrogatepass")) // 2,
    "UTF-8 bytes": lambda text: len(text.encode("utf-8", "surrogatepass")),
    "composed characters (NFC)": lambda text: len(unicodedata.normalize("NFC", text)),
    "decomposed characters (NFD)": lambda text: len(unicodedata.normalize("NFD", text)),
    "characters without carriage returns": lambda text: len(text) - text.count("\r"),
    # "İ" becomes two: "i" and a dot.
    "lower-cased characters": lambda text: len(text.lower()),
}


class AnswerNotFound(Exception):
    """An annotated answer can't be recovered from its passage."""


class Span(NamedTuple):
    """Where an answer stands in its passage.

    Attributes:
        start: its first character.
        end: the character after its last one.
        remark: what its annotated position is instead, if it is not `start`.
    """

    start: int
    end: int
    remark: str = ""


def split_words(text: str) -> list[str]:
    """Splits a passage at spaces, tabs, line ends and U+202F."""
    return _WORD.findall(text)


def has_stray_space(text: str) -> bool:
    """Whether Latin text has a no-break space next to a space or at its end, as web pages do.

    The official program finds no such answers and cuts nothing out of such words. Both is kept,
    because published numbers for English rest on it.
    """
    return max(text, default="") <= _LAST_LATIN and bool(_STRAY_SPACE.search(text))


class Passage:
    """A passage, and the words at its characters."""

    def __init__(self, text: str):
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        """The passage's words in order."""
        return split_words(self.text)

    @functools.cached_property
    def word_starts(self) -> list[int]:
        """The first character of each word."""
        return [match.start() for match in _WORD.finditer(self.text)]

    @functools.cached_property
    def _folded(self) -> _Folded:
        return _Folded(self.text)

    def word_at(self, position: int) -> int:
        """Returns the number of the word at a character, or of the one before a separator.

        Args:
            position: position of the character, from 0.

        Returns:
            The number, from 0; -1 before the first word.
        """
        return bisect.bisect_right(self.word_starts, position) - 1

    def official_words(self, answer: str, start: int) -> tuple[int, int]:
        """Finds the words that an answer covers, by the official rule.

        Args:
            answer: its text.
            start: position of its first character in the passage.

        Returns:
            The numbers of its first and its last word.

        Raises:
            AnswerNotFound: it lies outside the passage, or the words there don't contain its text
                (case doesn't matter). The message says what is there.
        """
        if not answer.strip():
            raise AnswerNotFound("its answer is empty")
        first, last = self._covered(answer, start)
        covered = " ".join(self.words[first : last + 1])
        if " ".join(answer.split()).lower() not in covered.lower():
            raise AnswerNotFound(_not_there(answer, start, covered))
        return first, last

    def locate(self, answer: str, start: int) -> Span:
        """Finds the characters of an answer.

        It stands at its position, or at the nearest place in the words there (between white
        space). Case, the kind of white space, invisible characters, and whether accents and Hangul
        are composed don't matter. If the answer stands where its position would be in other units,
        such as bytes, that is its place.

        Args:
            answer: its text.
            start: position of its first character in the passage.

        Raises:
            AnswerNotFound: it is not there. The message says what is.
        """
        wanted, end = _Folded(answer).text, start + len(answer)
        if not wanted:
            raise AnswerNotFound("its answer is empty")
        if start >= 0 and self.text[start:end] == answer:
            found = Span(end - len(answer.lstrip()), start + len(answer.rstrip()))
        else:
            found = self._search(wanted, answer, start)
        if has_stray_space(self.text[found.start : found.end]):
            raise AnswerNotFound(
                f"{answer!r} has a no-break space beside a space, as in the official program"
            )
        return found

    def _search(self, wanted: str, answer: str, start: int) -> Span:
        spans = self._folded.find(wanted)
        spans.sort(key=lambda span: abs(span.start - start))
        if spans and 0 <= start <= spans[0].start:
            if not _Folded(self.text[start : spans[0].start]).text:
                return spans[0]
        places = {span.start: span for span in spans}
        for unit, size in _OTHER_UNITS.items() if spans else ():
            place = self._place_in_units(start, size)
            if place in places:
                return places[place]._replace(remark=f"counts {unit}")
        first, last = self._covered(answer, start)
        for span in spans:
            end = self.word_starts[last] + len(self.words[last])
            if self.word_starts[first] <= span.start and span.end <= end:
                return span._replace(remark="is not where the answer stands")
        covered = " ".join(self.words[first : last + 1])
        raise AnswerNotFound(_not_there(answer, start, covered))

    def _place_in_units(self, start: int, size: Callable[[str], int]) -> int | None:
        """Returns the character at a position that counts other units; None if there is none."""
        place = bisect.bisect_left(
            range(len(self.text) + 1), start, key=lambda end: size(self.text[:end])
        )
        return place if size(self.text[:place]) == start else None

    def _covered(self, answer: str, start: int) -> tuple[int, int]:
        """Returns the first and the last word at the characters that an answer should have."""
        end = start + len(answer) - 1
        if start < 0 or end >= len(self.text):
            raise AnswerNotFound(
                f"{answer!r} at character {start} lies outside the passage of "
                f"{len(self.text)} characters"
            )
        return max(self.word_at(start), 0), self.word_at(end)


class _Folded:
    """A text as answers are compared: without case, decomposed, white space as one space.

    Characters that can't be seen are left out, and so is white space next to scripts that are
    written without spaces between words. The letters i with and without a dot are one: which of
    them is the small letter of I, and which of İ, depends on the language.

    Attributes:
        text: the folded text.
    """

    def __init__(self, text: str):
        folded: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        last, space = "", None
        for place, char in enumerate(text):
            if char.isspace() or is_space(char):
                space = place if space is None else space
                continue
            if is_dropped(char):
                continue
            if last and space is not None and not UNSPACED.search(last + char):
                folded.append(" ")
                self._starts.append(space)
                self._ends.append(place)
            for part in unicodedata.normalize("NFD", char.casefold()):
                if part == _DOT and folded[-1:] == ["i"]:
                    self._ends[-1] = place + 1
                    continue
                folded.append("i" if part == _DOTLESS_I else part)
                self._starts.append(place)
                self._ends.append(place + 1)
            last, space = char, None
        self.text = "".join(folded)

    def find(self, wanted: str) -> list[Span]:
        """Returns the places of a folded text that neither begin nor end within a character."""
        spans = []
        first = self.text.find(wanted) if wanted else -1
        while first >= 0:
            end = first + len(wanted)
            if not self._is_continued(first) and not self._is_continued(end):
                spans.append(Span(self._starts[first], self._ends[end - 1]))
            first = self.text.find(wanted, first + 1)
        return spans

    def _is_continued(self, place: int) -> bool:
        """Whether what is at a place belongs to the character before it."""
        if not 0 < place < len(self.text):
            return False
        char = self.text[place]
        is_part = unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff"
        return is_part or self._starts[place] == self._starts[place - 1]


def _not_there(answer: str, start: int, covered: str) -> str:
    found = covered if len(covered) <= 60 else covered[:60] + "…"
    return f"{answer!r} is not what the passage has at character {start}: {found!r}"
