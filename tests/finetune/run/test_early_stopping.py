"""The best weights by a metric, and training that ends where they stay the best."""

import math
import shutil
import types

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.workers import Workers
from finetune.evaluation import DevScores, is_better
from finetune.run import best_weights
from finetune.run.best_weights import BestWeights, Patience
from finetune.run.results import read_results
from tests.data.small_corpus import content
from tests.finetune import tiny_tasks


@pytest.mark.parametrize(
    "score, best, metric, better",
    [
        (2.0, 1.0, None, True),
        (1.0, 1.0, "accuracy", False),
        (0.5, 0.6, "loss", True),
        (0.5, 0.6, "cola/loss", True),
        (0.6, 0.5, "mse", False),
        (math.nan, 1.0, None, False),
        (1.0, math.nan, "loss", True),
        (math.nan, math.nan, None, False),
    ],
)
def test_what_is_better(score, best, metric, better):
    assert is_better(score, best, metric) is better


class Run:
    """A trial's best weights with scores of a script in place of a network's."""

    def __init__(self, folder, scores, patience=0, metric=None, save_every=10, step=0):
        self.scores = scores
        self.store = CheckpointStore(str(folder))
        run = types.SimpleNamespace(
            workers=Workers(),
            store=self.store,
            settings=types.SimpleNamespace(save_every=save_every),
            identity={"vocab_sha256": "ab"},
            log=types.SimpleNamespace(write=lambda *_, **__: None),
            optimizer=types.SimpleNamespace(
                variables=types.SimpleNamespace(to_numpy=lambda: {"w": np.zeros(1)})
            ),
        )
        self.trainer = types.SimpleNamespace(step=step, run=run)
        task = types.SimpleNamespace(name="t", main_metric="f1")
        dev = [types.SimpleNamespace(task=task, split="dev", prefix="")]
        self.patience = Patience(patience)
        self.best = BestWeights(
            str(folder), self.trainer, None, dev, lambda path: None, metric, self.patience
        )

    def score_all(self, evaluation, dev):
        own = {"f1": self.scores[self.trainer.step], "loss": -self.scores[self.trainer.step]}
        scorer = types.SimpleNamespace(tuned=lambda: {"threshold": self.trainer.step / 100})
        return DevScores([(dev[0], types.SimpleNamespace(scorer=scorer))], {"t": own}, {})

    def evaluate(self, *steps):
        ends = []
        for self.trainer.step in steps:
            ends.append(self.best())
        return ends

    def save(self, step):
        self.store.save(step, {"w": np.zeros(1)}, {}, {})

    def kept(self):
        return CheckpointStore(f"{self.store.folder.removesuffix('/checkpoints')}/best").steps()


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    def make(scores, **values):
        run = Run(tmp_path / "trial", scores, **values)
        monkeypatch.setattr(best_weights, "score_all", run.score_all)
        return run

    return make


SCORES = {2: 1.0, 4: 3.0, 6: 2.0, 8: 3.0, 10: 1.0, 12: 4.0, 14: math.nan}


@pytest.mark.parametrize("metric", [None, "f1", "loss"])
def test_patience_counts_evaluations_without_a_gain(scripted, metric):
    run = scripted(SCORES, patience=3, metric=metric)
    assert run.evaluate(2, 4, 6, 8, 10) == [False, False, False, False, True]
    assert run.best.found.step == 4
    assert run.patience.totals(10) == {"evaluations_without_gain": 3}


def test_without_patience_training_goes_on(scripted):
    run = scripted(SCORES)
    assert not any(run.evaluate(*SCORES))
    assert run.best.found.step == 12 and run.patience.without_gain == 1


def test_the_best_weights_of_the_last_checkpoint_are_kept_until_the_end(scripted, tmp_path):
    run = scripted(SCORES)
    run.evaluate(2, 4, 6, 8, 10)
    assert run.kept() == [4]
    run.save(10)
    run.evaluate(12)
    assert run.kept() == [4, 12]
    again = scripted(SCORES, step=10)  # as if killed after step 12
    assert again.best.found.step == 4 and again.kept() == [4]
    tuned = (tmp_path / "trial" / "best" / "tuned.json").read_text()
    assert "0.04" in tuned
    again.evaluate(12, 14)
    again.best.finish()
    assert again.kept() == [12]


