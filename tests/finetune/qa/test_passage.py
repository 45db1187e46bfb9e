"""From an answer's characters to words."""

import pytest

from finetune.qa.examples import AnswerNotFound, Passage, split_words

TEXT = "The  cat\tsat\non Steve's mat (1895-1943).\u202fÉté\u00a0là"


def test_words_are_split_at_five_characters_only():
    assert split_words(TEXT) == [
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
    ],
)
def test_an_answer_covers_the_words_it_touches(answer, words):
    assert Passage(TEXT).locate(answer, TEXT.index(answer)) == words


def test_case_and_white_space_don_t_matter():
    assert Passage(TEXT).locate("STEVE'S  MAT", TEXT.index("Steve")) == (4, 5)
    # One more space than the passage has: the last word covered is that of the last character.
    assert Passage("a bb c").locate("a  b", 0) == (0, 1)


def test_an_answer_that_begins_in_white_space_covers_the_word_before():
    assert Passage("one two three").locate(" two", 3) == (0, 1)


@pytest.mark.parametrize(
    "answer, start, message",
    [
        ("dog", 5, "not what the passage has at character 5: 'cat'"),
        ("cat", 100, "outside the passage of 47 characters"),
        ("là", len(TEXT) - 1, "outside the passage"),
        ("cat", -3, "outside the passage"),
        ("", 0, "empty"),
        ("  ", 3, "empty"),
        ("Steve's mat", TEXT.index("mat"), "not what the passage has"),
        # The answer's words are split at any white space, as officially; the passage's are not.
        ("Été\u00a0là", TEXT.index("Été"), "not what the passage has"),
    ],
)
def test_what_can_t_be_recovered_is_told(answer, start, message):
    with pytest.raises(AnswerNotFound, match="(?s)" + message.replace("(", r"\(")):
        Passage(TEXT).locate(answer, start)


def test_a_passage_without_words():
    with pytest.raises(AnswerNotFound, match="outside"):
        Passage("").locate("cat", 0)
    with pytest.raises(AnswerNotFound, match="not what"):
        Passage("     ").locate("cat", 0)
