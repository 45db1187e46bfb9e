"""Sweeps of tiny models: stopped in the middle, gone on with, refused."""

import contextlib
import io
import json
import os
import shlex
import signal
import sys

import numpy as np
import pytest

import sweep_generator_size
from electra_tf2.errors import UserError
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.sweep import sweep as sweep_run
from electra_tf2.sweep.size_results import read_sweep
from electra_tf2.training.reports import RunLog
from electra_tf2.training.trainer import Interrupted
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

NAME = "swept"
SIZES = ("0.5", "1.0")
PRETRAINING = {
    **{name: value for name, value in tiny.HPARAMS.items() if name != "generator_hidden_size"},
    "num_eval_steps": 2,
}
TASKS = {**tiny_tasks.HPARAMS, "num_train_epochs": 0.1}


def sweep_here(data_dir, *, sizes=SIZES, finetune=TASKS, **hparams):
    """Runs the program in this process; returns what it printed on stdout and stderr."""
    held_out = {"eval_tfrecords": str(data_dir / "held_out" / tiny.GLOB)}
    text = json.dumps({**PRETRAINING, **held_out, **hparams})
    flags = ["--data-dir", str(data_dir), "--model-name", NAME, "--hparams", text, "--sizes"]
    more = [] if finetune is None else ["--finetune", json.dumps(finetune)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sweep_generator_size.main([*flags, *sizes, *more])
    return out.getvalue(), err.getvalue()


def weights(model_dir):
    return open_pretrained(str(model_dir)).arrays


def stop_at(monkeypatch, model_dir, step):
    """Sends SIGTERM when a model reports a step."""
    write = RunLog.write

    def report(log, at, scalars, *, split="train", **more):
        write(log, at, scalars, split=split, **more)
        if (log.path, at, split) == (str(model_dir / "metrics.jsonl"), step, "train"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "write", report)


@pytest.fixture(scope="module")
def stopped_then_finished(tiny_data):
    """(models' folder, results after the stop, output of the same command run again)."""
    tiny_tasks.write_marks(tiny_data)
    models = tiny_data / "models"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, models / f"{NAME}_generator_1", step=2)
        with pytest.raises(Interrupted) as error:
            sweep_here(tiny_data)
    assert error.value.exit_code == 75
    halfway = read_sweep(str(models / f"{NAME}_sweep" / "results.json"))
    stamp = (models / f"{NAME}_generator_0.5" / "metrics.jsonl").stat().st_mtime_ns
    printed = sweep_here(tiny_data)
    unchanged = (models / f"{NAME}_generator_0.5" / "metrics.jsonl").stat().st_mtime_ns == stamp
    return models, halfway, printed, unchanged


@pytest.mark.slow
def test_goes_on_after_a_stop(stopped_then_finished):
    models, halfway, (_, shown), unchanged = stopped_then_finished
    assert [result.size for result in halfway.results] == [0.5]
    first, second = shown.split("\nGenerator size 1 (2 of 2)")
    assert "its figures stand" in first and unchanged
    assert "its results stand" in first
    assert "from step 2 to 6" in second
    steps = [line["step"] for line in tiny.lines(models / f"{NAME}_generator_1", "train")]
    assert steps == [2, 4, 6]


@pytest.mark.slow
def test_a_size_is_the_model_that_run_pretraining_trains(stopped_then_finished, tiny_data):
    models, *_ = stopped_then_finished
    tiny.pretrain_here(tiny_data, "swept_alone", generator_hidden_size=1.0)
    found, expected = weights(models / f"{NAME}_generator_1"), weights(models / "swept_alone")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.slow
def test_results(stopped_then_finished):
    models, _, (printed, shown), _ = stopped_then_finished
    folder = models / f"{NAME}_sweep"
    sweep = read_sweep(str(folder / "results.json"))
    half, full = sweep.results
    assert (half.size, half.hidden_size, full.hidden_size) == (0.5, 8, 16)
    arrays = weights(models / f"{NAME}_generator_0.5")
    assert half.parameters == sum(array.size for array in arrays.values())
    own = [array.size for name, array in arrays.items() if name.startswith("generator")]
    assert half.generator_parameters == sum(own) < full.generator_parameters
    evaluation = models / f"{NAME}_generator_0.5" / "results" / "unsup_results.json"
    # The file has the run's speed as well, which would differ from one evaluation to the next.
    stored = json.loads(evaluation.read_text())
    assert half.figures == {key: stored[key] for key in half.figures}
    assert {"loss", "disc_auc", "masked_lm_loss"} <= set(half.figures)
    assert half.figures["global_step"] == 6
    assert half.scores["marks"].metric == "accuracy" and len(half.scores["marks"].trials) == 1
    scored = models / f"{NAME}_generator_0.5" / "results" / "marks_results.json"
    trials = json.loads(scored.read_text())["trials"]
    accuracies = [trial["scores"]["marks"]["accuracy"] for trial in trials]
    assert half.scores["marks"].trials == accuracies
    # Six steps from random weights: the discriminator guesses, and too early to blame its size.
    assert half.figures["disc_auc"] < 0.6 and sweep.collapsed() == []
    assert "No discriminator has learned anything yet" in printed
    assert printed.rstrip("\n") == (folder / "results.md").read_text().rstrip("\n")
    assert (folder / "generator_sizes.png").read_bytes().startswith(b"\x89PNG")
    assert f"Plot written to {folder}/generator_sizes.png" in shown


