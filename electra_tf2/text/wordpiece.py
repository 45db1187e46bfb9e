"""Words to pieces: greedy longest match from the left (WordPiece)."""

from collections.abc import Container

CONTINUATION = "##"
MAX_WORD_CHARACTERS = 200
"""Characters of the longest word that BERT splits; where no other limit is set."""
LARGEST_WORD_LIMIT = 10**8
"""Highest limit that may be set; tensorflow-text counts bytes (4 a character) in 32 bits."""


def split_word(
    word: str,
    vocabulary: Container[str],
    *,
    max_characters: int = MAX_WORD_CHARACTERS,
    longest_piece: int | None = None,
    continues: bool = False,
) -> list[str] | None:
    """Splits one word into the longest pieces that the vocabulary has, from left to right.

    Args:
        word: a word without white space.
        vocabulary: the known pieces; those that continue a word start with `##`.
        max_characters: characters of the longest word that is split.
        longest_piece: characters of the longest piece, or more. The time is then proportional to
            the word's length; None: to its square.
        continues: whether the word is the rest of another: its first piece starts with `##` too.

    Returns:
        The pieces, or None if the word is longer than `max_characters` or some rest of it starts
        with no known piece: such a word is unknown as a whole.
    """
    if len(word) > max_characters:
        return None
    longest = longest_piece or len(word)
    pieces = []
    start = 0
    while start < len(word):
        prefix = CONTINUATION if start or continues else ""
        end = min(len(word), start + longest)
        while end > start and prefix + word[start:end] not in vocabulary:
            end -= 1
        if end == start:
            return None
        pieces.append(prefix + word[start:end])
        start = end
    return pieces
