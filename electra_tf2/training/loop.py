"""The loop over steps: many in one graph call, their sums, and the input they draw from."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tensorflow as tf

from electra_tf2.hparams.ramps import largest
from electra_tf2.randomness import seed_keys
from electra_tf2.training.compile_cache import number_functions_afresh
from electra_tf2.training.devices import (
    compiled,
    is_deterministic,
    resolve_precision,
    resolve_xla,
    traced,
)
from electra_tf2.training.objective import Objective
from electra_tf2.training.schedule import Schedule
from electra_tf2.training.step import EvaluationSums, ReplicaStep, StepInputs, StepResult

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
        global_batch_size: examples a step, over all replicas and micro-batches; the most where
            `batch_sizes` are given.
        tokens_per_example: for the tokens/s in the log, padding included; a mean where they differ.
        flops_per_example: for the log too, see `Throughput`.
        save_every: steps between checkpoints.
        log_every: steps between reports.
        eval_every: steps between evaluations; 0 for none.
        iterations_per_loop: maximum steps of one graph call.
        seconds_per_loop: maximum seconds of one graph call, so that signals, reports and saves
            don't wait longer.
        micro_batches: parts that a replica's batch is cut into, to accumulate their gradients.
        on_nonfinite: "stop" at a loss or gradient that is not finite, or "skip" that update.
        seed: the run's seed.
        jit_compile: whether XLA compiles the training step.
        precision: what the networks compute in.
        batch_sizes: (steps done, examples a step from there on), by rising step, where the size
            changes; empty where it does not.
    """

    num_train_steps: int
    global_batch_size: int
    tokens_per_example: float
    flops_per_example: float = 0.0
    save_every: int = 1000
    log_every: int = 10
    eval_every: int = 0
    iterations_per_loop: int = 200
    seconds_per_loop: float = 5.0
    micro_batches: int = 1
    on_nonfinite: Literal["stop", "skip"] = "stop"
    seed: int = 0
    jit_compile: bool = False
    precision: str = "float32"
    batch_sizes: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_hparams(
        cls,
        config: PretrainingConfig | FinetuningConfig,
        *,
        num_train_steps: int,
        tokens_per_example: float,
        flops_per_example: float,
        seed: int,
        batch_sizes: tuple[tuple[int, int], ...] = (),
    ) -> LoopSettings:
        """Takes batch size, intervals and so on from a configuration; the rest are attributes."""
        return cls(
            num_train_steps=num_train_steps,
            global_batch_size=largest(config.train_batch_size),
            tokens_per_example=tokens_per_example,
            flops_per_example=flops_per_example,
            save_every=config.save_checkpoints_steps,
            log_every=config.log_every_steps,
            eval_every=config.eval_every_steps,
            iterations_per_loop=config.iterations_per_loop,
            micro_batches=config.gradient_accumulation_steps,
            on_nonfinite=config.on_nonfinite,
            seed=seed,
            jit_compile=resolve_xla(config.xla),
            precision=resolve_precision(config.precision),
            batch_sizes=batch_sizes,
        )

    def batch_size(self, step: int) -> int:
        """Returns the examples of the step that comes after `step` steps."""
        begun = [size for start, size in self.batch_sizes if start <= step]
        return begun[-1] if begun else self.global_batch_size

    def next_event(self, step: int) -> int:
        """Returns the first step after `step` at which something is logged, saved or changed."""
        changes = [start for start, _ in self.batch_sizes if start > step]
        intervals = [n for n in (self.log_every, self.save_every, self.eval_every) if n]
        return min(self.num_train_steps, *changes, *((step // n + 1) * n for n in intervals))


class StepSums(NamedTuple):
    """Sums over the steps of a graph call.

    Attributes:
        steps: int64 scalar, steps tried.
        updates: int64 scalar, steps whose loss and gradient were finite; the sums are over those.
        loss: float64 scalar, sum of the total losses.
        losses: loss name -> float64 scalar, sum.
        metrics: metric name -> float64 sums; of an evaluation, see `EvaluationSums`.
        last: the last step's result.
        active: bool scalar, whether further steps count.
        waited: float64 scalar, seconds in which the devices had nothing to do because their next
            batch was not there yet.
    """

    steps: tf.Tensor
    updates: tf.Tensor
    loss: tf.Tensor
    losses: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor] | EvaluationSums
    last: StepResult
    active: tf.Tensor
    waited: tf.Tensor

    @classmethod
    def start(cls, result: StepResult) -> StepSums:
        """Returns the sums of no step, for results of the names and shapes of this one."""
        zero = tf.constant(0, tf.int64)
        nothing = tf.nest.map_structure(lambda v: tf.zeros(v.shape, v.dtype), result)
        sums = (nothing.loss, nothing.losses, nothing.metrics)
        return cls(
            zero,
            zero,
            *tf.nest.map_structure(_float64, sums),
            last=nothing._replace(finite=tf.constant(True)),
            active=tf.constant(True),
            waited=tf.constant(0.0, tf.float64),
        )

    def plus(self, result: StepResult, stop_at_failure: bool) -> StepSums:
        """Returns the sums with a step's result; once they are inactive, they stay what they are.

        Args:
            stop_at_failure: whether they become inactive if it failed.
        """
        active, counts = self.active, self.active & result.finite

        def add(total, value):
            return total + tf.where(counts, _float64(value), 0.0)

        return StepSums(
            steps=self.steps + tf.cast(active, tf.int64),
            updates=self.updates + tf.cast(counts, tf.int64),
            loss=add(self.loss, result.loss),
            losses=tf.nest.map_structure(add, self.losses, result.losses),
            metrics=tf.nest.map_structure(add, self.metrics, result.metrics),
            last=tf.nest.map_structure(
                lambda old, new: tf.where(active, new, old), self.last, result
            ),
            active=active & tf.logical_not(result.failed) if stop_at_failure else active,
            waited=self.waited,
        )


class StepLoop:
    """Runs a replica function several times in one `tf.function`.

    The host hands a step to the device while the step before it still computes there, and waits
    only for the one before that. So no device is idle between two steps, and a batch that comes
    late is waited for only once nothing is left to compute:

        device   step 0 ........ step 1 ........ ________ step 2 ........
        host     gives 0 and 1   0 is done       1 is done, waits for the batch of 2, gives it

    Args:
        strategy: where it runs.
        replica_function: (this replica's batch, `StepInputs`, whether the step counts) ->
            `StepResult`, the same on all replicas.
        schedule: the learning rate; None for an evaluation.
        ramps: name -> (steps done -> value), what else a step is told.
        stop_at_nonfinite: whether steps after one that failed, see `StepResult.failed`, count for
            nothing. The loop then ends at most one step later.
        jit_compile: whether XLA compiles what happens between two batches: one program, if there
            is one replica.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        replica_function: Callable[..., StepResult],
        schedule: Schedule | None = None,
        ramps: Mapping[str, Schedule] | None = None,
        *,
        stop_at_nonfinite: bool,
        jit_compile: bool = False,
    ):
        self._strategy = strategy
        self._replica_function = replica_function
        self._schedule = schedule
        self._ramps = dict(ramps or {})
        self._stop = stop_at_nonfinite
        self._is_compiled = jit_compile
        self._one_step = tf.function(self._step, autograph=False)
        alone = strategy.num_replicas_in_sync == 1
        self._advance = compiled(self._after) if jit_compile and alone else self._after
        self._plus = compiled(StepSums.plus) if jit_compile else StepSums.plus
        self._many_steps = traced(self._loop)

    def __call__(self, iterator, first_step: int, n_steps: int, *, seed: int = 0) -> StepSums:
        """Runs `n_steps` steps.

        Args:
            iterator: over the distributed data set; each step draws one element.
            first_step: number of the first step.
            n_steps: how many, at least 1.
            seed: of the steps' random numbers.

        Returns:
            The sums over these steps.
        """
        with _on_host():
            first, count = tf.constant(first_step, tf.int64), tf.constant(n_steps, tf.int32)
            keys = seed_keys(seed)
        return self._many_steps(iterator, first, count, keys)

    def _step(self, batch, inputs, active) -> StepResult:
        args = (batch, inputs, active)
        return self._local(self._strategy.run(self._replica_function, args=args))

    def _local(self, values):
        """The first local replica's part of what is distributed."""
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], values
        )

    def _after(self, sums: StepSums, batch, inputs) -> StepSums:
        """The sums after one more step."""
        result = self._one_step(batch, inputs, sums.active)
        return self._plus(sums, result, self._stop)

    def _inputs(self, step, keys) -> StepInputs:
        rate = tf.zeros([]) if self._schedule is None else self._schedule(step + 1)
        return StepInputs(
            step, keys, rate, {name: ramp(step) for name, ramp in self._ramps.items()}
        )

    def _loop(self, iterator, first_step, n_steps, keys):
        if self._is_compiled:
            number_functions_afresh()
        inputs = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), self._inputs(first_step, keys)
        )
        active = tf.TensorSpec([], tf.bool)
        function = self._one_step.get_concrete_function(iterator.element_spec, inputs, active)
        result = function.structured_outputs

        def unfinished(done, go_on, waited, sums):
            del waited, sums
            with _on_host():
                return (done < n_steps) & go_on

        def body(done, go_on, waited, sums):
            with _on_host():
                go_on = tf.identity(sums.active)  # there once the last step is done
                ready = _time_after(go_on)
            batch = next(iterator)
            with _on_host():
                came = _time_after(self._local(batch))
                waited += tf.maximum(came - ready, 0.0)
                inputs = self._inputs(first_step + tf.cast(done, tf.int64), keys)
            # The clock is read first: a host with one thread would read it after the step. The
            # other one is not waited for.
            with tf.control_dependencies([came]), self._on_device():
                sums = self._advance(sums, batch, inputs)
            return done + 1, go_on, waited, sums

        # A loop variable stays where its first value is.
        with _on_host():
            start = (tf.constant(0), tf.constant(True), tf.constant(0.0, tf.float64))
        with self._on_device():
            sums = StepSums.start(result)
        _, _, waited, sums = tf.while_loop(unfinished, body, (*start, sums), parallel_iterations=1)
        return sums._replace(waited=waited)

    def _on_device(self) -> contextlib.AbstractContextManager:
        """Where the first replica computes; a TPU's programs find their place themselves."""
        if isinstance(self._strategy, tf.distribute.TPUStrategy):
            return contextlib.nullcontext()
        return tf.device(self._strategy.extended.worker_devices[0])


