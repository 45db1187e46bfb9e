"""Outputs and scores of a fine-tuned network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.training.predictor import Predictor, constant_kernels
from finetune.batches import Batching, scoring_dataset
from finetune.feature_table import FeatureTable
from finetune.model import FinetuningModel
from finetune.scorer import Scorer
from finetune.task import Task
from finetune.task_data import NO_ROW, TaskData

Outputs = Mapping[str, np.ndarray]


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


class SplitScore(NamedTuple):
    """What scoring a split gives.

    Attributes:
        scorer: has taken all examples.
        outputs: of each example.
    """

    scorer: Scorer
    outputs: list[Outputs]


class Evaluation:
    """Runs a network over examples, each exactly once.

    Args:
        config: a `FinetuningConfig`.
        model: encoder and heads.
        strategy: where it runs.
        fixed_weights: the network is not trained while this is used, see `constant_kernels`.
    """

    def __init__(
        self,
        config: Any,
        model: FinetuningModel,
        strategy: tf.distribute.Strategy,
        *,
        fixed_weights: bool = False,
    ):
        self._config = config
        self._model = model
        self._strategy = strategy
        self._fixed_weights = fixed_weights
        self._predictors: dict[str, Predictor] = {}

    def outputs(self, task: Task, table: FeatureTable, batch_size: int) -> Iterator[Outputs]:
        """Yields the head's outputs and the `eid` of each example, in no particular order.

        Args:
            task: whose head.
            table: the examples' features.
            batch_size: examples a batch, over all replicas.
        """
        data = TaskData([task.name], [table], [task.get_feature_specs()])
        batching = Batching(
            batch_size, self._config.max_seq_length, self._config.pad_to_max_length
        )
        eids = table.scalars["eid"]
        n_batches = batching.batches_per_epoch(table.num_rows)
        predictor = self._predictor(task)
        for batch in predictor.batches(
            lambda context: scoring_dataset(data, batching, context), n_batches
        ):
            rows = batch.pop("row")
            for i in np.flatnonzero(rows != NO_ROW):
                yield {**{name: value[i] for name, value in batch.items()}, "eid": eids[rows[i]]}

    def score(self, task: Task, split: str, table: FeatureTable) -> SplitScore:
        """Scores a split; arguments as `outputs`."""
        outputs = list(self.outputs(task, table, self._config.eval_batch_size))
        scorer = task.get_scorer(split)
        for example in outputs:
            scorer.update(example)
        return SplitScore(scorer, outputs)

    def _predictor(self, task: Task) -> Predictor:
        if task.name not in self._predictors:

            def forward(batch):
                result = self._model(batch, only=task.name)[task.name]
                return {**result.outputs, "row": batch["row"]}

            encoder = self._model.encoder
            constants = constant_kernels(self._strategy, encoder) if self._fixed_weights else ()
            self._predictors[task.name] = Predictor(self._strategy, forward, constants)
        return self._predictors[task.name]


def metrics_of(scores: Sequence[tuple[DevSplit, SplitScore]]) -> dict[str, dict[str, float]]:
    """Returns task name -> metric name -> figure, the splits of a task together."""
    metrics: dict[str, dict[str, float]] = {}
    for dev, score in scores:
        own = metrics.setdefault(dev.task.name, {})
        for name, value in score.scorer.get_results():
            own[f"{dev.prefix}{name}"] = float(value)
    return metrics
