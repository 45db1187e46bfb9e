"""Tasks, their scorers, and what is written."""

import json
import pathlib

import numpy as np
import pytest

from electra_tf2.errors import UserError
from finetune.definitions import QADefinition
from finetune.features import Preprocessor
from finetune.qa.tasks import CustomQATask, MRQATask, SQuAD
from finetune.task_builder import get_task
from tests.finetune.qa.qa_samples import (
    config,
    make_task,
    mrqa_lines,
    outputs,
    question,
    tokenizer,
    write_squad,
)

CONTEXT = "The cat sat on Steve's mat."
# [CLS] who sat ? [SEP], so the passage begins at 5.
THE, CAT, SAT, STEVE = 5, 6, 7, 9


@pytest.fixture
def squad_dev(tmp_path):
    """Two answerable questions and an unanswerable one."""
    questions = [
        question("a", answers=[("cat", 4), ("The cat", 0)]),
        question("b", answers=[("Steve", 15)]),
        question("c"),
    ]
    write_squad(tmp_path, "dev", (CONTEXT, questions))
    return tmp_path


# The best answers are "The cat", "Steve's" and "sat".
RESULTS = [
    outputs(0, [(THE, CAT, -0.1), (CAT, CAT, -0.9)], null=-4.0, loss=1.0),
    outputs(1000, [(STEVE, STEVE + 2, -0.2)], null=-2.0, loss=2.0),
    outputs(2000, [(SAT, SAT, -0.3)], null=-1.0, loss=6.0),
]


def scored(task, results=RESULTS):
    scorer = task.get_scorer("dev")
    for result in results:
        scorer.update(result)
    return scorer


def test_squad_2_scores(squad_dev):
    scorer = scored(make_task(squad_dev, "squad"), RESULTS[::-1])
    assert scorer.get_loss() == pytest.approx(3.0)
    # The threshold is -2.75: only the first question is answered.
    assert scorer.get_results() == [
        ("HasAns_exact", 50.0),
        ("HasAns_f1", 50.0),
        ("HasAns_total", 2.0),
        ("NoAns_exact", 100.0),
        ("NoAns_f1", 100.0),
        ("NoAns_total", 1.0),
        ("best_exact", pytest.approx(200 / 3)),
        ("best_exact_thresh", -4.0),
        ("best_f1", pytest.approx(200 / 3)),
        ("best_f1_thresh", -4.0),
        ("exact", pytest.approx(200 / 3)),
        ("f1", pytest.approx(200 / 3)),
        ("total", 3.0),
    ]
    assert scorer.answers() == {"a": "The cat", "b": "Steve's", "c": "sat"}
    assert scorer.null_odds() == {"a": -4.0, "b": -2.0, "c": -1.0}
    assert scorer.stuck_at() is None
    assert make_task().main_metric in dict(scorer.get_results())


@pytest.mark.parametrize("threshold, exact", [(-4.5, 100 / 3), (-4.0, 200 / 3), (0.0, 100 / 3)])
def test_the_threshold_counts(squad_dev, threshold, exact):
    task = make_task(squad_dev, "squad", qa_na_threshold=threshold)
    assert dict(scored(task).get_results())["exact"] == pytest.approx(exact)


def test_squad_1_and_mrqa_scores(tmp_path):
    answered = [("a", "who sat?", "cat", 4), ("b", "who sat?", "Steve", 15)]
    write_squad(
        tmp_path,
        "dev",
        (CONTEXT, [question(id_, text, [(a, start)]) for id_, text, a, start in answered]),
    )
    (tmp_path / "dev.jsonl").write_text(mrqa_lines((CONTEXT, answered)))
    for kind in ("squadv1", "custom", "mrqa"):
        scorer = scored(make_task(tmp_path, kind), RESULTS[:2])
        # "Steve's" is "steves" when normalized.
        assert scorer.get_results() == [("exact_match", 50.0), ("f1", 50.0)]
        assert scorer.answers() == {"a": "The cat", "b": "Steve's"}


