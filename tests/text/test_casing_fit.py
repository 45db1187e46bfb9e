"""Whether a casing fits a vocabulary and a language."""

import unicodedata

import pytest

from electra_tf2.text.casing_files import as_argument, as_flag, as_hparam
from electra_tf2.text.casing_fit import casing_advice, inspect_text, text_advice, unreachable_pieces
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary

KEEPING, CASED = Casing(True, False), Casing(False, True)
LOWER = "the ship and of harbour bread river old is in a town".split()


def vocabulary(*pieces: str) -> Vocabulary:
    return Vocabulary((*SPECIAL_TOKENS, "[unused0]", "[SEP2]", "\u2028", *LOWER, *pieces))


@pytest.mark.parametrize(
    ("pieces", "casing", "advice"),
    [
        (["Ship", "##S"], UNCASED, "2 of 14 pieces"),
        (["Ship", "##S"], UNCASED, "is it --no-lower-case?"),
        (["ağaç", "##ü"], UNCASED, "is it --no-strip-accents?"),
        (["हिन्दी", "##ी"], UNCASED, "is it --no-strip-accents?"),
        (["서울", "##에"], UNCASED, "is it --no-strip-accents?"),
        (["서울", "##에", "The"], UNCASED, "is it --no-lower-case?"),
        (["が"], UNCASED, "is it --no-strip-accents?"),
        (["Ärger"], KEEPING, "is it --no-lower-case?"),
        ([], CASED, "is it --do-lower-case?"),
        ([], UNCASED, None),
        (["ağaç"], KEEPING, None),
        (["Ship"], CASED, None),
    ],
)
def test_pieces_that_can_not_occur(pieces, casing, advice):
    found = casing_advice(vocabulary(*pieces), casing, as_flag)
    assert (found is None) if advice is None else (advice in found)


def test_a_few_pieces_are_no_matter():
    many = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghi"]
    assert unreachable_pieces(vocabulary("É", *many), UNCASED) == ["É"]
    assert casing_advice(vocabulary("É", *many), UNCASED, as_flag) is None


def test_settings_as_users_give_them():
    assert as_flag("do_lower_case", False) == "--no-lower-case"
    assert as_flag("strip_accents", True) == "--do-strip-accents"
    assert as_hparam("strip_accents", False) == '"strip_accents": false'
    assert as_argument("do_lower_case", False) == "do_lower_case=False"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("हिन्दी में किताब और पानी है", "50% of the Devanagari words (में becomes म)"),
        ("วันนี้อากาศดีมาก", "100% of the Thai words"),
        ("かぎとかきはちがう。", "(かぎとかきはちがう becomes かきとかきはちかう)"),
        ("Özgür çocuk güzel bir ağaç gördü.", "% of the Latin words"),
        ("новый йогурт и хлеб", "% of the Cyrillic words"),
        ("أنا هنا في البيت", "% of the Arabic words"),
        ("Er hört schöne Musik", "50% of the Latin words"),
    ],
)
def test_marks_that_carry_meaning(text, said):
    sample = inspect_text([text])
    (advice,) = text_advice(sample, UNCASED, as_flag)
    assert said in advice and "--no-strip-accents" in advice
    assert text_advice(sample, KEEPING, as_flag) == text_advice(sample, CASED, as_flag) == []


ENGLISH = "the café is old. " + "a ship and a town " * 20


@pytest.mark.parametrize("text", [ENGLISH, "한국어 문장", "中文", ""])
def test_text_that_loses_nothing(text):
    assert text_advice(inspect_text([text]), UNCASED, as_flag) == []


def test_a_small_language_in_a_large_corpus_is_seen():
    sample = inspect_text(["the ship " * 40, "हिन्दी"])
    assert [(loss.script, loss.words, loss.changed) for loss in sample.losses] == [
        ("Latin", 80, 0),
        ("Devanagari", 1, 1),
    ]
    assert len(text_advice(sample, UNCASED, as_flag)) == 1


def test_a_language_beside_another_of_the_same_script_is_seen():
    german = "Er hört dort schöne Musik und geht dann heim."
    (advice,) = text_advice(inspect_text([ENGLISH * 21, german * 20]), UNCASED, as_flag)
    assert "22% of the Latin words in a part of the text (hört becomes hort)" in advice  # not café
    few_words = inspect_text([ENGLISH * 9, german])
    assert text_advice(few_words, UNCASED, as_flag) == []


