"""Definitions of tasks without code: what they may hold, and what is said of bad ones."""

import pytest

from electra_tf2.errors import UserError
from finetune.definitions import DEFINITIONS, read_definition

REVIEWS = {"kind": "classification", "text": "body", "label": "stars"}
GRADES = {"kind": "regression", "text": "body", "label": "grade"}
TOPICS = {"kind": "multilabel", "text": "body", "label": "topics"}
ONE_HOT = {"kind": "multilabel", "text": "body", "label_columns": ["sea", "land"]}
TAGS = {"kind": "tagging"}
QUESTIONS = {"kind": "qa"}


def test_defaults():
    assert read_definition("t", QUESTIONS).to_dict() == {"files": {}, "unanswerable": False}
    assert read_definition("t", TAGS).to_dict() == {
        "files": {},
        "word_column": 0,
        "tag_column": -1,
        "separator": None,
        "scheme": None,
    }
    table = {
        "files": {}, "text_b": None, "header": True, "separator": None, "quotes": None,
        "id": None, "windows": None,
    }  # fmt: skip
    reviews = read_definition("t", REVIEWS).to_dict()
    assert reviews == {
        **table, "text": "body", "label": "stars", "labels": None, "class_weights": None
    }  # fmt: skip
    topics = read_definition("t", TOPICS).to_dict()
    assert topics == {
        **table,
        "text": "body",
        "label": "topics",
        "label_columns": None,
        "label_separator": ",",
        "labels": None,
        "threshold": 0.5,
    }
    grades = read_definition("t", GRADES).to_dict()
    assert grades == {
        **table, "text": "body", "label": "grade", "min": None, "max": None, "loss": "squared",
        "ranking": False,
    }  # fmt: skip


def test_values_are_normalized():
    labels = read_definition("t", {**REVIEWS, "labels": [1, " a ", True, 0.5]}).labels
    assert labels == ["1", "a", "true", "0.5"]
    weights = read_definition("t", {**REVIEWS, "class_weights": {" a ": 2}}).class_weights
    assert weights == {"a": 2.0}
    assert read_definition("t", {**TOPICS, "labels": [1]}).labels == ["1"]
    assert read_definition("t", {**ONE_HOT, "threshold": "tuned"}).threshold == "tuned"
    low = read_definition("t", {**GRADES, "min": 0, "max": 5}).min
    assert low == 0.0 and isinstance(low, float)


def test_every_key_has_a_comment():
    for record in DEFINITIONS.values():
        for base in record.__mro__[:-2]:
            own = [field for field in base.fields() if field.name in vars(base)]
            assert all(field.comment for field in own)


