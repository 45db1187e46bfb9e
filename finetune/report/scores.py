"""The page's section about fine-tuning: scores of all trials, and of every class."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

from electra_tf2 import files
from electra_tf2.plots import history
from electra_tf2.report.curves import Plot, draw
from electra_tf2.report.page import Markup, Section, element, joined, note, paragraph, table
from electra_tf2.training.reports import RunLog, read_reports
from finetune.classification.class_report import (
    ClassScores,
    class_rows,
    confusion_rows,
    read_class_report,
)
from finetune.run.model_scores import GLUE, TaskScore, glue_average, model_scores
from finetune.run.results import StoredResults, read_results

_RESULTS = "_results.json"
# Classes of the largest confusion matrix that is shown.
_MOST_CLASSES = 40


class FinetuningRun(NamedTuple):
    """The results of fine-tuning on one task, or on several together.

    Attributes:
        path: the results file.
        results: its content.
    """

    path: str
    results: StoredResults

    @property
    def stem(self) -> str:
        """The path of the hparam `results_txt` without its ending."""
        return self.path.removesuffix(".json")


def finetuning_runs(model_dir: str) -> list[FinetuningRun]:
    """Reads what a model was fine-tuned on, by the names of the tasks.

    Args:
        model_dir: its folder; results that were written elsewhere are not found.

    Raises:
        UserError: a results file is damaged.
    """
    folder = posixpath.join(model_dir, "results")
    names = files.list_dir(folder) if files.is_dir(folder) else []
    runs = []
    for name in sorted(name for name in names if name.endswith(_RESULTS)):
        path = posixpath.join(folder, name)
        if name == f"unsup{_RESULTS}":  # pre-training's
            continue
        results = read_results(path)
        if results is not None and (results.trials or results.evaluations):
            runs.append(FinetuningRun(path, results))
    return runs


def scores_section(model_dir: str, runs: Sequence[FinetuningRun]) -> Section | None:
    """Returns the scores of fine-tuning with their spread; None if there are none."""
    if not runs:
        return None
    parts: list[str] = []
    scores = model_scores(posixpath.join(model_dir, "results"))
    if scores:
        header = ["task", "metric", "median", "deviation", "trials"]
        parts.append(table(header, map(_score_row, scores)))
    average = glue_average(scores)
    if average is not None and len(scores) > 1:
        mean, missing = average
        parts.append(paragraph(f"GLUE average of {len(GLUE) - len(missing)} tasks: {mean:.2f}"))
    for number, run in enumerate(runs):
        parts += _run_parts(run)
        parts += _curves(model_dir, run, f"finetuning-{number}")
    return Section("finetuning", "Fine-tuning", joined(parts))


def _score_row(score: TaskScore) -> list[str]:
    std = f"± {score.std:.2f}" if score.trials > 1 else ""
    return [score.task, score.metric, f"{score.median:.2f}", std, str(score.trials)]


def _run_parts(run: FinetuningRun) -> list[str]:
    results, parts = run.results, []
    every = [*results.trials, *results.evaluations]
    for task in dict.fromkeys(task for result in every for task in result.scores):
        own = [result for result in every if task in result.scores]
        metrics = list(dict.fromkeys(metric for result in own for metric in result.scores[task]))
        header = ["trial", *metrics, "steps", "time", ""]
        rows = []
        for result in own:
            name = str(result.trial) if result.seed is not None else "evaluated only"
            figures = [_figure(result.scores[task].get(metric)) for metric in metrics]
            stuck = f"predicts {result.stuck[task]} for all" if task in result.stuck else ""
            minutes = f"{result.seconds / 60:.1f} min" if result.seconds else ""
            rows.append([name, *figures, f"{result.step:,}" if result.step else "", minutes, stuck])
        summary = results.summary.get(task, {})
        if len(results.trials) > 1:
            for figure in ("median", "mean", "std"):
                values = [
                    _figure(getattr(summary[m], figure) if m in summary else None) for m in metrics
                ]
                rows.append([figure, *values, "", "", ""])
        alone = len(results.task_names) < 2
        title = task if alone else f"{task} (of {','.join(results.task_names)})"
        parts += [element("h3", title, dir="auto"), table(header, rows)]
        if scored := own[-1].rows.get(task):
            parts.append(note(f"Scored on {sum(scored):,} rows."))
        parts += _classes(run, task)
    return parts


def _curves(model_dir: str, run: FinetuningRun, name: str) -> list[str]:
    """The loss of the trials whose folders are there, and the main metric on the dev split."""
    results = run.results
    trials = posixpath.basename(str((results.hparams or {}).get("model_dir", "")))
    folder = posixpath.join(model_dir, "finetuning_models")
    logs = [RunLog(posixpath.join(folder, f"{trials}_{t.trial}")).path for t in results.trials]
    reports = [read_reports(path) for path in logs if trials and files.exists(path)]
    plots = []
    metrics = {task: [metric, f"{task}/{metric}"] for task, metric in results.main_metrics.items()}
    wanted = [("Loss", "train", ["mean_loss"])]
    wanted += [(f"{task}: {own[0]}, dev", "dev", own) for task, own in metrics.items()]
    for number, (title, split, names) in enumerate(wanted):
        found = [history(own, split, metric) for own in reports for metric in names]
        curves = [curve for curve in found if curve]
        if curves and split == "train":
            plots.append(Plot(f"{name}-{number}", title, "ink", curves))
        elif curves:
            plots.append(Plot(f"{name}-{number}", title, "ink", [], curves))
    return [draw(plots)] if plots else []


def _figure(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def _classes(run: FinetuningRun, task: str) -> list[str]:
    """The figures of classes that `class_report` has written, of the last trial."""
    folder = f"{run.stem}_classes"
    names = files.list_dir(folder) if files.is_dir(folder) else []
    found: dict[str, int] = {}
    advice = "With class_report: true the scores of every class are here, where a task has classes."
    for name in names:
        if match := re.fullmatch(re.escape(task) + r"_(.+)_(\d+)\.(json|md)", name):
            if match[3] == "md":  # of an older version, unless the figures are there too
                advice = "Score the model again to see the scores of every class here."
            else:
                found[match[1]] = max(int(match[2]), found.get(match[1], 0))
    if not found:
        return [note(advice)]
    parts: list[str] = []
    for split, trial in sorted(found.items()):
        scores = read_class_report(posixpath.join(folder, f"{task}_{split}_{trial}.json"))
        parts += _tables_of(scores, f"{split}, trial {trial}" if trial else split)
    return parts


def _tables_of(scores: ClassScores, title: str) -> list[str]:
    """The figures of classes as tables, with the confusion matrix or its largest cells."""
    header, *rows = class_rows(scores)
    parts: list[str] = [note(f"Classes ({title}):"), table(header, rows)]
    if scores.confusion is None:
        return parts
    names = [own.name for own in scores.figures]
    if len(names) <= _MOST_CLASSES:
        explained = note("True classes are rows, predicted ones columns.")
        return [*parts, explained, _matrix(names, scores.confusion.tolist())]
    header, *rows = confusion_rows(scores.confusion, names)
    if not rows:
        return [*parts, note("No example was given a wrong class.")]
    return [*parts, note("The most frequent confusions:"), table(header, rows)]


def _matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Markup:
    """A confusion matrix whose colours are the shares of a true class."""
    body = []
    for name, counts in zip(names, confusion, strict=True):
        total = sum(counts) or 1
        cells = [
            element("td", str(count), class_="cell", style=f"--p:{count / total:.2f}")
            for count in counts
        ]
        body.append(element("tr", element("th", name, scope="row", dir="auto"), *cells))
    head = element("tr", *(element("th", n, scope="col", dir="auto") for n in ("", *names)))
    content = element("table", element("thead", head), element("tbody", *body))
    return element("div", content, class_="scroll")
