"""What an earlier run has left: trials that stand, resume, are overwritten or added to."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

import finetune.run.finetune
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Interrupted
from finetune.run.results import read_results
from finetune.trial_folders import TrialFolders, mark_finished
from tests.data.small_corpus import content
from tests.finetune import tiny_tasks
from tests.finetune.tiny_tasks import LEARN, SHORT, model_of

OTHER = {"num_train_epochs": 0.4}  # 12 steps
STOPPED = {"num_train_epochs": 30.0, "log_every_steps": 1, "save_checkpoints_steps": 100}


def folders_of(data_dir):
    return model_of(data_dir) / "finetuning_models"


def names_of(data_dir):
    return {path.name for path in folders_of(data_dir).glob("marks_model*")}


def halt(*arguments):
    raise KeyboardInterrupt


def test_finished_trials_stand_and_more_may_follow(copy_of_trained_briefly):
    """In a copy of the folder too."""
    before = content(folders_of(copy_of_trained_briefly))
    results, shown = tiny_tasks.finetune_here(copy_of_trained_briefly, **SHORT, num_trials=2)
    after = content(folders_of(copy_of_trained_briefly))
    assert shown.count("its results stand") == 1
    assert [r.trial for r in results] == [1, 2]
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "change, named",
    [
        ("train.tsv", "training data of marks"),
        ("dev.tsv", "dev data of marks"),
        ("model", "pre-trained model"),
    ],
)
def test_results_of_other_data_or_models_do_not_stand(change, named, copy_of_trained_briefly):
    data_dir = copy_of_trained_briefly
    if change == "model":
        shutil.rmtree(model_of(data_dir) / "checkpoints")
        tiny_tasks.write_model(data_dir, seed=1)
    else:
        path = data_dir / "finetuning_data" / "marks" / change
        path.write_text(path.read_text().replace("the", "old", 1))
    before = content(folders_of(data_dir))
    with pytest.raises(UserError, match=f"changed since then: {named}"):
        tiny_tasks.finetune_here(data_dir, **SHORT)
    assert content(folders_of(data_dir)) == before
    (result,), _ = tiny_tasks.finetune_here(data_dir, **SHORT, overwrite=True)
    assert result.step == 6


def halted(data_dir):
    """Makes a trained trial one that was stopped before its end; returns its folder."""
    (model_of(data_dir) / "results" / "marks_results.json").unlink()
    folder = folders_of(data_dir) / "marks_model_1"
    (folder / "finished.json").unlink()
    return folder


@pytest.mark.parametrize(
    "lost, change, hparams, named",
    [
        (None, "train.tsv", {}, "training data of marks"),
        ("origin.json", "train.tsv", {}, "training data of marks"),
        (None, "dev.tsv", {"eval_every_steps": 3}, "dev data of marks"),  # chooses the best weights
        ("config.json", None, {"learning_rate": 2e-3}, "learning_rate"),
    ],
)
def test_a_halted_trial_of_other_data_or_hparams(
    lost, change, hparams, named, copy_of_trained_briefly
):
    """What the folder has lost, the checkpoint knows."""
    data_dir = copy_of_trained_briefly
    folder = halted(data_dir)
    if lost:
        (folder / lost).unlink()
    if change:
        path = data_dir / "finetuning_data" / "marks" / change
        path.write_text(path.read_text().replace("the", "old", 1))
    before = content(folders_of(data_dir))
    with pytest.raises(UserError) as error:
        tiny_tasks.finetune_here(data_dir, **SHORT, **hparams)
    assert named in error.value.received
    assert content(folders_of(data_dir)) == before


def test_overwriting_leaves_nothing_behind(copy_of_trained):
    results, _ = tiny_tasks.finetune_here(copy_of_trained, **OTHER, overwrite=True)
    assert [(r.trial, r.step) for r in results] == [(1, 12)]
    assert names_of(copy_of_trained) == {"marks_model_1"}
    stored = read_results(str(model_of(copy_of_trained) / "results" / "marks_results.json"))
    assert len(stored.trials) == 1
    assert stored.hparams["num_train_epochs"] == 0.4


@pytest.mark.parametrize(
    "again",
    [
        {**OTHER, "overwrite": True},
        {"num_train_epochs": 0.3, "overwrite": True},  # another run than the halted one
    ],
)
def test_a_halted_overwriting_run(again, copy_of_trained_briefly, monkeypatch):
    """It halts when the trial is trained, but not scored; 0.1.0 left a file beside the trials."""
    data_dir = copy_of_trained_briefly
    with monkeypatch.context() as patch:
        patch.setattr("finetune.run.finetune._score", halt)
        with pytest.raises(KeyboardInterrupt):
            tiny_tasks.finetune_here(data_dir, **OTHER, overwrite=True)
    assert names_of(data_dir) == {"marks_model_1", "marks_model_1.replaced"}
    (folders_of(data_dir) / "marks_model.overwriting").write_text("0123456789abcdef")
    (result,), shown = tiny_tasks.finetune_here(data_dir, **again)
    assert ("Already trained for 12 steps" in shown) == (again["num_train_epochs"] == 0.4)
    assert result.step == int(30 * again["num_train_epochs"])
    assert names_of(data_dir) == {"marks_model_1"}


@pytest.mark.slow
def test_a_halted_overwriting_run_of_several_trials(copy_of_trained_briefly, monkeypatch):
    """Without `overwrite` the new trials stand, and the old one's results do not."""
    data_dir, train, calls = copy_of_trained_briefly, finetune.run.finetune.train_trial, []

    def train_until_the_limit(*arguments):
        calls.append(arguments)
        return halt() if len(calls) == limit else train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("finetune.run.finetune.train_trial", train_until_the_limit)
        for limit in (1, 2):  # in trial 1, then in trial 2
            calls.clear()
            with pytest.raises(KeyboardInterrupt):
                tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2, overwrite=True)
            replaced = {"marks_model_1.replaced"} if limit == 1 else {"marks_model_1"}
            assert names_of(data_dir) == replaced
    results, shown = tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    assert shown.count("its results stand") == 1
    assert [(r.trial, r.step) for r in results] == [(1, 6), (2, 6)]
    assert names_of(data_dir) == {"marks_model_1", "marks_model_2"}


