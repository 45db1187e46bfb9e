"""The scores of all trials: kept with the model, summed up, and written for people and programs.

<results_pkl with .json>    every trial, the hparams, and median, mean and standard deviation
<results_txt>               the official file: a line per trial and task
<results_txt with .md>      a table of the same
"""

from __future__ import annotations

import dataclasses
import json
import math
import posixpath
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.files import replace_file
from electra_tf2.loading.folder import json_path
from finetune.trial_folders import Origin, check_same_origin

Scores = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trained and scored model.

    Attributes:
        trial: its number, from 1; 0 for a checkpoint that was only evaluated.
        seed: of its random draws; None if it was only evaluated.
        checkpoint: the weights that were scored.
        step: training steps.
        seconds: that training took, evaluations included.
        scores: task -> metric -> figure, of the final weights.
        stuck: task -> what it predicts for every example, of tasks where it learned nothing.
        files: task -> the files that were scored.
        best: `step`, `score`, `scores` and `checkpoint` of the best weights on the way, where they
            were looked for; see `BestWeights`.
    """

    trial: int
    seed: int | None
    checkpoint: str
    step: int
    seconds: float
    scores: dict[str, dict[str, float]]
    stuck: dict[str, str] = dataclasses.field(default_factory=dict)
    files: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    best: dict[str, Any] | None = None


class Results:
    """The results of a model on some tasks.

    Args:
        config: a `FinetuningConfig`; says where the files are.
        hparams: the resolved ones of this run.
        main_metrics: task -> the metric that models are compared by.
        writes: whether files are written, which only one of a run's workers does.
        pfs_days: that the pre-trained model has cost; None if it does not say.

    Raises:
        UserError: results are there and can't be read.
    """

    def __init__(
        self,
        config: Any,
        hparams: dict[str, Any],
        main_metrics: dict[str, str],
        *,
        writes: bool = True,
        pfs_days: float | None = None,
    ):
        self._config = config
        self._writes = writes
        self._hparams = hparams
        self._main_metrics = main_metrics
        self.path = json_path(config.results_pkl)
        stored = read_results(self.path) or {}
        self._stored_hparams = stored.get("hparams")
        self._stored_origin = stored.get("origin")
        self._stored_mark = stored.get("run")
        self._pfs_days = stored.get("pretraining_pfs_days") if pfs_days is None else pfs_days
        self._origin: Origin | None = None
        self._mark: str | None = None
        self.trials = [TrialResult(**trial) for trial in stored.get("trials", [])]
        self.evaluations = [TrialResult(**trial) for trial in stored.get("evaluations", [])]

    def has(self, trial: int) -> bool:
        """Whether a trial has been trained and scored."""
        return any(result.trial == trial for result in self.trials)

    def check_same(self, origin: Origin) -> None:
        """Refuses to put trials of other hparams, data or models beside those that are there.

        Args:
            origin: what this run trains from and scores.

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

    def start_anew(self, origin: Origin, mark: str) -> None:
        """Forgets the trials that are there (the files stay as they are until the next `add`).

        Those that an overwriting run has finished before it was halted stand.

        Args:
            origin: what this run trains from and scores.
            mark: of this run, see `overwriting.run_mark`.
        """
        self._origin = origin
        if self._stored_mark == mark:
            return
        self._mark = mark
        self.trials = []
        replaced = f"{self._config.model_dir}_"
        self.evaluations = [e for e in self.evaluations if not e.checkpoint.startswith(replaced)]

    def add(self, result: TrialResult) -> None:
        """Adds a trial, in place of an earlier one of its number, and writes all files."""
        self.trials = [t for t in self.trials if t.trial != result.trial] + [result]
        self.trials.sort(key=lambda t: t.trial)
        self._stored_hparams, self._stored_origin = self._hparams, self._origin
        self._stored_mark = self._mark or self._stored_mark
        self.write()

    def finish_overwriting(self) -> None:
        """Notes that the overwriting run is over: another one starts anew."""
        self._stored_mark = self._mark = None
        self.write()

    def add_evaluation(self, result: TrialResult) -> None:
        """Adds the scores of a checkpoint that this run did not train, and writes all files."""
        old = [e for e in self.evaluations if e.checkpoint != result.checkpoint]
        self.evaluations = [*old, result]
        self.write()

    def write(self) -> None:
        """Writes the three files, each in one step."""
        if not self._writes:
            return
        content = {
            "model_name": self._config.model_name,
            "task_names": self._config.task_names,
            "main_metrics": self._main_metrics,
            "hparams": self._stored_hparams or self._hparams,
            "origin": dict(self._stored_origin or {}),
            "run": self._stored_mark,
            "pretraining_pfs_days": self._pfs_days,
            "summary": summarize([trial.scores for trial in self.trials]),
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
            "evaluations": [dataclasses.asdict(result) for result in self.evaluations],
        }
        # Whoever takes means over the official file's lines must not count a trial twice.
        lines = [line for result in self.trials or self.evaluations for line in _lines(result)]
        text_path = self._config.results_txt
        for path, text in (
            (self.path, json.dumps(_finite(content), indent=2) + "\n"),
            (text_path, "".join(lines)),
            (table_path(text_path), self.table()),
        ):
            tf.io.gfile.makedirs(posixpath.dirname(path) or ".")
            replace_file(path, text.encode())

    def table(self) -> str:
        """Returns a Markdown table per task: every trial, then median, mean and deviation."""
        parts = [f"# {self._config.model_name}: {', '.join(self._config.task_names)}\n"]
        results = [*self.trials, *self.evaluations]
        for task in dict.fromkeys(task for result in results for task in result.scores):
            parts.append(f"\n## {task}\n\n" + _task_table(task, self.trials, self.evaluations))
            parts.append(self._cost_line(task))
        return "".join(parts)

    def _cost_line(self, task: str) -> str:
        """What a point of the task's main metric, in the median, has cost in pre-training."""
        metric = self._main_metrics.get(task)
        figures = summarize([trial.scores for trial in self.trials]).get(task, {}).get(metric)
        cost = pfs_days_per_point(self._pfs_days, figures["median"] if figures else None)
        if cost is None:
            return ""
        return f"\npre-training: {self._pfs_days:.3g} pfs-days, {cost:.3g} per point of {metric}\n"


