"""Several labels a text: files, features, loss, scores, thresholds."""

import json

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from sklearn import metrics

from electra_tf2.errors import UserError
from finetune import task_builder
from finetune.classification.multilabel import MultilabelHead, MultilabelScorer, best_threshold
from finetune.classification.multilabel_tables import split_labels
from tests.finetune.classification.classification_samples import (
    TOKENIZER,
    make_config,
    make_task,
    write,
)

TOPICS = {"kind": "multilabel", "text": "body", "label": "topics"}
COLUMNS = {"kind": "multilabel", "text": "body", "label_columns": ["sea", "land", "air"]}
STREAM = np.random.default_rng(3)


def labels_of(task, split="train"):
    return [example.labels for example in task.get_examples(split)]


def jsonl(*rows):
    return [json.dumps(row) for row in rows]


@pytest.mark.parametrize(
    "file, lines, definition",
    [
        (
            "train.jsonl",
            jsonl(
                {"body": "a", "topics": ["sea", "land"]},
                {"body": "b", "topics": []},
                {"body": "c", "topics": ["air", "air"]},
                {"body": "d", "topics": None},
            ),
            TOPICS,
        ),
        ("train.csv", ["body,topics", 'a,"sea, land"', "b,", "c,air"], TOPICS),
        ("train.csv", ["body,topics", "a,\"['sea', 'land']\"", "b,[]", 'c,"[""air""]"'], TOPICS),
        (
            "train.tsv",
            ["body\ttopics", "a\tsea | land", "b\t", "c\tair|"],
            {**TOPICS, "label_separator": "|"},
        ),
        (
            "train.csv",
            ["id,body,land,sea,air", "1,a,1,1,0", "2,b,0,0,0", "3,c,0.0,0,1.0", "4,d,0,,0"],
            COLUMNS,
        ),
        (
            "train.jsonl",
            jsonl(
                {"body": "a", "sea": 1, "land": True, "air": 0},
                {"body": "b", "sea": "0", "land": False, "air": 0.0},
                {"body": "c", "sea": 0, "land": 0, "air": 1.0},
                {"body": "d", "sea": 2, "land": 0, "air": 1},
            ),
            COLUMNS,
        ),
        (
            "train.csv",
            ["a,1,1,0", "b,0,0,0", "c,0,0,1"],
            {
                **COLUMNS,
                "text": 0,
                "label_columns": [1, 2, 3],
                "labels": ["sea", "land", "air"],
                "header": False,
            },
        ),
    ],
)
def test_files(tmp_path, file, lines, definition):
    write(tmp_path / "t" / file, *lines)
    task = make_task(tmp_path, definition)
    wanted = ("sea", "land", "air") if "label_columns" in definition else ("air", "land", "sea")
    assert task.label_list == wanted
    assert list(map(set, labels_of(task))) == [{"sea", "land"}, set(), {"air"}]
    rows = list(task.featurize(task.get_examples("train"), True))
    found = [{wanted[i] for i in np.flatnonzero(row["labels"])} for row in rows]
    assert found == [{"sea", "land"}, set(), {"air"}]
    assert [row["unknown_labels"] for row in rows] == [0, 0, 0]


@pytest.mark.parametrize("yes, no", [("X", "0"), ("1", "")])
def test_columns_of_something_else_than_0_and_1(tmp_path, yes, no):
    write(tmp_path / "t" / "train.csv", "body,sea,land,air", f"a,{yes},{no},{yes}")
    with pytest.raises(UserError, match=r"(?s)column '(sea|land)' is neither.*write 0 for no"):
        make_task(tmp_path, COLUMNS).get_examples("train")


@pytest.mark.parametrize(
    "value, labels",
    [
        ("", ()),
        (" a ,b,, a ", ("a", "b")),
        ("[]", ()),
        ("['it\\'s', \"b, c\"]", ("it's", "b, c")),
        ("[1, two]", ("1", "two")),
        ([1, True, " x "], ("1", "true", "x")),
        (3, ("3",)),
        ("('a', 'b, c')", ("a", "b, c")),
        ("('a',)", ("a",)),
        ("{'b', 'a'}", ("b", "a")),
        ("()", ()),
        ("set()", ()),
        ("['a' \"b's\"\n 'c, d']", ("a", "b's", "c, d")),
        ("[ 3 27]", ("3", "27")),
        ("[0. 1. 0.5]", ("0.0", "1.0", "0.5")),
        ("[1.]", ("1.0",)),
        ("[ True False]", ("True", "False")),
        ("(other), (a)", ("(other)", "(a)")),
        ("(other)", ("(other)",)),
    ],
)
def test_cells(value, labels):
    assert tuple(dict.fromkeys(split_labels(value, ","))) == labels


