"""Tasks without code, over the columns of a file: formats, labels, what is refused."""

import gzip
import json
import math

import pytest
import tensorflow as tf
from absl import logging
from sklearn import metrics

from electra_tf2.errors import UserError
from finetune.classification.tasks import ClassificationHead
from finetune.evaluation import DevSplit, describe_scored
from finetune.feature_tables import FeatureTable
from tests.finetune.classification.classification_samples import make_task, write

REVIEWS = {"kind": "classification", "text": "body", "label": "stars"}
PAIRS = {**REVIEWS, "text": "a", "text_b": "b"}
GRADES = {"kind": "regression", "text": "body", "label": "grade"}


def texts(examples):
    return [(e.eid, e.text_a, e.text_b, e.label) for e in examples]


def jsonl(*rows):
    return [json.dumps(row) for row in rows]


FORMATS = {
    "tsv": ["id\tstars\tbody", "7\tbad\ta", "8\tgood\tb c"],
    "csv": ["id,stars,body", "7,bad,a", '8,"good","b c"'],
    "jsonl": jsonl({"stars": "bad", "body": "a"}, {"body": "b c", "stars": "good", "id": 8}),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path, suffix):
    for split in ("train", "dev"):
        write(tmp_path / "t" / f"{split}.{suffix}", *FORMATS[suffix])
    task = make_task(tmp_path, REVIEWS)
    assert task.label_list == ("bad", "good")
    for split in ("train", "dev"):
        assert texts(task.get_examples(split)) == [(0, "a", None, "bad"), (1, "b c", None, "good")]
    assert [row["label_ids"] for row in task.featurize(task.get_examples("train"), True)] == [0, 1]


def test_given_files_columns_by_number_and_no_header(tmp_path):
    write(tmp_path / "t" / "sub" / "mine.TSV", "1\ta\tb", "0\tc\td")
    definition = {
        **REVIEWS,
        "text": 1,
        "text_b": 2,
        "label": 0,
        "header": False,
        "files": {"train": "sub/mine.TSV", "dev": str(tmp_path / "t" / "sub" / "mine.TSV")},
    }
    task = make_task(tmp_path, definition)
    assert texts(task.get_examples("train")) == [(0, "a", "b", "1"), (1, "c", "d", "0")]
    assert task.get_examples("dev") == task.get_examples("train")


def test_the_test_split_needs_no_label(tmp_path):
    write(tmp_path / "t" / "test.csv", "body", "a", "b")
    task = make_task(tmp_path, {**REVIEWS, "labels": ["0", "1"]})
    assert task.test_splits == ("test",)
    assert texts(task.get_examples("test")) == [(0, "a", None, None), (1, "b", None, None)]


@pytest.mark.parametrize("train, missing", [("train.csv", "csv"), ("train.jsonl.gz", "jsonl")])
def test_a_missing_file_has_the_ending_of_the_training_file(tmp_path, train, missing):
    task = make_task(tmp_path, REVIEWS)
    assert task.data_file("dev").endswith("/t/dev.tsv")
    write(tmp_path / "t" / train, "")
    assert task.data_file("dev").endswith(f"/t/dev.{missing}")
    named = make_task(tmp_path, {**REVIEWS, "files": {"train": "sub/mine.csv.gz"}})
    assert named.data_file("test").endswith("/t/test.csv")


def test_csv_quotes_and_tsv_quotes(tmp_path):
    write(tmp_path / "t" / "train.csv", "body,stars", '"a, ""b""\nc",1', 'd "e" f,2', "", "g,1")
    write(tmp_path / "t" / "dev.tsv", "body\tstars", '"a\t1', '"b ""c"""\t2')
    task = make_task(tmp_path, REVIEWS)
    train, dev = task.get_examples("train"), task.get_examples("dev")
    assert [e.text_a for e in train] == ['a, "b"\nc', 'd "e" f', "g"]
    assert [e.eid for e in train] == [0, 1, 2]
    assert [e.text_a for e in dev] == ['"a', '"b ""c"""']
    assert len(list(task.featurize(train, True))) == 3