def pfs_days_per_point(pfs_days: float | None, median: float | None) -> float | None:
    """Returns pfs-days of pre-training by a score in points; None if one is unknown or not > 0."""
    known = pfs_days is not None and median is not None and median > 0
    return pfs_days / median if known else None


def table_path(results_txt: str) -> str:
    """Returns the path of the table beside the official results file."""
    return results_txt.removesuffix(".txt") + ".md"


def read_results(path: str) -> dict[str, Any] | None:
    """Reads a results file; None if there is none.

    Raises:
        UserError: it is no results file.
    """
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "rb") as file:
        text = file.read()
    try:
        content = json.loads(text)
        [TrialResult(**trial) for trial in [*content["trials"], *content["evaluations"]]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "The results of earlier trials can't be read.",
            where=path,
            received=f"{type(error).__name__}: {error}",
            remedy="Move the file away, or set results_pkl to another path.",
        ) from error
    return content


def summarize(scores: Sequence[Scores]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns task -> metric -> median, mean, std (sample standard deviation; 0 of one), trials."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for task in dict.fromkeys(task for trial in scores for task in trial):
        trials = [trial[task] for trial in scores if task in trial]
        for metric in dict.fromkeys(metric for trial in trials for metric in trial):
            values = [_number(trial[metric]) for trial in trials if metric in trial]
            summary.setdefault(task, {})[metric] = {
                "median": float(np.median(values)),
                "mean": float(np.mean(values)),
                "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                "trials": len(values),
            }
    return summary


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(result: TrialResult) -> list[str]:
    return [
        f"{task}: " + " - ".join(f"{k}: {_number(v):.2f}" for k, v in metrics.items()) + "\n"
        for task, metrics in result.scores.items()
    ]


def _task_table(
    task: str, trials: Sequence[TrialResult], evaluations: Sequence[TrialResult]
) -> str:
    results = [result for result in [*trials, *evaluations] if task in result.scores]
    metrics = list(dict.fromkeys(m for result in results for m in result.scores[task]))
    rows = [["trial", "seed", *metrics, ""], ["---"] * (len(metrics) + 3)]
    for result in results:
        name = str(result.trial) if result.seed is not None else result.checkpoint
        stuck = f"stuck: {result.stuck[task]} for all" if task in result.stuck else ""
        own = result.scores[task]
        values = [f"{_number(own[m]):.2f}" if m in own else "" for m in metrics]
        rows.append([name, "" if result.seed is None else str(result.seed), *values, stuck])
    scored = [trial.scores for trial in trials if task in trial.scores]
    if len(scored) > 1:
        summary = summarize(scored)[task]
        for figure in ("median", "mean", "std"):
            rows.append([f"**{figure}**", "", *(_figure(summary, m, figure) for m in metrics), ""])
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _figure(summary: Mapping[str, Mapping[str, float]], metric: str, figure: str) -> str:
    return f"{summary[metric][figure]:.2f}" if metric in summary else ""


# All tasks that a model has been fine-tuned on, and the GLUE average over them.
#
# <results>/scores.md    beside the results of the tasks


# The eight tasks that the paper averages over (arXiv:2003.10555, table 8; WNLI is left out).
GLUE = ("cola", "sst", "mrpc", "sts", "qqp", "mnli", "qnli", "rte")
SCORES = "scores.md"


class TaskScore(NamedTuple):
    """A task's figure over the trials of a model.

    Attributes:
        task: its name.
        metric: the main one.
        median, std: over the trials.
        trials: how many.
        path: the results file.
        pfs_days_per_point: pre-training by the median; None if the model does not say its compute.
    """

    task: str
    metric: str
    median: float
    std: float
    trials: int
    path: str
    pfs_days_per_point: float | None


def model_scores(folder: str) -> list[TaskScore]:
    """Collects the scores of a model from its results files, single-task runs first.

    Args:
        folder: where results files (`…_results.json`) are.
    """
    scores: dict[str, TaskScore] = {}
    paths = tf.io.gfile.glob(posixpath.join(folder, "*_results.json"))
    for path in sorted(paths, key=lambda p: ("," in posixpath.basename(p), p)):
        try:
            content = read_results(path)
        except UserError:
            continue  # no results of fine-tuning
        for score in _scores_in(content, path):
            scores.setdefault(score.task, score)
    order = {task: i for i, task in enumerate(GLUE)}
    return sorted(scores.values(), key=lambda s: (order.get(s.task, len(order)), s.task))


def _scores_in(content: Mapping[str, Any], path: str) -> list[TaskScore]:
    """Returns the scores of a results file; none if it does not have the summary of one."""
    found = []
    try:
        for task, metric in content["main_metrics"].items():
            figures = content["summary"].get(task, {}).get(metric)
            if figures and figures["median"] is not None:
                median, trials = float(figures["median"]), int(figures["trials"])
                # JSON has no NaN: the deviation is null where a trial's figure is infinite.
                std = math.nan if figures["std"] is None else float(figures["std"])
                cost = pfs_days_per_point(content.get("pretraining_pfs_days"), median)
                found.append(TaskScore(task, metric, median, std, trials, path, cost))
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
    return found


def _row(score: TaskScore) -> list[str]:
    cost = score.pfs_days_per_point
    figures = [f"{score.median:.2f}", f"{score.std:.2f}", str(score.trials)]
    return [score.task, score.metric, *figures, "" if cost is None else f"{cost:.3g}"]


def glue_average(scores: list[TaskScore]) -> tuple[float, list[str]] | None:
    """Returns the mean of the medians of the GLUE tasks that have run, and which are missing.

    None if none of them has run.
    """
    medians = {score.task: score.median for score in scores if score.task in GLUE}
    if not medians:
        return None
    return statistics.fmean(medians.values()), [task for task in GLUE if task not in medians]


def write_model_scores(config: Any, say: Callable[[str], None]) -> None:
    """Writes the table of a model's scores beside its results, and prints the GLUE average."""
    folder = posixpath.dirname(config.results_txt)
    scores = model_scores(folder)
    if not scores:
        return
    header = ["task", "metric", "median", "std", "trials", "pfs-days per point"]
    rows = [header, ["---"] * len(header), *map(_row, scores)]
    lines = [f"# {config.model_name}: all tasks\n\n"]
    lines += ["| " + " | ".join(row) + " |\n" for row in rows]
    average = glue_average(scores)
    if average is not None:
        mean, missing = average
        line = f"GLUE average of {len(GLUE) - len(missing)} of {len(GLUE)} tasks: {mean:.2f}"
        line += f" (not run: {', '.join(missing)})" if missing else ""
        lines.append(f"\n{line}\n")
        say(line)
    path = posixpath.join(folder, SCORES)
    replace_file(path, "".join(lines).encode())
    say(f"All scores of {config.model_name}: {path}")