@pytest.mark.parametrize(
    "value", ["['a' b]", "[a b]", "[0 0 ... 1]", "{'a': 1}", {"a": 1}, [["a"]], [""]]
)
def test_cells_that_are_not_lists_of_labels(value):
    with pytest.raises(ValueError):
        split_labels(value, ",")


def test_a_separator_of_white_space():
    assert split_labels("a\tb c", "\t") == ["a", "b c"]
    assert split_labels(" a  b", " ") == ["a", "b"]


@pytest.mark.parametrize("mark", ["|", "、", "，", "،"])
def test_another_separator_is_named(tmp_path, monkeypatch, mark):
    rows = [f"a\tx{mark}y", f"b\ty{mark}z", "c\tx"]
    write(tmp_path / "t" / "train.tsv", "body\ttopics", *rows)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: warnings.append(form % args))
    assert make_task(tmp_path, TOPICS).label_list == ("x", f"x{mark}y", f"y{mark}z")
    assert len(warnings) == 1 and "label_separator" in warnings[0] and repr(mark) in warnings[0]


@pytest.mark.parametrize(
    ("cells", "named"),
    [
        (["x", "y", "z", "x;y"], True),  # a label beside others
        (["__label__x", "__label__x __label__y", "__label__y"], True),  # fastText's
        (["new york", "york", "land", "sea"], False),
        (["rock/pop", "jazz", "land", "sea"], False),
    ],
)
def test_a_separator_that_few_labels_hold_is_named(tmp_path, caplog, cells, named):
    write(tmp_path / "t" / "train.tsv", "body\ttopics", *(f"a\t{cell}" for cell in cells))
    assert len(make_task(tmp_path, TOPICS).label_list) == len(cells)
    assert ("label_separator" in caplog.text) is named


def test_a_comma_in_labels_of_lists_is_no_separator_to_name(tmp_path, caplog):
    rows = [{"body": "a", "topics": ["land, sea"]}, {"body": "b", "topics": ["air, sea"]}]
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows))
    assert make_task(tmp_path, TOPICS).label_list == ("air, sea", "land, sea")
    assert "label_separator" not in caplog.text


def test_labels_that_are_no_lists_are_named(tmp_path):
    rows = [{"body": "a", "topics": {"sea": 1, "land": 0}}, {"body": "b", "topics": []}]
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows))
    with pytest.raises(UserError, match="no label(?s:.*)line 1: .*is not a list of labels"):
        _ = make_task(tmp_path, TOPICS).label_list


def test_labels_that_training_lacks_are_named_and_count_as_missed(tmp_path, monkeypatch):
    write(tmp_path / "t" / "train.tsv", "body\ttopics", "a\tx,y")
    write(tmp_path / "t" / "dev.tsv", "body\ttopics", "a\tx", "b\tx,new,other")
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: warnings.append(form % args))
    task = make_task(tmp_path, TOPICS)
    rows = list(task.featurize(task.get_examples("dev"), False))
    assert sum("never predicted" in line for line in warnings) == 2
    assert [row["unknown_labels"] for row in rows] == [0, 2]
    scorer = task.get_scorer()
    for row in rows:
        scorer.update({**row, "loss": 0.0, "logits": np.array([9.0, -9.0])})
    results = dict(scorer.get_results())
    assert results["micro_f1"] == pytest.approx(100 * 2 * 2 / (2 + 4))
    assert results["subset_accuracy"] == 50


VECTORS = {
    "train.jsonl": jsonl(
        {"body": "a", "topics": [0, 1, 1]},
        {"body": "b", "topics": [False, False, False]},
        {"body": "c", "topics": [1.0, 0.0, 0.0]},
    ),
    "train.csv": ["body,topics", 'a,"[0, 1, 1]"', 'b,"[0, 0, 0]"', 'c,"[1, 0, 0]"'],
}


@pytest.mark.parametrize("file", VECTORS)
def test_lists_of_0_and_1_need_names(tmp_path, file):
    write(tmp_path / "t" / file, *VECTORS[file])
    task = make_task(tmp_path, {**TOPICS, "labels": ["sea", "land", "air"]})
    assert labels_of(task) == [("land", "air"), (), ("sea",)]
    with pytest.raises(UserError, match="labels in the hparam tasks.t: 3") as error:
        make_task(tmp_path, TOPICS).get_feature_specs()
    assert error.value.where.endswith(file) and error.value.received == "[0, 1, 1]"
    with pytest.raises(UserError, match="for a task with 2 labels"):
        make_task(tmp_path, {**TOPICS, "labels": ["sea", "land"]}).get_examples("train")


