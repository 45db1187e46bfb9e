"""Fine-tuning end to end: trials, results, predictions, evaluation, and going on."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

import finetune.run
import run_finetuning
from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.signals import Interrupted
from finetune.batches import Batching
from finetune.results import read_results
from tests.data.building import content
from tests.finetune import tiny_tasks

# Enough to learn which words matter.
LEARN = {"num_train_epochs": 6.0, "learning_rate": 2e-3, "layerwise_lr_decay": None}


@pytest.fixture(scope="module")
def trained(tiny_finetuning, tmp_path_factory):
    """(data folder, results, what was printed) of two trials."""
    folder = tmp_path_factory.mktemp("trained") / "data"
    shutil.copytree(tiny_finetuning, folder)
    results, shown = tiny_tasks.finetune_here(folder, **LEARN, num_trials=2)
    return folder, results, shown


@pytest.fixture
def copy_of_trained(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "copy")
    return tmp_path / "copy"


def model_of(data_dir):
    return data_dir / "models" / tiny_tasks.MODEL


def weights_of(data_dir, trial=1, name="marks_model"):
    folder = model_of(data_dir) / "finetuning_models" / f"{name}_{trial}"
    store = CheckpointStore(str(folder))
    return store.load(store.latest())


def differ(one, other):
    return any(not np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_trials_learn_and_differ(trained):
    folder, results, shown = trained
    assert [(r.trial, r.seed) for r in results] == [(1, 0), (2, 1)]
    # 240 examples: 30 batches x 6 epochs.
    assert [r.step for r in results] == [180, 180]
    for result in results:
        assert result.scores["marks"]["accuracy"] > 90
        assert result.files == {"marks": [str(folder / "finetuning_data/marks/dev.tsv")]}
    assert differ(weights_of(folder, 1), weights_of(folder, 2))
    assert "Scoring marks on" in shown and "median" in shown


def test_results_files(trained):
    folder, results, _ = trained
    place = model_of(folder) / "results"
    content = read_results(str(place / "marks_results.json"))
    accuracies = [r.scores["marks"]["accuracy"] for r in results]
    summary = content["summary"]["marks"]["accuracy"]
    assert summary["mean"] == pytest.approx(np.mean(accuracies))
    assert summary["median"] == pytest.approx(np.median(accuracies))
    assert summary["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert [t["seed"] for t in content["trials"]] == [0, 1]
    assert content["hparams"]["learning_rate"] == LEARN["learning_rate"]
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
    assert names >= {"checkpoints", "config.json", "vocab.txt", "tokenizer.json", "tasks.json"}
    assert names >= {"metrics.jsonl", "tensorboard"}
    assert json.loads((folder / "tasks.json").read_text())["marks"]["labels"] == ["bad", "good"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
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


def test_finished_trials_stand_and_more_may_follow(copy_of_trained):
    before = content(model_of(copy_of_trained) / "finetuning_models")
    results, shown = tiny_tasks.finetune_here(copy_of_trained, **LEARN, num_trials=3)
    after = content(model_of(copy_of_trained) / "finetuning_models")
    assert shown.count("its results stand") == 2
    assert [r.trial for r in results] == [1, 2, 3]
    assert {name: after[name] for name in before} == before


def test_the_same_seed_gives_the_same_trial(trained, copy_of_trained):
    shutil.rmtree(model_of(copy_of_trained) / "finetuning_models")
    shutil.rmtree(model_of(copy_of_trained) / "results")
    results, _ = tiny_tasks.finetune_here(copy_of_trained, **LEARN)
    assert results[0].scores == trained[1][0].scores
    assert not differ(weights_of(copy_of_trained), weights_of(trained[0]))


def test_overwrite_trains_again_and_leaves_nothing_behind(copy_of_trained):
    results, _ = tiny_tasks.finetune_here(
        copy_of_trained, **LEARN | {"num_train_epochs": 1.0}, overwrite=True
    )
    assert [(r.trial, r.step) for r in results] == [(1, 30)]
    names = {p.name for p in (model_of(copy_of_trained) / "finetuning_models").iterdir()}
    assert names == {"marks_model_1"}
    content = read_results(str(model_of(copy_of_trained) / "results" / "marks_results.json"))
    assert len(content["trials"]) == 1
    assert content["hparams"]["num_train_epochs"] == 1.0


def test_only_the_last_model_is_kept_if_asked(data_dir):
    tiny_tasks.finetune_here(data_dir, num_trials=2, keep_all_models=False, num_train_epochs=0.2)
    names = [p.name for p in (model_of(data_dir) / "finetuning_models").iterdir()]
    assert names == ["marks_model_2"]


def test_evaluating_the_last_trained_model(trained, copy_of_trained):
    (result,), shown = tiny_tasks.finetune_here(copy_of_trained, do_train=False)
    assert "marks_model_2" in shown
    assert result.scores == trained[1][1].scores
    content = read_results(str(model_of(copy_of_trained) / "results" / "marks_results.json"))
    assert [t["trial"] for t in content["trials"]] == [1, 2]
    assert [e["checkpoint"] for e in content["evaluations"]] == [result.checkpoint]


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


def test_test_outputs_and_submission(data_dir):
    tiny_tasks.finetune_here(
        data_dir, task_names=["cola"], tasks={}, write_test_outputs=True, predict_batch_size=3
    )
    place = model_of(data_dir) / "test_predictions"
    assert len((place / "cola_test_1_predictions.jsonl").read_text().splitlines()) == 5
    lines = (place / "submission_1" / "CoLA.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == ["0", "1", "2", "3", "4"]


def test_the_best_weights_are_kept(data_dir):
    (result,), shown = tiny_tasks.finetune_here(data_dir, **LEARN, eval_every_steps=45)
    folder = model_of(data_dir) / "finetuning_models" / "marks_model_1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["accuracy"] for line in lines if line["split"] == "dev"}
    assert list(scores) == [45, 90, 135, 180]
    best = max(scores.values())
    assert result.best["score"] == pytest.approx(best)
    assert result.best["step"] == min(step for step, score in scores.items() if score == best)
    (again,), _ = tiny_tasks.finetune_here(
        data_dir, do_train=False, init_checkpoint=str(folder / "best")
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


def test_a_task_with_an_underscore(data_dir):
    """The official program takes feature names apart at it."""
    source = data_dir / "finetuning_data"
    (source / "marks").rename(source / "my_marks_1")
    (result,), _ = tiny_tasks.finetune_here(
        data_dir,
        task_names=["my_marks_1"],
        tasks={"my_marks_1": tiny_tasks.HPARAMS["tasks"]["marks"]},
    )
    assert result.scores["my_marks_1"]["accuracy"] >= 0


def test_random_weights(data_dir):
    _, shown = tiny_tasks.finetune_here(
        data_dir,
        init_checkpoint=None,
        vocab_size=tiny_tasks.NETWORK.vocab_size,
        model_hparam_overrides={"hidden_size": 16, "num_hidden_layers": 1},
        num_train_epochs=0.2,
    )
    assert "random weights" in shown


def test_debug(data_dir):
    (result,), shown = tiny_tasks.finetune_here(
        data_dir, debug=True, vocab_size=tiny_tasks.NETWORK.vocab_size
    )
    assert result.step == 26  # the first 100 lines, in batches of 8, twice
    assert "An example of marks:" in shown


def test_fixed_shapes(data_dir):
    _, shown = tiny_tasks.finetune_here(data_dir, pad_to_max_length=True)
    folder = model_of(data_dir) / "finetuning_models" / "marks_model_1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    # The program's own count: rows x 32 tokens a step, where sentences have 3 to 15.
    padded = Batching(8, 32, pad_to_max_length=True).epoch(np.arange(3, 15), 0, 0)
    assert {plan.length for plan in padded} == {32} and len(lines) == 15


@pytest.mark.slow
def test_gradient_accumulation_is_the_large_batch(data_dir):
    """Four micro-batches of two end where one batch of eight does; dropout is off."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ends = []
    for parts in (1, 4):
        tiny_tasks.finetune_here(
            data_dir,
            gradient_accumulation_steps=parts,
            num_train_epochs=0.2,
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


SHORT = {"num_train_epochs": 0.2}


@pytest.mark.parametrize(
    "change, named",
    [
        ("train.tsv", "training data of marks"),
        ("dev.tsv", "dev data of marks"),
        ("model", "pre-trained model"),
    ],
)
def test_results_of_other_data_or_models_do_not_stand(change, named, data_dir):
    tiny_tasks.finetune_here(data_dir, **SHORT)
    if change == "model":
        shutil.rmtree(model_of(data_dir) / "checkpoints")
        tiny_tasks.write_model(data_dir, seed=1)
    else:
        path = data_dir / "finetuning_data" / "marks" / change
        path.write_text(path.read_text().replace("the", "old", 1))
    before = content(model_of(data_dir) / "finetuning_models")
    with pytest.raises(UserError, match=f"changed since then: {named}"):
        tiny_tasks.finetune_here(data_dir, **SHORT)
    assert content(model_of(data_dir) / "finetuning_models") == before
    (result,), _ = tiny_tasks.finetune_here(data_dir, **SHORT, overwrite=True)
    assert result.step == 6


def test_a_copy_of_the_folder_is_the_same_run(data_dir, tmp_path):
    tiny_tasks.finetune_here(data_dir, **SHORT)
    shutil.copytree(data_dir, tmp_path / "elsewhere")
    _, shown = tiny_tasks.finetune_here(tmp_path / "elsewhere", **SHORT)
    assert "its results stand" in shown


@pytest.mark.parametrize("same", [True, False])
def test_a_halted_overwriting_run(data_dir, same, monkeypatch):
    """The same run goes on; another one does not go on with its weights."""
    tiny_tasks.finetune_here(data_dir, **SHORT)

    def halt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finetune.run._score", halt)
        with pytest.raises(KeyboardInterrupt):
            tiny_tasks.finetune_here(data_dir, num_train_epochs=0.4, overwrite=True)
    folder = model_of(data_dir) / "finetuning_models"
    assert (folder / "marks_model_1.replaced").is_dir()
    epochs = 0.4 if same else 0.3
    (result,), shown = tiny_tasks.finetune_here(
        data_dir, num_train_epochs=epochs, overwrite=True
    )
    assert ("Already trained for 12 steps" in shown) == same
    assert ("another halted run" in shown) == (not same)
    assert result.step == int(30 * epochs)
    assert [path.name for path in folder.iterdir()] == ["marks_model_1"]


def test_trials_that_a_halted_overwriting_run_finished_stand(data_dir, monkeypatch):
    tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    train, trained = finetune.run.train_trial, []

    def train_one(*arguments):
        if trained:
            raise KeyboardInterrupt
        trained.append(arguments[-1])
        return train(*arguments)

    again = {"num_train_epochs": 0.3, "num_trials": 2, "overwrite": True}
    with monkeypatch.context() as patch:
        patch.setattr("finetune.run.train_trial", train_one)
        with pytest.raises(KeyboardInterrupt):
            tiny_tasks.finetune_here(data_dir, **again)
    results, shown = tiny_tasks.finetune_here(data_dir, **again)
    assert "Trial 1 has been trained" in shown
    assert [r.step for r in results] == [9, 9]
    _, shown = tiny_tasks.finetune_here(data_dir, **again)
    assert "has been trained" not in shown


def test_test_outputs_may_follow_later(data_dir):
    cola = {"task_names": ["cola"], "tasks": {}, "num_train_epochs": 0.4}
    tiny_tasks.finetune_here(data_dir, **cola)
    place = model_of(data_dir) / "test_predictions"
    assert not (place / "submission_1").exists()
    _, shown = tiny_tasks.finetune_here(data_dir, **cola, write_test_outputs=True)
    assert "its results stand" in shown
    assert (place / "submission_1" / "CoLA.tsv").is_file()


def test_a_head_of_other_labels_is_not_taken_over(copy_of_trained):
    path = copy_of_trained / "finetuning_data" / "marks"
    for name in ("train.tsv", "dev.tsv"):
        (path / name).write_text((path / name).read_text().replace("good", "a good one"))
    start = model_of(copy_of_trained) / "finetuning_models" / "marks_model_1"
    again = {"init_checkpoint": str(start), "model_dir": str(copy_of_trained / "x"), **SHORT}
    again |= {"results_pkl": str(copy_of_trained / "x.pkl"), "do_eval": False}
    _, shown = tiny_tasks.finetune_here(copy_of_trained, **again)
    assert "2 variables of task heads start at random" in shown
    for name in ("train.tsv", "dev.tsv"):
        (path / name).write_text((path / name).read_text().replace("a good one", "good"))
    again["model_dir"] = str(copy_of_trained / "y")
    _, shown = tiny_tasks.finetune_here(copy_of_trained, **again)
    assert "at random" not in shown


def test_the_best_weights_of_a_run_that_goes_on_from_before_them(data_dir):
    """The folder then holds what the second run found, not what is no longer on its way."""
    tiny_tasks.finetune_here(data_dir, **LEARN, eval_every_steps=90)
    folder = model_of(data_dir) / "finetuning_models" / "marks_model_1"
    shutil.rmtree(folder / "checkpoints")
    (model_of(data_dir) / "results" / "marks_results.json").unlink()
    (result,), _ = tiny_tasks.finetune_here(data_dir, **LEARN, eval_every_steps=60)
    steps = CheckpointStore(str(folder / "best")).steps()
    assert steps == [result.best["step"]] and steps[0] in (60, 120, 180)
    assert result.best["checkpoint"].endswith(f"{steps[0]:08d}")


def test_a_signal_in_the_last_step_stops_the_trials(data_dir, monkeypatch):
    stop = lambda self: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("finetune.best.BestWeights.__call__", stop)
        with pytest.raises(Interrupted, match="after step 6"):
            tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2, eval_every_steps=6)
    results, shown = tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    assert shown.count("Already trained for 6 steps") == 1
    assert len(results) == 2
