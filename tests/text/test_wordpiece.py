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


def test_another_limit():
    assert split_word("aaa", VOCABULARY, max_characters=2) is None
    assert split_word("a" * 300, VOCABULARY, max_characters=300) == ["a"] + ["##a"] * 299
    assert split_word("unaab", VOCABULARY | {"##ab"}, longest_piece=5) == ["una", "##ab"]


def test_longest_pieces_come_first():
    assert split_word("unaffable", {"un", "##aff", "##able", "##a"}) == ["un", "##aff", "##able"]
