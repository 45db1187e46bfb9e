"""One step of one replica: forward, backward, reduce, check, clip, update."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from electra_tf2.randomness import StepRandomness
from electra_tf2.training.loss_scale import MIN, LossScale
from electra_tf2.training.objective import Objective
from electra_tf2.training.optimizers import ReplicaOptimizer, global_norm
from electra_tf2.training.schedule import Schedule


class StepResult(NamedTuple):
    """What a step computes, the same on every replica.

    Attributes:
        loss: float32 scalar, the total loss of the global batch before the update.
        losses: loss name -> float32 scalar, its part of the total before weighting.
        metrics: metric name -> float32 sums over the global batch.
        gradient_norm: float32 scalar, global norm before clipping.
        finite: bool scalar; the update was made only if loss and norm are finite.
        loss_scale: float32 scalar, what the loss was multiplied by for the gradient; 1 unless the
            run computes in float16.
    """

    loss: tf.Tensor
    losses: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor]
    gradient_norm: tf.Tensor
    finite: tf.Tensor
    loss_scale: tf.Tensor | float = MIN

    @property
    def failed(self) -> tf.Tensor:
        """Bool scalar: something is not finite that a smaller loss scale can't fix.

        The scale is never to blame for a loss, which is computed without it, but for a gradient, as
        long as the scale is above its minimum.
        """
        can_be_fixed = tf.math.is_finite(self.loss) & tf.greater(self.loss_scale, MIN)
        return ~(can_be_fixed | self.finite)


class Sums(NamedTuple):
    """Losses' numerators and metrics' sums, by name."""

    numerators: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor]


def all_reduce_sum(nest):
    """Sums a nest of tensors over replicas, in one exchange."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return nest
    return context.all_reduce(tf.distribute.ReduceOp.SUM, nest)


def replica_id() -> int | tf.Tensor:
    """Returns the index of the calling replica among all replicas.

    A TPU's cores run one graph: there it is a tensor, int32 scalar.
    """
    identity = tf.distribute.get_replica_context().replica_id_in_sync_group
    known = tf.get_static_value(identity)
    return identity if known is None else int(known)


