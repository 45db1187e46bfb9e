"""A run with all options of classification: several labels, weights, windows, ids, reports."""

import json

import pytest

import finetune
from finetune.run.finetune import predict
from tests.finetune import tiny_tasks
from tests.finetune.tiny_tasks import model_of

pytestmark = pytest.mark.slow

WORDS = {"sea": "ship", "port": "harbour"}
TASKS = {
    "topics": {
        "kind": "multilabel",
        "text": "text",
        "label": "labels",
        "threshold": "tuned",
        "windows": "max",
        "id": "key",
    },
    "marks": {
        **tiny_tasks.HPARAMS["tasks"]["marks"],
        "class_weights": {"good": 3},
        "windows": "mean",
    },
}
HPARAMS = {
    "task_names": list(TASKS),
    "tasks": TASKS,
    "max_seq_length": 8,
    "doc_stride": 4,
    "eval_every_steps": 100,
    "best_metric": "topics/micro_f1",
    "class_report": True,
} | {key: tiny_tasks.LEARN[key] for key in ("learning_rate", "layerwise_lr_decay")}


def write_topics(data_dir):
    folder = data_dir / "finetuning_data" / "topics"
    folder.mkdir(parents=True)
    for split, count, seed in (("train", 240, 0), ("dev", 40, 1)):
        rows = [
            {
                "key": f"{split}-{i}",
                "text": text,
                "labels": [name for name, word in WORDS.items() if word in text.split()],
            }
            for i, (text, _) in enumerate(tiny_tasks.sentences(count, seed))
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def run(tiny_finetuning, tmp_path_factory):
    import shutil

    data_dir = tmp_path_factory.mktemp("options") / "data"
    shutil.copytree(tiny_finetuning, data_dir)
    write_topics(data_dir)
    (result,), shown = tiny_tasks.finetune_here(data_dir, num_train_epochs=4.0, **HPARAMS)
    return data_dir, result, shown


def trial_of(data_dir):
    return model_of(data_dir) / "finetuning_models" / "topics,marks_model_1"


def test_it_learns_and_keeps_its_threshold(run):
    data_dir, result, _ = run
    scores = result.scores["topics"]
    assert scores["micro_f1"] > 90 and result.scores["marks"]["accuracy"] > 80
    for place in (trial_of(data_dir), trial_of(data_dir) / "best"):
        tuned = json.loads((place / "tuned.json").read_text())
        assert 0 < tuned["topics"]["threshold"] < 1
    best = result.best
    assert tuned["topics"]["threshold"] == best.scores["topics"]["threshold"]
    assert best.score == best.scores["topics"]["micro_f1"]


def test_the_model_evaluated_again_has_the_same_scores(run):
    """With its own threshold, and without another tuning."""
    data_dir, result, _ = run
    (again,), _ = tiny_tasks.finetune_here(data_dir, do_train=False, **HPARAMS)
    wanted = {n: v for n, v in result.scores["topics"].items() if n != "threshold"}
    assert again.scores["topics"] == pytest.approx(wanted)
    assert again.scores["marks"] == pytest.approx(result.scores["marks"])


def test_dev_predictions_have_ids_and_one_result_a_document(run):
    data_dir, result, _ = run
    path = model_of(data_dir) / "test_predictions" / "topics_dev_1_predictions.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["id"] for record in records] == [f"dev-{i}" for i in range(40)]
    threshold = result.scores["topics"]["threshold"]
    for record in records:
        likely = [name for name, p in record["probabilities"].items() if p >= threshold]
        assert record["labels"] == likely
    marks = model_of(data_dir) / "test_predictions" / "marks_dev_1_predictions.jsonl"
    assert [json.loads(x)["id"] for x in marks.read_text().splitlines()] == list(range(33))


def test_class_reports(run):
    data_dir, result, shown = run
    folder = model_of(data_dir) / "results" / "topics,marks_results_classes"
    names = {f"{task}_dev_1{ending}" for task in TASKS for ending in (".md", ".png")}
    assert names <= {path.name for path in folder.iterdir()}
    text = (folder / "topics_dev_1.md").read_text()
    assert "| sea |" in text and f"{result.scores['topics']['micro_f1']:.2f} |" in text
    assert "Confusion matrix" in (folder / "marks_dev_1.md").read_text()
    assert "marks_dev_1.png" in shown


def test_predictions_of_a_file_and_from_python(run, tmp_path):
    data_dir, _, _ = run
    new = tmp_path / "new.csv"
    new.write_text("key,text\n007,the old ship left the harbour at night with a captain\nx,the\n")
    hparams = {**HPARAMS, "task_names": ["topics"], "init_checkpoint": str(trial_of(data_dir))}
    del hparams["best_metric"]
    config = tiny_tasks.configure(data_dir, do_train=False, **hparams)
    assert predict(config, str(new), str(tmp_path / "out.jsonl")) == 2
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["id"], second["id"]) == ("007", "x")
    model = finetune.FineTuned.from_pretrained(str(trial_of(data_dir)))
    text = "the old ship left the harbour at night with a captain"
    (found,) = model.predict([text], task="topics")
    assert found.labels == first["labels"]
    assert found.probabilities == pytest.approx(first["probabilities"], abs=1e-5)
