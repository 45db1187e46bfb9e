"""From texts to token ids and labels."""

import itertools
import json

import numpy as np
import pytest

from electra_tf2.errors import UserError
from finetune.classification.regression import RegressionTask
from finetune.classification.tasks import ClassificationTask, InputExample
from tests.finetune.classification.classification_samples import (
    CLS,
    SEP,
    TOKENIZER,
    ids,
    make_config,
)


class Labelled(ClassificationTask):
    def read_examples(self, path, split):
        raise NotImplementedError


class Scored(RegressionTask):
    def read_examples(self, path, split):
        raise NotImplementedError


def features(tmp_path, examples, max_seq_length=32, labels=("no", "yes")):
    config = make_config(tmp_path, max_seq_length=max_seq_length)
    return list(Labelled(config, "t", TOKENIZER, labels).featurize(examples, True))


def test_one_text_and_two(tmp_path):
    one, two = features(
        tmp_path, [InputExample(3, "a b", None, "yes"), InputExample(4, "a", "b c", "no")]
    )
    assert one["eid"] == 3 and one["label_ids"] == 1
    np.testing.assert_array_equal(one["input_ids"], [CLS, *ids("a b"), SEP])
    np.testing.assert_array_equal(one["segment_ids"], [0] * 4)
    assert two["eid"] == 4 and two["label_ids"] == 0
    np.testing.assert_array_equal(two["input_ids"], [CLS, *ids("a"), SEP, *ids("b c"), SEP])
    np.testing.assert_array_equal(two["segment_ids"], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("second", [None, "", " ", "\u200b"])
def test_a_second_text_without_tokens_makes_one_segment(tmp_path, second):
    (row,) = features(tmp_path, [InputExample(0, "a b", second, "yes")])
    np.testing.assert_array_equal(row["input_ids"], [CLS, *ids("a b"), SEP])
    assert not row["segment_ids"].any()


def test_an_empty_text_has_its_special_tokens(tmp_path):
    (row,) = features(tmp_path, [InputExample(0, "", None, "yes")])
    np.testing.assert_array_equal(row["input_ids"], [CLS, SEP])


def test_one_text_is_cut_to_what_fits(tmp_path):
    (row,) = features(tmp_path, [InputExample(0, "a b c d e f g", None, "no")], max_seq_length=6)
    np.testing.assert_array_equal(row["input_ids"], [CLS, *ids("a b c d"), SEP])


def test_tokens_that_are_cut_off_are_counted(tmp_path):
    examples = [
        InputExample(0, "a b c d", None, "no"),
        InputExample(1, "a b c d e f g", None, "no"),
        InputExample(2, "a b c d", "e f", "no"),
    ]
    assert [row["cut"] for row in features(tmp_path, examples, max_seq_length=6)] == [0, 3, 3]


def test_the_second_text_gives_way_on_a_tie(tmp_path):
    (row,) = features(tmp_path, [InputExample(0, "a b c", "d e f", "no")], max_seq_length=8)
    np.testing.assert_array_equal(row["input_ids"], [CLS, *ids("a b c"), SEP, *ids("d e"), SEP])
    np.testing.assert_array_equal(row["segment_ids"], [0] * 5 + [1] * 3)


def test_no_examples_no_features(tmp_path):
    assert features(tmp_path, []) == []


def test_too_short_a_length_is_refused(tmp_path):
    with pytest.raises(UserError, match="max_seq_length = 4"):
        features(tmp_path, [InputExample(0, "a", "b", "no")], max_seq_length=4)


def test_unknown_label_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"example 7[\s\S]*'maybe'[\s\S]*'no', 'yes'"):
        features(tmp_path, [InputExample(7, "a", None, "maybe")])


def test_labels_are_needed_in_training_only(tmp_path):
    task = Labelled(make_config(tmp_path), "t", TOKENIZER, ["no", "yes"])
    unlabelled = [InputExample(0, "a")]
    (row,) = task.featurize(unlabelled, False)
    assert row["label_ids"] == 0
    with pytest.raises(ValueError, match="no label"):
        list(task.featurize(unlabelled, True))


def test_scores_are_normalized_as_officially(tmp_path):
    task = Scored(make_config(tmp_path), "t", TOKENIZER, 1.0, 5.0)
    low, high, unknown = task.featurize(
        [InputExample(0, "a", None, 1.0), InputExample(1, "a", None, 4.0), InputExample(2, "a")],
        False,
    )
    assert (low["targets"], high["targets"], unknown["targets"]) == (0.0, 0.6, 0.0)
    outputs = [{"eid": 1, "predictions": np.float32(0.6)}]
    (record,) = task.prediction_records("test", outputs, [InputExample(1, "a")])
    assert record["id"] == 1 and record["score"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("x", "not a number"), ("", "not a number"), ("nan", "not finite"), ("inf", "not finite")]
    + [("5.001", "above 5"), ("-0.1", "below 0")],
)
def test_unusable_scores(tmp_path, text, problem):
    task = Scored(make_config(tmp_path), "t", TOKENIZER, 0.0, 5.0)
    with pytest.raises(ValueError, match=problem):
        task.parse_label(text)