def test_best_weights_while_a_checkpoint_is_on_its_way(scripted):
    """The one of step 10 may not be on the disk when step 12 is scored."""
    run = scripted(SCORES)
    run.evaluate(2, 4, 6, 8, 10, 12)
    assert run.kept() == [4, 12]


def test_a_run_that_resumes_before_all_of_them(scripted, tmp_path):
    scripted(SCORES).evaluate(2, 4)
    run = scripted(SCORES, step=0)
    assert run.best.found is None and not (tmp_path / "trial" / "best").exists()


def test_an_unknown_metric_is_refused_before_training(scripted):
    with pytest.raises(UserError, match="f1, loss") as error:
        scripted({0: 1.0}, metric="f2").best.check_metric()
    assert error.value.where == "hparam best_metric"
    scripted({}, metric="f1").best.check_metric()  # without scoring
    scripted({0: 1.0}, metric="loss").best.check_metric()


def test_question_answering_has_no_loss_to_choose_by(tiny_finetuning, tmp_path):
    shutil.copytree(tiny_finetuning, tmp_path / "data")
    hparams = {"task_names": ["squad"], "eval_every_steps": 1000, "best_metric": "loss"}
    with pytest.raises(UserError) as error:
        tiny_tasks.finetune_here(tmp_path / "data", **hparams)
    assert error.value.where == "hparam best_metric"
    assert not list((tmp_path / "data").glob("models/**/finetuning_models/**/step-*"))


def test_the_end_of_training_is_scored_as_well(data_dir):
    hparams = {"num_train_epochs": 0.1, "eval_every_steps": 1000}
    (trial,), shown = tiny_tasks.finetune_here(data_dir, **hparams)
    assert trial.step < 1000 and trial.best.step == trial.step
    assert shown.count(f"Step {trial.step}, dev: ") == 1
    folder = tiny_tasks.model_of(data_dir) / "finetuning_models" / "marks_model_1" / "best"
    assert CheckpointStore(str(folder)).steps() == [trial.step]


@pytest.mark.slow
def test_a_run_that_ends_early_resumes_exactly(data_dir, tmp_path, monkeypatch):
    """Killed between a checkpoint and the end, it ends at the same step with the same weights."""
    hparams = tiny_tasks.LEARN | {
        "eval_every_steps": 5,
        "patience": 4,
        "best_metric": "loss",
        "learning_rate": 2e-2,
        "save_checkpoints_steps": 15,
    }
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    (whole,), shown = tiny_tasks.finetune_here(data_dir, **hparams)
    assert "Training ends early: 4 evaluations" in shown
    assert whole.step == whole.best.step + 20 < 180
    call = BestWeights.__call__

    def halt_before_the_end(self):
        ends = call(self)
        if ends:
            raise KeyboardInterrupt
        return ends

    with monkeypatch.context() as patch:
        patch.setattr(BestWeights, "__call__", halt_before_the_end)
        with pytest.raises(KeyboardInterrupt):
            tiny_tasks.finetune_here(copy, **hparams)
    (resumed,), shown = tiny_tasks.finetune_here(copy, **hparams)
    assert "Resuming at step" in shown
    assert (resumed.step, resumed.scores) == (whole.step, whole.scores)
    assert (resumed.best.step, resumed.best.score) == (whole.best.step, whole.best.score)
    folders = [tiny_tasks.model_of(d) / "finetuning_models/marks_model_1" for d in (data_dir, copy)]
    weights = [
        content(folder / place / "checkpoints" / f"step-{step:08d}")["weights.safetensors"]
        for folder in folders
        for place, step in ((".", whole.step), ("best", whole.best.step))
    ]
    assert weights[:2] == weights[2:]
    again, shown = tiny_tasks.finetune_here(copy, **hparams)
    assert again == [resumed] and "its results stand" in shown
    stored = read_results(str(tiny_tasks.model_of(copy) / "results" / "marks_results.json"))
    assert stored.trials[0].step == whole.step
