"""Results of trials: summaries, tables, the official file, and scores of all tasks of a model."""

import dataclasses
import json
import math

import pytest

from finetune.run.model_scores import glue_average, model_scores, write_model_scores
from finetune.run.results import Results, TrialResult, read_results, summarize
from tests.finetune import tiny_tasks


def make(folder, **hparams):
    config = tiny_tasks.configure(folder, **hparams)
    main = {name: "mcc" if name == "cola" else "accuracy" for name in config.task_names}
    results = Results(config, config.to_dict(), main)
    results.check_same({})
    return config, results


def trial(number, task="marks", **metrics):
    return TrialResult(
        trial=number,
        seed=number - 1,
        checkpoint=f"model_{number}",
        step=5,
        seconds=1.5,
        scores={task: metrics},
    )


def test_summary():
    scores = [{"t": {"accuracy": value}} for value in (90.0, 80.0, 85.0, 81.0)]
    summary = summarize(scores)["t"]["accuracy"]
    assert (summary.median, summary.mean, summary.trials) == (83.0, 84.0, 4)
    assert summary.std == pytest.approx(math.sqrt((36 + 16 + 1 + 9) / 3))
    assert summarize(scores[:1])["t"]["accuracy"].std == 0.0


def test_files_of_several_trials(tmp_path):
    config, results = make(tmp_path)
    results.add(trial(2, accuracy=81.256, loss=0.5))
    results.add(trial(1, accuracy=90.0, loss=float("nan")))
    text = open(config.results_txt).read()
    assert text == ("marks: accuracy: 90.00 - loss: nan\nmarks: accuracy: 81.26 - loss: 0.50\n")
    first, second = read_results(results.path).trials
    assert math.isnan(first.scores["marks"]["loss"]) and second == trial(
        2, accuracy=81.256, loss=0.5
    )
    stored = json.loads(open(results.path).read(), parse_constant=pytest.fail)
    assert stored["trials"][0]["scores"]["marks"]["loss"] is None  # JSON has no NaN
    assert list(stored) == [
        "model_name", "task_names", "main_metrics", "hparams", "origin", "pretraining_pfs_days",
        "summary", "trials", "evaluations",
    ]  # fmt: skip
    rows = open(config.results_txt.replace(".txt", ".md")).read().splitlines()
    assert "| trial | seed | accuracy | loss |  |" in rows
    assert "| **median** |  | 85.63 | nan |  |" in rows
    _, again = make(tmp_path)
    assert [own.trial for own in again.trials] == [1, 2]


def test_the_number_of_rows_that_were_scored(tmp_path):
    _, results = make(tmp_path)
    results.add(dataclasses.replace(trial(1, accuracy=80.0), rows={"marks": [24, 9]}))
    results.add(trial(2, accuracy=80.0))  # of a version that did not count them
    assert "rows scored: 33" in results.table().splitlines()
    assert read_results(results.path).trials[0].rows == {"marks": [24, 9]}


def test_trials_with_unequal_metrics(tmp_path):
    """A dev split that was added later, or an evaluation on other data."""
    _, results = make(tmp_path)
    results.add(trial(1, accuracy=80.0))
    results.add(trial(2, accuracy=90.0, mismatched_accuracy=70.0))
    evaluation = TrialResult(0, None, "x", 0, 0.0, {"marks": {"NoAns_f1": 1.0}})
    results.add_evaluation(evaluation)
    rows = results.table().splitlines()
    assert "| 1 | 0 | 80.00 |  |  |  |" in rows
    assert "| **median** |  | 85.00 | 70.00 |  |  |" in rows
    assert read_results(results.path).summary["marks"]["mismatched_accuracy"].trials == 1


def test_a_stuck_trial_is_marked(tmp_path):
    _, results = make(tmp_path)
    stuck = trial(1, accuracy=50.0)
    stuck.stuck["marks"] = "the class 'so|so'"
    results.add(stuck)
    results.add(trial(2, accuracy=90.0))
    rows = [row for row in results.table().splitlines() if row.startswith("| 1") or "| 2" in row]
    assert r"stuck: the class 'so\|so' for all |" in rows[0]  # the bar doesn't end the cell
    assert "stuck" not in rows[1]


