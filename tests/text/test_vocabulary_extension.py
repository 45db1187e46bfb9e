"""Extending a vocabulary: old ids stay, new pieces stand for several old ones, all of use."""

import re

import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.tokenizer import ReferenceTokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from electra_tf2.text.vocabulary_extension import extend_vocabulary
from electra_tf2.text.wordpiece import split_word

LETTERS = "abcdefghijklmnopqrstuvwxyz"
OLD = Vocabulary(
    (*SPECIAL_TOKENS, *LETTERS, *(f"##{c}" for c in LETTERS), "the", "hepa", "##itis", "##osis")
)
WORDS = {
    "the": 90,
    "hepatitis": 40,
    "hepatosis": 30,
    "nephritis": 20,
    "hepar": 3,
    "β": 9,
    "αβ": 7,
    "qz": 1,
    "日": 1,
    "x" * 201: 5,
}


def extend(count, **options):
    return extend_vocabulary(WORDS, OLD, len(OLD) + count, **options)


def test_old_pieces_keep_their_ids_and_new_ones_follow():
    extended = extend(8)
    tokens = extended.vocabulary.tokens
    assert tokens[: len(OLD)] == OLD.tokens and len(tokens) == len(OLD) + 8
    new = tokens[len(OLD) :]
    # The characters that the old vocabulary lacks come first; the one that occurs once is left out.
    assert new[:3] == ("α", "β", "##β")
    assert extended.new_characters == 2
    assert {"hepatitis", "hepatosis", "nephritis", "αβ"} <= set(new[3:]) and "hep" not in new


def test_every_new_piece_is_of_use():
    """No word is cut into an intermediate piece that a longer one has taken the place of."""
    vocabulary = extend(6).vocabulary
    cut = {piece for word in WORDS for piece in split_word(word, vocabulary.ids) or ()}
    assert set(vocabulary.tokens[len(OLD) :]) <= cut


def test_words_that_could_be_spelled_still_can():
    """After "abcd" no piece begins the rest of "abcde", which was ab ##cde."""
    tokens = (*SPECIAL_TOKENS, *"abcd", "ab", "##cde", "##cd", "##b", "##c", "##d", "ca")
    old = Vocabulary(tokens)
    for count in (1, 2):
        words = {"abcd": 50, "abcde": 3, "cacde": 5, "dcb": 4}
        extended = extend_vocabulary(words, old, len(old) + count)
        assert extended.unknown_before == extended.unknown_after == 0
        assert "abcd" not in extended.vocabulary.ids


def test_figures_are_those_of_the_tokenizer():
    extended = extend(6)
    text = " ".join(" ".join([word] * count) for word, count in WORDS.items())
    total = sum(WORDS.values())
    for vocabulary, pieces, unknown in (
        (OLD, extended.pieces_before, extended.unknown_before),
        (extended.vocabulary, extended.pieces_after, extended.unknown_after),
    ):
        ids = ReferenceTokenizer(vocabulary, UNCASED).encode(text)
        assert pieces == pytest.approx(len(ids) / total)
        assert unknown == pytest.approx(ids.count(vocabulary.unk_id) / total)
    assert extended.pieces_after < extended.pieces_before


def test_the_same_words_give_the_same_pieces():
    assert extend(7).vocabulary == extend(7).vocabulary
    # The order of learning does not depend on how many are asked for.
    assert extend(7).vocabulary.tokens[:-1] == extend(6).vocabulary.tokens


def test_the_rest_of_a_word():
    assert split_word("itis", OLD.ids, continues=True) == ["##itis"]
    assert split_word("hepa", OLD.ids, continues=True) == ["##h", "##e", "##p", "##a"]


def remedied(error, name):
    (value,) = re.findall(rf"{name} (\d+)", error.value.remedy)
    return int(value)


def test_sizes_that_can_not_be():
    with pytest.raises(UserError, match="no room") as error:
        extend(0)
    assert error.value.where == "--vocab-size"
    assert len(extend_vocabulary(WORDS, OLD, len(OLD) + 1, limit_alphabet=1).vocabulary)
    with pytest.raises(UserError, match="new characters alone") as error:
        extend(2)
    size = remedied(error, "at least")
    assert len(extend_vocabulary(WORDS, OLD, size).vocabulary) == size
    assert "α" not in extend(2, limit_alphabet=remedied(error, "--limit-alphabet")).vocabulary.ids
    with pytest.raises(UserError, match="gives only") as error:
        extend(500)
    size = remedied(error, "at most")
    assert len(extend_vocabulary(WORDS, OLD, size).vocabulary) == size
    assert "--min-frequency" not in error.value.remedy  # as that would not help
