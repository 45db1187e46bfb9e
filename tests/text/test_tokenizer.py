"""The fast tokenizer gives the reference's ids for every text."""

import importlib.util
import random
import unicodedata

import numpy as np
import pytest

from electra_tf2.text import tokenizer as fast_tokenizer
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.tokenizer import FastTokenizer, ReferenceTokenizer, make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

MODES = {
    "lower_strip": UNCASED,
    "lower_keep_accents": Casing(lower_case=True, strip_accents=False),
    "cased": Casing(lower_case=False, strip_accents=True),
}
# Characters with rules of their own, or that libraries treat in different ways.
ODD = (
    "abcABXx'.-_#[]@αΣσςßẞﬁİıéÉ\u0301\u0327\u302e\U0001d165\x00\x0b\x1c\x7f\x85\u00a0\u00ad"
    "\u1680\u200b\u200d\u2028\u2029\u3000\ufeff\ufffd\ue000\ud800\udc00中\uf900한각\u1fef’“—…"
    "\U0001f600\U00020000\U0002ceb0\U0010ffff \t\r\n"
)
# Pieces that can't match a word, that tensorflow-text refuses, or that it would treat specially.
ODD_PIECES = (
    ["##", "###", "#", "a'b", "##'b", "a b", "A", "Ab", "Ünï", "中文", "##中", "a\x00b", "a\u2028b"]
    + ["[unused0]", "ς", "##ς", "##σ", "’", "##’", "\u0301", "##\u0301", "\ud800x", "x" * 200]
    + ["x" * 300, "##" + "x" * 254, "##" + "x" * 255, "ж" * 128, "ж" * 129, "##" + "ж" * 199]
    + ["\U00010400" * 64, "\U00010428" * 65]
)


@pytest.fixture(scope="module")
def assigned() -> list[str]:
    """All characters but the unassigned, private and surrogate ones, of which a few must do."""
    chars = [chr(code_point) for code_point in range(0x110000)]
    return [char for char in chars if unicodedata.category(char) not in ("Cn", "Co", "Cs")] + [
        "\u0378",
        "\ue000",
        "\ud800",
        "\U000e0fff",
        "\U0010ffff",
    ]


def vocabulary_of(characters, more=()) -> Vocabulary:
    """A vocabulary of characters, alone and with ##, and other pieces."""
    pieces = [*SPECIAL_TOKENS, *characters, *(f"##{char}" for char in characters), *more]
    return Vocabulary(tuple(dict.fromkeys(piece for piece in pieces if piece.strip())))


def differing(vocabulary: Vocabulary, mode: str, texts: list[str]) -> list[str]:
    """Returns the texts for which the two implementations give different ids."""
    rows = []
    for kind in (FastTokenizer, ReferenceTokenizer):
        tokenizer = kind(vocabulary, MODES[mode])
        values, splits = tokenizer.encode_lines(texts)
        assert (values.dtype, splits.dtype) == (np.int32, np.int64)
        assert splits[0] == 0 and splits[-1] == len(values) and len(splits) == len(texts) + 1
        rows.append([values[a:b].tolist() for a, b in zip(splits[:-1], splits[1:], strict=True)])
    return [text for text, fast, slow in zip(texts, *rows, strict=True) if fast != slow]


@pytest.mark.parametrize("mode", MODES)
def test_every_character(assigned, mode):
    # The vocabulary has every seventh: characters with and without pieces of their own.
    vocabulary = vocabulary_of(assigned[::7] + ["a", "b"])
    texts = ["a".join(assigned[i : i + 30]) for i in range(0, len(assigned), 30)]
    texts += [" ".join(assigned[i : i + 30]) for i in range(0, len(assigned), 30)]
    assert differing(vocabulary, mode, texts) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(2))
def test_random_text(assigned, mode, seed):
    draw = random.Random(seed)
    known = draw.sample(assigned, 2000) + [char for char in ODD if draw.random() < 0.8]
    syllables = ["".join(draw.choices("abxςσéж'", k=draw.randint(1, 5))) for _ in range(300)]
    vocabulary = vocabulary_of(known, [*syllables, *(f"##{s}" for s in syllables), *ODD_PIECES])
    alphabets = [ODD, ODD, "abxςΣéж' ", assigned[:600], assigned, vocabulary.tokens]
    texts = []
    for _ in range(1500):
        length = draw.choice([0, 1, 2, 5, 20, 60])
        texts.append("".join(draw.choices(draw.choice(alphabets), k=length)))
    assert differing(vocabulary, mode, texts) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("more", [(), tuple(ODD_PIECES)], ids=["plain", "odd"])
def test_long_words(mode, more):
    vocabulary = vocabulary_of("abxéжЖ\U00010400\U00010428.\u0301", more)
    texts = []
    for char in "axéЖж\U00010400中":
        for length in (64, 65, 66, 127, 128, 129, 130, 199, 200, 201, 256, 257, 800, 801):
            word = char * length
            texts += [word, f"b {word} b", word + ".", "\x00" * 9 + word, word + "\u0301" * 3]
            texts += [word + "’"]
    assert differing(vocabulary, mode, texts) == []


