"""Fine-tuning from a configuration: checks, trials, scores, predictions."""

from __future__ import annotations

import contextlib
import json
import math
import os
import posixpath
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import FolderLock
from electra_tf2.loading.folder import check_output_paths, make_model_folder
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.training.devices import open_devices
from finetune.features import Preprocessor, TaskData
from finetune.predictions import (
    predict_file,
    predictions_path,
    write_predictions,
    write_test_outputs,
)
from finetune.results import Results, TrialResult, table_path, write_model_scores
from finetune.scoring import (
    DevScores,
    DevSplit,
    Evaluation,
    open_dev_splits,
    report,
    score_all,
    scored_files,
)
from finetune.setup import Setup, prepare, pretraining_pfs_days, trial_folder
from finetune.trial import Trained, build_model, check_trial_folder, train_trial
from finetune.trial_folders import (
    Origin,
    Overwriting,
    check_not_overwriting_itself,
    run_mark,
    scoring_origin,
    training_origin,
)


def finetune(config: Any) -> list[TrialResult]:
    """Trains and scores as the configuration says; the same call goes on with a halted run.

    Args:
        config: a `FinetuningConfig`.

    Returns:
        The results of all trials there are, or of the evaluation; none without `do_eval`.

    Raises:
        UserError: data, model or hparams do not fit; or training met a loss that is not finite, or
            was stopped by a signal.
    """
    for warning in config.warnings:
        say(f"Warning: {warning}")
    devices = open_devices(config, say)
    with devices.workers.watched():
        setup = prepare(config, devices)
        if not config.do_train:
            return _evaluate_only(setup)
        run = setup.workers.together(lambda: _open_run(setup))
        setup.workers.check_same_view("data and model", json.dumps(run.whole_origin))
        with contextlib.ExitStack() as until_done:
            setup.workers.on_chief(lambda: _lock(config, until_done))
            return _run_trials(run)


def _open_run(setup: Setup) -> _Run:
    """Reads all that trials need, and refuses what does not go together."""
    if setup.config.overwrite:
        check_not_overwriting_itself(setup)
    data, dev = _open_data(setup)
    origin = training_origin(setup)
    run = _Run(setup, origin, {**origin, **scoring_origin(dev)}, data, dev)
    run.open_results()
    return run


def _lock(config: Any, until_done: contextlib.ExitStack) -> None:
    """Takes the folder of the trials for this run."""
    folder, name = posixpath.split(config.model_dir)
    make_model_folder(folder or ".")
    until_done.enter_context(FolderLock(folder or ".", f".{name}.lock"))


class _Run(NamedTuple):
    """What the trials of a run share.

    `origin` is what is trained from, `whole_origin` that and what is scored.
    """

    setup: Setup
    origin: Origin
    whole_origin: Origin
    data: TaskData
    dev: list[DevSplit]

    def open_results(self) -> Results:
        """Reads the results that are there, and refuses those of other runs."""
        results = make_results(self.setup)
        if self.setup.config.overwrite:
            results.start_anew(self.whole_origin, run_mark(self.setup, self.whole_origin))
        else:
            results.check_same(self.whole_origin)
        return results


def make_results(setup: Setup) -> Results:
    """Opens the results of the run's tasks."""
    main_metrics = {task.name: task.main_metric for task in setup.tasks}
    writes = setup.workers.is_chief
    pfs_days = pretraining_pfs_days(setup.start)
    return Results(setup.config, setup.hparams(), main_metrics, writes=writes, pfs_days=pfs_days)


def _run_trials(run: _Run) -> list[TrialResult]:
    config, workers = run.setup.config, run.setup.workers
    results = workers.together(run.open_results)
    done = str([result.trial for result in results.trials])
    workers.check_same_view("trials that are done", done)
    overwriting = None
    if config.overwrite:
        overwriting = Overwriting(config, run_mark(run.setup, run.whole_origin))
        workers.on_chief(overwriting.begin)
    trial = 1
    while config.num_trials < 0 or trial <= config.num_trials:
        if results.has(trial):
            say(f"Trial {trial} has been trained and scored before: its results stand.")
            _write_missing_outputs(run.setup, trial)
        else:
            _run_trial(run, trial, results)
        trial += 1
    if overwriting is not None:
        workers.on_chief(overwriting.end)
        if config.do_eval:
            workers.together(results.finish_overwriting)
    if not config.do_eval:
        return []
    workers.on_chief(lambda: _report_results(config, results))
    return results.trials


def predict(config: Any, path: str, output: str) -> int:
    """Predicts the examples of a file without labels with a fine-tuned model.

    Args:
        config: a `FinetuningConfig` with one task and `do_train` off; the model is the last
            fine-tuned one, or `init_checkpoint`.
        path: the file, in the task's format; labels are not needed.
        output: JSON lines go there, see `Task.prediction_records`.

    Returns:
        The number of predictions.

    Raises:
        UserError: the model or the file can't be read.
    """
    if len(config.task_names) != 1:
        raise UserError(
            "A file is predicted by one task.",
            where="hparam task_names",
            received=repr(config.task_names),
            remedy="Name the one task whose format the file has.",
        )
    if os.path.realpath(path) == os.path.realpath(output):
        raise UserError(
            "The predictions would replace the file to predict.",
            where="--output",
            received=output,
            remedy="Give the path of another file.",
        )
    check_output_paths({"--output": output})
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise UserError(
            "There is no file to predict.",
            where="--predict",
            received=path,
            remedy="Give the path of a file in the task's format; it needs no labels.",
        )
    devices = open_devices(config, say)
    with devices.workers.watched():
        setup = prepare(config, devices)
        model = build_model(setup, config.seed, need_heads=True)
        evaluation = Evaluation(config, model, setup.strategy, fixed_weights=True)
        count = predict_file(setup, evaluation, path, output)
    say(f"{count} predictions written to {output}")
    return count


