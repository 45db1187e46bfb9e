"""The baseline, the scores and the display of the quickstart's tags."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))  # scripts beside each other, not a package

import tag_scores  # noqa: E402
from parameter_lists import TaggedText  # noqa: E402

TEXT = TaggedText(
    ("axis", "int", "or", "None", "default", "0", "Axis"),
    ("B-NAME", "B-TYPE", "I-TYPE", "I-TYPE", "O", "B-DEFAULT", "O"),
)


def test_commonest_tag():
    texts = [
        TaggedText(("x", "int", "x", "of"), ("B-NAME", "B-TYPE", "O", "O")),
        TaggedText(("x", "int", "or", "y"), ("B-NAME", "B-TYPE", "I-TYPE", "B-NAME")),
        TaggedText(("z", "x"), ("B-NAME", "O")),
    ]
    baseline = tag_scores.CommonestTag(texts)
    # x is a name as often as not; words seen once are names most often, so unknown ones are.
    assert baseline.tag(["x", "int", "or", "of", "unknown"]) == [
        "S-NAME",
        "B-TYPE",
        "E-TYPE",
        "O",
        "S-NAME",
    ]
    assert tag_scores.CommonestTag(texts[:1] * 2).tag(["unknown"]) == ["O"]


def test_scores():
    gold = [TEXT.tags, ("B-NAME", "O")]
    learned = [tag_scores.as_learned(tags) for tags in gold]
    assert learned[0] == ["S-NAME", "B-TYPE", "I-TYPE", "E-TYPE", "O", "S-DEFAULT", "O"]
    assert tag_scores.score(gold, learned) == tag_scores.score(gold, gold)
    assert tag_scores.score(gold, gold) == {"all": 100.0, "NAME": 100, "TYPE": 100, "DEFAULT": 100}
    found = [("B-NAME", "B-TYPE", "O", "B-TYPE", "O", "B-DEFAULT", "B-NAME"), ("O", "O")]
    scores = tag_scores.score(gold, found)
    # Right: a name of 2 (2 found), no type (2 found), the default.
    assert scores == {
        "all": pytest.approx(100 * 2 * 2 / (4 + 5)),
        "NAME": pytest.approx(50),
        "TYPE": 0.0,
        "DEFAULT": pytest.approx(100),
    }


def test_the_table_shows_means_and_each_trial():
    one = {"all": 50.0, "NAME": 60.0, "TYPE": 40.0}
    text = tag_scores.table({"base": [one], "pre-trained": [one, {**one, "all": 52.0}]})
    assert text.splitlines() == [
        "                    all     names     types  defaults",
        "  base             50.0      60.0      40.0       0.0",
        "  pre-trained      51.0      60.0      40.0       0.0   (50.0, 52.0)",
    ]


def test_the_display():
    predicted = ["B-NAME", "B-TYPE", "O", "B-TYPE", "O", "B-DEFAULT", "O"]
    assert tag_scores.render(TEXT, predicted, color=False).splitlines() == [
        "  [NAME axis]+ [TYPE int]- or [TYPE None]- default [DEFAULT 0]+ Axis",
        "    found 2 of 3; missed: TYPE int or None",
    ]
    assert tag_scores.render(TEXT, TEXT.tags, color=False).endswith("found 3 of 3")
    coloured = tag_scores.render(TEXT, predicted, color=True)
    assert "\033[32m[NAME axis]+\033[0m" in coloured and "\033[31m[TYPE int]-\033[0m" in coloured
