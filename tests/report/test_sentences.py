"""Examples as they are read: words joined, marks without colours, nothing that data could break."""

import re

import pytest

from electra_tf2.report.judged import reads_as_word
from electra_tf2.report.sentences import Token, render_opinions, render_samples


def example(words, replacements=(), suspected=()):
    """Tokens of a text; those with a replacement were masked."""
    new = dict(replacements)
    return [
        Token(word, new.get(i, word), i in new, 0.25, 0.125, i / 100, i in suspected)
        for i, word in enumerate(words.split())
    ]


def text_of(markup):
    """What is read without the tags."""
    return re.sub(r"<.*?>", "", markup)


def test_words_are_joined_and_marked_without_colours():
    tokens = example("the bak ##er ate bread", [(2, "##ed"), (4, "ship")], suspected=(2, 3))
    shown = text_of(render_opinions([tokens]))
    assert "the baked ✓ er ate ship ✗ bread" in shown
    assert "Found: 1 of 2 replaced tokens; by chance it would be 0.8." in shown


def test_masked_text_reads_as_the_original_not_as_the_sample():
    tokens = example("the bak ##er ate bread", [(2, "ship"), (4, "##s")])
    shown = render_samples([tokens], judges=True)
    assert "the bak1 ate 2" in text_of(shown)
    assert re.findall(r"<td.*?>(.*?)</td>", shown)[:3] == [
        '##er <small dir="ltr">25.0%</small>', 'ship <small dir="ltr">12.5%</small>', "2.0%",
    ]  # fmt: skip
    assert "judged" not in render_samples([tokens], judges=False)


@pytest.mark.parametrize(
    "words, expected", [("北 京 是 a b", "北京是 a b"), ("ولد ##ان في", "ولدان في")]
)
def test_other_scripts(words, expected):
    shown = render_opinions([example(words)])
    assert expected in text_of(shown) and '<p class="sentence" dir="auto">' in shown


def test_words_of_any_script_are_prose():
    """Vowel signs and tones are marks, which Python's isalpha() does not take for letters."""
    words = ["the", "हिन्दी", "ที่", "மொழி", "ọ̀rẹ́", "שָׁלוֹם", "テスト", "서울", "语", "𠮷"]
    others = ["a", "##ing", "[CLS]", "1984", "。", "", "x2", "่", "@"]
    assert [reads_as_word(token) for token in words + others] == [True] * 10 + [False] * 9


def test_tokens_are_text_whatever_they_hold():
    shown = render_opinions([example("<script> &amp; \u202eevil", [(0, '"<b>')])])
    assert "&lt;script&gt;" in shown and "&quot;&lt;b&gt;" in shown and "&amp;amp;" in shown
    assert "<script" not in shown and "\\u202eevil" in shown
    assert text_of(render_opinions([[]])).endswith("by chance it would be 0.0.")
