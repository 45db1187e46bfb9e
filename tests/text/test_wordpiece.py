"""Greedy longest match."""

import pytest

from electra_tf2.text.wordpiece import split_word

VOCABULARY = {"un", "##aff", "##able", "una", "unaf", "a", "##a", "b", "ab"}


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("a", ["a"]),
        ("ab", ["ab"]),
        ("unaffable", None),  # the longest match "unaf" leaves "fable", and there is no way back
        ("aaa", ["a", "##a", "##a"]),
        ("ba", ["b", "##a"]),
        ("c", None),
        ("ac", None),
        ("a" * 200, ["a"] + ["##a"] * 199),
        ("a" * 201, None),
    ],
)
def test_split_word(word, pieces):
    assert split_word(word, VOCABULARY) == pieces


def test_the_limit_counts_characters_not_bytes():
    assert split_word("é" * 200, {"é", "##é"}) == ["é"] + ["##é"] * 199


def test_longest_pieces_come_first():
    assert split_word("unaffable", {"un", "##aff", "##able", "##a"}) == ["un", "##aff", "##able"]
