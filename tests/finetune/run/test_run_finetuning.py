"""Fine-tuning end to end: trials, results, predictions and evaluation."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import run_finetuning
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.devices import open_devices
from finetune.feature_tables import TaskData
from finetune.run.open_run import open_run
from finetune.run.results import read_results
from finetune.run.trial import build_model
from tests.finetune import tiny_tasks
from tests.finetune.fine_tuned_models import write_fine_tuned
from tests.finetune.tiny_tasks import LEARN, SHORT, model_of


def weights_of(data_dir, trial=1, name="marks_model"):
    folder = model_of(data_dir) / "finetuning_models" / f"{name}_{trial}"
    store = CheckpointStore(str(folder))
    return store.load(store.latest())


def differ(one, other):
    return any(not np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_trials_learn_and_differ(trained):
    folder, results, shown = trained
    assert [(r.trial, r.seed) for r in results] == [(1, 0), (2, 1)]
    assert [r.step for r in results] == [180, 180]
    for result in results:
        assert result.scores["marks"]["accuracy"] > 90
        assert result.files == {"marks": [str(folder / "finetuning_data/marks/dev.tsv")]}
    assert differ(weights_of(folder, 1), weights_of(folder, 2))
    assert "dev.tsv (33 rows)" in shown and "median" in shown
    assert [result.rows for result in results] == [{"marks": [33]}] * len(results)


def test_results_files(trained):
    folder, results, _ = trained
    place = model_of(folder) / "results"
    content = read_results(str(place / "marks_results.json"))
    accuracies = [r.scores["marks"]["accuracy"] for r in results]
    summary = content.summary["marks"]["accuracy"]
    assert summary.mean == pytest.approx(np.mean(accuracies))
    assert summary.median == pytest.approx(np.median(accuracies))
    assert summary.std == pytest.approx(np.std(accuracies, ddof=1))
    assert content.trials == results
    assert content.hparams["learning_rate"] == LEARN["learning_rate"]
    lines = (place / "marks_results.txt").read_text().splitlines()
    assert lines == [
        "marks: " + " - ".join(f"{k}: {v:.2f}" for k, v in r.scores["marks"].items())
        for r in results
    ]
    table = (place / "marks_results.md").read_text()
    assert all(word in table for word in ("**median**", "**mean**", "**std**", "| 2 | 1 |"))
    assert "marks" in (place / "scores.md").read_text()


def test_a_trial_s_folder_says_what_the_model_is(trained):
    folder = model_of(trained[0]) / "finetuning_models" / "marks_model_2"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"checkpoints", "config.json", "vocab.txt", "casing.json", "tasks.json"}
    assert names >= {"metrics.jsonl", "tensorboard"}
    assert json.loads((folder / "tasks.json").read_text())["marks"]["labels"] == ["bad", "good"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["split"] == "train"]
    assert {"loss", "marks_loss", "mean_loss", "learning_rate"} <= lines[0].keys()
    assert [line["step"] for line in lines] == list(range(4, 184, 4))


def test_dev_predictions(trained):
    folder, results, _ = trained
    path = model_of(folder) / "test_predictions" / "marks_dev_1_predictions.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    gold = [line.split("\t")[1] for line in (folder / "finetuning_data/marks/dev.tsv")
            .read_text().splitlines()[1:]]  # fmt: skip
    assert len(records) == 33
    right = np.mean([r["label"] == label for r, label in zip(records, gold, strict=True)])
    assert 100 * right == pytest.approx(results[0].scores["marks"]["accuracy"])
    for record in records:
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert record["label"] == max(record["probabilities"], key=record["probabilities"].get)


def test_the_same_seed_gives_the_same_trial(trained_briefly, data_dir):
    (result,), _ = tiny_tasks.finetune_here(data_dir, **SHORT)
    assert result.scores == trained_briefly[1].scores
    assert not differ(weights_of(data_dir), weights_of(trained_briefly[0]))


def test_only_the_last_model_is_kept_if_asked(data_dir):
    tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2, keep_all_models=False)
    names = [p.name for p in (model_of(data_dir) / "finetuning_models").glob("marks_model*")]
    assert names == ["marks_model_2"]


def test_evaluating_the_last_trained_model(trained, copy_of_trained):
    (result,), shown = tiny_tasks.finetune_here(copy_of_trained, do_train=False)
    assert "marks_model_2" in shown
    assert result.scores == trained[1][1].scores
    content = read_results(str(model_of(copy_of_trained) / "results" / "marks_results.json"))
    assert [own.trial for own in content.trials] == [1, 2]
    assert [own.checkpoint for own in content.evaluations] == [result.checkpoint]


def test_evaluating_a_given_model(trained, copy_of_trained):
    """Under another model's name, from a checkpoint folder, without the training data."""
    shutil.copytree(model_of(copy_of_trained), copy_of_trained / "models" / "other")
    (copy_of_trained / "finetuning_data" / "marks" / "train.tsv").unlink()
    path = model_of(copy_of_trained) / "finetuning_models" / "marks_model_1"
    (result,), _ = tiny_tasks.finetune_here(
        copy_of_trained, do_train=False, init_checkpoint=str(path)
    )
    assert result.scores == trained[1][0].scores


