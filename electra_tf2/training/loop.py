"""Many steps in one graph call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf

from electra_tf2.training.objective import Objective
from electra_tf2.training.step import ReplicaStep, StepResult


class Window(NamedTuple):
    """Sums over the steps of a graph call.

    Attributes:
        steps: int64 scalar, steps tried.
        updates: int64 scalar, steps whose loss and gradient were finite; the sums are over those.
        loss: float64 scalar, sum of the total losses.
        losses: loss name -> float64 scalar, sum.
        metrics: metric name -> float64 sums.
        last: the last step's result.
    """

    steps: tf.Tensor
    updates: tf.Tensor
    loss: tf.Tensor
    losses: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor]
    last: StepResult


class StepLoop:
    """Runs a replica function several times in one `tf.function`.

    Args:
        strategy: where it runs.
        replica_function: (this replica's batch, step) -> `StepResult`, the same on all replicas.
        stop_at_nonfinite: leave the loop after a step that failed, see `StepResult.failed`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        replica_function: Callable[[dict[str, tf.Tensor], tf.Tensor], StepResult],
        *,
        stop_at_nonfinite: bool,
    ):
        self._strategy = strategy
        self._replica_function = replica_function
        self._stop = stop_at_nonfinite
        self._one_step = tf.function(self._step, autograph=False)
        self._many_steps = tf.function(self._loop, autograph=False)

    def __call__(self, iterator, first_step: int, n_steps: int) -> Window:
        """Runs `n_steps` steps.

        Args:
            iterator: over the distributed data set; one element is drawn a step.
            first_step: number of the first step.
            n_steps: how many, at least 1.

        Returns:
            Their sums.
        """
        return self._many_steps(
            iterator, tf.constant(first_step, tf.int64), tf.constant(n_steps, tf.int64)
        )

    def _step(self, iterator, step):
        result = self._strategy.run(self._replica_function, args=(next(iterator), step))
        first = lambda value: self._strategy.experimental_local_results(value)[0]  # noqa: E731
        return tf.nest.map_structure(first, result)

    def _loop(self, iterator, first_step, n_steps):
        function = self._one_step.get_concrete_function(iterator, first_step)
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), function.structured_outputs
        )._replace(finite=tf.constant(True))
        wide = lambda t: tf.cast(t, tf.float64)  # noqa: E731
        zero = tf.constant(0, tf.int64)
        start = Window(
            steps=zero,
            updates=zero,
            loss=wide(nothing.loss),
            losses=tf.nest.map_structure(wide, nothing.losses),
            metrics=tf.nest.map_structure(wide, nothing.metrics),
            last=nothing,
        )

        def unfinished(window):
            more = window.steps < n_steps
            return more & ~window.last.failed if self._stop else more

        def body(window):
            result = self._one_step(iterator, first_step + window.steps)
            keep = lambda t: tf.where(result.finite, wide(t), 0.0)  # noqa: E731
            add = lambda total, t: total + keep(t)  # noqa: E731
            return (
                Window(
                    steps=window.steps + 1,
                    updates=window.updates + tf.cast(result.finite, tf.int64),
                    loss=add(window.loss, result.loss),
                    losses=tf.nest.map_structure(add, window.losses, result.losses),
                    metrics=tf.nest.map_structure(add, window.metrics, result.metrics),
                    last=result,
                ),
            )

        (window,) = tf.while_loop(unfinished, body, (start,), parallel_iterations=1)
        return window


class Average:
    """Gathers windows on the host and turns them into figures."""

    def __init__(self, summarize: Callable):
        self._summarize = summarize
        self._windows: list[Window] = []
        self.seconds = 0.0

    def add(self, window: Window, seconds: float) -> None:
        """Adds a window (of NumPy values) that took `seconds`."""
        self._windows.append(window)
        self.seconds += seconds

    @property
    def steps(self) -> int:
        """Steps tried so far."""
        return sum(int(w.steps) for w in self._windows)

    @property
    def updates(self) -> int:
        """Steps with a finite loss so far."""
        return sum(int(w.updates) for w in self._windows)

    def figures(self) -> dict[str, float]:
        """Returns the mean losses and the metrics over all finite steps added; NaN if none is."""
        updates = self.updates
        total = lambda *values: sum(values)  # noqa: E731
        losses = tf.nest.map_structure(total, *[w.losses for w in self._windows])
        sums = tf.nest.map_structure(total, *[w.metrics for w in self._windows])
        figures = {"loss": float(sum(w.loss for w in self._windows)) / max(updates, 1)}
        figures.update({name: float(value) / max(updates, 1) for name, value in losses.items()})
        figures.update(self._summarize(sums))
        return figures if updates else dict.fromkeys(figures, math.nan)


# A strategy's iterator over batches of known shape.


def distributed_iterator(
    strategy: tf.distribute.Strategy,
    make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> Iterator:
    """Opens the input of all of this process's replicas.

    Args:
        strategy: on whose devices the batches are used.
        make_dataset: gives the batches of one input pipeline, one element a replica and step.

    Returns:
        An iterator whose elements go into `strategy.run`.
    """
    several = strategy.num_replicas_in_sync > 1
    if not several and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return iter(strategy.distribute_datasets_from_function(make_dataset))
    # If the data could end, replicas would ask each other before every step whether it has for one
    # of them, and batches would be of unknown size. All draw the same number of batches anyway.
    return iter(
        strategy.distribute_datasets_from_function(lambda context: make_dataset(context).repeat())
    )


# Scores an objective on held-out batches.


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