def _open_data(setup: Setup) -> tuple[TaskData, list[DevSplit]]:
    """Makes the features of all splits: bad data are found before anything is trained."""
    config, preprocessor = setup.config, Preprocessor(setup.config)
    data = TaskData(
        [task.name for task in setup.tasks],
        [preprocessor.features(task, "train") for task in setup.tasks],
        [task.get_feature_specs() for task in setup.tasks],
    )
    dev = open_dev_splits(setup) if config.do_eval or config.eval_every_steps else []
    if config.write_test_outputs:
        for task in setup.tasks:
            for split in task.test_splits:
                task.check_test_split(split)
                preprocessor.features(task, split)
    return data, dev


def _run_trial(run: _Run, trial: int, results: Results) -> None:
    setup = run.setup
    config, workers = setup.config, setup.workers
    workers.on_chief(lambda: check_trial_folder(setup, run.origin, trial))
    if trial > 1 and not config.keep_all_models:
        workers.on_chief(lambda: _remove_model(trial_folder(config, trial - 1)))
    say(f"Trial {trial}" + (f" of {config.num_trials}" if config.num_trials > 0 else ""))
    trained = train_trial(setup, run.origin, run.data, run.dev, trial)
    if config.do_eval:
        result = _score(setup, run.dev, trained, trial)
        workers.together(lambda: results.add(result))
        workers.on_chief(lambda: write_model_scores(config, lambda line: None))
    if config.write_test_outputs and trial <= config.n_writes_test:
        write_test_outputs(setup, trained.evaluation, trial)


def _write_missing_outputs(setup: Setup, trial: int) -> None:
    """Writes the test predictions of a trial that was scored before, if they are asked for now."""
    config = setup.config
    paths = [
        predictions_path(config, task, split, trial)
        for task in setup.tasks
        for split in task.test_splits
    ]
    asked = config.write_test_outputs and trial <= config.n_writes_test
    missing = asked and not all(tf.io.gfile.exists(path) for path in paths)
    if not setup.workers.gather([missing])[0, 0]:  # as the chief sees it
        return
    folder = trial_folder(config, trial)
    if not tf.io.gfile.exists(folder):
        say(f"Its test predictions can't be written: {folder} has been removed.")
        return
    start = setup.workers.together(lambda: open_pretrained(folder))
    trained = setup._replace(start=start)
    model = build_model(trained, config.seed, need_heads=True)
    write_test_outputs(setup, Evaluation(config, model, setup.strategy, fixed_weights=True), trial)


def _score(setup: Setup, dev: list[DevSplit], trained: Trained, trial: int) -> TrialResult:
    """Scores the final weights, and writes the dev predictions."""
    config = setup.config
    files = scored_files(dev)
    for task, paths in files.items():
        say(f"Scoring {task} on {', '.join(paths)}")
    scores = score_all(trained.evaluation, dev)
    report(scores)
    setup.workers.on_chief(lambda: _write_dev_outputs(config, scores, trial))
    return TrialResult(
        trial=trial,
        seed=config.seed + trial - 1 if config.do_train else None,
        checkpoint=trained.checkpoint,
        step=trained.step,
        seconds=round(trained.seconds, 1),
        scores=scores.metrics,
        stuck={**scores.stuck, **_not_finite(scores.metrics)},
        files=files,
        best=trained.best,
    )


def _write_dev_outputs(config: Any, scores: DevScores, trial: int) -> None:
    for split, score in scores.splits:
        score.scorer.write_files()
        if trial <= config.n_writes_test:
            write_predictions(config, split.task, split.split, trial, score.outputs)


def _not_finite(metrics: dict[str, dict[str, float]]) -> dict[str, str]:
    """Tasks whose loss is no number: their weights are not, and the scores mean nothing."""
    return {
        task: "no number (the loss is not finite)"
        for task, own in metrics.items()
        if not math.isfinite(own.get("loss", 0.0))
    }


def _evaluate_only(setup: Setup) -> list[TrialResult]:
    config = setup.config
    dev = open_dev_splits(setup) if config.do_eval else []
    model = build_model(setup, config.seed, need_heads=True)
    evaluation = Evaluation(config, model, setup.strategy, fixed_weights=True)
    trained = Trained(evaluation, setup.start.path, 0, 0.0, None)
    done = []
    if config.do_eval:
        done = [_score(setup, dev, trained, setup.trial)]
        results = make_results(setup)
        setup.workers.together(lambda: results.add_evaluation(done[0]))
        say(f"Results written to {results.path} and {config.results_txt}")
    if config.write_test_outputs:
        write_test_outputs(setup, trained.evaluation, setup.trial)
    return done


def _report_results(config: Any, results: Results) -> None:
    results.write()  # files that were removed, or that a halted run did not get to
    say("")
    say(results.table())
    say(
        f"Results written to {results.path}, {config.results_txt} and "
        f"{table_path(config.results_txt)}"
    )
    write_model_scores(config, say)


def _remove_model(folder: str) -> None:
    """Removes the weights of the trial before (keep_all_models false)."""
    if tf.io.gfile.isdir(folder):
        say(f"Removing {folder} (keep_all_models is false)")
        tf.io.gfile.rmtree(folder)
