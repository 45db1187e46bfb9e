"""Going on with, overwriting and adding to what an earlier run has left."""

import os
import shutil
import signal

import pytest

import finetune.run
from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Interrupted
from tests.data.building import content
from tests.finetune import tiny_tasks

LONG = {"num_train_epochs": 6.0}


def model_of(data_dir):
    return data_dir / "models" / tiny_tasks.MODEL


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
    (result,), shown = tiny_tasks.finetune_here(data_dir, num_train_epochs=epochs, overwrite=True)
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


def test_the_best_weights_of_a_run_that_goes_on_from_before_them(data_dir):
    """The folder then holds what the second run found, not what is no longer on its way."""
    tiny_tasks.finetune_here(data_dir, **LONG, eval_every_steps=90)
    folder = model_of(data_dir) / "finetuning_models" / "marks_model_1"
    shutil.rmtree(folder / "checkpoints")
    (model_of(data_dir) / "results" / "marks_results.json").unlink()
    (result,), _ = tiny_tasks.finetune_here(data_dir, **LONG, eval_every_steps=60)
    steps = CheckpointStore(str(folder / "best")).steps()
    assert steps == [result.best["step"]] and steps[0] in (60, 120, 180)
    assert result.best["checkpoint"].endswith(f"{steps[0]:08d}")


def test_a_signal_in_the_last_step_stops_the_trials(data_dir, monkeypatch):
    stop = lambda self: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("finetune.trial.BestWeights.__call__", stop)
        with pytest.raises(Interrupted, match="after step 6"):
            tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2, eval_every_steps=6)
    results, shown = tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    assert shown.count("Already trained for 6 steps") == 1
    assert len(results) == 2