@pytest.mark.parametrize(
    "there, kept",
    [
        ({"m_1": "finished"}, "m_1"),
        ({"m_1": "halted"}, "m_1"),
        ({"m_1": "halted", "m_1.replaced": "finished"}, "m_1.replaced"),
        ({"m_1": "finished", "m_1.replaced": "finished"}, "m_1"),  # the newer one
        ({"m_1.replaced": "finished"}, "m_1.replaced"),
    ],
)
def test_the_trial_that_is_set_aside(tmp_path, there, kept):
    for name, state in there.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
        if state == "finished":
            mark_finished(str(tmp_path / name), 5)
    folders = TrialFolders(str(tmp_path / "m"))
    assert folders.is_halted(1) == (there != {"m_1": "finished"})
    folders.set_aside(1)
    assert folders.numbers() == [] and folders.numbers(".replaced") == [1]
    assert (tmp_path / "m_1.replaced" / "name").read_text() == kept


def test_the_results_of_a_replaced_trial_do_not_stand(copy_of_trained_briefly):
    """A run of the same hparams was halted before it wrote anything."""
    folder = folders_of(copy_of_trained_briefly)
    (folder / "marks_model_1").rename(folder / "marks_model_1.replaced")
    (result,), shown = tiny_tasks.finetune_here(copy_of_trained_briefly, **SHORT)
    assert "its results stand" not in shown and result.step == 6
    assert names_of(copy_of_trained_briefly) == {"marks_model_1"}


@pytest.mark.slow
def test_the_best_weights_of_a_run_that_resumes_before_them(copy_of_trained):
    """The folder then holds what the second run found, not what is no longer on its way."""
    folder = folders_of(copy_of_trained) / "marks_model_1"
    shutil.rmtree(folder / "checkpoints")
    (model_of(copy_of_trained) / "results" / "marks_results.json").unlink()
    (result,), _ = tiny_tasks.finetune_here(copy_of_trained, **LEARN, eval_every_steps=60)
    steps = CheckpointStore(str(folder / "best")).steps()
    assert steps == [result.best.step] and steps[0] in (60, 120, 180)
    assert result.best.checkpoint.endswith(f"{steps[0]:08d}")


