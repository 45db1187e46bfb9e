"""Fine-tuning from a configuration: trials, scores, predictions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import posixpath

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import make_model_folder
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.outputs import check_output_paths, folder_lock
from electra_tf2.training.devices import open_devices
from electra_tf2.training.reports import kept_warnings
from finetune.classification.class_report import report_path, write_class_report
from finetune.evaluation import (
    DevScores,
    DevSplit,
    Evaluation,
    describe_scored,
    open_dev_splits,
    report,
    score_all,
)
from finetune.features import Preprocessor
from finetune.run.distillation import open_training_data
from finetune.run.model_scores import write_model_scores
from finetune.run.open_run import Run, RunData, open_run
from finetune.run.predictions import (
    predict_examples,
    predictions_path,
    write_predictions,
    write_test_outputs,
)
from finetune.run.pretrained_model import pretraining_pfs_days
from finetune.run.results import Results, TrialResult, table_path, warnings_path
from finetune.run.trial import TrainedTrial, build_model, train_trial
from finetune.task import Scorer
from finetune.trial_folders import check_same_trial, restore_tuned, write_tuned


def finetune(config: FinetuningConfig) -> list[TrialResult]:
    """Trains and scores as the configuration says; the same call resumes an interrupted run.

    Returns:
        The results of all trials, earlier ones included, or of the evaluation; none without
        `do_eval`.

    Raises:
        UserError: data, model or hparams do not fit; or training met a loss that is not finite, or
            was stopped by a signal.
    """
    with kept_warnings(warnings_path(config.results_txt)) as kept:
        for warning in config.warnings:
            say(f"Warning: {warning}")
        devices = open_devices(config)
        with devices.workers.watched():
            run = open_run(config, devices)
            devices.workers.on_chief(kept.start)
            return train(run) if config.do_train else evaluate(run)


def train(run: Run) -> list[TrialResult]:
    """Trains and scores the trials that are not done yet.

    Returns:
        The results of all trials; none without `do_eval`.

    Raises:
        UserError: data or earlier trials do not fit; or training met a loss that is not finite, or
            was stopped by a signal.
    """
    config, workers = run.config, run.workers
    data = workers.together(lambda: open_training_data(run))
    workers.together(lambda: _open_results(run, data))  # before the folder is touched
    workers.check_same_view("data and model", json.dumps(data.whole_origin))
    with contextlib.ExitStack() as until_done:
        workers.on_chief(lambda: until_done.enter_context(_lock(config)))
        results = workers.together(lambda: _open_results(run, data))
        done = workers.together(lambda: _trials_done(run, results))
        workers.check_same_view("trials that are done", str(done))
        trial, trained = 1, None
        while config.num_trials < 0 or trial <= config.num_trials:
            if trial in done:
                say(f"Trial {trial} has been trained and scored before: its results stand.")
                _write_missing_outputs(run, trial)
            else:
                trained = _run_trial(run, data, results, trial, trained)
            trial += 1
        workers.on_chief(lambda: _clean_up(run))
    if not config.do_eval:
        return []
    workers.on_chief(lambda: _report_results(config, results))
    return results.trials


def evaluate(run: Run) -> list[TrialResult]:
    """Scores the run's model, and predicts the test splits, as the hparams ask for.

    Returns:
        The scores; none without `do_eval`.

    Raises:
        UserError: the data or the model can't be read.
    """
    config = run.config
    if run.unwritten:
        say(f"Warning: nothing is written where it can't be: {', '.join(sorted(run.unwritten))}")
    dev = open_dev_splits(Preprocessor(config), run.tasks) if config.do_eval else []
    model = build_model(run, config.seed, need_heads=True)
    evaluation = Evaluation(config, model, run.strategy, fixed_weights=True)
    assert run.start is not None  # what is evaluated
    done = []
    if config.do_eval:
        trained = TrainedTrial(evaluation, run.start.path, 0, 0.0, None)
        done = [_score(run, dev, trained, run.trial)]
        results = _results(run)
        run.workers.together(lambda: results.add_evaluation(done[0]))
        if results.writes:
            say(f"Results written to {results.path} and {config.results_txt}")
    if config.write_test_outputs:
        write_test_outputs(run, evaluation, run.trial)
    return done


def predict(config: FinetuningConfig, path: str, output: str) -> int:
    """Predicts the examples of a file without labels with a fine-tuned model.

    Args:
        config: has one task and `do_train` off; the model is the last fine-tuned one, or
            `init_checkpoint`.
        path: the file, in the task's format; labels are not needed.
        output: where JSON lines are written, see `Task.prediction_records`.

    Returns:
        The number of predictions.

    Raises:
        UserError: the model or the file can't be read.
    """
    _check_prediction(config, path, output)
    devices = open_devices(config)
    with devices.workers.watched():
        run = open_run(config, devices)
        model = build_model(run, config.seed, need_heads=True)
        evaluation = Evaluation(config, model, run.strategy, fixed_weights=True)
        records = predict_examples(run, evaluation, path)
        run.workers.on_chief(lambda: files.write_json_lines(output, records))
    say(f"{len(records)} predictions written to {output}")
    return len(records)


def _check_prediction(config: FinetuningConfig, path: str, output: str) -> None:
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
    if not files.exists(path) or files.is_dir(path):
        raise UserError(
            "There is no file to predict.",
            where="--predict",
            received=path,
            remedy="Give the path of a file in the task's format; it needs no labels.",
        )


def _results(run: Run) -> Results:
    return Results(
        run.config,
        run.hparams(),
        {task.name: task.main_metric for task in run.tasks},
        writes=run.workers.is_chief and not run.unwritten & {"results_txt", "results_pkl"},
        pfs_days=pretraining_pfs_days(run.start),
    )


def _open_results(run: Run, data: RunData) -> Results:
    """Reads the earlier results; refuses those of other runs, or forgets them to overwrite."""
    results = _results(run)
    if run.config.overwrite:
        results.overwrite(data.whole_origin)
    else:
        results.check_same(data.whole_origin)
    return results


def _lock(config: FinetuningConfig) -> contextlib.AbstractContextManager[None]:
    """Makes the folder of the trials' folders, and takes it for this run."""
    folder, name = posixpath.split(config.model_dir)
    make_model_folder(folder or ".")
    return folder_lock(folder or ".", f".{name}.lock")


