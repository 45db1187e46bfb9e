"""The dev splits of all tasks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from electra_tf2.console import say
from finetune.evaluation import DevSplit, Evaluation, SplitScore, metrics_of
from finetune.preprocessing import Preprocessor
from finetune.setup import Setup


class DevScores(NamedTuple):
    """What scoring all dev splits gives.

    Attributes:
        splits: each split and its score.
        metrics: task -> metric -> figure.
        stuck: task -> what it predicts for every example, of tasks where it learned nothing.
    """

    splits: list[tuple[DevSplit, SplitScore]]
    metrics: dict[str, dict[str, float]]
    stuck: dict[str, str]

    def main_score(self) -> float:
        """Mean over the tasks of their main metrics."""
        main = {dev.task.name: dev.task.main_metric for dev, _ in self.splits}
        return sum(self.metrics[task][metric] for task, metric in main.items()) / len(main)

    def flat(self) -> dict[str, float]:
        """Returns metric -> figure; the names begin with the task's if there are several."""
        if len(self.metrics) == 1:
            return dict(next(iter(self.metrics.values())))
        return {f"{t}/{m}": v for t, own in self.metrics.items() for m, v in own.items()}


def open_dev_splits(setup: Setup) -> list[DevSplit]:
    """Makes the features of every task's dev splits.

    Raises:
        UserError: a file is missing or bad.
    """
    preprocessor = Preprocessor(setup.config)
    return [
        DevSplit(task, split, prefix, preprocessor.features(task, split))
        for task in setup.tasks
        for split, prefix in task.dev_splits.items()
    ]


def scored_files(dev: Sequence[DevSplit]) -> dict[str, list[str]]:
    """Returns task -> the files that are scored."""
    files: dict[str, list[str]] = {}
    for task, split, _, _ in dev:
        files.setdefault(task.name, []).append(task.data_file(split))
    return files


def score_all(evaluation: Evaluation, dev: Sequence[DevSplit]) -> DevScores:
    """Scores every split with the network's present weights."""
    splits = [(d, evaluation.score(d.task, d.split, d.table)) for d in dev]
    stuck = {}
    for d, score in splits:
        reason = score.scorer.stuck_at()
        if reason is not None and not d.prefix:
            stuck[d.task.name] = reason
    return DevScores(splits, metrics_of(splits), stuck)


def report(scores: DevScores) -> None:
    """Prints the figures, and which tasks are stuck."""
    for task, metrics in scores.metrics.items():
        say(f"{task}: " + " - ".join(f"{name}: {value:.2f}" for name, value in metrics.items()))
        if task in scores.stuck:
            say(f"  Nothing was learned: the model predicts {scores.stuck[task]} everywhere.")