@pytest.mark.parametrize("cells", [([1], [0]), (1, 0), (True, "[0]"), ("1.0", "false")])
def test_a_single_label_may_be_a_list_of_one(tmp_path, cells):
    rows = [{"body": "a", "topics": cell} for cell in cells]
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows))
    assert labels_of(make_task(tmp_path, {**TOPICS, "labels": ["spam"]})) == [("spam",), ()]


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("cells", [("", "010", "100"), ([], [0.9, 0.1]), ([], "x;y")])
def test_a_file_without_a_known_label(tmp_path, split, cells):
    rows = [{"body": "a", "topics": cell} for cell in cells]
    write(tmp_path / "t" / f"{split}.jsonl", *jsonl(*rows))
    task = make_task(tmp_path, {**TOPICS, "labels": ["x", "y"]})
    with pytest.raises(UserError, match="tasks.t") as error:
        task.get_examples(split)
    assert error.value.where.endswith(f"{split}.jsonl, line 2")


def test_a_label_may_hold_the_separator(tmp_path):
    names = ["Books", "Sports, Outdoors"]
    write(tmp_path / "t" / "train.csv", "body,topics", f'a," {names[1]} "', "b,Books")
    task = make_task(tmp_path, {**TOPICS, "labels": names})
    assert labels_of(task) == [(names[1],), (names[0],)]
    topics = [names, names[1], "Books, Other"]
    write(tmp_path / "u" / "train.jsonl", *jsonl(*({"body": "a", "topics": x} for x in topics)))
    config = make_config(tmp_path, tasks={"u": TOPICS})
    task = task_builder.get_task(config, "u", TOKENIZER)
    assert labels_of(task) == [tuple(names), (names[1],), ("Books", "Other")]
    assert task.label_list == ("Books", "Other", names[1])


def test_0_and_1_may_be_labels(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\ttopics", "a\t0,1", "b\t1", "c\t")
    assert labels_of(make_task(tmp_path, TOPICS)) == [("0", "1"), ("1",), ()]


def test_spellings_of_a_label_are_one(tmp_path, caplog):
    lists = [["cafe\u0301", "caf\u00e9"], ["caf\u00e9"], [7], [7.0]]
    rows = [{"body": "a", "topics": topics} for topics in lists]
    for name in ("train", "dev"):
        write(tmp_path / "t" / f"{name}.jsonl", *jsonl(*rows))
    task = make_task(tmp_path, TOPICS)
    assert task.label_list == ("7", "caf\u00e9")
    assert labels_of(task, "dev") == [("caf\u00e9",), ("caf\u00e9",), ("7",), ("7",)]
    assert "taken for one label" in caplog.text and "never predicted" not in caplog.text


def test_no_labels_at_all(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\ttopics", "a\t", "b\t")
    with pytest.raises(UserError, match="tasks.t.label") as error:
        make_task(tmp_path, TOPICS).get_feature_specs()
    assert error.value.where.endswith("train.tsv")


def test_the_loss_is_the_mean_binary_cross_entropy():
    head = MultilabelHead(3, 0.5)
    head.build((None, None, 8))
    states = tf.random.stateless_normal([4, 5, 8], seed=[1, 2])
    labels = STREAM.integers(0, 2, (4, 3)).astype(np.float32)
    features = {"labels": tf.constant(labels), "unknown_labels": tf.zeros([4], tf.int32)}
    losses, outputs = head(states, features)
    p = 1 / (1 + np.exp(-np.asarray(outputs["logits"], np.float64)))
    wanted = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p), axis=-1)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def fill(scorer, true, logits, unknown=0):
    for i, (own, z) in enumerate(zip(true, logits, strict=True)):
        scorer.update({"eid": i, "loss": i, "labels": own, "logits": z, "unknown_labels": unknown})
    return scorer