@pytest.mark.parametrize(
    ("stars", "labels"),
    [
        ([10, 9, 2, 10], ("2", "9", "10")),
        ([True, False], ("false", "true")),
        ([" b", "a ", "b"], ("a", "b")),
        ([1, "x", 0.5], ("0.5", "1", "x")),
    ],
)
def test_inferred_labels(tmp_path, stars, labels):
    rows = jsonl(*({"body": "a", "stars": star} for star in stars))
    write(tmp_path / "t" / "train.jsonl", *rows)
    task = make_task(tmp_path, REVIEWS)
    assert task.label_list == labels
    assert len(task.get_examples("train")) == len(stars)
    assert task.get_state() == {"labels": list(labels)}


@pytest.mark.parametrize(("label", "problem"), [("bad\nline", "a line break"), ("\ud83d", "half")])
def test_labels_that_a_line_can_t_hold(tmp_path, label, problem):
    rows = [{"body": "a", "stars": star} for star in (label, "b", label)]
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows))
    task = make_task(tmp_path, REVIEWS)
    with pytest.raises(UserError) as error:
        task.label_list  # noqa: B018
    assert f"line 1: the label {label!r} has {problem}" in str(error.value.received)
    with pytest.raises(UserError, match=problem):
        make_task(tmp_path, {**REVIEWS, "labels": ["b", label]})


