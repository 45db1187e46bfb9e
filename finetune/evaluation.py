"""Running a fine-tuned network over examples, and scoring the dev splits with it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.console import say
from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.training.predictor import Predictor, constant_weights
from finetune.batches import Batching, scoring_dataset
from finetune.feature_tables import NO_ROW, FeatureTable, TaskData
from finetune.features import Preprocessor
from finetune.model import FinetuningModel
from finetune.task import Scorer, Task

Outputs = Mapping[str, np.ndarray]
# Endings of metrics of which less is more.
_LOWER_IS_BETTER = ("loss", "mse")


class DevSplit(NamedTuple):
    """A split to score.

    Attributes:
        task: the task.
        split: the split's name.
        prefix: put before the names of its metrics.
        table: its features.
    """

    task: Task
    split: str
    prefix: str
    table: FeatureTable

    @property
    def path(self) -> str:
        """The file with its examples."""
        return self.task.data_file(self.split)

    @property
    def num_examples(self) -> int:
        """How many there are."""
        return self.task.num_examples(self.table.scalars["eid"])


class SplitScore(NamedTuple):
    """The score of a split.

    Attributes:
        scorer: has taken all examples.
        outputs: of each example.
    """

    scorer: Scorer
    outputs: list[Outputs]


class Evaluation:
    """Runs a network over examples, each exactly once.

    Args:
        config: gives the batches.
        model: encoder and heads.
        strategy: where it runs.
        fixed_weights: the network is not trained while this is used, see `constant_weights`.
    """

    def __init__(
        self,
        config: FinetuningConfig,
        model: FinetuningModel,
        strategy: tf.distribute.Strategy,
        *,
        fixed_weights: bool = False,
    ):
        self._config = config
        self._model = model
        self._strategy = strategy
        self._fixed_weights = fixed_weights
        self._predictors: dict[tuple[str, bool], Predictor] = {}
        self._lock = threading.Lock()

    def outputs(self, task: Task, table: FeatureTable, batch_size: int) -> Iterator[Outputs]:
        """Yields the head's outputs and the `eid` of each example, in no particular order.

        Rows of one example are joined where the task does so, see `Task.join_rows`.

        Args:
            task: whose head.
            table: the examples' features.
            batch_size: examples a batch, over all replicas.
        """
        eids = table.scalars["eid"]
        rows = self._rows(task, table, batch_size, self._predictor(task))
        yield from task.join_rows({**outputs, "eid": eids[row]} for row, outputs in rows)

    def teach(self, task: Task, table: FeatureTable) -> Iterator[tuple[int, Outputs]]:
        """Yields each row's number and the head's outputs for a student, see `TaskHead.teach`."""
        predictor = self._predictor(task, teaches=True)
        yield from self._rows(task, table, self._config.eval_batch_size, predictor)

    def _rows(
        self, task: Task, table: FeatureTable, batch_size: int, predictor: Predictor
    ) -> Iterator[tuple[int, Outputs]]:
        data = TaskData([task.name], [table], [task.get_feature_specs()])
        if predictor.has_one_replica:  # a batch need not be filled up
            batch_size = min(batch_size, max(table.num_rows, 1))
        batching = Batching(batch_size, self._config.max_seq_length, self._config.pad_to_max_length)
        n_batches = batching.batches_per_epoch(table.num_rows)
        if n_batches == 1 and predictor.has_one_replica:
            ((rows, length),) = batching.by_length(data.lengths)
            batch = data.batch(rows, length)
            batches = [predictor.batch(batch, data.signature(batch))]
        else:
            batches = predictor.batches(
                lambda context: scoring_dataset(data, batching, context), n_batches
            )
        for batch in batches:
            rows = batch.pop("row")
            for i in np.flatnonzero(rows != NO_ROW):
                yield int(rows[i]), {name: value[i] for name, value in batch.items()}

    def score(self, task: Task, split: str, table: FeatureTable) -> SplitScore:
        """Scores a split; arguments as `outputs`."""
        outputs = list(self.outputs(task, table, self._config.eval_batch_size))
        scorer = task.get_scorer(split)
        for example in outputs:
            scorer.update(example)
        return SplitScore(scorer, outputs)

    def _predictor(self, task: Task, teaches: bool = False) -> Predictor:
        def forward(batch):
            if teaches:
                outputs = self._model.teach(batch, task.name)
            else:
                outputs = self._model(batch, only=task.name)[task.name].outputs
            return {**outputs, "row": batch["row"]}

        with self._lock:
            if (task.name, teaches) not in self._predictors:
                encoder = self._model.encoder
                constants = constant_weights(self._strategy, encoder) if self._fixed_weights else ()
                predictor = Predictor(self._strategy, forward, constants)
                self._predictors[task.name, teaches] = predictor
            return self._predictors[task.name, teaches]


def metrics_of(scores: Sequence[tuple[DevSplit, SplitScore]]) -> dict[str, dict[str, float]]:
    """Returns task name -> metric name -> figure, the splits of a task together."""
    metrics: dict[str, dict[str, float]] = {}
    for dev, score in scores:
        own = metrics.setdefault(dev.task.name, {})
        for name, value in score.scorer.get_results():
            own[f"{dev.prefix}{name}"] = float(value)
    return metrics


class DevScores(NamedTuple):
    """The scores of all dev splits.

    Attributes:
        splits: each split and its score.
        metrics: task -> metric -> figure.
        stuck: task -> what it predicts for every example, of tasks where it learned nothing.
    """

    splits: list[tuple[DevSplit, SplitScore]]
    metrics: dict[str, dict[str, float]]
    stuck: dict[str, str]

    def score_by(self, metric: str | None) -> float:
        """Returns what the best weights are chosen by.

        Args:
            metric: one of `flat`; None: the mean over the tasks of their main metrics.

        Raises:
            UserError: there is no such metric.
        """
        if metric is None:
            main = {dev.task.name: dev.task.main_metric for dev, _ in self.splits}
            return sum(self.metrics[task][own] for task, own in main.items()) / len(main)
        known = self.flat()
        if metric not in known:
            raise UserError(
                "There is no such metric.",
                where="hparam best_metric",
                received=repr(metric),
                remedy=nearest_name_hint(metric, known),
            )
        return known[metric]

    def tuned(self) -> dict[str, dict[str, float]]:
        """Returns task -> what was tuned on its dev split, of tasks that tune something."""
        found = {d.task.name: score.scorer.tuned() for d, score in self.splits if not d.prefix}
        return {name: tuned for name, tuned in found.items() if tuned}

    def flat(self) -> dict[str, float]:
        """Returns metric -> figure; the names begin with the task's if there are several."""
        if len(self.metrics) == 1:
            return dict(next(iter(self.metrics.values())))
        return {f"{t}/{m}": v for t, own in self.metrics.items() for m, v in own.items()}


