"""Regression without code: the range of the scores, and scores that can't be used."""

import json
import math

import pytest

from electra_tf2.errors import UserError
from tests.finetune.classification.classification_samples import make_task, write

GRADES = {"kind": "regression", "text": "body", "label": "grade"}


def test_ranges_come_from_rows_that_are_used(tmp_path):
    rows = [{"body": "a", "grade": 0.1}, {"body": "b", "grade": 0.9}]
    skipped = [{"body": None, "grade": 9999}, {"body": [], "grade": -5}, {"body": "c", "grade": 7}]
    skipped += [{"body": "d", "grade": math.inf}, {"body": "e", "grade": math.nan}]
    write(tmp_path / "t" / "train.jsonl", *map(json.dumps, rows + skipped))
    task = make_task(tmp_path, {**GRADES, "max": 5})
    assert task.score_range() == (0.1, 5.0)
    assert make_task(tmp_path, {**GRADES, "min": 0, "max": 5}).score_range() == (0.0, 5.0)
    assert len(task.get_examples("train")) == 2


def test_a_range_too_wide_to_be_scaled(tmp_path):
    path = write(tmp_path / "t" / "train.csv", "body,grade", "a,-1e308", "b,1e308", "c,1", "d,2")
    with pytest.raises(UserError) as error:
        make_task(tmp_path, GRADES).score_range()
    assert error.value.where == path and "too wide" in error.value.what
    task = make_task(tmp_path, {**GRADES, "min": 1, "max": 2})
    targets = [row["targets"] for row in task.featurize(task.get_examples("train"), True)]
    assert targets == [0.0, 1.0]


def test_equal_scores_need_a_range_and_have_no_correlation(tmp_path, caplog):
    for split in ("train", "dev"):
        write(tmp_path / "t" / f"{split}.csv", "body,grade", "a,3", "b,3.0")
    with pytest.raises(UserError, match="give min and max"):
        make_task(tmp_path, GRADES).score_range()
    task = make_task(tmp_path, {**GRADES, "min": 1, "max": 5})
    rows = list(task.featurize(task.get_examples("dev"), False))
    assert [row["targets"] for row in rows] == [0.5, 0.5]
    assert "all scores are 3.0" in caplog.text


@pytest.mark.parametrize(
    ("grade", "hint"),
    [("4,5", "a point before"), ("4,500", "between thousands"), ("-1,234,500", "thousands, or")]
    + [("0,125", "a point before"), ("1.234,5", "without points"), ("1.234.500", "points between")],
)
def test_commas_in_numbers_are_named(tmp_path, grade, hint):
    write(tmp_path / "t" / "train.csv", "body;grade", *[f"a;{grade}"] * 21, "b;1")
    with pytest.raises(UserError, match=f"'{grade}' is not a number: write .*{hint}"):
        make_task(tmp_path, GRADES).get_examples("train")


def test_points_between_thousands_make_others_uncertain(tmp_path):
    path = write(tmp_path / "t" / "train.csv", "body;grade", "a;1.500", "b;2.250,5", "c;9")
    with pytest.raises(
        UserError, match="(?s)'2.250,5'.*'1.500' on line 2.*without points"
    ) as error:
        make_task(tmp_path, GRADES).score_range()
    assert error.value.where == f"{path}, line 3"
    write(tmp_path / "t" / "train.csv", "body;grade", "a;1.500", "b;0.250,5", "c;9")
    assert make_task(tmp_path, GRADES).score_range() == (1.5, 9.0)


def test_scores_without_a_range_name_the_rows_that_are_left_out(tmp_path):
    write(tmp_path / "t" / "train.csv", "body;grade", "a;3,5", "b;4", "c;4")
    with pytest.raises(UserError, match="from 4 to 4 .*'3,5' is not a number"):
        make_task(tmp_path, GRADES).score_range()


def test_an_underscore_is_not_part_of_a_number(tmp_path):
    write(tmp_path / "t" / "train.csv", "body,grade", *["a,1_000"] * 21, "b,1")
    with pytest.raises(UserError, match="'1_000' is not a number"):
        make_task(tmp_path, GRADES).get_examples("train")


def test_regression_takes_the_range_of_the_training_file(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tgrade", "a\t-2", "b\t6", "c\t0", "d\tx")
    write(tmp_path / "t" / "dev.tsv", "body\tgrade", "a\t8")
    task = make_task(tmp_path, GRADES)
    rows = list(task.featurize(task.get_examples("train"), True))
    assert [row["targets"] for row in rows] == [0.0, 1.0, 0.25]
    assert task.get_state() == {"min": -2.0, "max": 6.0}
    assert task.get_examples("dev")[0].label == 8.0
    loaded = make_task(tmp_path, GRADES)
    loaded.set_state(json.loads(json.dumps(task.get_state())))
    (record,) = loaded.prediction_records(
        "dev", [{"eid": 0, "predictions": 0.5}], task.get_examples("dev")
    )
    assert record == {"id": 0, "score": 2.0}


def test_regression_with_a_range_of_its_own(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tgrade", "a\t1", "b\t6")
    task = make_task(tmp_path, {**GRADES, "min": 0, "max": 5})
    assert [e.label for e in task.get_examples("train")] == [1.0]
    assert task.score_range() == (0.0, 5.0)
    assert task.feature_settings() != make_task(tmp_path, {**GRADES, "min": 0}).feature_settings()