def test_listed_labels_keep_their_order(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\t1", "b\t0")
    task = make_task(tmp_path, {**REVIEWS, "labels": [1, "0", "x"]})
    assert task.label_list == ("1", "0", "x")


def test_a_saved_model_brings_its_labels(tmp_path):
    task = make_task(tmp_path, REVIEWS)
    task.set_state({"labels": ["no", "yes"]})
    assert task.label_list == ("no", "yes")
    outputs = [{"eid": 0, "predictions": 1, "logits": [0.0, 0.0]}]
    path = write(tmp_path / "own.csv", "body", '"a, b"')
    examples = task.read_examples(path, "predict")
    assert texts(examples) == [(0, "a, b", None, None)]
    records = task.prediction_records("predict", outputs, examples)
    assert records == [{"id": 0, "label": "yes", "probabilities": {"no": 0.5, "yes": 0.5}}]


@pytest.mark.parametrize(
    ("definition", "state", "key"),
    [
        ({**REVIEWS, "labels": ["yes", "no"]}, {"labels": ["no", "yes"]}, "labels"),
        ({**GRADES, "max": 2}, {"min": 0.0, "max": 5.0}, "max"),
    ],
)
def test_a_definition_unlike_the_saved_model(tmp_path, definition, state, key):
    with pytest.raises(UserError, match=rf"hparam tasks.t.{key}[\s\S]*trained with"):
        make_task(tmp_path, definition).set_state(state)


@pytest.mark.parametrize(
    ("definition", "state"),
    [(REVIEWS, {}), (REVIEWS, {"min": 0, "max": 1}), (GRADES, {"labels": ["a"]}), (GRADES, {})],
)
def test_a_saved_model_of_another_kind(tmp_path, definition, state):
    with pytest.raises(UserError, match="(?s)another kind.*task t"):
        make_task(tmp_path, definition).set_state(state)


def test_a_saved_model_with_a_label_twice(tmp_path):
    with pytest.raises(UserError, match="occurs twice") as error:
        make_task(tmp_path, REVIEWS).set_state({"labels": ["no", "yes", "yes"]})
    assert error.value.received == "'yes'"


def test_rows_of_the_dev_file_with_labels_that_training_lacks_count_as_wrong(tmp_path, caplog):
    """All 24 rows are scored, as scikit-learn scores the labels' names."""
    stars, predicted = ["1", "0", "7", "7", "8", *["9"] * 19], [1, 0, 1, 0, 1, *[1] * 19]
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\t1", "b\t0")
    write(tmp_path / "t" / "dev.tsv", "body\tstars", *(f"a\t{star}" for star in stars))
    task = make_task(tmp_path, REVIEWS)
    rows = list(task.featurize(task.get_examples("dev"), False))
    assert [row["eid"] for row in rows] == [*range(24)]
    scorer = task.get_scorer()
    for row, label in zip(rows, predicted, strict=True):
        scorer.update({**row, "loss": 2.0 if row["label_ids"] >= 0 else 0.0, "predictions": label})
    results = dict(scorer.get_results())
    names = [task.label_list[label] for label in predicted]
    macro = metrics.f1_score(stars, names, average="macro", zero_division=0)
    assert results["accuracy"] == pytest.approx(100 * 2 / 24)
    assert results["macro_f1"] == pytest.approx(100 * macro)
    assert results["loss"] == 2.0  # of the rows whose labels the model has
    for part in ("22 of 24 rows", "'9' (19 rows)", "labels are '0', '1'"):
        assert part in caplog.text
    split = DevSplit(task, "dev", "", FeatureTable.from_rows(rows, task.get_feature_specs()))
    assert "(24 rows, 22 of them with labels" in describe_scored(split)
    assert split.num_examples == 24


def test_a_loss_is_0_where_the_label_is_unknown():
    head = ClassificationHead(2, 0.0, dtype="float32")
    head.build((None, None, 8))
    losses = head(tf.ones([2, 1, 8]), {"label_ids": tf.constant([-1, 1])}).losses
    assert losses[0] == 0.0 and losses[1] > 0.0


def test_a_dev_file_without_a_label_of_the_task_is_refused(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tstars", "a\t1", "b\t0")
    path = write(tmp_path / "t" / "dev.tsv", "body\tstars", "a\t", "a\tgood", "b\tbad")
    with pytest.raises(UserError) as error:
        make_task(tmp_path, REVIEWS).get_examples("dev")
    assert error.value.where == f"{path}, line 3"
    assert "'good' (1 rows), 'bad' (1 rows)" in error.value.received


def test_labels_of_several_types_are_one(tmp_path, caplog):
    values = [1, 0, 1.0, "1", True, None, math.nan, 0, "NaN", ""]
    rows = jsonl(*({"body": "a", "stars": value} for value in values))
    write(tmp_path / "t" / "train.jsonl", *rows)
    write(tmp_path / "t" / "dev.csv", "body,stars", "a,1.0", "b,False", "c,nan", "d,")
    task = make_task(tmp_path, {**REVIEWS, "files": {"dev": "dev.csv"}})
    assert task.label_list == ("0", "1")
    train, dev = task.get_examples("train"), task.get_examples("dev")
    assert [(e.eid, e.label) for e in train] == [
        (0, "1"), (1, "0"), (2, "1"), (3, "1"), (4, "1"), (7, "0"),
    ]  # fmt: skip
    assert [e.label for e in dev] == ["1", "0"]
    assert "taken for one label, '1'" in caplog.text
    assert "4 of 10 rows are skipped" in caplog.text
    assert "'nan' stands for a missing value" in caplog.text


def test_names_of_labels_stay_as_they_are_where_they_are_not_mixed(tmp_path):
    write(tmp_path / "t" / "train.csv", "body,stars", "a,1.0", "b,2.0")
    write(tmp_path / "t" / "dev.csv", "body,stars", "a,1", "b,2")
    task = make_task(tmp_path, REVIEWS)
    assert task.label_list == ("1.0", "2.0")
    assert [e.label for e in task.get_examples("dev")] == ["1.0", "2.0"]


def test_labels_that_look_missing_are_labels_where_they_are_listed(tmp_path, caplog):
    write(tmp_path / "t" / "train.csv", "body,stars", "a,nan", "b,yue", "c,None", "d,None")
    assert make_task(tmp_path, REVIEWS).label_list == ("None", "yue")
    assert "'None' is taken for a label (2 rows)" in caplog.text
    task = make_task(tmp_path, {**REVIEWS, "labels": ["nan", "yue"]})
    assert [e.label for e in task.get_examples("train")] == ["nan", "yue"]


@pytest.mark.parametrize("other", ["Good", "go\u200bod", "ｇｏｏｄ"])
def test_labels_that_look_the_same_are_named(tmp_path, caplog, other):
    write(tmp_path / "t" / "train.csv", "body,stars", "a,good", "b,bad", f"c,{other}")
    assert set(make_task(tmp_path, REVIEWS).label_list) == {"bad", "good", other}
    assert f"'good' (1 rows), {other!r} (1 rows)" in caplog.text


def test_labels_come_from_rows_that_are_used(tmp_path):
    rows = [{"a": "x", "b": "y", "stars": 1}, {"a": "x", "b": "y", "stars": 0}]
    skipped = [{"a": None, "b": "y", "stars": 2}, {"a": "x", "b": [], "stars": 3}]
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows, *skipped))
    task = make_task(tmp_path, PAIRS)
    assert task.label_list == ("0", "1")
    assert len(task.get_examples("train")) == 2


