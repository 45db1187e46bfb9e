"""What ids don't say of a text is counted, and warned of."""

import logging
import random

import numpy as np
import pytest

from electra_tf2.text.normalization import Casing, normalize
from electra_tf2.text.rows import make_rows
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.unknown import UnknownCounter, warn_of_unknown
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

PIECES = (
    *SPECIAL_TOKENS,
    "a",
    "##a",
    "b",
    "##bb",
    ".",
    "é",
    "e",
    "##é",
    "中",
    "ก",
    "##ก",
    "ᄀ",
    "##ᅡ",
)


def counted_plainly(lines, tokenizer):
    unknown = characters = lost = too_long = 0
    for line in lines:
        for word in normalize(line, tokenizer.casing):
            characters += len(word)
            if tokenizer.split_word(word) is None:
                unknown += 1
                lost += len(word)
                too_long += len(word) * (len(word) > tokenizer.casing.max_word_characters)
    return unknown, characters, lost, too_long


@pytest.mark.parametrize("casing", [Casing(), Casing(False, False), Casing(True, False, 7)])
def test_counts_are_those_of_every_word(casing):
    tokenizer = make_tokenizer(Vocabulary(PIECES), casing)
    draw = random.Random(0)
    alphabets = ["ab .", "abé.e\u0301 ", "A中 \u200bก", "ก\u0e48.", "가각 ", "xab,\u2028"]
    lines = [
        "".join(draw.choices(draw.choice(alphabets), k=draw.randint(0, 40))) for _ in range(300)
    ]
    lines += ["a" * n for n in (7, 8, 200, 201, 5000)] + ["a" * 300 + "." + "a" * 150 + " x", ""]
    counter = UnknownCounter(tokenizer)
    for some in (lines, lines[:3], [""], []):
        encoded = tokenizer.encode_lines(some)
        assert counter.count(some, encoded) == counted_plainly(some, tokenizer)


@pytest.mark.parametrize(("text", "warned"), [("aaa b.", False), ("xx yy a", True)])
def test_texts_that_are_mostly_unknown_are_warned_of(caplog, text, warned):
    caplog.set_level(logging.WARNING)
    make_rows([text], make_tokenizer(Vocabulary(PIECES)), max_length=16)
    assert ("[UNK]" in caplog.text) == warned


def test_padding_and_special_tokens_do_not_count(caplog):
    vocabulary = Vocabulary(PIECES)
    caplog.set_level(logging.WARNING)
    warn_of_unknown("rows", np.array([[2, 1, 5, 5, 5, 3, 0, 0]]), vocabulary, 0.3)
    assert not caplog.text
    warn_of_unknown("rows", np.array([[2, 1, 5, 5, 5, 3, 0, 0]]), vocabulary, 0.2)
    assert "25 %" in caplog.text
