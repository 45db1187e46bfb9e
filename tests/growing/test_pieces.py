"""New word pieces: which are taken, which ids they get, and the rows that they start with."""

import re

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.growing.pieces import grown_rows, read_new_pieces
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

CASED = Casing(lower_case=False, strip_accents=False)
OLD = Vocabulary(
    (
        "[PAD]", "[unused0]", "[unused1]", *SPECIAL_TOKENS[1:],
        "foo", "fo", "##o", "##bar", "##b", "##a", "##r", "b", "a", "r", "[unused2]",
    )
)  # fmt: skip


def read(tmp_path, *lines, casing=UNCASED, **options):
    path = tmp_path / "new.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_new_pieces(str(path), OLD, casing, **options)


def spelled(pieces):
    """New piece -> the old ones that it is made of."""
    tokens = pieces.vocabulary.tokens
    return {tokens[new]: [OLD.tokens[i] for i in old] for new, old in pieces.spelled.items()}


def test_new_pieces_follow_the_old_ones(tmp_path):
    pieces = read(tmp_path, "foobar", "", "##foo", "##baro", "barfo", "foobar", "foo", "zz")
    assert pieces.vocabulary.tokens == (*OLD.tokens, "foobar", "##foo", "##baro", "barfo", "zz")
    assert pieces.known == 2
    # The rest of a word is spelled by pieces with ## from its first letter on.
    assert spelled(pieces) == {
        "foobar": ["foo", "##bar"],
        "##foo": [],
        "##baro": ["##bar", "##o"],
        "barfo": [],
        "zz": [],
    }


def test_each_new_piece_is_found_in_text(tmp_path):
    pieces = read(tmp_path, "foobar", "##baro", "βeta", "##β")
    tokenizer = make_tokenizer(pieces.vocabulary, UNCASED)
    assert tokenizer.tokenize("foobar abaro βeta aβ") == [
        "foobar", "a", "##baro", "βeta", "a", "##β",
    ]  # fmt: skip


def test_unused_pieces_are_replaced_where_that_is_wanted(tmp_path):
    pieces = read(tmp_path, *"abcd", "foobar", "##oo", "aa", "ab", reuse_unused=True)
    tokens = pieces.vocabulary.tokens
    assert (tokens[1], tokens[2], tokens[len(OLD) - 1]) == ("c", "d", "foobar")
    assert tokens[len(OLD) :] == ("##oo", "aa", "ab")
    assert [t for i, t in enumerate(tokens[: len(OLD)]) if i not in pieces.spelled] == [
        token for token in OLD.tokens if not token.startswith("[unused")
    ]


def test_a_vocabulary_that_goes_on_after_the_models(tmp_path):
    pieces = read(tmp_path, *OLD.tokens, "foobar", "zz")
    assert pieces.vocabulary.tokens == (*OLD.tokens, "foobar", "zz") and pieces.known == 0
    with pytest.raises(UserError, match="does not begin with the model's own") as error:
        read(tmp_path, *OLD.tokens[:4], "other", *OLD.tokens[5:], "zz")
    assert "line 5" in error.value.received


IMPOSSIBLE = {
    "capitals": ("DNA", UNCASED, "makes 'dna'"),
    "capitals within a word": ("##Na", UNCASED, "makes 'na'"),
    "accents": ("café", UNCASED, "makes 'cafe'"),
    "a space": ("new york", CASED, "'new', 'york'"),
    "punctuation": ("x-ray", CASED, "'x', '-', 'ray'"),
    "punctuation within a word": ("##-", CASED, "'x', '-'"),
    "an ideograph within a word": ("##日", CASED, "'x', '日'"),
    "two ideographs": ("日本", CASED, "'日', '本'"),
    "a special token": ("[NEW]", CASED, "'['"),
    "a mark alone": ("##", CASED, "nothing"),
    "control characters": ("a\x07b", CASED, "makes 'ab'"),
    "a long word": ("b" * 201, CASED, "more than 200"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_pieces_that_no_text_is_cut_into(tmp_path, case):
    piece, casing, received = IMPOSSIBLE[case]
    with pytest.raises(UserError, match="No text is ever cut into this piece") as error:
        read(tmp_path, "fine", piece, casing=casing)
    assert error.value.where == f"{tmp_path / 'new.txt'}, line 2"
    assert received in error.value.received
    if made := re.search("makes '(.*)'", error.value.received):
        mark = "##" if piece.startswith("##") else ""
        read(tmp_path, mark + made[1], casing=casing)


def test_the_longest_word_counts_its_beginning(tmp_path):
    assert read(tmp_path, "b" * 200).spelled
    with pytest.raises(UserError, match="No text"):
        read(tmp_path, "##" + "b" * 200)


@pytest.mark.parametrize("lines", [(), ("foo", "foo")])
def test_no_new_piece(tmp_path, lines):
    with pytest.raises(UserError, match="no new piece") as error:
        read(tmp_path, *lines)
    assert error.value.where == str(tmp_path / "new.txt")


def test_a_file_that_can_not_be_read(tmp_path):
    (tmp_path / "latin").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8") as error:
        read_new_pieces(str(tmp_path / "latin"), OLD, UNCASED)
    assert "line 2" in error.value.where
    with pytest.raises(UserError):
        read_new_pieces(str(tmp_path / "none"), OLD, UNCASED)


@pytest.mark.parametrize("spare", [0, 1, 9])
@pytest.mark.parametrize("width", [(), (3,)])
def test_rows(tmp_path, spare, width):
    """Of a table that has rows without a piece too, as padded ones have."""
    pieces = read(tmp_path, "foobar", "##foo", "zz")
    table = np.random.default_rng(0).normal(size=(len(OLD) + spare, *width)).astype(np.float32)
    grown = grown_rows(table, pieces, len(OLD))
    assert grown.dtype == np.float32 and len(grown) == max(len(OLD) + 3, len(table))
    np.testing.assert_array_equal(grown[: len(OLD)], table[: len(OLD)])
    np.testing.assert_array_equal(grown[len(OLD) + 3 :], table[len(OLD) + 3 :])
    ids = OLD.ids
    mean = (table[ids["foo"]] + table[ids["##bar"]]) / 2
    np.testing.assert_allclose(grown[len(OLD)], mean, rtol=1e-6)
    mean = table[: len(OLD)].mean(axis=0)
    np.testing.assert_allclose(grown[len(OLD) + 2], mean, rtol=1e-5, atol=1e-6)
