"""Scores an objective on held-out batches."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from electra_tf2.training.distributed_input import distributed_iterator
from electra_tf2.training.loop import Average, StepLoop
from electra_tf2.training.objective import Objective
from electra_tf2.training.replica_step import ReplicaStep

# Steps of one graph call.
_STEPS_PER_CALL = 10


class Evaluator:
    """Computes mean losses and metrics, without dropout.

    The masks and samples of a batch follow from the seed and the batch's index, so that two
    evaluations of different weights see the same task.

    Args:
        objective: what is scored.
        strategy: where it runs.
        seed: seed of masks and samples.
    """

    def __init__(self, objective: Objective, strategy: tf.distribute.Strategy, *, seed: int):
        self._objective = objective
        self._strategy = strategy
        step = ReplicaStep(objective, None, None, seed=seed)
        self._loop = StepLoop(strategy, step.evaluate, stop_at_nonfinite=False)

    def evaluate(
        self,
        make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        n_batches: int,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> dict[str, float]:
        """Scores `n_batches` batches.

        Args:
            make_dataset: gives the batches of one input pipeline.
            n_batches: how many global batches there are to score.
            on_progress: called with the number of batches done.

        Returns:
            "loss" (mean over batches of the total loss), every loss by name, and the metrics.
        """
        iterator = distributed_iterator(self._strategy, make_dataset)
        average = Average(self._objective.summarize)
        done = 0
        while done < n_batches:
            n = min(_STEPS_PER_CALL, n_batches - done)
            window = self._loop(iterator, done, n)
            average.add(tf.nest.map_structure(lambda t: t.numpy(), window), 0.0)
            done += n
            on_progress(done)
        return average.figures()
