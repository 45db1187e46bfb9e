"""From word pieces back to the passage's characters."""

import pytest

from finetune.qa.decoding import Aligner, join_pieces
from tests.finetune.qa.qa_samples import tokenizer


@pytest.mark.parametrize(
    "pieces, text",
    [
        (["the", "cat", "##ly"], "the catly"),
        (["##ly", "cat"], "ly cat"),
        (["18", "##95", "-", "18", "##43"], "1895 - 1843"),
        (["#", "#", "cat"], "# # cat"),
        ([], ""),
    ],
)
def test_pieces_are_joined(pieces, text):
    assert join_pieces(pieces) == text


@pytest.mark.parametrize(
    "predicted, words, text",
    [
        ("steve smith", ["Steve", "Smith's"], "Steve Smith"),
        ("1895", ["(1895-1943)."], "1895"),
        ("1895 - 1943", ["(1895-1943)."], "1895-1943"),
        ("zoe", ["«Zoë»,"], "Zoë"),
        ("zoe )", ["(ZOË)!"], "ZOË)"),
        # A no-break space separates words for the tokenizer only: the lengths differ.
        ("cat", ["the\u00a0cat"], "the\u00a0cat"),
        # Predicted from the middle of a word.
        ("ly", ["catly"], "ly"),
        # The first place counts, even within a word.
        ("a", ["cat", "a"], "a"),
        ("cat", ["catly", "cat"], "cat"),
        # Characters that are dropped: no correspondence, so all of it.
        ("cat", ["c\u200bat,"], "c\u200bat,"),
        # An accent of its own is a character the normalized text lacks.
        ("cafe", ["cafe\u0301,"], "cafe\u0301,"),
        # Unknown words are not found.
        ("[UNK]", ["字,", "x"], "字, x"),
        # Lower-casing that lengthens a word.
        ("i", ["İ,"], "İ"),
        ("", ["cat"], "cat"),
    ],
)
def test_alignment(predicted, words, text):
    assert Aligner(tokenizer()).align(predicted, words) == text


def test_the_tokenizer_s_casing_counts():
    cased = Aligner(tokenizer(lower_case=False))
    assert cased.align("Zoë", ["(Zoë)"]) == "Zoë"
    assert cased.align("zoe", ["(Zoë)"]) == "(Zoë)"
    accents = Aligner(tokenizer(strip_accents=False))
    assert accents.align("zoë", ["(Zoë)"]) == "Zoë"
    assert accents.align("zoe", ["(Zoë)"]) == "(Zoë)"