class ReplicaStep:
    """The functions that run inside `strategy.run`.

    Args:
        objective: what is trained.
        optimizer: the update; None if only `evaluate` is used.
        schedule: the learning rate; likewise.
        seed: the run's seed.
        micro_batches: number of parts that a replica's rows are cut into; their gradients are added
            up before the update, which equals one large batch.
        jit_compile: whether XLA compiles the forward and backward function.
        loss_scale: of a run in float16; None otherwise.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: ReplicaOptimizer | None,
        schedule: Schedule | None,
        *,
        seed: int,
        micro_batches: int = 1,
        jit_compile: bool = False,
        loss_scale: LossScale | None = None,
    ):
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.micro_batches = micro_batches
        self._jit_compile = jit_compile
        self._loss_scale = loss_scale
        self._variables = [v.value for v in objective.named_variables().values()]

    def train(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> StepResult:
        """Makes one update.

        Args:
            batch: this replica's rows.
            step: int64 scalar, updates made so far.

        Returns:
            The step's result.
        """
        optimizer, schedule = self.optimizer, self.schedule
        assert optimizer is not None and schedule is not None
        replica, rows = replica_id(), _rows(batch)
        prepared, denominators = self.objective.prepare(
            batch, self._randomness(step, replica, rows, 0)
        )
        denominators = self._global(denominators)
        scale = None if self._loss_scale is None else self._loss_scale.value(replica)
        gradients, sums = self._accumulate(prepared, denominators, scale, step, replica, rows)
        gradients, sums = all_reduce_sum((gradients, sums))
        gradients = _unscaled(gradients, scale)
        loss, losses = self._losses(sums.numerators, denominators)
        norm = self.gradient_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)

        def update():
            optimizer.apply(replica, gradients, norm, schedule(step + 1))
            return tf.constant(True)

        tf.cond(finite, update, lambda: tf.constant(False))
        if scale is None or self._loss_scale is None:
            return StepResult(loss, losses, sums.metrics, norm, finite, tf.constant(MIN))
        self._loss_scale.update(replica, loss, norm)
        return StepResult(loss, losses, sums.metrics, norm, finite, scale)

    def gradient_norm(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Returns the global norm of the whole batch's dense gradients, which clipping compares.

        The official program keeps the gradient of a table that is only looked up as slices, and
        takes their norm without first adding up those of equal rows; dense is what was meant.
        """
        return global_norm(gradients)

    def evaluate(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> StepResult:
        """Computes losses and metrics without dropout and without an update.

        Args:
            batch: this replica's rows.
            step: int64 scalar, index of the evaluation batch; masks and samples follow from it.

        Returns:
            The step's result; the gradient norm is 0, and `finite` is true whatever the loss.
        """
        replica, rows = replica_id(), _rows(batch)
        randomness = self._randomness(step, replica, rows, 0)
        prepared, denominators = self.objective.prepare(batch, randomness)
        sums = Sums(*self.objective.compute(prepared, randomness, training=False))
        denominators, sums = all_reduce_sum((denominators, sums))
        denominators = self._with_epsilon(denominators)
        loss, losses = self._losses(sums.numerators, denominators)
        # An evaluation must not skip anything: a NaN has to show in its figures.
        return StepResult(
            loss, losses, sums.metrics, tf.zeros([]), tf.constant(True), tf.constant(MIN)
        )

    def _randomness(self, step, replica, rows, micro) -> StepRandomness:
        """Returns the random numbers of a micro-batch; `rows` are the rows of the replica."""
        share = rows // self.micro_batches
        return StepRandomness(
            seed=self.seed,
            step=step,
            first_row=tf.cast(replica * rows + micro * share, tf.int64),
            stream=tf.cast(replica * self.micro_batches + micro, tf.int64),
        )

    def _global(self, denominators):
        return self._with_epsilon(all_reduce_sum(denominators))

    def _with_epsilon(self, denominators):
        epsilon = self.objective.denominator_epsilon
        return {name: value + epsilon for name, value in denominators.items()}

    def _losses(self, numerators, denominators):
        losses = {name: numerators[name] / denominators[name] for name in numerators}
        weights = self.objective.loss_weights
        return tf.add_n([weights[name] * losses[name] for name in losses]), losses

    def _gradients(self, prepared, denominators, scale, step, first_row, stream):
        """Returns dense, scaled gradients of this part's share of the total loss, and its sums."""
        randomness = StepRandomness(self.seed, step, first_row, stream)
        with tf.GradientTape() as tape:
            sums = Sums(*self.objective.compute(prepared, randomness, training=True))
            loss, _ = self._losses(sums.numerators, denominators)
            if scale is not None:
                loss *= scale
        gradients = tape.gradient(
            loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return self.densify(gradients), sums

    def densify(self, gradients: list) -> list[tf.Tensor]:
        """Turns the slices of lookups into dense gradients, equal rows added up."""
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _accumulate(self, prepared, denominators, scale, step, replica, rows):
        """Adds up gradients and sums over the micro-batches."""
        compute = self._gradients
        if self._jit_compile:
            compute = tf.function(compute, jit_compile=True, autograph=False)

        def part(micro, prepared):
            randomness = self._randomness(step, replica, rows, micro)
            return compute(
                prepared, denominators, scale, step, randomness.first_row, randomness.stream
            )

        if self.micro_batches == 1:
            return part(0, prepared)
        share = rows // self.micro_batches
        cut = tf.nest.map_structure(lambda t: _cut_rows(t, self.micro_batches, share), prepared)
        total = part(0, tf.nest.map_structure(lambda t: t[0], cut))

        def body(micro, *total):
            new = part(micro, tf.nest.map_structure(lambda t: t[micro], cut))
            return (micro + 1, *tf.nest.map_structure(tf.add, total, new))

        _, *total = tf.while_loop(
            lambda micro, *_: micro < self.micro_batches,
            body,
            (tf.constant(1), *total),
            parallel_iterations=1,
        )
        return total


def _unscaled(gradients: list[tf.Tensor], scale: tf.Tensor | None) -> list[tf.Tensor]:
    return gradients if scale is None else [gradient / scale for gradient in gradients]


def _cut_rows(tensor: tf.Tensor, parts: int, share: int) -> tf.Tensor:
    """Reshapes [parts x share, ...] to [parts, share, ...]; the other axes may be unknown."""
    cut = tf.reshape(tensor, tf.concat([[parts, share], tf.shape(tensor)[1:]], axis=0))
    cut.set_shape([parts, share, *tensor.shape[1:]])
    return cut


def _rows(batch: dict[str, tf.Tensor]) -> int:
    """Returns the number of rows of a replica's batch, known when the graph is built."""
    rows = next(iter(batch.values())).shape[0]
    assert rows is not None
    return rows