def test_windows_may_come_in_any_order_but_all_must_come_once(squad_dev):
    task = make_task(squad_dev, "squad", max_seq_length=12, doc_stride=4)
    rows = list(task.featurize(task.get_examples("dev"), is_training=False))
    assert [row["eid"] for row in rows[:3]] == [0, 1, 1000]
    results = [outputs(row["eid"], [(5, 5, -0.1 * i)]) for i, row in enumerate(rows)]
    forwards, backwards = scored(task, results), scored(task, results[::-1])
    assert forwards.answers() == backwards.answers() == {"a": "The", "b": "The", "c": "The"}
    with pytest.raises(UserError, match="(?s)file was changed.*dev.json.*1000.*question 'b'"):
        scored(task, results[:2] + results[3:]).get_results()
    with pytest.raises(ValueError, match="twice. Received: eid 1"):
        scored(task, results[:2] + results[1:])


def test_results_asked_for_on_the_way_don_t_stay(squad_dev):
    task = make_task(squad_dev, "squad")
    scorer = scored(task, RESULTS[:2])
    with pytest.raises(UserError, match="question 'c'"):
        scorer.answers()
    scorer.update(RESULTS[2])
    assert len(scorer.answers()) == 3


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_a_file_that_changes_between_its_features_and_its_scores(squad_dev, names):
    task = make_task(squad_dev, "squad")
    write_squad(squad_dev, "dev", (CONTEXT, [question(name) for name in names]))
    with pytest.raises(UserError, match="(?s)file was changed.*dev.json"):
        scored(task).get_results()
    with pytest.raises(UserError, match="(?s)file was changed.*dev.json"):
        task.prediction_records("dev", RESULTS, task.get_examples("dev"))


def test_what_a_model_is_stuck_at(squad_dev):
    task = make_task(squad_dev, "squad")
    assert scored(task, [outputs(i, [(5, 5, -1)], null=0) for i in (0, 1000, 2000)]).stuck_at() == (
        "no answer"
    )
    same = [outputs(i, [(CAT, CAT, -1)], null=-3 - i) for i in (0, 1000, 2000)]
    assert scored(task, same).stuck_at() == "the answer 'cat'"
    nothing = [outputs(i, [], null=-3 - i) for i in (0, 1000, 2000)]
    assert scored(task, nothing).stuck_at() == "the answer 'empty'"


def test_an_empty_passage_gets_no_answer(tmp_path):
    write_squad(tmp_path, "dev", ("", [question("a")]), (CONTEXT, [question("b")]))
    task = make_task(tmp_path, "squad")
    assert [r["eid"] for r in task.featurize(task.get_examples("dev"), False)] == [1000]
    results = scored(task, [outputs(1000, [(CAT, CAT, -1)], null=3.0)])
    assert results.null_odds() == {"a": 1e6, "b": 3.0}
    assert dict(results.get_results())["exact"] == 100.0


def test_files_of_scores(squad_dev, tmp_path):
    kinds = ("preds", "na", "eval")
    paths = {f"qa_{kind}_file": f"{tmp_path}/out/{{:}}_{kind}.json" for kind in kinds}
    scorer = scored(make_task(squad_dev, "squad", **paths))
    scorer.get_results()
    assert not (tmp_path / "out").exists()
    written = scorer.write_files()
    assert sorted(written) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    content = {path.name: json.loads(path.read_text()) for path in map(pathlib.Path, written)}
    assert content["squad_preds.json"] == scorer.answers()
    assert content["squad_na.json"] == scorer.null_odds()
    assert list(content["squad_eval.json"].items()) == scorer.get_results()
    assert len(scored(make_task(squad_dev, "squad", **paths)).write_files()) == 3


def test_predictions(squad_dev, tmp_path):
    task = make_task(squad_dev, "squad")
    examples = task.read_examples(task.data_file("dev"), "predict")
    records = task.prediction_records("predict", RESULTS[::-1], examples)
    assert [(r["id"], r["answer"], r["null_odds"]) for r in records] == [
        ("a", "The cat", -4.0),
        ("b", "", -2.0),
        ("c", "", -1.0),
    ]
    assert [n["text"] for n in records[0]["n_best"]] == ["The cat", "cat"]
    shares = [n["probability"] for n in records[0]["n_best"]]
    assert sum(shares) == pytest.approx(1) and shares[0] / shares[1] == pytest.approx(np.exp(0.8))
    json.dumps(records)
    (path,) = task.write_submission("test", records, str(tmp_path / "new"))
    assert path.endswith("new/squad_predictions.json")
    assert json.loads(pathlib.Path(path).read_text()) == {"a": "The cat", "b": "", "c": ""}
    (path,) = task.write_submission("dev", records, str(tmp_path / "new"))
    assert path.endswith("new/squad_dev_predictions.json")


