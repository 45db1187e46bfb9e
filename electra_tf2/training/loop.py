"""The loop over steps: many in one graph call, their sums, and the input they draw from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tensorflow as tf

from electra_tf2.training.objective import Objective
from electra_tf2.training.step import ReplicaStep, StepResult

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig
    from configure_pretraining import PretrainingConfig

# Steps of one graph call of an evaluation: few, so that its progress shows.
_EVALUATION_STEPS_PER_CALL = 10


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """How a run is driven, whatever it trains.

    Attributes:
        num_train_steps: the step at which training ends.
        global_batch_size: examples a step, over all replicas and micro-batches.
        tokens_per_example: for the tokens/s in the log, padding included; a mean where they differ.
        save_every: steps between checkpoints.
        log_every: steps between reports.
        eval_every: steps between evaluations; 0 for none.
        iterations_per_loop: maximum steps of one graph call.
        seconds_per_loop: maximum seconds of one graph call, so that signals, reports and saves
            don't wait longer.
        micro_batches: parts that a replica's batch is cut into, to accumulate their gradients.
        on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" that update.
        seed: the run's seed.
        jit_compile: whether XLA compiles forward and backward.
    """

    num_train_steps: int
    global_batch_size: int
    tokens_per_example: float
    save_every: int = 1000
    log_every: int = 10
    eval_every: int = 0
    iterations_per_loop: int = 200
    seconds_per_loop: float = 5.0
    micro_batches: int = 1
    on_nonfinite: Literal["stop", "skip"] = "stop"
    seed: int = 0
    jit_compile: bool = False

    @classmethod
    def from_hparams(
        cls,
        config: PretrainingConfig | FinetuningConfig,
        *,
        num_train_steps: int,
        tokens_per_example: float,
        seed: int,
        jit_compile: bool,
    ) -> LoopSettings:
        """Takes batch size and intervals from a configuration; the rest are attributes."""
        return cls(
            num_train_steps=num_train_steps,
            global_batch_size=config.train_batch_size,
            tokens_per_example=tokens_per_example,
            save_every=config.save_checkpoints_steps,
            log_every=config.log_every_steps,
            eval_every=config.eval_every_steps,
            iterations_per_loop=config.iterations_per_loop,
            micro_batches=config.gradient_accumulation_steps,
            on_nonfinite=config.on_nonfinite,
            seed=seed,
            jit_compile=jit_compile,
        )

    def next_event(self, step: int) -> int:
        """Returns the first step after `step` at which something is logged, saved or ended."""
        intervals = [n for n in (self.log_every, self.save_every, self.eval_every) if n]
        return min(self.num_train_steps, *((step // n + 1) * n for n in intervals))


class StepSums(NamedTuple):
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
        stop_at_nonfinite: whether to leave the loop after a step that failed, see
            `StepResult.failed`.
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

    def __call__(self, iterator, first_step: int, n_steps: int) -> StepSums:
        """Runs `n_steps` steps.

        Args:
            iterator: over the distributed data set; each step draws one element.
            first_step: number of the first step.
            n_steps: how many, at least 1.

        Returns:
            The sums over these steps.
        """
        return self._many_steps(
            iterator, tf.constant(first_step, tf.int64), tf.constant(n_steps, tf.int64)
        )

    def _step(self, iterator, step):
        result = self._strategy.run(self._replica_function, args=(next(iterator), step))
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], result
        )

    def _loop(self, iterator, first_step, n_steps):
        function = self._one_step.get_concrete_function(iterator, first_step)
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros(spec.shape, spec.dtype), function.structured_outputs
        )._replace(finite=tf.constant(True))
        zero = tf.constant(0, tf.int64)
        start = StepSums(
            steps=zero,
            updates=zero,
            loss=_float64(nothing.loss),
            losses=tf.nest.map_structure(_float64, nothing.losses),
            metrics=tf.nest.map_structure(_float64, nothing.metrics),
            last=nothing,
        )

        def unfinished(sums):
            more = sums.steps < n_steps
            return more & ~sums.last.failed if self._stop else more

        def body(sums):
            result = self._one_step(iterator, first_step + sums.steps)

            def add(total, value):
                return total + tf.where(result.finite, _float64(value), 0.0)

            return (
                StepSums(
                    steps=sums.steps + 1,
                    updates=sums.updates + tf.cast(result.finite, tf.int64),
                    loss=add(sums.loss, result.loss),
                    losses=tf.nest.map_structure(add, sums.losses, result.losses),
                    metrics=tf.nest.map_structure(add, sums.metrics, result.metrics),
                    last=result,
                ),
            )

        (sums,) = tf.while_loop(unfinished, body, (start,), parallel_iterations=1)
        return sums


def _float64(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(value, tf.float64)


class Average:
    """Collects the sums of graph calls on the host and turns them into figures.

    Args:
        summarize: see `Objective.summarize`.

    Attributes:
        seconds: that the calls took.
    """

    def __init__(self, summarize: Callable[[Any], dict[str, float]]):
        self._summarize = summarize
        self._sums: list[StepSums] = []
        self.seconds = 0.0

    def add(self, sums: StepSums, seconds: float) -> None:
        """Adds the sums of a graph call.

        Args:
            sums: of NumPy values.
            seconds: that it took.
        """
        self._sums.append(sums)
        self.seconds += seconds

    @property
    def steps(self) -> int:
        """Steps tried so far."""
        return sum(int(sums.steps) for sums in self._sums)

    @property
    def updates(self) -> int:
        """Steps with a finite loss so far."""
        return sum(int(sums.updates) for sums in self._sums)

    def figures(self) -> dict[str, float]:
        """Returns the mean losses and the metrics over all finite steps; NaN if there are none."""

        def total(*values):
            return sum(values)

        updates = self.updates
        losses = tf.nest.map_structure(total, *[sums.losses for sums in self._sums])
        metrics = tf.nest.map_structure(total, *[sums.metrics for sums in self._sums])
        figures = {"loss": float(sum(sums.loss for sums in self._sums)) / max(updates, 1)}
        figures.update({name: float(value) / max(updates, 1) for name, value in losses.items()})
        figures.update(self._summarize(metrics))
        return figures if updates else dict.fromkeys(figures, math.nan)


def distributed_iterator(
    strategy: tf.distribute.Strategy,
    make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> Iterator:
    """Opens the input of this process's replicas, in batches of known shape.

    Args:
        strategy: on whose devices the batches are used.
        make_dataset: returns the batches of one input pipeline, one element per replica and step.

    Returns:
        An iterator whose elements go into `strategy.run`.
    """
    several = strategy.num_replicas_in_sync > 1
    if not several and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return iter(strategy.distribute_datasets_from_function(make_dataset))
    # If the data could end, replicas would ask each other before every step whether it has for one
    # of them, and the batch size would be unknown. All draw the same number of batches anyway.
    return iter(
        strategy.distribute_datasets_from_function(lambda context: make_dataset(context).repeat())
    )


class Evaluator:
    """Scores an objective on held-out batches, without dropout.

    Random numbers of a batch, such as its masks, follow from the seed and the batch's index, so
    that two evaluations of different weights see the same task.

    Args:
        objective: what is scored.
        strategy: where it runs.
        seed: of the random numbers.
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
            make_dataset: returns the batches of one input pipeline.
            n_batches: how many global batches to score.
            on_progress: called with the number of batches done.

        Returns:
            "loss" (mean over batches of the total loss), every loss by name, and the metrics.
        """
        iterator = distributed_iterator(self._strategy, make_dataset)
        average = Average(self._objective.summarize)
        done = 0
        while done < n_batches:
            n = min(_EVALUATION_STEPS_PER_CALL, n_batches - done)
            sums = self._loop(iterator, done, n)
            average.add(tf.nest.map_structure(lambda t: t.numpy(), sums), 0.0)
            done += n
            on_progress(done)
        return average.figures()
