"""Many steps in one graph call."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from electra_tf2.training.replica_step import StepResult


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
