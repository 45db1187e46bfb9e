"""From an answer's characters to the words of its passage."""

from __future__ import annotations

import bisect
import functools
import re

# What separates words: a no-break space, for one, does not.
_WORD = re.compile("[^ \t\r\n\u202f]+")


class AnswerNotFound(Exception):
    """An annotated answer can't be recovered from the words of its passage."""


def split_words(text: str) -> list[str]:
    """Returns the words of a passage: what stands between spaces, tabs, line ends and U+202F."""
    return _WORD.findall(text)


class Passage:
    """A passage with the places of its words.

    Args:
        text: the passage.
    """

    def __init__(self, text: str):
        self.text = text

    @functools.cached_property
    def words(self) -> list[str]:
        """The passage's words in order."""
        return split_words(self.text)

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [match.start() for match in _WORD.finditer(self.text)]

    def word_at(self, position: int) -> int:
        """Returns the word that a character belongs to, or the word before a separator.

        Args:
            position: of the character, from 0.

        Returns:
            The word's number, -1 before the first one.
        """
        return bisect.bisect_right(self._starts, position) - 1

    def locate(self, answer: str, start: int) -> tuple[int, int]:
        """Finds the words that an answer covers.

        Args:
            answer: its text.
            start: the character of the passage it begins at.

        Returns:
            Its first and its last word.

        Raises:
            AnswerNotFound: it lies outside the passage, or the words there don't hold its text
                (case and the kind of white space don't matter). The message says what is there.
        """
        if not answer.strip():
            raise AnswerNotFound("its answer is empty")
        end = start + len(answer) - 1
        if start < 0 or end >= len(self.text):
            raise AnswerNotFound(
                f"{answer!r} at character {start} lies outside the passage of "
                f"{len(self.text)} characters"
            )
        first, last = self.word_at(start), self.word_at(end)
        covered = " ".join(self.words[max(first, 0) : last + 1])
        if " ".join(answer.split()).lower() not in covered.lower():
            raise AnswerNotFound(
                f"{answer!r} is not what the passage has at character {start}: {covered!r}"
            )
        return max(first, 0), last