def _on_host():
    return tf.device("CPU:0")


def _time_after(values) -> tf.Tensor:
    """Seconds, once the values are there; 0 where TensorFlow refuses a clock."""
    if is_deterministic():
        return tf.constant(0.0, tf.float64)
    with tf.control_dependencies(tf.nest.flatten(values)):
        return tf.timestamp()


def _float64(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(value, tf.float64)


class Average:
    """Collects the sums of graph calls on the host and turns them into figures.

    Attributes:
        seconds: that the calls took.
    """

    def __init__(self, summarize: Callable[[Any], dict[str, float]]):
        self._summarize = summarize
        self._sums: list[StepSums] = []
        self.seconds = 0.0

    def add(self, sums: StepSums, seconds: float) -> None:
        """Adds the sums of a graph call."""
        self._sums.append(sums)
        self.seconds += seconds

    @property
    def steps(self) -> int:
        """Steps tried so far."""
        return sum(int(sums.steps) for sums in self._sums)

    @property
    def waited(self) -> float:
        """Seconds so far in which the devices waited for data."""
        return sum(float(sums.waited) for sums in self._sums)

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


@tf.autograph.experimental.do_not_convert  # rewriting the data's functions takes a second
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
    options = None
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        # A batch is small, and the host can tell when it has come without asking the device.
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    if not several and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return iter(strategy.distribute_datasets_from_function(make_dataset, options))
    # If the data could end, replicas would ask each other before every step whether it has for one
    # of them, and the batch size would be unknown. All draw the same number of batches anyway.
    return iter(
        strategy.distribute_datasets_from_function(
            lambda context: make_dataset(context).repeat(), options
        )
    )


class Evaluator:
    """Scores an objective on held-out batches, without dropout.

    Random numbers of a batch, such as its masks, follow from the seed and the batch's index, so
    that two evaluations of different weights see the same task.
    """

    def __init__(self, objective: Objective, strategy: tf.distribute.Strategy, *, seed: int):
        self._objective = objective
        self._strategy = strategy
        self._seed = seed
        step = ReplicaStep(objective, None)
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
            "loss" (the total), every loss by name, and the metrics, over all rows: a last batch
            with fewer of them counts for less.
        """
        iterator = distributed_iterator(self._strategy, make_dataset)
        average = Average(self._summarize)
        done = 0
        while done < n_batches:
            n = min(_EVALUATION_STEPS_PER_CALL, n_batches - done)
            sums = self._loop(iterator, done, n, seed=self._seed)
            average.add(tf.nest.map_structure(lambda t: t.numpy(), sums), 0.0)
            done += n
            on_progress(done)
        return average.figures()

    def _summarize(self, sums: EvaluationSums) -> dict[str, float]:
        objective = self._objective
        losses = {
            name: float(numerator / (sums.denominators[name] + objective.denominator_epsilon))
            for name, numerator in sums.numerators.items()
        }
        total = sum(objective.loss_weights[name] * loss for name, loss in losses.items())
        return {"loss": total, **losses, **objective.summarize(sums.metrics)}