@pytest.mark.parametrize("limit", [1, 60, 300, 1000])
@pytest.mark.parametrize("more", [(), ("b" * 300, "##" + "é" * 200)], ids=["plain", "long pieces"])
def test_another_limit_for_long_words(limit, more):
    vocabulary = vocabulary_of("abxéжก中.", more)
    tokenizers = [
        make_tokenizer(vocabulary, Casing(max_word_characters=limit), implementation=name)
        for name in ("fast", "reference")
    ]
    lengths = [1, 2, 59, 60, 61, 255, 256, 257, 299, 300, 301, 1000, 1001]
    texts = [f"b {c * n}. {c}" for c in "abéжก中" for n in lengths] + ["x" + "é" * 200]
    fast, reference = (tokenizer.encode_lines(texts) for tokenizer in tokenizers)
    assert np.array_equal(fast.values, reference.values)
    assert np.array_equal(fast.row_splits, reference.row_splits)
    assert tokenizers[0].tokenize("x" * limit)[-1] == ("##x" if limit > 1 else "x")
    assert tokenizers[0].tokenize("x" * (limit + 1)) == ["[UNK]"]


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_giant_words_take_time_in_proportion(implementation):
    vocabulary = vocabulary_of("acgtก")
    tokenizer = make_tokenizer(
        vocabulary, Casing(max_word_characters=10**6), implementation=implementation
    )
    length = 10**6 if implementation == "fast" else 10**5
    for alphabet in ("acgt", "ก"):
        word = alphabet * (length // len(alphabet))
        assert len(tokenizer.encode(word)) == length  # of quadratic work this test would not end


def test_blocks_and_mixed_lines_keep_their_order(monkeypatch):
    monkeypatch.setattr(fast_tokenizer, "LINES_PER_CALL", 4)
    vocabulary = vocabulary_of("abcé", ODD_PIECES)
    lines = ["a", "é b", "", "a\nb", "Σ’c", "é" * 201, "b" * 201, "c\n", "", "’", "abc"]
    for count in (0, 1, 4, 5, len(lines)):
        assert differing(vocabulary, "lower_keep_accents", lines[:count]) == []


def test_characters_in_dispute_are_left_to_the_reference(monkeypatch):
    """Should tensorflow-text know a character otherwise than Python, the ids stay right."""
    vocabulary = vocabulary_of("abé")
    tokenizer = FastTokenizer(vocabulary, MODES["lower_keep_accents"])
    expected = tokenizer.encode("aéb bé")
    matched = []

    def match(lines):
        matched.extend(lines)
        return fast_tokenizer.RaggedIds(
            np.zeros(len(lines), np.int32), np.arange(len(lines) + 1, dtype=np.int64)
        )

    monkeypatch.setattr(tokenizer, "_match", match)
    monkeypatch.setattr(tokenizer._classes, "disputed", lambda characters: characters & {"é"})

    values, splits = tokenizer.encode_lines(["ß", "aéb bé", "ab", "ß"])

    assert matched == ["ß", "ß"]
    assert values[splits[1] : splits[2]].tolist() == expected


def test_disputed_characters_are_found():
    """A probe that splits at é, and takes — for white space, is caught on both."""
    classes = fast_tokenizer._CharacterClasses()
    pieces = {"xéx": 3, "x—x": 2, "xßx": 1, "x’x": 3}

    def probe(lines):
        counts = [pieces[line] for line in lines]
        return fast_tokenizer.RaggedIds(
            np.zeros(sum(counts), np.int32), np.cumsum([0, *counts], dtype=np.int64)
        )

    classes._probe = probe
    assert classes.disputed(set("aé—ß’")) == {"é", "—"}
    assert classes.disputed(set("éß")) == {"é"}


def test_disputed_characters_are_found_by_threads():
    """One that asks while another finds out is not told that there are none."""
    classes = fast_tokenizer._CharacterClasses()
    found = []

    def probe(lines):
        if not found:
            found.append(set())
            found[0] = classes.disputed({"é"})
        return fast_tokenizer.RaggedIds(np.zeros(3, np.int32), np.array([0, 3]))

    classes._probe = probe
    assert classes.disputed({"é"}) == found[0] == {"é"}


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_encode_and_tokenize(implementation):
    vocabulary = vocabulary_of("amsk[]", ["mask", "##ed"])
    tokenizer = make_tokenizer(vocabulary, implementation=implementation)

    assert tokenizer.tokenize("[MASK] Masked zebra") == ["[", "mask", "]", "mask", "##ed", "[UNK]"]
    assert tokenizer.encode("") == []
    assert tokenizer.encode("[MASK]") == [vocabulary.ids[piece] for piece in ("[", "mask", "]")]
    assert isinstance(tokenizer.encode("mask")[0], int)
    assert tokenizer.casing == UNCASED


def test_choice_of_implementation(monkeypatch):
    vocabulary = vocabulary_of("a")
    assert isinstance(make_tokenizer(vocabulary), FastTokenizer)
    assert isinstance(make_tokenizer(vocabulary, implementation="fast"), FastTokenizer)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(make_tokenizer(vocabulary), ReferenceTokenizer)
    with pytest.raises(ValueError, match="rust"):
        make_tokenizer(vocabulary, implementation="rust")
