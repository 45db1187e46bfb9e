"""The results of a run's trials: kept with the model, summed up, and written.

<results_pkl with .json>    every trial, the hparams, and median, mean and standard deviation
<results_txt>               the official file: a line per trial and task
<results_txt with .md>      a table of the same
<results_txt without .txt>_warnings.jsonl    the warnings that the runs gave
"""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import markdown_table
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import json_path
from electra_tf2.outputs import file_lock
from electra_tf2.stored_json import bad_field, parse_record
from finetune.trial_folders import Origin, check_same_origin

# Task -> metric -> figure.
Scores = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Best:
    """The weights that scored best during training.

    Attributes:
        step: training steps.
        score: the hparam best_metric: the main metric, or the mean of the tasks' main metrics,
            where it is null.
        scores: task -> metric -> figure.
        checkpoint: the weights.
    """

    step: int
    score: float
    scores: Scores
    checkpoint: str | None = None


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trained and scored model.

    Attributes:
        trial: its number, from 1; 0 for a checkpoint that was only evaluated.
        seed: of its random draws; None if it was only evaluated.
        checkpoint: the weights that were scored.
        step: training steps.
        seconds: duration of the training, evaluations included.
        scores: task -> metric -> figure, of the final weights.
        stuck: task -> what it predicts for every example, of tasks where it learned nothing.
        files: task -> the files that were scored.
        rows: task -> the number of examples that were scored in each of these files.
        best: the best weights during training, where `eval_every_steps` asks for them.
    """

    trial: int
    seed: int | None
    checkpoint: str
    step: int
    seconds: float
    scores: Scores
    stuck: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    rows: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    best: Best | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A metric over the trials.

    Attributes:
        median, mean: of the trials' figures.
        std: sample standard deviation; 0 of one trial.
        trials: how many there are.
    """

    median: float
    mean: float
    std: float
    trials: int


@dataclasses.dataclass(frozen=True)
class StoredResults:
    """The content of the JSON file.

    Attributes:
        model_name, task_names: hparams.
        main_metrics: task -> the metric that models are compared by.
        hparams: the resolved ones of the trials; None if unknown.
        origin: what the trials were trained from and scored on.
        pretraining_pfs_days: compute of the pre-training, in petaflop/s-days; None if unknown.
        summary: task -> metric -> figures over the trials.
        trials: the trials by rising number.
        evaluations: checkpoints that were only evaluated.
    """

    model_name: str = ""
    task_names: list[str] = dataclasses.field(default_factory=list)
    main_metrics: dict[str, str] = dataclasses.field(default_factory=dict)
    hparams: dict[str, Any] | None = None
    origin: Origin = dataclasses.field(default_factory=dict)
    pretraining_pfs_days: float | None = None
    summary: Mapping[str, Mapping[str, Summary]] = dataclasses.field(default_factory=dict)
    trials: list[TrialResult] = dataclasses.field(default_factory=list)
    evaluations: list[TrialResult] = dataclasses.field(default_factory=list)


def read_results(path: str) -> StoredResults | None:
    """Reads a results file; returns None if there is none.

    Raises:
        UserError: it is not a results file.
    """
    if not files.exists(path):
        return None
    what = "The file of earlier trials' results"
    remedy = "Move the file away, or set results_pkl to another path."
    content = files.read_json(path, what, remedy)
    for name in ("trials", "evaluations"):
        if name not in content:  # another program's, or an empty object
            raise bad_field(path, what, remedy, name, "no such field")
    there = {n: v for n, v in content.items() if v is not None and n != "summary"}
    stored = parse_record(StoredResults, there, path, what, remedy)
    return dataclasses.replace(stored, summary=summarize([own.scores for own in stored.trials]))