def test_predictions_without_null_odds(squad_dev):
    task = make_task(squad_dev)
    examples = task.read_examples(task.data_file("dev"), "predict")
    records = task.prediction_records("predict", RESULTS, examples)
    assert [r["answer"] for r in records] == ["The cat", "Steve's", "sat"]
    assert "null_odds" not in records[0]


@pytest.mark.parametrize("name", ["squad", "squadv1"])
def test_a_passage_without_text_has_no_answer(tmp_path, name, caplog):
    passages = {"a": CONTEXT, "b": "\u200b"}
    paragraphs = [
        {"context": text, "qas": [{"id": name, "question": "who sat?"}]}
        for name, text in passages.items()
    ]
    (tmp_path / "mine.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    cache = {"preprocessed_data_dir": "", "use_tfrecords_if_existing": False, "log_examples": False}
    task = make_task(tmp_path, name, **cache)
    examples = task.read_examples(str(tmp_path / "mine.json"), "predict")
    records = task.prediction_records("predict", RESULTS[:1], examples)
    assert [record["answer"] for record in records] == ["The cat", ""]
    assert records[1]["n_best"] == [{"text": "", "probability": 1.0}]
    assert "1 of 2 questions" in caplog.text and "'b'" in caplog.text
    with pytest.raises(UserError, match="No example") as error:
        Preprocessor(task.config).make(task, examples[1:], "predict", "mine.json")
    assert error.value.where == "mine.json"


def test_predictions_of_an_mrqa_file(tmp_path):
    line = {"context": CONTEXT, "qas": [{"qid": "a", "question": "who sat?"}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    task = make_task(tmp_path, "mrqa")
    examples = task.read_examples(str(tmp_path / "mine.jsonl"), "predict")
    records = task.prediction_records("predict", RESULTS[:1], examples)
    assert (records[0]["id"], records[0]["answer"]) == ("a", "The cat")


@pytest.mark.parametrize(
    "name, kind, v2",
    [
        ("squad", SQuAD, True),
        ("squadv1", object, False),
        ("newsqa", MRQATask, False),
        ("naturalqs", MRQATask, False),
        ("triviaqa", MRQATask, False),
        ("searchqa", MRQATask, False),
    ],
)
def test_registered_tasks(name, kind, v2):
    task = get_task(config("folder", tasks={}), name, tokenizer())
    assert isinstance(task, kind)
    assert (task.name, task.v2) == (name, v2)
    assert [spec.name for spec in task.get_feature_specs()] == [
        "start_positions",
        "end_positions",
        "is_impossible",
    ]


def test_feature_settings_are_what_features_depend_on():
    settings = make_task().feature_settings()
    lengths = ({"doc_stride": 9}, {"max_query_length": 9}, {"max_seq_length": 40})
    for changed in (*lengths, {"qa_spans": "official"}):
        assert make_task(**changed).feature_settings() != settings
    assert make_task(kind="squad").feature_settings() != settings
    for unchanged in ({"n_best_size": 3}, {"beam_size": 3}, {"qa_na_threshold": 1.0}):
        assert make_task(**unchanged).feature_settings() == settings


def custom(folder="", **definition):
    return CustomQATask(config(folder), "manuals", tokenizer(), QADefinition(**definition))


def test_custom_tasks(tmp_path):
    plain = custom("folder")
    assert (plain.name, plain.v2, plain.data_file("dev")) == ("manuals", False, "folder/dev.json")
    task = custom(tmp_path, unanswerable=True, files={"train": "sub/mine.json"})
    assert task.v2
    assert task.data_file("train") == f"{tmp_path}/sub/mine.json"
    assert task.data_file("test") == f"{tmp_path}/test.json"
    (tmp_path / "sub").mkdir()
    write_squad(tmp_path / "sub", "mine", (CONTEXT, [question("a", is_impossible=True)]))
    assert task.get_examples("train")[0].is_impossible