def test_records_have_labels_and_probabilities_in_the_examples_order(tmp_path):
    task = Labelled(make_config(tmp_path), "t", TOKENIZER, ["no", "yes"])
    outputs = [
        {"eid": 1, "predictions": np.int64(0), "logits": np.float32([1000, -1000])},
        {"eid": 0, "predictions": np.int64(1), "logits": np.float32([0, np.log(3)])},
    ]
    records = task.prediction_records("test", outputs, [InputExample(0, "a"), InputExample(1, "b")])
    assert [record["id"] for record in records] == [0, 1]
    assert [record["label"] for record in records] == ["yes", "no"]
    assert records[0]["probabilities"] == pytest.approx({"no": 0.25, "yes": 0.75})
    assert records[1]["probabilities"] == {"no": 1.0, "yes": 0.0}


def test_features_depend_on_labels_and_range(tmp_path):
    config = make_config(tmp_path)
    settings = [
        Labelled(config, "t", TOKENIZER, ["a", "b"]).feature_settings(),
        Labelled(config, "t", TOKENIZER, ["b", "a"]).feature_settings(),
        Scored(config, "t", TOKENIZER, 0, 1).feature_settings(),
        Scored(config, "t", TOKENIZER, 0, 2).feature_settings(),
    ]
    assert all(a != b for a, b in itertools.combinations(settings, 2))


def test_a_model_with_the_labels_in_another_order_is_refused(tmp_path):
    task = Labelled(make_config(tmp_path), "t", TOKENIZER, ["no", "yes"])
    task.set_state(task.get_state())
    task.set_state({})
    for labels in (["yes", "no"], ["no", "yes", "maybe"]):
        with pytest.raises(UserError) as error:
            task.set_state({"labels": labels})
        for part in ("labels of the task 't'", "['no', 'yes']", f"trained with {labels}"):
            assert part in str(error.value)
    assert task.label_list == ("no", "yes")


def test_a_teacher_with_the_labels_in_another_order_is_told_where_no_state_is_kept(tmp_path):
    class Stateless(Labelled):
        def get_state(self):
            return {}

    for kind in (Labelled, Stateless):
        own, others = (
            kind(make_config(tmp_path), "t", TOKENIZER, labels).soft_targets().meaning
            for labels in (["no", "yes"], ["yes", "no"])
        )
        assert own == {"labels": ["no", "yes"]} and others == {"labels": ["yes", "no"]}


def test_a_model_with_another_range_of_scores_is_refused(tmp_path):
    task = Scored(make_config(tmp_path), "t", TOKENIZER, 0, 5)
    task.set_state(json.loads(json.dumps(task.get_state())))
    task.set_state({})
    with pytest.raises(UserError, match=r"(?s)score of the task 't'.*\[0, 5\].*\[0.0, 4.0\]"):
        task.set_state({"min": 0, "max": 4})


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda *args: Labelled(*args, ["no", "yes"]), {"min": 0, "max": 1}),
        (lambda *args: Labelled(*args, ["no", "yes"]), {"labels": "no"}),
        (lambda *args: Scored(*args, 0, 1), {"labels": ["no", "yes"]}),
        (lambda *args: Scored(*args, 0, 1), {"min": 0}),
        (lambda *args: Scored(*args, 0, 1), {"min": 0, "max": "1"}),
    ],
)
def test_the_state_of_another_kind_of_task(tmp_path, make, state):
    with pytest.raises(UserError, match="(?s)another kind.*task t"):
        make(make_config(tmp_path), "t", TOKENIZER).set_state(state)


@pytest.mark.parametrize("eids", [[0], [0, 1, 2], [0, 2]])
def test_a_file_that_changes_between_its_features_and_its_predictions(tmp_path, eids):
    task = Labelled(make_config(tmp_path), "t", TOKENIZER, ["no", "yes"])
    outputs = [{"eid": i, "predictions": 0, "logits": [0.0, 0.0]} for i in (0, 1)]
    with pytest.raises(UserError, match="(?s)file was changed.*t/test.tsv"):
        task.prediction_records("test", outputs, [InputExample(i, "a") for i in eids])
