"""Words to pieces: greedy longest match from the left (WordPiece)."""

from collections.abc import Container

CONTINUATION = "##"
MAX_WORD_CHARACTERS = 200


def split_word(word: str, vocabulary: Container[str]) -> list[str] | None:
    """Splits one word into the longest pieces that the vocabulary has, from left to right.

    Args:
        word: a word without white space.
        vocabulary: the known pieces; those that continue a word start with `##`.

    Returns:
        The pieces, or None if the word is longer than `MAX_WORD_CHARACTERS` characters or some
        rest of it starts with no known piece: such a word is unknown as a whole.
    """
    if len(word) > MAX_WORD_CHARACTERS:
        return None
    pieces = []
    start = 0
    while start < len(word):
        prefix = CONTINUATION if start else ""
        end = len(word)
        while end > start and prefix + word[start:end] not in vocabulary:
            end -= 1
        if end == start:
            return None
        pieces.append(prefix + word[start:end])
        start = end
    return pieces
