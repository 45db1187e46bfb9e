"""Characters to words, rule by rule."""

import types

import pytest

from electra_tf2.text.normalization import (
    UNCASED,
    UNSPACED,
    Casing,
    FastNormalizer,
    normalize,
    split_at_punctuation,
)

LOWER_STRIP = UNCASED
LOWER_KEEP = Casing(lower_case=True, strip_accents=False)
CASED = Casing(lower_case=False, strip_accents=True)

EXAMPLES = [
    ("", LOWER_STRIP, []),
    (" \t\r\n\u00a0\u3000", LOWER_STRIP, []),
    ("Hello  World", LOWER_STRIP, ["hello", "world"]),
    ("Hello World", CASED, ["Hello", "World"]),
    ("don't e=mc^2", LOWER_STRIP, ["don", "'", "t", "e", "=", "mc", "^", "2"]),
    ("[MASK]", LOWER_STRIP, ["[", "mask", "]"]),
    ("“A—b”", LOWER_STRIP, ["“", "a", "—", "b", "”"]),
    ("Café Ünï", LOWER_STRIP, ["cafe", "uni"]),
    ("Café", LOWER_KEEP, ["café"]),
    ("Cafe\u0301", LOWER_KEEP, ["cafe\u0301"]),
    # Accents are only touched when lower-casing, whatever the flag says.
    ("Café", CASED, ["Café"]),
    # Control and format characters, U+FFFD, private use and lone surrogates join what they stood
    # between, also those that str.split would split at.
    ("a\x00b\x1cc\x85d\u200be\ufeff\ufffdf\ue000g\ud800h\x7f\x0bi", LOWER_STRIP, ["abcdefghi"]),
    # U+2028 and U+2029 are no control characters and no spaces of category Zs, but white space.
    ("a\u2028b\u2029c", LOWER_STRIP, ["a", "b", "c"]),
    ("ab中c文", LOWER_STRIP, ["ab", "中", "c", "文"]),
    ("かな カナ", LOWER_KEEP, ["かな", "カナ"]),
    ("한", LOWER_STRIP, ["\u1112\u1161\u11ab"]),
    # A capital sigma becomes a final one only at the end of a word; an apostrophe and what is
    # dropped don't end it.
    ("ΑΣ ΑΣΑ ΑΣ'Α ΑΣ\x00Α", LOWER_KEEP, ["ας", "ασα", "ασ", "'", "α", "ασα"]),
    ("ß ẞ ﬁ", LOWER_STRIP, ["ß", "ß", "ﬁ"]),
    ("İI", LOWER_STRIP, ["ii"]),
    ("İ", LOWER_KEEP, ["i\u0307"]),
    # Decomposition yields a backtick, which is punctuation by then.
    ("a\u1fefb", LOWER_STRIP, ["a", "`", "b"]),
    ("a\u1fefb", LOWER_KEEP, ["a\u1fefb"]),
    # Decomposition sorts combining characters; these two are no accents and stay.
    ("a\U0001d165\u302e", LOWER_STRIP, ["a\U0001d165\u302e"]),
    ("a\u302e\U0001d165", LOWER_STRIP, ["a\U0001d165\u302e"]),
    ("\u0301", LOWER_STRIP, []),
]


@pytest.mark.parametrize(("text", "casing", "words"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_words(text, casing, words):
    assert normalize(text, casing) == words


@pytest.mark.parametrize(("text", "casing", "words"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_fast_normalizer_gives_the_same_words(text, casing, words):
    normalizer = FastNormalizer(casing)
    block = text.replace("\n", " ") + "\nNeighbour,\tΩ\n"

    lines = normalizer.normalize(block).split("\n")

    assert len(lines) == 3
    assert [part for word in lines[0].split() for part in split_at_punctuation(word)] == words


def test_ascii_lines_stay_lines():
    normalizer = FastNormalizer(UNCASED)
    assert normalizer.normalize_ascii("A\tb\rC\x00\x1cD\n\n e'F") == b"a b cd\n\n e'f"


@pytest.mark.parametrize(
    ("word", "parts"),
    [("", []), ("ab", ["ab"]), ("a.b", ["a", ".", "b"]), ("..", [".", "."]), ("a-", ["a", "-"])],
)
def test_split_at_punctuation(word, parts):
    assert split_at_punctuation(word) == parts


def test_cased_text_keeps_its_accents():
    assert UNCASED.apply("Café") == "cafe"
    assert LOWER_KEEP.apply("Café") == "café"
    assert CASED.apply("Café") == "Café" and not CASED.removes_accents


def test_casing_has_the_names_of_hparams_on_disk():
    stored = CASED.to_dict()
    assert stored == {"do_lower_case": False, "strip_accents": True}
    assert Casing.from_hparams(types.SimpleNamespace(**stored)) == CASED


def test_scripts_without_spaces_between_words():
    for char in "上𠀀𰻞々ひカｶㄅกລကខཀꀀ":
        assert UNSPACED.fullmatch(char), char
    for char in "aéбא서तعა1。":
        assert not UNSPACED.search(char), char