def test_predicting_a_file(trained, tmp_path):
    folder = trained[0]
    source, output = tmp_path / "new.tsv", tmp_path / "out" / "new.jsonl"
    source.write_text("text\nold ship .\nold town .\nnew bread\n")
    run_finetuning.main(
        tiny_tasks.arguments(folder, "--predict", str(source), "--output", str(output))
    )
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [r["label"] for r in records] == ["good", "bad", "bad"]


def test_test_outputs_may_follow_later(data_dir):
    """Those of trial 1 are written when they are asked for, those of trial 2 after its training."""
    cola = {"task_names": ["cola"], "tasks": {}, "num_train_epochs": 0.4}
    tiny_tasks.finetune_here(data_dir, **cola)
    place = model_of(data_dir) / "test_predictions"
    assert not (place / "submission_1").exists()
    cola |= {"num_trials": 2, "write_test_outputs": True, "predict_batch_size": 3}
    _, shown = tiny_tasks.finetune_here(data_dir, **cola)
    assert "its results stand" in shown
    for trial in (1, 2):
        records = (place / f"cola_test_{trial}_predictions.jsonl").read_text().splitlines()
        assert len(records) == 5
        lines = (place / f"submission_{trial}" / "CoLA.tsv").read_text().splitlines()
        assert lines[0] == "index\tprediction"
        assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2", "3", "4"]


def test_the_best_weights_are_kept(trained, copy_of_trained):
    result = trained[1][0]
    folder = model_of(copy_of_trained) / "finetuning_models" / "marks_model_1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["accuracy"] for line in lines if line["split"] == "dev"}
    assert list(scores) == [45, 90, 135, 180]
    best = max(scores.values())
    assert result.best.score == pytest.approx(best)
    assert result.best.step == min(step for step, score in scores.items() if score == best)
    (again,), _ = tiny_tasks.finetune_here(
        copy_of_trained, do_train=False, init_checkpoint=str(folder / "best")
    )
    assert again.scores["marks"]["accuracy"] == pytest.approx(best)


@pytest.mark.slow
def test_several_tasks_train_one_model(data_dir):
    names = ["marks", "chunk", "squad"]
    (result,), _ = tiny_tasks.finetune_here(data_dir, task_names=names)
    assert list(result.scores) == names
    place = model_of(data_dir)
    assert (place / "finetuning_models" / "marks,chunk,squad_model_1").is_dir()
    assert (place / "results" / "marks,chunk,squad_qa" / "squad_null_odds.json").is_file()
    # 240 + 12 + 8 examples in batches of 8, twice
    assert result.step == 66


def test_a_task_with_an_underscore(trained_briefly, data_dir):
    """The official program takes feature names apart at it."""
    source = data_dir / "finetuning_data"
    (source / "marks").rename(source / "my_marks_1")
    (result,), _ = tiny_tasks.finetune_here(
        data_dir,
        **SHORT,
        task_names=["my_marks_1"],
        tasks={"my_marks_1": tiny_tasks.HPARAMS["tasks"]["marks"]},
    )
    assert result.scores["my_marks_1"] == trained_briefly[1].scores["marks"]


