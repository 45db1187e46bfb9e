"""Where annotated answers stand in their passages."""

import unicodedata

import pytest

from finetune.qa.annotations import AnswerNotFound, Passage, split_words

PASSAGE = "The  cat\tsat\non Steve's mat (1895-1943).\u202fÉté\u00a0là"


def test_words_are_split_at_five_characters_only():
    assert split_words(PASSAGE) == [
        "The", "cat", "sat", "on", "Steve's", "mat", "(1895-1943).", "Été\u00a0là",
    ]  # fmt: skip
    assert split_words("a\rb\u2003c\u0085d\x0be") == ["a", "b\u2003c\u0085d\x0be"]
    assert split_words(" \n ") == []


@pytest.mark.parametrize(
    "answer, words",
    [
        ("The", (0, 0)),
        ("cat\tsat", (1, 2)),
        ("Steve", (4, 4)),
        ("1895", (6, 6)),
        ("1943", (6, 6)),
        ("mat (1895-1943)", (5, 6)),
        ("là", (7, 7)),
        ("STEVE'S", (4, 4)),
    ],
)
def test_officially_an_answer_covers_the_words_it_touches(answer, words):
    start = PASSAGE.lower().index(answer.lower())
    assert Passage(PASSAGE).official_words(answer, start) == words


def test_officially_the_last_word_is_that_of_the_last_character():
    # One more space than the passage has.
    assert Passage("a bb c").official_words("a  b", 0) == (0, 1)
    assert Passage("one two three").official_words(" two", 3) == (0, 1)


def found(passage, answer, start):
    """The text that is found, and the remark."""
    span = Passage(passage).locate(answer, start)
    return passage[span.start : span.end], span.remark


NFD = unicodedata.normalize("NFD", "Café à Séoul, 서울에서")


@pytest.mark.parametrize(
    "passage, answer, start, text",
    [
        (PASSAGE, "cat\tsat", 5, "cat\tsat"),
        (PASSAGE, "Steve", 16, "Steve"),
        # Case and the kind and number of spaces.
        (PASSAGE, "STEVE'S  MAT", 16, "Steve's mat"),
        (PASSAGE, "été là", 41, "Été\u00a0là"),
        (PASSAGE, "Été\u00a0là", 41, "Été\u00a0là"),
        ("12 500 habitants", "12\u00a0500", 0, "12 500"),
        # Case of which the small letters are two, or depend on the language or the place.
        ("o İstanbul'da", "istanbul", 2, "İstanbul"),
        ("o İstanbul'da", "İSTANBUL".lower(), 2, "İstanbul"),
        ("Isparta ili", "ısparta", 0, "Isparta"),
        ("I\u0307zmir'in", "İzmir", 0, "I\u0307zmir"),
        ("η οδός εδώ", "ΟΔΌΣ", 2, "οδός"),
        ("die Straße", "STRASSE", 4, "Straße"),
        # White space at the answer's ends.
        ("one two three", " two ", 3, "two"),
        ("one two three", "two", 3, "two"),
        # Beside ideographs and kana, white space doesn't count at all.
        ("詩人は李白\u3000杜甫。", "李白杜甫", 3, "李白\u3000杜甫"),
        ("北京\n大学", "北京大学", 0, "北京\n大学"),
        # Characters that can't be seen, in the one or in the other.
        ("北\u00ad京大学", "北京", 0, "北\u00ad京"),
        ("\ufeff北京大学", "北京", 0, "北京"),
        ("北京大学", "北\u200b京", 0, "北京"),
        # Composed and decomposed.
        (NFD, "Café", 0, "Cafe\u0301"),
        (NFD, "서울", 17, NFD[17:22]),
        ("Café, 서울", unicodedata.normalize("NFD", "서울"), 6, "서울"),
    ],
)
def test_an_answer_is_found_where_it_is_annotated(passage, answer, start, text):
    assert found(passage, answer, start) == (text, "")


@pytest.mark.parametrize(
    "passage, answer, start, units",
    [
        ("👨‍👩 lives in Bern, not in Bern", "Bern", 15, "UTF-16"),
        ("Zürich, Genève, Bern and Bern", "Bern", 18, "UTF-8"),
        (NFD, "서울", 14, "NFC"),
        ("서울에서 부산", "부산", 10, "NFD"),
        ("one\r\ntwo\r\nthree\r\nfour five", "five", 19, "carriage returns"),
        ("Şu İl, şu İlçe, şu kent", "kent", 21, "lower-cased"),
    ],
)
def test_positions_in_other_units_are_understood(passage, answer, start, units):
    span = Passage(passage).locate(answer, start)
    assert units in span.remark
    composed = unicodedata.normalize("NFC", passage)
    before = unicodedata.normalize("NFC", passage[: span.start])
    assert before == composed[: composed.index(answer)]


@pytest.mark.parametrize(
    "passage, answer, start, place",
    [
        ("在上海，在上海大学，在上海。", "上海", 6, 5),
        ("在上海，在上海大学，在上海。", "上海", 12, 11),
        ("mat cat-cat-cat", "cat", 9, 8),
    ],
)
def test_else_the_nearest_place_in_the_words_there_counts(passage, answer, start, place):
    span = Passage(passage).locate(answer, start)
    assert (span.start, span.end) == (place, place + len(answer))
    assert "not where" in span.remark


@pytest.mark.parametrize(
    "answer, start, message",
    [
        ("dog", 5, "not what the passage has at character 5: 'cat'"),
        ("cat", 100, "outside the passage of 47 characters"),
        ("là", len(PASSAGE) - 1, "outside the passage"),
        ("cat", -3, "outside the passage"),
        ("", 0, "empty"),
        ("  ", 3, "empty"),
        ("Steve's mat", PASSAGE.index("mat"), "not what the passage has"),
        # Part of a character.
        ("Ete", PASSAGE.index("Été"), "not what the passage has"),
    ],
)
@pytest.mark.parametrize("rule", ["locate", "official_words"])
def test_what_can_t_be_recovered_is_told(rule, answer, start, message):
    with pytest.raises(AnswerNotFound, match="(?s)" + message.replace("(", r"\(")):
        getattr(Passage(PASSAGE), rule)(answer, start)


@pytest.mark.parametrize("rule", ["locate", "official_words"])
def test_a_passage_without_words(rule):
    with pytest.raises(AnswerNotFound, match="outside"):
        getattr(Passage(""), rule)("cat", 0)
    with pytest.raises(AnswerNotFound, match="not what"):
        getattr(Passage("     "), rule)("cat", 0)


def test_an_answer_that_can_t_be_seen_is_empty():
    with pytest.raises(AnswerNotFound, match="empty"):
        Passage("a\u200bb").locate("\u200b", 1)


def test_half_a_character_is_not_an_answer():
    """가 is the beginning of 각, and e that of é, composed or not."""
    for passage, answer in (("각서", "가"), ("éclat", "e")):
        for form in ("NFC", "NFD"):
            text = unicodedata.normalize(form, passage)
            with pytest.raises(AnswerNotFound):
                # Spelled otherwise, so that it is not found as it is.
                Passage(text).locate(answer + "\u200b", 0)


def test_english_with_a_no_break_space_beside_a_space_is_left_to_the_official_rule():
    with pytest.raises(AnswerNotFound, match="no-break"):
        Passage("Nobody\u00a0 sold it").locate("Nobody\u00a0 sold", 0)
    assert found("Nobody\u00a0 sold it", "Nobody", 0) == ("Nobody", "")
    assert found("他说\u00a0 北京", "说\u00a0 北京", 1) == ("说\u00a0 北京", "")