@pytest.mark.slow
def test_finished_sweep_trains_nothing(stopped_then_finished, tiny_data, monkeypatch):
    models, _, (printed, _), _ = stopped_then_finished
    before = {path: path.stat().st_mtime_ns for path in models.glob(f"{NAME}_generator_*/*/*")}
    monkeypatch.setattr(sweep_run, "pretrain", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    again, shown = sweep_here(tiny_data, finetune=None)
    assert again == printed  # the scores of the models stay
    assert shown.count("its figures stand") == 2
    assert "No plot. Plots need matplotlib." in shown
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, what",
    [
        ({"learning_rate": 0.5}, "learning_rate: the model has 0.001"),
        ({"num_train_steps": 4}, "trained for longer"),
        ({"vocab_size": 9}, "vocabulary|another configuration"),
    ],
    ids=str,
)
def test_other_hparams_are_refused(stopped_then_finished, tiny_data, changes, what):
    with pytest.raises(UserError, match=what):
        sweep_here(tiny_data, **changes)


@pytest.mark.slow
def test_sizes_that_were_trained_on_other_data_are_refused(stopped_then_finished, tiny_data):
    other = str(tiny_data / "held_out" / tiny.GLOB)
    with pytest.raises(UserError, match="not those that this model was trained on") as error:
        sweep_here(tiny_data, pretrain_tfrecords=other)
    assert other in error.value.where


@pytest.mark.slow
def test_results_of_other_sizes_are_kept(stopped_then_finished, tiny_data, monkeypatch):
    monkeypatch.setattr(sweep_run, "plot_sweep", lambda *arguments: None)
    folder = tiny_data / "models" / f"{NAME}_sweep"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    _, shown = sweep_here(tiny_data, finetune=None, sizes=["0.5"])
    assert "The earlier results" in shown
    steps = PRETRAINING["num_train_steps"]
    for name in ("results.json", "results.md"):
        stem, ending = name.split(".")
        aside = folder / f"{stem}_0.5_1_{steps}_steps.{ending}"
        assert aside.read_bytes() == kept[folder / name]
        aside.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.mark.slow
def test_other_batches_are_evaluated_anew(stopped_then_finished, tiny_data, monkeypatch):
    asked = []
    monkeypatch.setattr(sweep_run, "plot_sweep", lambda *arguments: None)
    monkeypatch.setattr(sweep_run, "pretrain", lambda config: asked.append(config) or {"loss": 1.0})
    folder = tiny_data / "models" / f"{NAME}_sweep"
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    sweep_here(tiny_data, finetune=None, num_eval_steps=1)
    assert [config.generator_hidden_size for config in asked] == [0.5, 1.0]
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.mark.parametrize(
    "finetune, what",
    [
        ({"task_names": ["mrcp"]}, "There is no task 'mrcp'"),
        ({"task_names": ["mrpc"]}, "mrpc"),
        ({**TASKS, "learning": 1}, "Unknown hparam"),
        ({**TASKS, "model_dir": "x"}, "sets this itself"),
        ({**TASKS, "num_trials": -1}, "number of times"),
    ],
    ids=str,
)
def test_finetuning_is_checked_before_the_first_step(tiny_data, finetune, what, monkeypatch):
    monkeypatch.setattr(sweep_run, "pretrain", None)
    tiny_tasks.write_marks(tiny_data)
    with pytest.raises(UserError, match=what) as error:
        sweep_here(tiny_data, finetune=finetune, seed=5, sizes=["0.25"])
    assert error.value.where.startswith("--finetune")
    assert not (tiny_data / "models" / f"{NAME}_generator_0.25").exists()


def test_example_of_the_page(monkeypatch):
    page = (tiny.ROOT / "docs" / "generator_size.md").read_text(encoding="utf-8")
    (command,) = [part for part in page.split("```") if "sweep_generator_size.py --data" in part]
    _, script, *words = shlex.split(command.replace("\\\n", " "))
    assert script == "sweep_generator_size.py"
    called = []
    monkeypatch.setattr(sweep_run, "run_sweep", lambda *arguments: called.append(arguments))
    sweep_generator_size.main(words)
    ((_, configs, scores),) = called
    assert len(configs) == 5 and all(config.eval_tfrecords for config in configs.values())
    assert scores._config("small").task_names