def _trials_done(run: Run, results: Results) -> list[int]:
    """The trials whose results stand: those of a halted trial are of the one that it replaces."""
    return [own.trial for own in results.trials if not run.folders.is_halted(own.trial)]


def _run_trial(
    run: Run, data: RunData, results: Results, trial: int, earlier: TrainedTrial | None
) -> TrainedTrial:
    config, folders, workers = run.config, run.folders, run.workers
    workers.on_chief(lambda: _free_folder(run, data, trial))
    if trial > 1 and not config.keep_all_models:
        workers.on_chief(lambda: _remove_model(folders.path(trial - 1)))
    say(f"Trial {trial}" + (f" of {config.num_trials}" if config.num_trials > 0 else ""))
    trained = train_trial(run, data, trial, earlier)
    if config.do_eval:
        result = _score(run, data.dev, trained, trial)
        workers.together(lambda: results.add(result))
        workers.on_chief(lambda: write_model_scores(config))
    else:
        restore_tuned(folders.path(trial), run.tasks)
    workers.on_chief(lambda: folders.remove_replaced(trial))
    if config.write_test_outputs and trial <= config.n_writes_test:
        write_test_outputs(run, trained.evaluation, trial)
    return trained


def _free_folder(run: Run, data: RunData, trial: int) -> None:
    """Sees to it that a trial's folder is free or holds what is to be resumed."""
    if run.config.overwrite and not run.folders.is_halted(trial):
        run.folders.set_aside(trial)
    try:
        check_same_trial(
            run.folders.path(trial),
            hparams=run.hparams(),
            network=run.network,
            changed=type(run.config).changed_on_resume,
            # The best weights are chosen by the scores of one dev split.
            origin=data.whole_origin if run.config.eval_every_steps else data.origin,
        )
    except UserError:
        if not run.config.overwrite:
            raise
        run.folders.set_aside(trial)


def _remove_model(folder: str) -> None:
    """Removes the weights of the trial before (keep_all_models false)."""
    if files.is_dir(folder):
        say(f"Removing {folder} (keep_all_models is false)")
        files.remove_tree(folder)