def test_empty_texts_are_counted(tmp_path, caplog):
    write(tmp_path / "t" / "train.csv", "body,stars", "a,1", ",0", " ,0", "nan,0")
    assert len(make_task(tmp_path, REVIEWS).get_examples("train")) == 4
    assert "the text of 3 of 4 rows is empty" in caplog.text


EXCEL = 'stars;body\r\nbon;Très bon, vraiment\r\nmauvais;"déçu; non\nfini"\r\n'
PANDAS = 'stars\tbody\r\nbon\t"Très ""bon"", vraiment"\r\nmauvais\t"déçu\nfini"\r\n'


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("train.csv", EXCEL.encode(), ["Très bon, vraiment", "déçu; non\nfini"]),
        ("train.csv", f"sep=;\r\n{EXCEL}".encode("utf-16"), None),
        ("train.csv.gz", gzip.compress(EXCEL.encode("utf-8-sig"), mtime=0), None),
        ("train.tsv", PANDAS.encode(), ['Très "bon", vraiment', "déçu\nfini"]),
        ("train.json", json.dumps([{"stars": "bon", "body": "x"}] * 2).encode(), ["x", "x"]),
    ],
)
def test_files_of_other_programs(tmp_path, name, content, texts):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / name).write_bytes(content)
    task = make_task(tmp_path, {**REVIEWS, "labels": ["bon", "mauvais"]})
    examples = task.get_examples("train")
    assert [e.text_a for e in examples] == (texts or ["Très bon, vraiment", "déçu; non\nfini"])
    assert examples[0].label == "bon"


def test_separators_and_quotes_can_be_given(tmp_path):
    write(tmp_path / "t" / "train.csv", "stars~body", '1~"a', "0~b")
    definition = {**REVIEWS, "separator": "~", "quotes": False}
    task = make_task(tmp_path, definition)
    assert [e.text_a for e in task.get_examples("train")] == ['"a', "b"]
    assert task.feature_settings()["definition"]["separator"] == "~"
    plain = make_task(tmp_path, {**REVIEWS, "labels": ["0", "1"]})
    assert "separator" not in plain.feature_settings()["definition"]


def test_a_file_to_predict_has_the_separator_of_numbered_columns(tmp_path):
    definition = {**REVIEWS, "text": 0, "label": 1, "labels": ["0", "1"]}
    path = write(tmp_path / "own.csv", "body;stars", "a, b;", "c;")
    assert [e.text_a for e in make_task(tmp_path, definition).read_examples(path, "predict")] == [
        "a, b",
        "c",
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("own.tsv", "Nice film, but far too long."),
        ("own.csv", "Nice film; but far too long."),
    ],
)
def test_lines_to_predict_without_a_header_stay_whole(tmp_path, name, line):
    definition = {**REVIEWS, "text": 0, "label": 1, "labels": ["0", "1"], "header": False}
    path = write(tmp_path / name, line)
    (example,) = make_task(tmp_path, definition).read_examples(path, "predict")
    assert example.text_a == line


