"""Pieces with their places: the tokenizer's ids, and the characters they come from."""

import json
from pathlib import Path

import pytest

from electra_tf2.text.normalization import Casing
from electra_tf2.text.offsets import tokenize_with_offsets
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary

CASES = Path(__file__).parents[1] / "conformance" / "cases"
TEXTS = json.loads((CASES / "tokenization.json").read_text(encoding="utf-8"))["texts"]
CASINGS = [Casing(True, True), Casing(True, False), Casing(False, False)]


@pytest.mark.parametrize("casing", CASINGS, ids=str)
def test_ids_are_the_tokenizer_s(casing):
    tokenizer = make_tokenizer(load_vocabulary(str(CASES / "vocab.txt")), casing)
    texts = [*TEXTS, "ὈΔΥΣΣΕΎΣ ΣΑΣ", "İstanbul", "a\u0301\u302eb"]
    assert len(texts) > 400
    for text in texts:
        pieces = tokenize_with_offsets(text, tokenizer)
        assert [piece.id for piece in pieces] == tokenizer.encode(text), text
        for piece in pieces:
            assert 0 <= piece.start < piece.end <= len(text)
        starts = [piece.start for piece in pieces]
        assert starts == sorted(starts), text


def test_places():
    tokens = "[PAD] [UNK] [CLS] [SEP] [MASK] cafe ##s , 東 京 istanbul".split()
    tokenizer = make_tokenizer(Vocabulary(tuple(tokens)))
    text = " Cafe\u0301\u200bs,東京 İstanbul\tunknown"
    found = [
        (tokens[piece.id], text[piece.start : piece.end])
        for piece in tokenize_with_offsets(text, tokenizer)
    ]
    assert found == [
        ("cafe", "Cafe"),
        ("##s", "s"),
        (",", ","),
        ("東", "東"),
        ("京", "京"),
        ("istanbul", "İstanbul"),
        ("[UNK]", "unknown"),
    ]


def test_a_long_word_under_a_higher_limit():
    vocabulary = load_vocabulary(str(CASES / "vocab.txt"))
    tokenizer = make_tokenizer(vocabulary, Casing(max_word_characters=300))
    pieces = tokenize_with_offsets("a " + "e" * 300, tokenizer)
    assert [piece.id for piece in pieces] == tokenizer.encode("a " + "e" * 300)
    assert len(pieces) > 2 and (pieces[-1].end, pieces[1].start) == (302, 2)
