"""From words to pieces."""

import importlib.util

import pytest

from finetune.tagging.conll import word_ids
from tests.finetune.tagging.tagging_samples import ids, tokenizer

LOWER = [
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
    # Ideographs don't stand alone: a piece that continues the word matches.
    ("中文", ["中", "##文"]),
    ("文中", ["[UNK]"]),
    ("E\u0301中文.", ["[UNK]", "."]),
    # Words of which cleaning leaves nothing.
    ("\u200b", ["[UNK]"]),
    ("\ufffd", ["[UNK]"]),
    ("\u0301", ["[UNK]"]),
    # Characters within words that cleaning drops.
    ("an\u200bna", ["anna"]),
    ("中\ufffd文", ["中", "##文"]),
    # Words with spaces come from files with another separator.
    ("new york", ["new", "york"]),
    ("中文 york", ["中", "##文", "york"]),
]
IMPLEMENTATIONS = ["reference"] + ["fast"] * bool(importlib.util.find_spec("tensorflow_text"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_pieces(implementation):
    found = word_ids(tokenizer(implementation=implementation), [word for word, _ in LOWER])
    assert found == {word: ids(*pieces) for word, pieces in LOWER}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_case_is_kept_where_the_tokenizer_keeps_it(implementation):
    cased = tokenizer(lower_case=False, implementation=implementation)
    assert word_ids(cased, ["Anna", "anna", "ANNA", "é", "[CLS]", "U中"]) == {
        "Anna": ids("Anna"),
        "anna": ids("anna"),
        "ANNA": ids("[UNK]"),
        "é": ids("[UNK]"),
        "[CLS]": ids("[", "[UNK]", "]"),
        "U中": ids("[UNK]"),
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
