"""The tasks of GLUE: files, columns, ids, bad rows, and files for GLUE's server."""

import pytest
from absl import logging

from electra_tf2.errors import UserError
from finetune import task_builder
from finetune.classification.glue_tables import GLUE, GlueColumns
from tests.finetune.classification.classification_samples import (
    GLUE_FILES,
    TOKENIZER,
    make_config,
    tsv,
    write,
    write_glue_task,
)

METRICS = {"cola": "mcc", "sts": "spearman"}
LABELS = {
    "mnli": ["neutral", "entailment"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
    "sts": [5.0, 1.25],
}


def make_task(tmp_path, name, **values):
    return task_builder.get_task(make_config(tmp_path, **values), name, TOKENIZER)


def texts(examples):
    return [(e.eid, e.text_a, e.text_b, e.label) for e in examples]


@pytest.mark.parametrize("name", sorted(GLUE))
def test_every_task_reads_its_files(tmp_path, name):
    write_glue_task(tmp_path / name, name)
    task = make_task(tmp_path, name, double_unordered=False)
    pairs = name not in ("cola", "sst")
    labels = LABELS.get(name, ["1", "0"])
    expected = [
        (0, "a b", "c" if pairs else None, labels[0]),
        (1, "d" if pairs else "c", "e f" if pairs else None, labels[1]),
    ]
    for split in ("train", *task.dev_splits):
        assert texts(task.get_examples(split)) == expected
    for split in task.test_splits:
        assert texts(task.get_examples(split)) == [
            (i, "a", "b" if pairs else None, None) for i in range(3)
        ]
    assert task.main_metric == METRICS.get(name, "accuracy")
    assert task.main_metric in dict(scorer_results(task))
    assert len(list(task.featurize(task.get_examples("train"), True))) == 2


def test_labels_that_other_programs_have_written(tmp_path):
    write(tmp_path / "sst" / "dev.tsv", HEADER, "a\t1.0", "b\t 0", "c\t1.5")
    assert [e.label for e in make_task(tmp_path, "sst").get_examples("dev")] == ["1", "0"]


def scorer_results(task):
    scorer = task.get_scorer()
    for i in range(2):
        scorer.update({"loss": 1.0, "label_ids": i, "targets": float(i), "predictions": i})
    return scorer.get_results()


def test_official_order_of_classes(tmp_path):
    assert make_task(tmp_path, "mnli").label_list == ("contradiction", "entailment", "neutral")
    assert make_task(tmp_path, "rte").label_list == ("entailment", "not_entailment")
    assert make_task(tmp_path, "wnli").label_list == ("0", "1")


@pytest.mark.parametrize("name", ["mrpc", "sts"])
def test_both_orders_of_a_pair_train(tmp_path, name):
    write_glue_task(tmp_path / name, name)
    task = make_task(tmp_path, name)
    examples = task.get_examples("train")
    label = LABELS.get(name, ["1"])[0]
    assert [e.eid for e in examples] == [0, 1, 2, 3]
    assert texts(examples)[0] == (0, "a b", "c", label)
    assert texts(examples)[2] == (2, "c", "a b", label)
    assert len(task.get_examples("dev")) == 2
    once = make_task(tmp_path, name, double_unordered=False)
    assert len(once.get_examples("train")) == 2
    assert once.feature_settings() != task.feature_settings()


def test_mismatched_dev_file_is_scored_where_present(tmp_path):
    write_glue_task(tmp_path / "mnli", "mnli")
    task = make_task(tmp_path, "mnli")
    assert task.dev_splits == {"dev": "", "dev_mismatched": "mismatched_"}
    assert task.data_file("dev").endswith("mnli/dev_matched.tsv")
    (tmp_path / "mnli" / "dev_mismatched.tsv").unlink()
    assert task.dev_splits == {"dev": ""}
    assert task.test_splits == ("test_matched", "test_mismatched", "diagnostic")


def test_quotes_are_literal(tmp_path):
    write(tmp_path / "sst" / "train.tsv", "sentence\tlabel", '"a b\t1', 'c "d"\t0', '""\t1')
    examples = make_task(tmp_path, "sst").get_examples("train")
    assert [e.text_a for e in examples] == ['"a b', 'c "d"', '""']


def test_line_ends_of_windows_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "cola" / "dev.tsv"
    write(path)
    path.write_bytes("\ufeffgj\t1\t\ta b\r\ngj\t0\t\tc\r\n\r\n".encode())
    assert texts(make_task(tmp_path, "cola").get_examples("dev")) == [
        (0, "a b", None, "1"),
        (1, "c", None, "0"),
    ]


def test_unicode_line_separators_stay_in_the_text(tmp_path):
    write(tmp_path / "sst" / "dev.tsv", "sentence\tlabel", "a\u2028b\x0bc\t1")
    (example,) = make_task(tmp_path, "sst").get_examples("dev")
    assert example.text_a == "a\u2028b\x0bc"


def test_ids_have_gaps_where_rows_are_skipped(tmp_path, monkeypatch):
    rows = ["a\t1", "b", "c\t2", "", "d\t0"]
    path = write(tmp_path / "sst" / "dev.tsv", "sentence\tlabel", *rows)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda form, *args: warnings.append(form % args))
    examples = make_task(tmp_path, "sst").get_examples("dev")
    assert [e.eid for e in examples] == [0, 4]
    (line,) = warnings
    for part in (path, "3 of 5 rows", "line 3: 1 column: b", "line 4: the label '2'", "line 5"):
        assert part in line


