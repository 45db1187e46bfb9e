"""All tasks that a model was fine-tuned on, and the GLUE average over them.

<results>/scores.md    beside the results of the tasks
"""

from __future__ import annotations

import math
import posixpath
import statistics
from typing import NamedTuple

from configure_finetuning import FinetuningConfig
from electra_tf2 import files
from electra_tf2.console import markdown_table
from electra_tf2.errors import UserError
from finetune.run.results import StoredResults, pfs_days_per_point, read_results

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
        pfs_days_per_point: pre-training by the median; None if the model does not say its compute.
    """

    task: str
    metric: str
    median: float
    std: float
    trials: int
    pfs_days_per_point: float | None

    def row(self) -> list[str]:
        """Returns the cells of the score's row in the table."""
        cost = self.pfs_days_per_point
        figures = [f"{self.median:.2f}", f"{self.std:.2f}", str(self.trials)]
        return [self.task, self.metric, *figures, "" if cost is None else f"{cost:.3g}"]


def model_scores(folder: str) -> list[TaskScore]:
    """Collects the scores of a model from its results files, single-task runs first.

    Args:
        folder: where results files (`…_results.json`) are; other files are passed over.
    """
    scores: dict[str, TaskScore] = {}
    names = files.list_dir(folder) if files.is_dir(folder) else []
    paths = [posixpath.join(folder, name) for name in names if name.endswith("_results.json")]
    for path in sorted(paths, key=lambda p: ("," in posixpath.basename(p), p)):
        try:
            results = read_results(path) or StoredResults()
        except UserError:  # another program's
            continue
        for score in _scores_in(results):
            scores.setdefault(score.task, score)
    order = {task: i for i, task in enumerate(GLUE)}
    return sorted(scores.values(), key=lambda s: (order.get(s.task, len(order)), s.task))


def _scores_in(results: StoredResults) -> list[TaskScore]:
    found = []
    for task, metric in results.main_metrics.items():
        own = results.summary.get(task, {}).get(metric)
        if own is not None and not math.isnan(own.median):
            cost = pfs_days_per_point(results.pretraining_pfs_days, own.median)
            found.append(TaskScore(task, metric, own.median, own.std, own.trials, cost))
    return found


def glue_average(scores: list[TaskScore]) -> tuple[float, list[str]] | None:
    """Returns the mean of the medians of the GLUE tasks that have run, and which are missing.

    None if none of them has run.
    """
    medians = {score.task: score.median for score in scores if score.task in GLUE}
    if not medians:
        return None
    return statistics.fmean(medians.values()), [task for task in GLUE if task not in medians]


def write_model_scores(config: FinetuningConfig) -> list[str]:
    """Writes the table of a model's scores beside its results.

    Returns:
        Lines to print: the GLUE average, and where the table is; none without scores.
    """
    folder = posixpath.dirname(config.results_txt)
    scores = model_scores(folder)
    if not scores:
        return []
    header = ["task", "metric", "median", "std", "trials", "pfs-days per point"]
    text = f"# {config.model_name}: all tasks\n\n"
    text += markdown_table([header, *(score.row() for score in scores)])
    lines = []
    average = glue_average(scores)
    if average is not None:
        mean, missing = average
        line = f"GLUE average of {len(GLUE) - len(missing)} of {len(GLUE)} tasks: {mean:.2f}"
        line += f" (not run: {', '.join(missing)})" if missing else ""
        text += f"\n{line}\n"
        lines.append(line)
    path = posixpath.join(folder, SCORES)
    files.replace_file(path, text.encode())
    return [*lines, f"All scores of {config.model_name}: {path}"]
