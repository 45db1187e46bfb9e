"""From words to pieces, and from words to the text of a span."""

import importlib.util

import pytest

from finetune.tagging.words import join_words, word_ids
from tests.finetune.tagging.tagging_samples import ids, tokenizer

WORDS = [
    ("barks", ["bark", "##s"]),
    ("BARKS", ["bark", "##s"]),
    ("u.", ["u", "."]),
    ("u.-u,", ["u", ".", "-", "u", ","]),
    ("é", ["e"]),
    ("cat", ["[UNK]"]),
    ("cat,", ["[UNK]", ","]),
    ("a" * 201, ["[UNK]"]),
    # Ordinary text, not special tokens.
    ("[CLS]", ["[", "cls", "]"]),
    ("[SEP]", ["[", "sep", "]"]),
    # Ideographs stand alone, as in all text.
    ("中文", ["中", "文"]),
    ("文中", ["文", "中"]),
    ("E\u0301中文.", ["e", "中", "文", "."]),
    # Words of which cleaning leaves nothing.
    ("\u200b", ["[UNK]"]),
    ("\ufffd", ["[UNK]"]),
    ("\u0301", ["[UNK]"]),
    # Characters within words that cleaning drops.
    ("an\u200bna", ["anna"]),
    ("中\ufffd文", ["中", "文"]),
    # Words with spaces come from files with another separator.
    ("new york", ["new", "york"]),
    ("中文 york", ["中", "文", "york"]),
]
# As the official program has them: a piece that continues the word matches.
AS_LETTERS = [
    ("中文", ["中", "##文"]),
    ("文中", ["[UNK]"]),
    ("E\u0301中文.", ["[UNK]", "."]),
    ("中\ufffd文", ["中", "##文"]),
    ("中文 york", ["中", "##文", "york"]),
    ("barks", ["bark", "##s"]),
]
IMPLEMENTATIONS = ["reference"] + ["fast"] * bool(importlib.util.find_spec("tensorflow_text"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pieces(implementation):
    found = word_ids(tokenizer(implementation=implementation), [word for word, _ in WORDS])
    assert found == {word: ids(*pieces) for word, pieces in WORDS}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_ideographs_as_letters_of_words(implementation):
    words = [word for word, _ in AS_LETTERS]
    made = tokenizer(implementation=implementation)
    found = word_ids(made, words, separate_ideographs=False)
    assert found == {word: ids(*pieces) for word, pieces in AS_LETTERS}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_case_is_kept_where_the_tokenizer_keeps_it(implementation):
    cased = tokenizer(lower_case=False, implementation=implementation)
    assert word_ids(cased, ["Anna", "anna", "ANNA", "é", "[CLS]", "U中"]) == {
        "Anna": ids("Anna"),
        "anna": ids("anna"),
        "ANNA": ids("[UNK]"),
        "é": ids("[UNK]"),
        "[CLS]": ids("[", "[UNK]", "]"),
        "U中": ids("[UNK]", "中"),
    }


def test_each_distinct_word_is_tokenized_once(monkeypatch):
    reference = tokenizer()
    calls = []
    encode = reference.encode_lines
    monkeypatch.setattr(
        reference, "encode_lines", lambda lines: calls.append(lines) or encode(lines)
    )
    assert word_ids(reference, ["the", "dog", "the"]) == {"the": ids("the"), "dog": ids("dog")}
    assert calls == [["the", "dog"]]
    assert word_ids(reference, []) == {}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("New York", "New York"),
        ("北 京 大 学", "北京大学"),
        ("北京 大学", "北京大学"),
        ("2 0 2 6 年 3 月", "2026年3月"),
        ("iPhone 手机 的 2026 5 月", "iPhone手机的2026 5月"),
        ("用 iPhone Pro", "用iPhone Pro"),
        ("東京 タワー に", "東京タワーに"),
        ("กรุงเทพ มหา นคร", "กรุงเทพมหานคร"),
        ("ភ្នំ ពេញ", "ភ្នំពេញ"),
        ("서울 시청 에서", "서울 시청 에서"),
        ("서 울 시", "서울시"),
        ("Я и", "Я и"),
        ("「 東京 」", "「東京」"),
        ("أحمد علي", "أحمد علي"),
        ("नई दिल्ली", "नई दिल्ली"),
        ("a", "a"),
    ],
)
def test_words_join_as_their_script_does(words, text):
    words = words.split()
    assert join_words(words, 0, len(words)) == text


def test_characters_with_their_spaces_join_as_they_are():
    characters = list("Die 서울 시청")
    assert join_words(characters, 4, 9) == "서울 시청"
    assert join_words(characters, 0, 3) == "Die"
    assert join_words(["New", "", "York"], 0, 3) == "New  York"