class Results:
    """The results of a model on some tasks.

    Args:
        config: says where the files are.
        hparams: the resolved ones of this run.
        main_metrics: task -> the metric that models are compared by.
        writes: whether files are written, which only one of a run's workers does.
        pfs_days: compute of the pre-training; None if the checkpoint does not say it.

    Attributes:
        path: of the JSON file.
        writes: as given.
        trials: the results so far, by rising number.
        evaluations: results of checkpoints that were only evaluated.

    Raises:
        UserError: the file of earlier results can't be read.
    """

    def __init__(
        self,
        config: FinetuningConfig,
        hparams: dict[str, Any],
        main_metrics: dict[str, str],
        *,
        writes: bool = True,
        pfs_days: float | None = None,
    ):
        self._config = config
        self.writes = writes
        self._main_metrics = main_metrics
        self.path = json_path(config.results_pkl)
        stored = read_results(self.path) or StoredResults()
        self._hparams, self._stored_hparams = hparams, stored.hparams
        self._origin: Origin = {}
        self._stored_origin = stored.origin
        self._pfs_days = stored.pretraining_pfs_days if pfs_days is None else pfs_days
        self.trials, self.evaluations = list(stored.trials), list(stored.evaluations)
        self._replaced: str | None = None  # what the paths of overwritten models begin with

    def check_same(self, origin: Origin) -> None:
        """Refuses to put trials of other hparams, data or models beside the earlier ones.

        Raises:
            UserError: lists every difference.
        """
        self._origin = origin
        if not self.trials or self._stored_hparams is None:
            return
        check_same_origin(self._stored_origin, origin, self.path)
        changed = type(self._config).changed_on_resume(self._stored_hparams, self._hparams)
        if changed:
            raise UserError(
                "There are results of trials with other hparams.",
                where=self.path,
                received="; ".join(
                    f"{name}: the trials had {old!r}, this run has {new!r}"
                    for name, old, new in changed
                ),
                remedy="Set overwrite to true to replace them, or set model_dir, results_txt and "
                "results_pkl to keep both.",
            )

    def overwrite(self, origin: Origin) -> None:
        """Forgets the earlier trials; the files stay as they are until the next `add`."""
        self._origin = origin
        self.trials = []
        self._replaced = f"{self._config.model_dir}_"

    def add(self, result: TrialResult) -> None:
        """Adds a trial, in place of an earlier one of its number, and writes all files."""
        self.trials = [t for t in self.trials if t.trial != result.trial] + [result]
        self.trials.sort(key=lambda t: t.trial)
        self._stored_hparams, self._stored_origin = self._hparams, self._origin
        self.write()

    def add_evaluation(self, result: TrialResult) -> None:
        """Adds the scores of a checkpoint that this run did not train, and writes all files."""
        with self._writing() as stored:
            if stored is not None:  # trials may have been added since
                self.trials = stored.trials
                self._stored_hparams, self._stored_origin = stored.hparams, stored.origin
            old = [e for e in self.evaluations if e.checkpoint != result.checkpoint]
            self.evaluations = [*old, result]

    def write(self) -> None:
        """Writes the three files, each in one step."""
        with self._writing():
            pass

    @contextlib.contextmanager
    def _writing(self) -> Iterator[StoredResults | None]:
        """Writes the files at its end, with the evaluations that other processes have added.

        Yields:
            What the files hold; None if they can't be read, or if this process doesn't write.
        """
        if not self.writes:
            yield None
            return
        files.make_dirs(posixpath.dirname(self.path))
        with file_lock(self.path):
            stored = None
            with contextlib.suppress(UserError):  # a damaged one must not cost a trial's scores
                stored = read_results(self.path)
            self.evaluations = [
                own
                for own in (self if stored is None else stored).evaluations
                if not self._replaced or not own.checkpoint.startswith(self._replaced)
            ]
            self._replaced = None
            yield stored
            self._write()

    def _write(self) -> None:
        content = StoredResults(
            model_name=self._config.model_name,
            task_names=self._config.task_names,
            main_metrics=self._main_metrics,
            hparams=self._stored_hparams or self._hparams,
            origin=dict(self._stored_origin),
            pretraining_pfs_days=self._pfs_days,
            summary=summarize([trial.scores for trial in self.trials]),
            trials=self.trials,
            evaluations=self.evaluations,
        )
        files.write_json(self.path, dataclasses.asdict(content), indent=2)
        # Whoever takes means over the official file's lines must not count a trial twice.
        lines = [line for result in self.trials or self.evaluations for line in _lines(result)]
        text_path = self._config.results_txt
        for path, text in ((text_path, "".join(lines)), (table_path(text_path), self.table())):
            files.make_dirs(posixpath.dirname(path))
            files.replace_file(path, text.encode())

    def table(self) -> str:
        """Returns a Markdown table per task: every trial, then median, mean and deviation."""
        parts = [f"# {self._config.model_name}: {', '.join(self._config.task_names)}\n"]
        results = [*self.trials, *self.evaluations]
        for task in dict.fromkeys(task for result in results for task in result.scores):
            parts.append(f"\n## {task}\n\n" + _task_table(task, self.trials, self.evaluations))
            counts = dict.fromkeys(str(sum(r.rows[task])) for r in results if task in r.rows)
            if counts:
                parts.append(f"\nrows scored: {', '.join(counts)}\n")
            parts.append(self._cost_line(task))
        return "".join(parts)

    def _cost_line(self, task: str) -> str:
        """The pre-training compute by a point of the task's main metric, in the median."""
        metric = self._main_metrics.get(task, "")
        figures = summarize([trial.scores for trial in self.trials]).get(task, {}).get(metric)
        cost = pfs_days_per_point(self._pfs_days, figures.median if figures else None)
        if cost is None:
            return ""
        return f"\npre-training: {self._pfs_days:.3g} pfs-days, {cost:.3g} per point of {metric}\n"