@pytest.mark.slow
def test_a_signal_in_the_last_step_stops_the_trials(data_dir, monkeypatch):
    stop = lambda self: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr("finetune.run.best_weights.BestWeights.__call__", stop)
        with pytest.raises(Interrupted, match="after step 6"):
            tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2, eval_every_steps=6)
    results, shown = tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    assert shown.count("Already trained for 6 steps") == 1
    assert len(results) == 2


@pytest.fixture(scope="module")
def undisturbed(tiny_finetuning, tmp_path_factory):
    """The data folder of a run that was left alone."""
    folder = tmp_path_factory.mktemp("undisturbed") / "data"
    shutil.copytree(tiny_finetuning, folder)
    tiny_tasks.finetune_here(folder, **STOPPED)
    return folder


def outcome(data_dir):
    """(checkpoint, scores) of the first trial."""
    store = CheckpointStore(str(folders_of(data_dir) / "marks_model_1"))
    results = read_results(str(model_of(data_dir) / "results" / "marks_results.json"))
    return store.load(store.latest()), results.trials[0].scores


@pytest.mark.slow
def test_a_stopped_and_killed_run_ends_with_the_same_weights(data_dir, undisturbed):
    log = folders_of(data_dir) / "marks_model_1" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    for number, code, steps in ((signal.SIGTERM, 75, 250), (signal.SIGKILL, -signal.SIGKILL, 550)):
        process = tiny_tasks.start(data_dir, **STOPPED)
        while not log.exists() or log.read_text().count("\n") < steps:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, message = process.communicate(timeout=300)
        assert process.returncode == code, message
        assert ("Resuming at step" in message) == (number == signal.SIGKILL), message
    process = tiny_tasks.start(data_dir, **STOPPED)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 0 and "Resuming at step" in message, message
    (ours, scores), (theirs, expected) = outcome(data_dir), outcome(undisturbed)
    assert scores == expected
    assert ours.step == theirs.step == 900
    for kind in ("weights", "optimizer"):
        one, other = getattr(ours, kind), getattr(theirs, kind)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_later_trial_is_the_same_alone(data_dir, copy_of_trained_briefly):
    """It trains the network of the one before it, if that was trained by the same command."""
    own = "marks_model_2"
    tiny_tasks.finetune_here(data_dir, **SHORT, num_trials=2)
    tiny_tasks.finetune_here(copy_of_trained_briefly, **SHORT, num_trials=2)
    found = []
    for folder in (data_dir, copy_of_trained_briefly):
        store = CheckpointStore(str(folders_of(folder) / own))
        found.append(store.load(store.latest()))
    for kind in ("weights", "optimizer"):
        one, other = (getattr(checkpoint, kind) for checkpoint in found)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_trials_of_another_device_continue_in_their_precision(copy_of_trained_briefly):
    data_dir = copy_of_trained_briefly
    stored = folders_of(data_dir) / "marks_model_1" / "config.json"
    results = model_of(data_dir) / "results" / "marks_results.json"
    for path in (stored, results):
        content = json.loads(path.read_text())
        content["hparams"]["precision"] = "bfloat16"  # what "auto" is on a GPU
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="results of trials with other hparams"):
        tiny_tasks.finetune_here(data_dir, **SHORT, precision="float32")
    _, shown = tiny_tasks.finetune_here(data_dir, **SHORT)
    assert "The model continues in bfloat16, as it began.\n" in shown
    assert "its results stand" in shown
    results.unlink()
    _, shown = tiny_tasks.finetune_here(data_dir, **SHORT)
    assert "continues in bfloat16" in shown and "Already trained for 6 steps" in shown


def test_the_state_says_how_text_became_ids(copy_of_trained_briefly):
    folder = folders_of(copy_of_trained_briefly) / "marks_model_1"
    state = CheckpointStore(str(folder)).newest_state()
    assert state["vocab_sha256"] == load_vocabulary(str(folder / "vocab.txt")).sha256
    assert state["casing"] == UNCASED.to_dict()