def test_an_evaluation_stands_beside_the_trials(tmp_path):
    config, results = make(tmp_path)
    results.add(trial(1, accuracy=90.0))
    given = TrialResult(0, None, "elsewhere", 0, 0.0, {"marks": {"accuracy": 70.0}})
    results.add_evaluation(given)
    results.add_evaluation(given)
    assert read_results(results.path).summary["marks"]["accuracy"].mean == 90.0
    assert "70.00" not in open(config.results_txt).read()  # trials only, where there are any
    assert "| elsewhere |  | 70.00 |  |" in results.table()


def test_an_evaluation_while_trials_are_trained(tmp_path):
    """Neither loses what the other adds."""
    _, training = make(tmp_path)
    training.add(trial(1, accuracy=90.0))
    _, evaluation = make(tmp_path)
    training.add(trial(2, accuracy=80.0))
    own = TrialResult(0, None, "elsewhere", 0, 0.0, {"marks": {"accuracy": 70.0}})
    evaluation.add_evaluation(own)
    training.add(trial(3, accuracy=85.0))
    found = read_results(training.path)
    assert [each.trial for each in found.trials] == [1, 2, 3]
    assert found.evaluations == training.evaluations == [own]


def test_overwriting_forgets_what_was_evaluated_of_the_former_models(tmp_path):
    config, results = make(tmp_path)
    former, other = (
        TrialResult(0, None, path, 0, 0.0, {"marks": {"accuracy": 70.0}})
        for path in (f"{config.model_dir}_1/checkpoints/step-00000005", "elsewhere")
    )
    for own in (former, other):
        results.add_evaluation(own)
    results.overwrite({})
    results.add(trial(1, accuracy=90.0))
    assert read_results(results.path).evaluations == [other]
    results.add_evaluation(former)  # the new one, at the same place
    results.add(trial(2, accuracy=80.0))
    assert len(read_results(results.path).evaluations) == 2


def test_glue_average_over_the_tasks_that_have_run(tmp_path):
    for name, metric, values in (
        ("cola", "mcc", (40.0, 50.0, 70.0)),
        ("sst", "accuracy", (90.0,)),
        ("marks", "accuracy", (10.0,)),
    ):
        config, results = make(tmp_path, task_names=[name])
        for number, value in enumerate(values, 1):
            results.add(trial(number, name, **{metric: value}))
    # A run of several tasks does not replace a task's own.
    _, results = make(tmp_path, task_names=["cola", "sst"])
    results.add(trial(1, "cola", mcc=0.0))
    folder = str(tmp_path / "models" / tiny_tasks.MODEL / "results")
    scores = model_scores(folder)
    assert [(s.task, s.median, s.trials) for s in scores] == [
        ("cola", 50.0, 3),
        ("sst", 90.0, 1),
        ("marks", 10.0, 1),
    ]
    mean, missing = glue_average(scores)
    assert mean == 70.0
    assert missing == ["mrpc", "sts", "qqp", "mnli", "qnli", "rte"]
    assert "GLUE average of 2 of 8 tasks: 70.00" in write_model_scores(config)[0]
    assert "| cola | mcc | 50.00 | 15.28 | 3 |" in open(f"{folder}/scores.md").read()
    assert glue_average(scores[2:]) is None


def test_other_files_have_no_scores(tmp_path):
    trial = {"trial": 1, "seed": 1, "checkpoint": "c", "step": 1, "seconds": 1.0}
    trials = [trial | {"scores": {"rte": {"accuracy": 1.0}}}]
    whole = {"trials": trials, "evaluations": [], "main_metrics": {"rte": "accuracy"}}
    broken = [
        {"trials": []},
        {"trials": None},
        {"trials": [trial]},
        {"trials": [trial | {"scores": {"rte": []}}]},
        {"main_metrics": None},
        {"main_metrics": ["rte"]},
    ]
    for number, part in enumerate(broken):
        (tmp_path / f"a{number}_results.json").write_text(json.dumps(whole | part))
    assert model_scores(str(tmp_path)) == []
    # The summary is computed from the trials, whatever the file says.
    (tmp_path / "b_results.json").write_text(json.dumps(whole | {"summary": None}))
    (score,) = model_scores(str(tmp_path))
    assert (score.task, score.median, score.std, score.trials) == ("rte", 1.0, 0.0, 1)
