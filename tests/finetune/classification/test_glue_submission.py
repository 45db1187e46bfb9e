"""Files for GLUE's server."""

import pytest

from electra_tf2.errors import UserError
from finetune import task_builder
from finetune.classification.glue_tables import GLUE
from tests.finetune.classification.classification_samples import (
    TOKENIZER,
    make_config,
    write,
    write_glue_task,
)

FILES = {
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


def make_task(tmp_path, name):
    return task_builder.get_task(make_config(tmp_path), name, TOKENIZER)


def test_every_test_split_has_a_file():
    assert set(FILES) == {(name, split) for name, table in GLUE.items() for split in table.tests}


@pytest.mark.parametrize(("name", "split"), FILES)
def test_header_index_and_label(tmp_path, name, split):
    file_name, label = FILES[name, split]
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