def test_debug_reads_the_first_100_lines(tmp_path):
    write(tmp_path / "sst" / "train.tsv", "sentence\tlabel", *["a\t1"] * 150)
    write(tmp_path / "cola" / "train.tsv", *[tsv("gj", "1", "", "a")] * 150)
    assert len(make_task(tmp_path, "sst", debug=True).get_examples("train")) == 99
    assert len(make_task(tmp_path, "cola", debug=True).get_examples("train")) == 100
    assert len(make_task(tmp_path, "cola").get_examples("train")) == 150


LATIN = "sentence\tlabel\na\t1\ncaf\xe9\t0\n".encode("latin1")
HEADER = "sentence\tlabel"
BAD_FILES = {
    "missing": ("sst", None, ["sst/dev.tsv", "train.tsv"]),
    "empty": ("sst", b"", ["sst/dev.tsv", "empty"]),
    "blank": ("sst", b"\n\n", ["sst/dev.tsv", "empty"]),
    "only a header": ("sst", b"sentence\tlabel\n", ["sst/dev.tsv", "a header and no row"]),
    "wrong encoding": ("sst", LATIN, ["sst/dev.tsv, line 3", "0xe9", "iconv"]),
    "missing column": (
        "rte",
        b"index\tsentence1\tlabel\n0\ta\tentailment\n",
        ["rte/dev.tsv, line 1", "3 columns: index | sentence1 | label; at least 4 are needed"],
    ),
    "missing column without header": (
        "cola",
        b"1\ta\n0\tb\n",
        ["cola/dev.tsv", "line 1: 2 columns: 1 | a; at least 4 are needed"],
    ),
    "negative columns": ("sts", b"sentence1\tscore\na\t3\n", ["sts/dev.tsv, line 1", "2 columns"]),
    "test file as dev file": (
        "mnli",
        GLUE_FILES["mnli"][2].encode() + b"\n" + GLUE_FILES["mnli"][3].encode(),
        ["mnli/dev_matched.tsv, line 1", "10 columns", "at least 11"],
    ),
    "unknown labels": (
        "sst",
        (HEADER + "\n" + "a\tgood\n" * 30 + "a\t1\n" * 100).encode(),
        ["sst/dev.tsv", "30 of 130", "line 2: the label 'good' is not one of '0', '1'", "25 more"],
    ),
    "scores out of range": (
        "sts",
        b"s\tt\tu\n" + b"a\tb\t6.5\n" * 25 + b"a\tb\tx\n",
        ["sts/dev.tsv", "line 2: the score '6.5' is above 5", "and 21 more"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case):
    name, content, expected = BAD_FILES[case]
    task = make_task(tmp_path, name)
    write_glue_task(tmp_path / name, name)
    path = tmp_path / name / task.data_file("dev").rpartition("/")[2]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as error:
        task.get_examples("dev")
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize(("bad", "good"), [(20, 1), (21, 2079)])
def test_a_few_bad_rows_are_skipped(tmp_path, bad, good):
    write(tmp_path / "sst" / "dev.tsv", HEADER, *["a\t2"] * bad, *["a\t1"] * good)
    assert len(make_task(tmp_path, "sst").get_examples("dev")) == good


def test_over_one_percent_and_over_20_bad_rows_are_refused(tmp_path):
    write(tmp_path / "sst" / "dev.tsv", HEADER, *["a\t2"] * 21, *["a\t1"] * 2078)
    with pytest.raises(UserError, match="21 of 2099 rows: line 2"):
        make_task(tmp_path, "sst").get_examples("dev")


PREDICT = {
    "test format": ("rte", ["index\tsentence1\tsentence2", "5\ta\tb"], ("a", "b")),
    "labelled format": ("rte", ["index\tsentence1\tsentence2\tlabel", "0\ta\tb\t?"], ("a", "b")),
    "names alone": ("rte", ["sentence2\tsentence1", "b\ta"], ("a", "b")),
    "labelled cola": ("cola", [tsv("gj", "1", "", "a")], ("a", None)),
    "test cola": ("cola", ["index\tsentence", "0\ta"], ("a", None)),
    "labelled sst": ("sst", ["sentence\tlabel", "a\t1"], ("a", None)),
    "other names": ("qqp", ["id\tq1\tq2", "0\ta\tb"], ("a", "b")),
}


@pytest.mark.parametrize("case", PREDICT)
def test_unlabelled_files(tmp_path, case):
    name, lines, expected = PREDICT[case]
    path = write(tmp_path / "own.tsv", *lines)
    assert texts(make_task(tmp_path, name).read_examples(path, "predict")) == [(0, *expected, None)]


def test_an_unlabelled_file_must_name_its_columns(tmp_path):
    path = write(tmp_path / "own.tsv", "a\tb", "c\td")
    with pytest.raises(UserError, match=r"own.tsv, line 1[\s\S]*a \| b[\s\S]*sentence1, sentence2"):
        make_task(tmp_path, "rte").read_examples(path, "predict")


@pytest.mark.parametrize("name", ["cola", "rte"])
def test_an_unlabelled_file_whose_first_line_is_empty(tmp_path, name):
    path = write(tmp_path / "own.tsv", "", "c\td")
    with pytest.raises(UserError, match=r"own.tsv, line 1[\s\S]*an empty line"):
        make_task(tmp_path, name).read_examples(path, "predict")


def test_a_debug_run_of_a_file_that_begins_with_empty_lines(tmp_path):
    for name in ("cola", "rte"):
        write(tmp_path / name / "dev.tsv", *[""] * 150, "a\tb")
        with pytest.raises(UserError, match=f"{name}/dev.tsv"):
            make_task(tmp_path, name, debug=True).get_examples("dev")


def test_the_least_number_of_cells():
    assert GlueColumns(3, 4, 0).min_cells == 5
    assert GlueColumns(8, 9, -1).min_cells == 11
    assert GlueColumns(-3, -2, -1).min_cells == 3


SUBMISSIONS = {
    ("cola", "test"): ("CoLA.tsv", "1"),
    ("sst", "test"): ("SST-2.tsv", "1"),
    ("mrpc", "test"): ("MRPC.tsv", "1"),
    ("sts", "test"): ("STS-B.tsv", None),
    ("qqp", "test"): ("QQP.tsv", "1"),
    ("mnli", "test_matched"): ("MNLI-m.tsv", "entailment"),
    ("mnli", "test_mismatched"): ("MNLI-mm.tsv", "entailment"),
    ("mnli", "diagnostic"): ("AX.tsv", "entailment"),
    ("qnli", "test"): ("QNLI.tsv", "not_entailment"),
    ("rte", "test"): ("RTE.tsv", "not_entailment"),
    ("wnli", "test"): ("WNLI.tsv", "1"),
}


def outputs(predictions, num_labels=None):
    for i, prediction in reversed(list(enumerate(predictions))):
        logits = [float(label == prediction) for label in range(num_labels or 0)]
        yield {"eid": i, "predictions": prediction, "logits": logits}


def test_every_test_split_has_a_file():
    assert set(SUBMISSIONS) == {
        (name, split) for name, table in GLUE.items() for split in table.tests
    }


@pytest.mark.parametrize(("name", "split"), SUBMISSIONS)
def test_header_index_and_label(tmp_path, name, split):
    file_name, label = SUBMISSIONS[name, split]
    write_glue_task(tmp_path / name, name)
    task = make_task(tmp_path, name)
    task.check_test_split(split)
    examples = task.get_examples(split)
    if label is None:
        made = outputs([0.25, -0.3, 1.7])
        expected = ["1.250", "0.000", "5.000"]
    else:
        made = outputs([1, 1, 1], len(task.label_list))
        expected = [label] * 3
    records = task.prediction_records(split, made, examples)
    (path,) = task.write_submission(split, records, str(tmp_path / "out" / "glue"))
    assert path == str(tmp_path / "out" / "glue" / file_name)
    lines = ["index\tprediction", *(f"{i}\t{value}" for i, value in enumerate(expected))]
    with open(path, encoding="utf-8") as file:
        assert file.read() == "".join(f"{line}\n" for line in lines)


def test_a_row_without_prediction_is_an_error(tmp_path):
    write(
        tmp_path / "rte" / "test.tsv", "index\tsentence1\tsentence2", "0\ta\tb", "1\ta", "2\tc\td"
    )
    task = make_task(tmp_path, "rte")
    problem = r"RTE.tsv would lack 1 of 3[\s\S]*test.tsv[\s\S]*row 1 "
    with pytest.raises(UserError, match=problem):
        task.check_test_split("test")
    examples = task.get_examples("test")
    assert [e.eid for e in examples] == [0, 2]
    made = [{"eid": i, "predictions": 0, "logits": [1.0, 0.0]} for i in (0, 2)]
    records = task.prediction_records("test", made, examples)
    with pytest.raises(UserError, match=problem):
        task.write_submission("test", records, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_last_row_is_not_forgotten(tmp_path):
    write(tmp_path / "rte" / "test.tsv", "index\tsentence1\tsentence2", "0\ta\tb", "1\ta")
    task = make_task(tmp_path, "rte")
    records = task.prediction_records(
        "test", [{"eid": 0, "predictions": 0, "logits": [1.0, 0.0]}], task.get_examples("test")
    )
    with pytest.raises(UserError, match="would lack 1 of 2"):
        task.write_submission("test", records, str(tmp_path / "out"))