def test_scores_are_those_of_scikit_learn():
    true = STREAM.integers(0, 2, (50, 4))
    true[:, 3] = 0
    logits = STREAM.normal(size=(50, 4)) + true
    scorer = fill(MultilabelScorer("abcd", 0.6), true, logits)
    predicted = 1 / (1 + np.exp(-logits)) >= 0.6
    results = dict(scorer.get_results())
    assert list(results) == ["micro_f1", "macro_f1", "subset_accuracy", "loss"]
    for average in ("micro", "macro"):
        wanted = metrics.f1_score(true, predicted, average=average, zero_division=0)
        assert results[f"{average}_f1"] == pytest.approx(100 * wanted)
    assert results["subset_accuracy"] == pytest.approx(
        100 * metrics.accuracy_score(true, predicted)
    )
    assert results["loss"] == scorer.get_loss() == 24.5
    table = metrics.precision_recall_fscore_support(true, predicted, zero_division=0)
    figures = scorer.class_scores().figures
    assert [f.name for f in figures] == ["a", "b", "c", "d", "(all)"]
    for own, precision, recall, f1, gold in zip(figures[:4], *table, strict=True):
        assert own[1:] == pytest.approx((100 * precision, 100 * recall, 100 * f1, gold))
    assert scorer.stuck_at() is None


@pytest.mark.parametrize("predicted, stuck", [(-9.0, "no label"), (9.0, "the labels 'a', 'b'")])
def test_stuck_runs(predicted, stuck):
    true = np.array([[0, 1], [1, 0]])
    assert fill(MultilabelScorer("ab"), true, np.full((2, 2), predicted)).stuck_at() == stuck
    assert fill(MultilabelScorer("ab"), true[:1], np.full((1, 2), predicted)).stuck_at() is None


@pytest.mark.parametrize("missed", [0, 7])
def test_the_tuned_threshold_has_the_best_micro_f1(missed):
    true = STREAM.integers(0, 2, (40, 3)) > 0
    probabilities = np.round(STREAM.random((40, 3)) * 0.6 + 0.3 * true, 2)  # with ties

    def f1(threshold):
        predicted = probabilities >= threshold
        return 2 * (predicted & true).sum() / (predicted.sum() + true.sum() + missed)

    found = best_threshold(true, probabilities, missed)
    assert f1(found) == max(map(f1, np.linspace(0, 1, 1001)))
    assert best_threshold(np.zeros((2, 2), bool), probabilities[:2, :2]) == 0.5


def test_only_a_run_that_trains_tunes(tmp_path):
    definition = {**TOPICS, "labels": ["x", "y"], "threshold": "tuned"}
    task = make_task(tmp_path, definition)
    true, logits = np.array([[1, 0], [0, 1]]), np.array([[-1.0, -3.0], [-3.0, -1.5]])
    scorer = fill(task.get_scorer(), true, logits)
    results = dict(scorer.get_results())
    assert results["micro_f1"] == 100
    assert scorer.tuned() == {"threshold": results["threshold"]}
    assert task.prediction({"logits": logits[0]})["labels"] == []
    task.set_tuned(scorer.tuned())
    assert task.prediction({"logits": logits[0]})["labels"] == ["x"]
    task.config.do_train = False
    scorer = fill(task.get_scorer(), true, logits)
    assert "threshold" not in dict(scorer.get_results()) and scorer.tuned() == {}
    assert dict(scorer.get_results())["micro_f1"] == 100
    fixed = make_task(tmp_path, {**definition, "threshold": 0.7})
    fixed.set_tuned({})
    assert fixed.threshold == 0.7


def test_a_model_of_another_kind(tmp_path):
    reviews = {"kind": "classification", "text": "body", "label": "topics"}
    several = {"labels": ["x", "y"], "multilabel": True}
    for definition, state in [(TOPICS, {"labels": ["x", "y"]}), (reviews, several), (TOPICS, {})]:
        with pytest.raises(UserError, match="another kind"):
            make_task(tmp_path, definition).set_state(state)
    task = make_task(tmp_path, TOPICS)
    task.set_state(several)
    assert task.label_list == ("x", "y") and task.get_state() == several
    with pytest.raises(UserError, match="trained with") as error:
        make_task(tmp_path, {**TOPICS, "labels": ["y", "x"]}).set_state(several)
    assert error.value.where == "hparam tasks.t.labels"


def test_lists_in_a_task_with_one_label(tmp_path):
    reviews = {"kind": "classification", "text": "body", "label": "topics"}
    write(tmp_path / "t" / "train.jsonl", *jsonl({"body": "a", "topics": ["x"]}))
    with pytest.raises(UserError, match="multilabel"):
        make_task(tmp_path, reviews).get_examples("train")
    with pytest.raises(UserError, match="multilabel"):
        make_task(tmp_path, reviews).get_state()