def test_random_weights(data_dir):
    _, shown = tiny_tasks.finetune_here(
        data_dir,
        init_checkpoint=None,
        vocab_size=tiny_tasks.NETWORK.vocab_size,
        model_hparam_overrides={"hidden_size": 16, "num_hidden_layers": 1},
        **SHORT,
    )
    assert "random weights" in shown
    table = "electra/embeddings/word_embeddings"
    start = CheckpointStore(str(model_of(data_dir)))
    pretrained = start.load(start.latest()).weights[table]
    trained = weights_of(data_dir).weights[table]
    assert trained.shape[1] == 128 != pretrained.shape[1]  # model_size small, not the model's


@pytest.mark.slow
def test_debug(data_dir):
    (result,), shown = tiny_tasks.finetune_here(
        data_dir, debug=True, vocab_size=tiny_tasks.NETWORK.vocab_size
    )
    assert result.step == 26  # the first 100 lines, in batches of 8, twice
    assert "An example of marks:" in shown


@pytest.mark.parametrize("pad", [True, False])
def test_fixed_shapes(data_dir, monkeypatch, pad):
    lengths, gather = [], TaskData.gather

    def watch(self, rows, length):
        batch = gather(self, rows, length)
        seen = lambda size: lengths.append(int(size))  # noqa: E731
        with tf.control_dependencies([tf.py_function(seen, [tf.shape(batch["input_ids"])[1]], [])]):
            return tf.nest.map_structure(tf.identity, batch)

    monkeypatch.setattr(TaskData, "gather", watch)
    tiny_tasks.finetune_here(data_dir, pad_to_max_length=pad, **SHORT)
    assert len(lengths) == 6 + 3  # training and scoring
    assert (set(lengths) == {32}) == pad and max(lengths) <= 32


@pytest.mark.slow
def test_gradient_accumulation_is_the_large_batch(data_dir):
    """Four micro-batches of two end where one batch of eight does; dropout is off."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ends = []
    for parts in (1, 4):
        tiny_tasks.finetune_here(
            data_dir,
            **SHORT,
            gradient_accumulation_steps=parts,
            model_hparam_overrides=off,
            head_dropout_prob=0.0,
            do_eval=False,
            model_dir=str(data_dir / f"parts{parts}"),
        )
        store = CheckpointStore(str(data_dir / f"parts{parts}_1"))
        ends.append(store.load(store.latest()).weights)
    start = CheckpointStore(str(model_of(data_dir)))
    start = start.load(start.latest()).weights
    for name in ends[0]:
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=1e-6, err_msg=name)
    moved = [np.abs(ends[0][name] - start[name]).max() for name in ends[0] if name in start]
    assert max(moved) > 1e-3


@pytest.mark.slow
def test_a_head_of_other_labels_is_not_taken_over(copy_of_trained_briefly):
    folder = copy_of_trained_briefly
    start = model_of(folder) / "finetuning_models" / "marks_model_1"
    again = SHORT | {"init_checkpoint": str(start), "do_eval": False}
    again["results_pkl"] = str(folder / "other.pkl")
    _, shown = tiny_tasks.finetune_here(folder, **again, model_dir=str(folder / "x"))
    assert "at random" not in shown
    for name in ("train.tsv", "dev.tsv"):
        path = folder / "finetuning_data" / "marks" / name
        path.write_text(path.read_text().replace("good", "a good one"))
    _, shown = tiny_tasks.finetune_here(folder, **again, model_dir=str(folder / "y"))
    assert "2 variables of task heads start at random" in shown


@pytest.mark.parametrize(
    "old, new, kept", [(" ", "\t", True), (" ", " x ", True), ("NP", "VP", False)]
)
def test_a_taggers_head_is_taken_over_whatever_its_files_look_like(tmp_path, old, new, kept):
    trial, trained, _ = write_fine_tuned(tmp_path, ["places"])
    files = tmp_path / "finetuning_data" / "places"
    files.mkdir(parents=True)
    for split in ("train", "dev"):
        lines = ("ship B-NP", "old I-NP", "", "river B-NP", "was O")
        (files / f"{split}.txt").write_text("\n".join(lines).replace(old, new) + "\n")
    names = {"task_names": ["places"], "tasks": {"places": {"kind": "tagging"}}}
    config = tiny_tasks.configure(tmp_path, **names, init_checkpoint=str(trial))
    model = build_model(open_run(config, open_devices(config)), 0, need_heads=False)
    name = "task_specific/places/classifier/kernel"
    ours, theirs = (np.asarray(own.named_variables()[name]) for own in (model, trained))
    assert np.array_equal(ours, theirs) == kept