# Definition, the key that the error is of, and a word of the error.
BAD = {
    "no kind": ({"text": "x"}, "kind", "no kind"),
    "an unknown kind": ({"kind": "clasification"}, "kind", "'classification'"),
    "a kind of the wrong type": ({"kind": []}, "kind", "[]"),
    "an unknown key": ({**REVIEWS, "lable": "x"}, "lable", "'label'"),
    "a key of another kind": ({**GRADES, "labels": ["0", "1"]}, "labels", "'label'"),
    "an unknown key of tagging": ({**TAGS, "tag_colum": 0}, "tag_colum", "'tag_column'"),
    "an unknown key like no other": ({**TAGS, "words": 0}, "words", "word_column, tag_column"),
    "an unknown key of QA": ({**QUESTIONS, "unanswerabel": True}, "unanswerabel", "'unanswerable'"),
    "no text": ({"kind": "classification", "label": "x"}, "text", "is missing"),
    "a blank text": ({**REVIEWS, "text": " "}, "text", "is missing"),
    "no label": ({"kind": "regression", "text": "x"}, "label", "is missing"),
    "a column of the wrong type": ({**REVIEWS, "text": ["x"]}, "text", "a string or an integer"),
    "a column that is null": ({**REVIEWS, "text": None}, "text", "a string or an integer"),
    "a column that is true": ({**REVIEWS, "text": True}, "text", "a string or an integer"),
    "a negative column": ({**REVIEWS, "label": -1}, "label", "at least 0"),
    "a name without a header": ({**REVIEWS, "header": False}, "text", "no header"),
    "a header of the wrong type": ({**REVIEWS, "header": 1}, "header", "true or false"),
    "the text as label": ({**REVIEWS, "label": "body"}, "label", "same column as text"),
    "the second text as label": ({**REVIEWS, "text_b": "stars"}, "label", "same column as text_b"),
    "labels of the wrong type": ({**REVIEWS, "labels": "ab"}, "labels", "a list"),
    "labels of wrong types": ({**REVIEWS, "labels": ["a", []]}, "labels", "each a string"),
    "one label": ({**REVIEWS, "labels": ["a"]}, "labels", "two labels or more"),
    "a label twice": ({**REVIEWS, "labels": [1, "1"]}, "labels", "each once"),
    "an empty label": ({**REVIEWS, "labels": ["", "a"]}, "labels", "'' is not a label"),
    "a blank id": ({**REVIEWS, "id": ""}, "id", "is missing"),
    "an id without a header": (
        {**REVIEWS, "text": 0, "label": 1, "id": "key", "header": False}, "id", "no header",
    ),
    "unknown windows": ({**REVIEWS, "windows": "sum"}, "windows", '"mean" or "max"'),
    "windows over pairs": ({**REVIEWS, "text_b": "b", "windows": "max"}, "windows", "text_b"),
    "unknown weights": ({**REVIEWS, "class_weights": "balance"}, "class_weights", '"balanced"'),
    "a weight of 0": ({**REVIEWS, "class_weights": {"a": 0}}, "class_weights.a", "above 0"),
    "a weight in words": ({**REVIEWS, "class_weights": {"a": "2"}}, "class_weights.a", "above 0"),
    "a weight of no label": (
        {**REVIEWS, "labels": ["a", "b"], "class_weights": {"c": 2}}, "class_weights", "a, b",
    ),
    "several labels without a column": ({"kind": "multilabel", "text": "x"}, "label", "is missing"),
    "a list and columns": ({**ONE_HOT, "label": "topics"}, "label_columns", "beside label"),
    "no column of labels": ({"kind": "multilabel", "text": "body"}, "label", "as label_columns"),
    "no columns": ({**ONE_HOT, "label_columns": []}, "label_columns", "once"),
    "a line break": ({**ONE_HOT, "label_columns": ["a", "b\nc"]}, "label_columns", "line break"),
    "a column twice": ({**ONE_HOT, "label_columns": ["a", "a"]}, "label_columns", "once"),
    "a negative number": ({**ONE_HOT, "label_columns": [-1], "labels": ["a"]}, "label_columns",
                          "from 0"),
    "columns without names": ({**ONE_HOT, "label_columns": [1, 2]}, "labels", "no names"),
    "more labels than columns": ({**ONE_HOT, "labels": ["a"]}, "labels", "2 labels"),
    "the text as one of the columns": (
        {**ONE_HOT, "label_columns": ["sea", "body"]}, "label_columns", "same column as text",
    ),
    "a blank separator": ({**TOPICS, "label_separator": ""}, "label_separator", "is empty"),
    "a threshold of 1": ({**TOPICS, "threshold": 1}, "threshold", "less than 1"),
    "an unknown threshold": ({**TOPICS, "threshold": "best"}, "threshold", '"tuned"'),
    "no labels": ({**TOPICS, "labels": []}, "labels", "one label"),
    "a range of the wrong type": ({**GRADES, "min": "0"}, "min", "a number"),
    "a range beyond all numbers": ({**GRADES, "max": 10**400}, "max", "a number"),
    "an empty range": ({**GRADES, "min": 1, "max": 1}, "max", "more than 1"),
    "an infinite range": ({**GRADES, "max": float("inf")}, "max", "a number"),
    "a separator of a table that is too long": ({**REVIEWS, "separator": "::"}, "separator", "one"),
    "a separator of a table that ends lines": ({**GRADES, "separator": "\n"}, "separator", "one"),
    "quotes of the wrong type": ({**REVIEWS, "quotes": "yes"}, "quotes", "true or false"),
    "an unknown scheme": ({**TAGS, "scheme": "bio"}, "scheme", '"iob" or "bioes" or "bilou"'),
    "a scheme of the wrong type": ({**TAGS, "scheme": ["iob"]}, "scheme", '"iob"'),
    "a name as word column": ({**TAGS, "word_column": "word"}, "word_column", "an integer"),
    "a tag column that is true": ({**TAGS, "tag_column": True}, "tag_column", "an integer"),
    "the same column twice": ({**TAGS, "tag_column": 0}, "tag_column", "different columns"),
    "an empty separator": ({**TAGS, "separator": ""}, "separator", "white space"),
    "a separator of the wrong type": ({**TAGS, "separator": 9}, "separator", "a string"),
    "unanswerable of the wrong type": (
        {**QUESTIONS, "unanswerable": "yes"}, "unanswerable", "true or false",
    ),
    "files of the wrong type": ({**QUESTIONS, "files": "train.json"}, "files", "an object"),
    "an unknown split": ({**REVIEWS, "files": {"tran": "x.csv"}}, "files.tran", "'train'"),
    "an unknown split like no other": (
        {**TAGS, "files": {"valid": "x"}}, "files.valid", "train, dev, test",
    ),
    "a file that is not a table": (
        {**REVIEWS, "files": {"dev": "x.xls"}}, "files.dev", ".tsv, .csv",
    ),
    "a file without a name": ({**QUESTIONS, "files": {"train": ""}}, "files.train", "name of a"),
    "a file of the wrong type": ({**TAGS, "files": {"dev": 1}}, "files.dev", "name of a"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_definitions(case):
    definition, key, word = BAD[case]
    with pytest.raises(UserError) as error:
        read_definition("mine", definition)
    assert error.value.where == f"hparam tasks.mine.{key}"
    assert word in str(error.value)
