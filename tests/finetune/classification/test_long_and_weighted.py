"""Windows over long texts, weights of classes, ids of rows: what they add to features."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from electra_tf2.errors import UserError
from finetune.classification.tasks import ClassificationHead, InputExample
from finetune.windows import Windows
from tests.finetune.classification.classification_samples import CLS, SEP, ids, write
from tests.finetune.classification.classification_samples import make_task as task_of

REVIEWS = {"kind": "classification", "text": "body", "label": "stars", "labels": ["0", "1"]}
GRADES = {"kind": "regression", "text": "body", "label": "stars", "min": 0, "max": 4}
TOPICS = {"kind": "multilabel", "text": "body", "label": "stars", "labels": ["0", "1"]}
LONG = "a b c d e f g h i j"


def make_task(tmp_path, definition, **values):
    return task_of(tmp_path, definition, max_seq_length=6, doc_stride=3, **values)


@pytest.mark.parametrize("length", [0, 1, 4, 5, 7, 8, 23])
@pytest.mark.parametrize("doc_stride", [1, 3, 4, 128])
def test_windows_cover_a_text_and_none_is_needless(length, doc_stride):
    tokens = np.arange(length)
    sizes = Windows.of(6, doc_stride)
    parts = sizes.cut(tokens)
    assert set(np.concatenate(parts)) == set(tokens)
    assert all(len(part) <= 4 for part in parts)
    assert all(part[0] == i * sizes.stride for i, part in enumerate(parts) if length)
    assert len(parts) == 1 or set(np.concatenate(parts[:-1])) != set(tokens)


def test_each_window_is_an_example(tmp_path):
    task = make_task(tmp_path, {**REVIEWS, "windows": "mean"})
    examples = [InputExample(0, LONG, label="1"), InputExample(1, "a", label="0")]
    rows = list(task.featurize(examples, True))
    texts = ["a b c d", "d e f g", "g h i j", "a"]
    assert [[*row["input_ids"]] for row in rows] == [[CLS, *ids(text), SEP] for text in texts]
    assert [row["eid"] for row in rows] == [0, 0, 0, 1]
    assert [row["label_ids"] for row in rows] == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="single texts"):
        list(task.featurize([InputExample(0, LONG, "b")], False))


@pytest.mark.parametrize("join", ["mean", "max"])
@pytest.mark.parametrize("definition", [REVIEWS, TOPICS, GRADES], ids=lambda d: d["kind"])
def test_the_windows_of_a_text_have_one_result(tmp_path, definition, join):
    """As if the head had put out the joined logits."""
    task = make_task(tmp_path, {**definition, "windows": join})
    stream = np.random.default_rng(0)
    eids = [1, 0, 1, 2, 1]
    logits = stream.normal(size=(5, 2)).astype(np.float32)
    outputs = [
        {"eid": e, "logits": z, "predictions": z[0], "targets": np.float32(0.25), "loss": 9.0}
        | {"label_ids": 1, "labels": np.array([0.0, 1.0]), "unknown_labels": 0}
        for e, z in zip(eids, logits, strict=True)
    ]
    found = {output["eid"]: output for output in task.join_rows(outputs)}
    assert sorted(found) == [0, 1, 2]
    z = getattr(np, join)(logits[[0, 2, 4]], axis=0)
    if definition is GRADES:
        assert found[1]["predictions"] == pytest.approx(z[0])
        assert found[1]["loss"] == pytest.approx((z[0] - 0.25) ** 2)
        return
    np.testing.assert_allclose(found[1]["logits"], z)
    if definition is REVIEWS:
        assert found[1]["predictions"] == z.argmax()
        assert found[1]["loss"] == pytest.approx(-log_softmax(z)[1])
    else:
        p = 1 / (1 + np.exp(-z))
        assert found[1]["loss"] == pytest.approx(-np.mean(np.log([1 - p[0], p[1]])), rel=1e-5)
    np.testing.assert_allclose(found[0]["logits"], logits[1])


def weights(task, labels, is_training=True):
    examples = [InputExample(i, "a", label=label) for i, label in enumerate(labels)]
    return [row.get("weights") for row in task.featurize(examples, is_training)]


def test_weights_of_classes(tmp_path):
    labels = ["0", "0", "0", "1"]
    balanced = make_task(tmp_path, {**REVIEWS, "class_weights": "balanced"})
    assert weights(balanced, labels) == pytest.approx([4 / 6] * 3 + [2])
    assert weights(balanced, labels, is_training=False) == [1] * 4
    given = make_task(tmp_path, {**REVIEWS, "class_weights": {"1": 3}})
    assert weights(given, labels) == [1, 1, 1, 3]
    assert weights(make_task(tmp_path, REVIEWS), labels) == [None] * 4
    assert [spec.name for spec in given.get_feature_specs()] == ["label_ids", "weights"]


@pytest.mark.parametrize("labels", [None, ["false", "true"]])
def test_weights_of_classes_in_another_spelling(tmp_path, labels):
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\ttrue", "b\tfalse")
    definition = {**REVIEWS, "labels": labels, "class_weights": {"1": 3.0}}
    assert weights(make_task(tmp_path, definition), ["true", "false"]) == [3, 1]
    twice = {**definition, "class_weights": {"1": 3.0, "true": 2.0}}
    with pytest.raises(UserError, match="two weights") as error:
        weights(make_task(tmp_path, twice), ["true", "false"])
    assert error.value.where == "hparam tasks.t.class_weights"


def test_a_weight_of_no_class(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\tgood", "b\tbad")
    definition = {**REVIEWS, "labels": None, "class_weights": {"godd": 2}}
    task = make_task(tmp_path, definition)
    with pytest.raises(UserError, match="'good'") as error:
        list(task.featurize(task.get_examples("train"), True))
    assert error.value.where == "hparam tasks.t.class_weights"


def test_weights_multiply_what_is_trained_and_not_what_is_scored():
    head = ClassificationHead(2, 0.0)
    head.build((None, None, 4))
    states = tf.random.stateless_normal([3, 2, 4], seed=[1, 2])
    features = {"label_ids": tf.constant([0, 1, 1])}
    plain = head(states, features)
    weighed = head(states, {**features, "weights": tf.constant([1.0, 0.5, 4.0])})
    np.testing.assert_allclose(weighed.losses, plain.losses * [1, 0.5, 4], rtol=1e-6)
    np.testing.assert_array_equal(weighed.outputs["loss"], plain.losses)


@pytest.mark.parametrize(
    "file, lines, wanted",
    [
        ("tsv", ["key\tbody\tstars", "x-7\ta\t1", "007\tb\t0"], ["x-7", "007"]),
        (
            "jsonl",
            [
                json.dumps({"body": "a", "stars": 1, "key": 7}),
                json.dumps({"body": "b", "stars": 0, "key": "8"}),
            ],
            [7, "8"],
        ),
    ],
)
def test_predictions_carry_the_ids_of_the_file(tmp_path, file, lines, wanted):
    task = make_task(tmp_path, {**REVIEWS, "id": "key"})
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\t1")  # needs no ids
    assert task.get_examples("train")[0].id is None
    write(tmp_path / "t" / f"dev.{file}", *lines)
    outputs = [{"eid": e, "predictions": 0, "logits": [0.0, 0.0]} for e in (1, 0)]
    records = task.prediction_records("dev", outputs, task.get_examples("dev"))
    assert [record["id"] for record in records] == wanted


@pytest.mark.parametrize("split", ["dev", "predict"])
def test_a_row_without_an_id_is_predicted_by_its_number(tmp_path, split):
    rows = [{"key": "x"}, {"key": None}, {}]
    lines = [json.dumps({"body": "a", "stars": "1", **row}) for row in rows]
    path = write(tmp_path / "new.jsonl", *lines)
    task = make_task(tmp_path, {**REVIEWS, "id": "key"})
    examples = task.read_examples(path, split)
    outputs = [{"eid": i, "logits": np.zeros(2), "predictions": 0} for i in range(3)]
    assert [r["id"] for r in task.prediction_records(split, outputs, examples)] == ["x", 1, 2]


def test_ids_that_several_rows_have_or_that_are_infinite(tmp_path, caplog):
    keys = ("1e400", 7, '"x"', 7, 8, 7, '"x"')
    lines = [f'{{"body": "a", "key": {key}}}' for key in keys]
    path = write(tmp_path / "new.jsonl", *lines)
    examples = make_task(tmp_path, {**REVIEWS, "id": "key"}).read_examples(path, "predict")
    assert [example.id for example in examples] == ["Infinity", 7, "x", 7, 8, 7, "x"]
    assert "2 ids belong to several rows, such as 7 to 3" in caplog.text


def test_a_column_of_ids_that_is_missing(tmp_path):
    path = write(tmp_path / "new.tsv", "body", "a")
    with pytest.raises(UserError, match="'key'"):
        make_task(tmp_path, {**REVIEWS, "id": "key"}).read_examples(path, "predict")


def test_what_features_depend_on(tmp_path):
    """Settings that no feature depends on leave the cache's key as it was."""

    def settings(definition, **values):
        return make_task(tmp_path, definition, **values).feature_settings()

    plain = settings(REVIEWS)
    assert settings({**REVIEWS, "id": "key"}) == plain
    windows, weighed = ({**REVIEWS, k: v} for k, v in NEW.items())
    assert settings(windows)["windows"] == {"room": 4, "stride": 3}
    assert "windows" not in plain and "class_weights" not in plain
    assert settings(weighed) != plain and settings(windows) != plain
    assert settings({**TOPICS, "threshold": 0.3}) == settings(TOPICS)


NEW = {"windows": "max", "class_weights": {"1": 2.0}}