@pytest.mark.parametrize("text", ["thời tiết rất đẹp", "오늘은 날씨가"])
def test_decomposed_words_are_told(text):
    decomposed = inspect_text([f"{text} {unicodedata.normalize('NFD', text)}"])
    (advice,) = text_advice(decomposed, KEEPING, as_flag)
    assert "(NFC)" in advice and "docs/languages.md" in advice
    assert not any("NFC" in advice for advice in text_advice(decomposed, UNCASED, as_flag))
    assert text_advice(inspect_text([text, "בְּרֵאשִׁית बड़ा"]), KEEPING, as_flag) == []


def test_zero_width_spaces_are_told():
    (advice,) = text_advice(inspect_text(["ខ្ញុំ\u200bទៅ\u200bផ្សារ\n"]), CASED, as_flag)
    assert "U+200B" in advice and "2 in a sample" in advice
    beside = "The ship is old.\u200b\n\u200b\n \u200bIt sank."
    assert text_advice(inspect_text([beside * 9]), CASED, as_flag) == []


@pytest.mark.parametrize(
    ("character", "said"),
    [("\ufffd", "decoded wrongly"), ("\x93", "WINDOWS-1252"), ("\ue000", "private use"),
     ("\U0005fffd", "unknown to this Python")],
)  # fmt: skip
def test_characters_that_are_dropped_are_told(character, said):
    sample = inspect_text([f"an old {2 * character}ship", ENGLISH])
    assert sample.dropped == {character: 2}
    (advice,) = text_advice(sample, CASED, as_flag)
    assert said in advice and "2 in a sample of" in advice
    assert (
        text_advice(inspect_text([f"an old {2 * character}ship", ENGLISH * 9]), CASED, as_flag)
        == []
    )


@pytest.mark.parametrize("control", ["\x0b", "\x0c", "\x1f", "\x00\x1e"])
def test_control_characters_between_words_are_told(control):
    """Those that stand at a line's ends or beside spaces, such as page breaks, lose nothing."""
    beside = f"{control}The ship {control} is old.{control}\n\n{control}"
    assert text_advice(inspect_text([f"{beside}" * 9]), CASED, as_flag) == []
    sample = inspect_text([f"the end{control}The ship {control} is old.{control}\n"])
    assert sample.dropped == dict.fromkeys(control, 1)
    (advice,) = text_advice(sample, CASED, as_flag)
    assert "run together" in advice and f"{len(control)} in a sample of" in advice


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            f'<doc id="12" url="https://a.org/b" title="Ships">\n{ENGLISH}\n</doc>\n',
            "</doc>, <doc id",
        ),
        (f"<p>{ENGLISH}</p>\n<br />", "</p>, <br />, <p>"),
        (f"{ENGLISH} Bread &amp; butter&nbsp;&#8217;&#x2019;\n", "&#8217;, &#x2019;, &amp;"),
        (f"12\n00:01:02,000 --> 00:01:04,900\n{ENGLISH}\n\n", "00:01:02,000 --> 00:…"),
        (f"WEBVTT\n\n01:02.000 --> 01:04.900 line:0\n{ENGLISH}\n\n", "01:02.000 --> 01:04.…"),
        ("".join(f"{n}\tBread number {n}.\r\n" for n in range(9998, 10020)), "10000, 10001, 10002"),
    ],
)
def test_markup_is_told(text, shown):
    (advice,) = text_advice(inspect_text([text] * 9), CASED, as_flag)
    assert "markup" in advice and shown in advice
    assert text_advice(inspect_text([text, ENGLISH * 500]), CASED, as_flag) == []


def test_what_is_no_markup():
    text = "if a <b and c> d; <https://example.org/a> <me@example.org>; AT&T; R&D; I <3 you > all"
    assert inspect_text([text]).markup == {}


@pytest.mark.parametrize(
    "text",
    [
        "1\tIn the beginning\n176\tI have gone astray\n",  # verses
        "1\tMix.\n2\tBake.\n\n1. Eat.\n12345 apples\n",
        "1815\tThe war ended.\n2024\tElections\n",
        "10001\t20002\n30003\t40004 \n10001\tbread\t2.50\n",  # tables
        "a-->b;\nfor (i = 10000;\ti --> 0;) {\n12:30 --> 14:45\nx = 10000\ty\n",
    ],
)
def test_numbers_and_times_of_ordinary_text(text):
    assert inspect_text([text * 99]).markup == {}


def test_dropped_characters_of_a_text_without_words():
    assert text_advice(inspect_text(["\n\u200b\n"]), CASED, as_flag) == []
    assert len(text_advice(inspect_text(["\ue000" * 20]), CASED, as_flag)) == 1