def is_better(score: float, best: float, metric: str | None) -> bool:
    """Whether a score is better than the best so far: less of a loss or an error, else more.

    Args:
        score: the score; one that is not a number is never better.
        best: the best so far; anything is better than what is not a number.
        metric: see `DevScores.score_by`.
    """
    if math.isnan(score) or math.isnan(best):
        return math.isnan(best) and not math.isnan(score)
    is_less = metric is not None and metric.endswith(_LOWER_IS_BETTER)
    return score < best if is_less else score > best


def open_dev_splits(preprocessor: Preprocessor, tasks: Sequence[Task]) -> list[DevSplit]:
    """Makes the features of every task's dev splits.

    Raises:
        UserError: a file is missing or bad.
    """
    return [
        DevSplit(task, split, prefix, preprocessor.features(task, split))
        for task in tasks
        for split, prefix in task.dev_splits.items()
    ]


def describe_scored(split: DevSplit) -> str:
    """Returns a split's file, with its number of examples and of those that can't be right."""
    eids, labels = split.table.scalars["eid"], split.table.scalars.get("label_ids")
    rows = f"{split.num_examples} rows"
    unknown = 0 if labels is None else split.task.num_examples(eids[labels < 0])
    if unknown:
        rows += f", {unknown} of them with labels that the task lacks"
    return f"{split.path} ({rows})"


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