def pfs_days_per_point(pfs_days: float | None, median: float | None) -> float | None:
    """Returns pfs-days of pre-training by a score in points; None if one is unknown or not > 0."""
    if pfs_days is None or median is None or not median > 0:
        return None
    return pfs_days / median


def table_path(results_txt: str) -> str:
    """Returns the path of the table beside the official results file."""
    return results_txt.removesuffix(".txt") + ".md"


def warnings_path(results_txt: str) -> str:
    """Returns the path of the runs' warnings, see `electra_tf2.training.reports`."""
    return results_txt.removesuffix(".txt") + "_warnings.jsonl"


def summarize(scores: Sequence[Scores]) -> dict[str, dict[str, Summary]]:
    """Returns task -> metric -> summary over the trials that have the metric."""
    summary: dict[str, dict[str, Summary]] = {}
    for task in dict.fromkeys(task for trial in scores for task in trial):
        trials = [trial[task] for trial in scores if task in trial]
        for metric in dict.fromkeys(metric for trial in trials for metric in trial):
            values = [trial[metric] for trial in trials if metric in trial]
            summary.setdefault(task, {})[metric] = Summary(
                median=float(np.median(values)),
                mean=float(np.mean(values)),
                std=float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                trials=len(values),
            )
    return summary


def _lines(result: TrialResult) -> list[str]:
    return [
        f"{task}: " + " - ".join(f"{name}: {value:.2f}" for name, value in metrics.items()) + "\n"
        for task, metrics in result.scores.items()
    ]


def _task_table(
    task: str, trials: Sequence[TrialResult], evaluations: Sequence[TrialResult]
) -> str:
    results = [result for result in [*trials, *evaluations] if task in result.scores]
    metrics = list(dict.fromkeys(m for result in results for m in result.scores[task]))
    rows = [["trial", "seed", *metrics, ""]]
    for result in results:
        name = str(result.trial) if result.seed is not None else result.checkpoint
        stuck = f"stuck: {result.stuck[task]} for all" if task in result.stuck else ""
        own = result.scores[task]
        values = [f"{own[metric]:.2f}" if metric in own else "" for metric in metrics]
        rows.append([name, "" if result.seed is None else str(result.seed), *values, stuck])
    scored = [trial.scores for trial in trials if task in trial.scores]
    if len(scored) > 1:
        summary = summarize(scored)[task]
        for figure in ("median", "mean", "std"):
            shown = [f"{getattr(summary[m], figure):.2f}" if m in summary else "" for m in metrics]
            rows.append([f"**{figure}**", "", *shown, ""])
    return markdown_table(rows)
