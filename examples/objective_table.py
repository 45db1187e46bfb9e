"""The figures of `compare_objectives.py`: their file, the table, and the plot over the compute."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.console import markdown_table
from electra_tf2.files import exists, write_json
from electra_tf2.plots import load_pyplot, save_figure
from electra_tf2.stored_json import read_record

NOT_PRETRAINED = "no pre-training"


class Place(NamedTuple):
    """Which model a cell is of: an objective, a seed, and the steps that it was trained for."""

    objective: str
    seed: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is known of a model at one point of its pre-training.

    Attributes:
        objective: that it was trained with, or another arm's name, or `NOT_PRETRAINED`.
        seed: of pre-training and of fine-tuning.
        steps: of pre-training.
        flops: that they took.
        figures: of the held-out text, at the end of pre-training; else empty.
        scores: task -> main figure after fine-tuning.
        metrics: task -> what that figure is.
        hparams: of the objective, beside those of the comparison; None if they are not known.
    """

    objective: str
    seed: int
    steps: int
    flops: float
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    metrics: dict[str, str] = dataclasses.field(default_factory=dict)
    hparams: dict[str, Any] | None = None

    @property
    def place(self) -> Place:
        """Which model it is of."""
        return Place(self.objective, self.seed, self.steps)

    def with_score(self, task: str, metric: str, value: float) -> Cell:
        """Returns a cell with the score of one more task."""
        return dataclasses.replace(
            self,
            scores={**self.scores, task: value},
            metrics={**self.metrics, task: metric},
        )


class SeedCells(NamedTuple):
    """The file of a seed.

    Attributes:
        settings: what was trained and fine-tuned with.
        cells: the models that have been scored.
    """

    settings: dict[str, Any]
    cells: list[Cell]


def read_cells(path: str) -> SeedCells | None:
    """Reads a seed's file; None if there is none yet.

    Raises:
        UserError: it can't be read.
    """
    if not exists(path):
        return None
    what = "The file of a seed's figures"
    return read_record(SeedCells, path, what, "Remove it: scores are found again.")


def write_cells(path: str, settings: Mapping[str, Any], cells: Iterable[Cell]) -> None:
    """Writes a seed's file in one step."""
    found = [dataclasses.asdict(cell) for cell in cells]
    write_json(path, {"settings": dict(settings), "cells": found})


class Spread(NamedTuple):
    """Mean and standard deviation over seeds."""

    mean: float
    deviation: float
    count: int

    def __str__(self) -> str:
        if not self.count:
            return ""
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if self.count > 1 else "")


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation."""
    if not values:
        return Spread(math.nan, math.nan, 0)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.fmean(values), deviation, len(values))


def table(cells: Sequence[Cell]) -> str:
    """Returns the scores in Markdown: a row for each objective and number of steps."""
    tasks = {task: metric for cell in cells for task, metric in cell.metrics.items()}
    heads = ["objective", "steps", "FLOPs", "seeds", "AUC", "masked-LM accuracy"]
    heads += [f"{task}, {metric}" for task, metric in tasks.items()] + ["mean of the tasks"]
    rows = [heads]
    for group in _groups(cells):
        first = group[0]
        figures = [
            spread([100 * cell.figures[name] for cell in group if name in cell.figures])
            for name in ("disc_auc", "masked_lm_accuracy")
        ]
        scores = [
            spread([cell.scores[task] for cell in group if task in cell.scores]) for task in tasks
        ]
        complete = [cell for cell in group if set(tasks) <= set(cell.scores)]
        means = spread([statistics.fmean(cell.scores.values()) for cell in complete])
        place = [first.objective, f"{first.steps:,}", f"{first.flops:.3g}", str(len(group))]
        rows.append([*place, *map(str, figures), *map(str, scores), str(means)])
    return markdown_table(rows)


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells that differ only in their seed, by objective and steps."""
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.objective, cell.steps), []).append(cell)
    order = list(dict.fromkeys(cell.objective for cell in cells))
    return [groups[key] for key in sorted(groups, key=lambda key: (order.index(key[0]), key[1]))]


def plot(cells: Sequence[Cell], output: str) -> None:
    """Draws a panel for each task: the scores over the compute, a line for each objective.

    Args:
        cells: of all seeds.
        output: path of the picture; its ending decides the format (.png, .pdf, .svg).

    Raises:
        UserError: matplotlib is not installed, or the picture can't be written.
    """
    pyplot = load_pyplot()
    tasks = {task: metric for cell in cells for task, metric in cell.metrics.items()}
    size = (3.4 * len(tasks), 3.6)
    figure, panels = pyplot.subplots(
        1, len(tasks), figsize=size, layout="constrained", squeeze=False
    )
    for (task, metric), axes in zip(tasks.items(), panels[0], strict=True):
        _draw(axes, [cell for cell in cells if task in cell.scores], task)
        axes.set_title(task)
        axes.set_xlabel("FLOPs of pre-training")
        axes.set_ylabel(metric)
        axes.grid(alpha=0.3)
    panels[0][0].legend(fontsize="small")
    save_figure(pyplot, figure, output)


def _draw(axes: Any, cells: Sequence[Cell], task: str) -> None:
    """Means as lines, with a bar of one standard deviation; no pre-training as a level."""
    objectives = dict.fromkeys(cell.objective for cell in cells)
    for number, objective in enumerate(objectives):
        groups = [group for group in _groups(cells) if group[0].objective == objective]
        found = [spread([cell.scores[task] for cell in group]) for group in groups]
        means, bars = [own.mean for own in found], [own.deviation for own in found]
        style = {"color": f"C{number}", "label": objective}
        if objective == NOT_PRETRAINED:
            axes.axhline(means[0], linestyle="--", **style)
            axes.axhspan(means[0] - bars[0], means[0] + bars[0], alpha=0.15, color=style["color"])
        else:
            flops = [group[0].flops for group in groups]
            axes.errorbar(flops, means, yerr=bars, marker="o", capsize=3, linewidth=1.5, **style)
