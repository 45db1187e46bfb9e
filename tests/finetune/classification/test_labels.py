"""Labels that are equal although programs write them otherwise, and those that are missing."""

import unicodedata

import pytest

from finetune.classification.labels import (
    find_label,
    is_doubtful,
    is_missing,
    label_text,
    spellings,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(" a b\t", "a b"), (1, "1"), (1.0, "1.0"), (True, "true"), ("\ufeff\u200b x\u200b ", "x")]
    + [("\u3000好\xa0", "好"), ("1\0\0", "1")],
)
def test_labels_as_text(value, text):
    assert label_text(value) == text


@pytest.mark.parametrize("value", ["", " \u200b\ufeff", None, ["a"], {"a": 1}])
def test_what_is_not_a_label(value):
    with pytest.raises(ValueError, match="is not"):
        label_text(value)


@pytest.mark.parametrize("text", ["nan", "NaN", "NULL", "null", "<NA>", "#N/A", "\\N", ""])
def test_missing_values(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", ["None", "none", "NA", "0", "false", "neutral", "nano"])
def test_labels_that_are_not_missing(text):
    assert not is_missing(text)


@pytest.mark.parametrize(
    ("text", "labels", "doubtful"),
    [
        ("None", "None yes no", True),
        ("-", "- neutral entailment", True),  # SNLI
        ("-", "- + 0", False),
        ("?", "? 1 2", True),
        ("#VALUE!", "#VALUE! a", True),
        ("#DIV/0!", "#DIV/0! a", True),
        ("#1", "#1 a", False),
        ("-1", "-1 0 1 2", True),  # Hugging Face
        ("-1.0", "-1.0 0.0 1.0 2.0", True),
        ("-1", "-1 0 1", False),
        ("-1", "-2 -1 0 1 2", False),
        ("-1", "-1 1 2 3", False),
        ("0", "-1 0 1 2", False),
    ],
)
def test_labels_that_may_be_missing_values(text, labels, doubtful):
    assert is_doubtful(text, labels.split()) is doubtful


@pytest.mark.parametrize(
    ("text", "labels", "found"),
    [
        ("1.0", ("0", "1"), "1"),
        ("1", ("0.0", "1.0"), "1.0"),
        ("-0.0", ("0", "1"), "0"),
        ("true", ("0", "1"), "1"),
        ("False", ("true", "false"), "false"),
        ("true", ("1", "true"), "true"),
        (unicodedata.normalize("NFD", "très"), ("bon", "très"), "très"),
        ("1.10", ("1.1", "1"), None),
        ("01", ("0", "1"), None),
        ("1.00", ("0", "1"), None),
        ("Good", ("good",), None),
    ],
)
def test_equal_labels_are_found(text, labels, found):
    assert find_label(text, labels) == found


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["1", "0", "1.0", "1", "true", "0"], {"1": 4, "0": 2}),
        (["1.0", "0.0", "1.0"], {"1.0": 2, "0.0": 1}),
        (["True", "true", "True"], {"True": 3}),
        (["cafe\u0301", "café"], {"café": 2}),
    ],
)
def test_spellings_of_a_label_are_put_together(texts, names):
    assert {name: own.total() for name, own in spellings(texts).items()} == names