def test_missing_second_texts_in_jsonl(tmp_path):
    rows = [{"a": "x", "b": None, "stars": 1}, {"a": "y", "stars": 0}, {"a": 3, "b": "z"}]
    rows[2]["stars"] = 1
    write(tmp_path / "t" / "train.jsonl", *jsonl(*rows))
    examples = make_task(tmp_path, PAIRS).get_examples("train")
    assert [(e.text_a, e.text_b) for e in examples] == [("x", None), ("y", None), ("3", "z")]


def test_rows_shifted_by_a_separator_are_bad(tmp_path):
    rows = ["a,1", "hello, you,1", "b,0", "c,1,,"]
    write(tmp_path / "t" / "train.csv", "body,stars", *rows)
    task = make_task(tmp_path, {**REVIEWS, "labels": ["0", "1"]})
    assert [e.text_a for e in task.get_examples("train")] == ["a", "b", "c"]


def test_debug_reads_the_first_100_rows_and_all_labels(tmp_path):
    rows = [f"a\t{int(i > 150)}" for i in range(200)]
    write(tmp_path / "t" / "train.tsv", "body\tstars", *rows)
    task = make_task(tmp_path, REVIEWS, debug=True)
    assert len(task.get_examples("train")) == 100
    assert task.label_list == ("0", "1")


def test_scores_and_order(tmp_path):
    task = make_task(tmp_path, {**REVIEWS, "labels": ["no", "yes"]})
    scorer = task.get_scorer()
    for true, predicted in [(0, 0), (1, 0), (1, 1), (0, 0)]:
        scorer.update({"eid": 0, "loss": 1.0, "label_ids": true, "predictions": predicted})
    assert [name for name, _ in scorer.get_results()] == ["accuracy", "loss", "macro_f1", "f1"]
    assert task.main_metric == "accuracy"