def _clean_up(run: Run) -> None:
    """Removes what an overwriting run leaves of earlier runs."""
    if run.config.overwrite:
        run.folders.remove_later_trials(run.config.num_trials)
    run.folders.remove_former_mark()


def _write_missing_outputs(run: Run, trial: int) -> None:
    """Writes the test predictions of a trial that was scored before, if they are asked for now."""
    config = run.config
    paths = [
        predictions_path(config, task, split, trial)
        for task in run.tasks
        for split in task.test_splits
    ]
    asked = config.write_test_outputs and trial <= config.n_writes_test
    missing = asked and not all(map(files.exists, paths))
    if not run.workers.gather([missing])[0, 0]:  # as the chief sees it
        return
    folder = run.folders.path(trial)
    if not files.exists(folder):
        say(f"Its test predictions can't be written: {folder} has been removed.")
        return
    start = run.workers.together(lambda: open_pretrained(folder))
    model = build_model(dataclasses.replace(run, start=start), config.seed, need_heads=True)
    restore_tuned(folder, run.tasks)
    write_test_outputs(run, Evaluation(config, model, run.strategy, fixed_weights=True), trial)


def _score(run: Run, dev: list[DevSplit], trained: TrainedTrial, trial: int) -> TrialResult:
    """Scores the final weights, and writes the dev predictions."""
    config = run.config
    of_task: dict[str, list[DevSplit]] = {}
    for split in dev:
        of_task.setdefault(split.task.name, []).append(split)
    for name, splits in of_task.items():
        say(f"Scoring {name} on {', '.join(map(describe_scored, splits))}")
    scores = score_all(trained.evaluation, dev)
    report(scores)
    if config.do_train:
        run.workers.on_chief(lambda: write_tuned(run.folders.path(trial), scores.tuned()))
        for task in run.tasks:
            task.set_tuned(scores.tuned().get(task.name, {}))
    run.workers.on_chief(lambda: _write_dev_outputs(run, scores, trial))
    return TrialResult(
        trial=trial,
        seed=config.seed + trial - 1 if config.do_train else None,
        checkpoint=trained.checkpoint,
        step=trained.step,
        seconds=round(trained.seconds, 1),
        scores=scores.metrics,
        stuck={**scores.stuck, **_not_finite(scores.metrics)},
        files={name: [split.path for split in splits] for name, splits in of_task.items()},
        rows={name: [split.num_examples for split in splits] for name, splits in of_task.items()},
        best=trained.best,
    )


def _write_dev_outputs(run: Run, scores: DevScores, trial: int) -> None:
    config = run.config
    for split, score in scores.splits:
        if not run.unwritten & {"qa_eval_file", "qa_preds_file", "qa_na_file"}:
            score.scorer.write_files()
        if config.class_report:
            _write_class_report(config, split, score.scorer, trial)
        if trial <= config.n_writes_test and "test_predictions" not in run.unwritten:
            write_predictions(config, split.task, split.split, trial, score.outputs)


def _write_class_report(
    config: FinetuningConfig, split: DevSplit, scorer: Scorer, trial: int
) -> None:
    name, figures = split.task.name, scorer.class_scores()
    if figures is None:
        say(f"{name} has no classes: no class_report is written for it.")
        return
    path = report_path(config, name, split.split, trial)
    title = f"{name}, {split.split}" + (f", trial {trial}" if trial else "")
    say(f"Scores of the classes: {', '.join(write_class_report(figures, path, title))}")


def _not_finite(metrics: dict[str, dict[str, float]]) -> dict[str, str]:
    """Tasks whose loss is not a number: nor are their weights, and the scores mean nothing."""
    return {
        task: "not a number (the loss is not finite)"
        for task, own in metrics.items()
        if not math.isfinite(own.get("loss", 0.0))
    }


def _report_results(config: FinetuningConfig, results: Results) -> None:
    results.write()  # files that were removed, or that an interrupted run did not get to
    say("", *results.table().split("\n"))
    say(
        f"Results written to {results.path}, {config.results_txt} and "
        f"{table_path(config.results_txt)}"
    )
    for line in write_model_scores(config):
        say(line)
