"""All tasks that a model has been fine-tuned on, and the GLUE average over them.

<results>/scores.md    beside the results of the tasks
"""

from __future__ import annotations

import math
import posixpath
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.durable_files import replace_file
from finetune.results import pfs_days_per_point, read_results

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