LATIN = "body\tstars\nb\t1\ncaf\xe9\t0\n".encode("latin1")
NOT_JSON = [
    '{"body": "a", "stars": 1}',
    "oops",
    "[1]",
    '{"body": "b"}',
    '{"stars": [], "body": ""}',
]
BAD_FILES = {
    "missing": ("train.tsv", None, ["t/train.tsv", "dev.tsv"]),
    "empty": ("train.csv", [""], ["t/train.csv", "empty"]),
    "only a header": ("train.csv", ["body,stars"], ["t/train.csv", "a header and no row"]),
    "wrong encoding": ("train.tsv", LATIN, ["t/train.tsv, line 3", "0xe9"]),
    "missing column": (
        "train.csv",
        ["bodies,star", "a,1"],
        ["t/train.csv, line 1", "bodies, star", "Did you mean"],
    ),
    "unknown separator": ("train.tsv", ["body~stars", "a~1"], ["body~stars", '"separator"']),
    "column twice": ("train.csv", ["body,stars,body", "a,1,b"], ["several columns 'body'"]),
    "missing field": (
        "train.jsonl",
        jsonl({"body": "a", "star": 1}),
        ["t/train.jsonl, line 1", "body, star", "Did you mean 'star'?"],
    ),
    "no JSON": (
        "train.jsonl",
        [*NOT_JSON, *(["1"] * 25)],
        ["29 of 30", "line 2: it is not JSON:", "line 3: it is not a JSON object: [1]"]
        + ["line 4: no value of 'stars'; its fields: body", "line 5: [] is not text"],
    ),
    "no text": ("train.jsonl", jsonl({"body": {}, "stars": 1}), ["line 1: {} is not text"]),
    "number of too many digits": ("train.jsonl", ["9" * 5000], ["line 1: it is not JSON: "]),
    "open quote": (
        "train.csv",
        ["body,stars", "a,1", '"b,0', "c,1"],
        ["t/train.csv, line 3", "unexpected end of data", "in quotes"],
    ),
    "too few cells": (
        "train.tsv",
        ["body\tstars", *["a"] * 25],
        ["t/train.tsv", "line 2: 1 column where 2 are needed: a"],
    ),
    "too many cells": (
        "train.csv",
        ["body,stars", *["hello, you,1"] * 25],
        ["t/train.csv", "line 2: 3 columns where the header has 2: hello,  you, 1"],
    ),
    "over one percent": (
        "train.tsv",
        ["body\tstars", *["a\t"] * 21, *["a\t1"] * 1000, *["a\t0"] * 1000],
        ["t/train.tsv", "21 of 2021", "line 2: '' is not a label"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    name, lines, expected = BAD_FILES[case]
    write(tmp_path / "t" / "dev.tsv", "body\tstars", "a\t1")
    if isinstance(lines, bytes):
        (tmp_path / "t" / name).write_bytes(lines)
    elif lines is not None:
        write(tmp_path / "t" / name, *lines)
    task = make_task(tmp_path, {**REVIEWS, "labels": ["0", "1"]})
    with pytest.raises(UserError) as error:
        task.get_examples("train")
    for part in expected:
        assert part in str(error.value)


def test_twenty_bad_rows_are_skipped(tmp_path):
    write(tmp_path / "t" / "train.tsv", "body\tstars", *["a"] * 20, "a\t1", "b\t0")
    assert [e.eid for e in make_task(tmp_path, REVIEWS).get_examples("train")] == [20, 21]


@pytest.mark.parametrize(
    ("definition", "row", "expected"),
    [
        (REVIEWS, "a\t1", "label '1' alone"),
        (REVIEWS, "a\t", "no label"),
        ({**GRADES, "label": "stars"}, "a\t1", "from 1 to 1"),
        ({**GRADES, "label": "stars"}, "a\tx", "no score"),
    ],
)
def test_training_data_without_labels_to_learn(tmp_path, definition, row, expected):
    write(tmp_path / "t" / "train.tsv", "body\tstars", row)
    with pytest.raises(UserError, match=rf"t/train.tsv[\s\S]*{expected}"):
        make_task(tmp_path, definition).get_state()


def test_a_column_of_scores_as_labels_is_said(tmp_path, monkeypatch):
    write(tmp_path / "t" / "train.tsv", "body\tstars", *[f"a\t{i / 7}" for i in range(60)])
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: warnings.append(form % args))
    assert len(make_task(tmp_path, REVIEWS).label_list) == 60
    assert "60 different labels in 60 rows" in warnings[0]


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("own.txt", ["body", "a"], ["own.txt", "'.txt'"]),
        ("own.tsv", ["a", "b"], ["own.tsv, line 1", "lacks the column 'body'"]),
        ("own.tsv", ["body"], ["own.tsv", "a header and no row"]),
    ],
)
def test_unusable_unlabelled_files(tmp_path, name, lines, expected):
    path = write(tmp_path / name, *lines)
    with pytest.raises(UserError) as error:
        make_task(tmp_path, REVIEWS).read_examples(path, "predict")
    for part in expected:
        assert part in str(error.value)


def test_numbered_columns_and_jsonl_do_not_go_together(tmp_path):
    path = write(tmp_path / "own.jsonl", '{"body": "a"}')
    with pytest.raises(UserError, match="have names, not numbers"):
        make_task(tmp_path, {**REVIEWS, "text": 0}).read_examples(path, "predict")


def test_a_number_beyond_the_columns(tmp_path):
    path = write(tmp_path / "own.csv", "a,b", "c,d")
    with pytest.raises(UserError, match=r"lacks column 2[\s\S]*line 1"):
        make_task(tmp_path, {**REVIEWS, "text": 2}).read_examples(path, "predict")


def test_a_one_column_file_keeps_its_empty_lines(tmp_path):
    path = write(tmp_path / "own.tsv", "body", "a", "", "b")
    examples = make_task(tmp_path, REVIEWS).read_examples(path, "predict")
    assert [(e.eid, e.text_a) for e in examples] == [(0, "a"), (1, ""), (2, "b")]
