"""One step of one replica: forward, backward, reduce, check, clip, update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import tensorflow as tf

from electra_tf2.randomness import StepRandomness
from electra_tf2.training.devices import compiled
from electra_tf2.training.objective import Objective, RampedObjective
from electra_tf2.training.optimizers import MIN_SCALE, LossScale, ReplicaOptimizer, global_norm


class StepInputs(NamedTuple):
    """What a step is told besides its batch.

    They are inputs, so that one program serves all seeds and schedules.

    Attributes:
        step: int64 scalar, updates made so far; in an evaluation the index of the batch, which its
            masks and samples follow from.
        keys: int64 [purposes], see `randomness.seed_keys`.
        learning_rate: float32 scalar; of no effect in an evaluation.
        values: name -> float32 scalar, the objective's settings that have a ramp, see
            `RampedObjective`.
    """

    step: tf.Tensor
    keys: tf.Tensor
    learning_rate: tf.Tensor
    values: Mapping[str, tf.Tensor] = {}


class StepResult(NamedTuple):
    """What a step computes, the same on every replica.

    Attributes:
        loss: float32 scalar, the total loss of the global batch before the update.
        losses: loss name -> float32 scalar, its part of the total before weighting.
        metrics: metric name -> float32 sums over the global batch; of an evaluation, see
            `EvaluationSums`.
        gradient_norm: float32 scalar, global norm before clipping.
        finite: bool scalar; the update was made only if loss and norm are finite.
        loss_scale: float32 scalar, what the loss was multiplied by for the gradient; 1 unless the
            run computes in float16.
    """

    loss: tf.Tensor
    losses: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor] | EvaluationSums
    gradient_norm: tf.Tensor
    finite: tf.Tensor
    loss_scale: tf.Tensor | float = MIN_SCALE

    @property
    def failed(self) -> tf.Tensor:
        """Bool scalar: something is not finite that a smaller loss scale can't fix.

        The scale is never to blame for a loss, which is computed without it, but for a gradient, as
        long as the scale is above its minimum.
        """
        can_be_fixed = tf.math.is_finite(self.loss) & tf.greater(self.loss_scale, MIN_SCALE)
        return ~(can_be_fixed | self.finite)


class Sums(NamedTuple):
    """Losses' numerators and metrics' sums, by name."""

    numerators: dict[str, tf.Tensor]
    metrics: dict[str, tf.Tensor]


class EvaluationSums(NamedTuple):
    """What an evaluation adds up over batches, of which the last one may have fewer rows.

    Attributes:
        numerators: loss name -> float32 scalar, a tensor in graphs and an array on the host.
        denominators: the same of what it is divided by.
        metrics: metric name -> float32 sums.
    """

    numerators: dict[str, Any]
    denominators: dict[str, Any]
    metrics: dict[str, Any]


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

    Between two exchanges with other replicas, what is compiled is one program: the masks; forward
    and backward pass; checking, clipping and the update. A replica that is alone exchanges nothing,
    and `StepLoop` makes one program of all three.

    Args:
        objective: what is trained.
        optimizer: the update; None if only `evaluate` is used.
        micro_batches: number of parts that a replica's rows are cut into; their gradients are added
            up before the update, which equals one large batch.
        jit_compile: whether XLA compiles the parts of a training step.
        loss_scale: of a run in float16; None otherwise.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: ReplicaOptimizer | None,
        *,
        micro_batches: int = 1,
        jit_compile: bool = False,
        loss_scale: LossScale | None = None,
    ):
        self.objective = objective
        self.optimizer = optimizer
        self.micro_batches = micro_batches
        self._loss_scale = loss_scale
        programs = (self._prepare, self._gradients, self._update)
        if jit_compile:
            programs = tuple(map(compiled, programs))
        self._prepare_program, self._gradients_program, self._update_program = programs
        self._variables = [v.value for v in objective.named_variables().values()]

    def train(
        self, batch: dict[str, tf.Tensor], inputs: StepInputs, active: tf.Tensor | bool = True
    ) -> StepResult:
        """Makes one update.

        Args:
            batch: this replica's rows.
            inputs: the rest.
            active: bool scalar; False computes a result, but changes nothing.

        Returns:
            The step's result.
        """
        replica, rows = replica_id(), _rows(batch)
        place = self._place(replica, rows, 0)
        prepared, denominators = self._prepare_program(batch, inputs, *place)
        denominators = self._with_epsilon(all_reduce_sum(denominators))
        scale = None if self._loss_scale is None else self._loss_scale.value(replica)
        gradients, sums = self._accumulate(prepared, denominators, scale, inputs, replica, rows)
        gradients, sums = all_reduce_sum((gradients, sums))
        own = (inputs.learning_rate, inputs.values)
        return self._update_program(gradients, sums, denominators, scale, *own, active, replica)

    def _update(
        self, gradients, sums, denominators, scale, rate, values, active, replica
    ) -> StepResult:
        """Checks the global batch's gradients, updates with them and returns the result."""
        assert self.optimizer is not None
        if scale is not None:
            gradients = [gradient / scale for gradient in gradients]
        loss, losses = self._losses(sums.numerators, denominators, values)
        norm = self.gradient_norm(gradients)
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        self.optimizer.apply(replica, gradients, norm, rate, finite & active)
        if self._loss_scale is not None:
            self._loss_scale.update(replica, loss, norm)
        scale = tf.constant(MIN_SCALE) if scale is None else scale
        return StepResult(loss, losses, sums.metrics, norm, finite, scale)

    def gradient_norm(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Returns the global norm of the whole batch's dense gradients, which clipping compares.

        The official program keeps the gradient of a table that is only looked up as slices, and
        takes their norm without first adding up those of equal rows; dense is what was meant.
        """
        return global_norm(gradients)

    def evaluate(
        self, batch: dict[str, tf.Tensor], inputs: StepInputs, active: tf.Tensor | bool = True
    ) -> StepResult:
        """Computes losses and metrics without dropout and without an update.

        Args:
            batch: this replica's rows.
            inputs: the rest.
            active: of no effect, as nothing is changed.

        Returns:
            The step's result, with `EvaluationSums` as its metrics; the gradient norm is 0, and
            `finite` is true whatever the loss.
        """
        del active
        replica, rows = replica_id(), _rows(batch)
        place = self._place(replica, rows, 0)
        randomness = StepRandomness(inputs.keys, inputs.step, *place)
        prepared, denominators = self._prepare(batch, inputs, *place)
        objective = self._with_values(inputs.values)
        sums = Sums(*objective.compute(prepared, randomness, training=False))
        denominators, sums = all_reduce_sum((denominators, sums))
        metrics = EvaluationSums(sums.numerators, denominators, sums.metrics)
        denominators = self._with_epsilon(denominators)
        loss, losses = self._losses(sums.numerators, denominators, inputs.values)
        # An evaluation must not skip anything: a NaN has to show in its figures.
        return StepResult(
            loss, losses, metrics, tf.zeros([]), tf.constant(True), tf.constant(MIN_SCALE)
        )

    def _place(self, replica, rows, micro) -> tuple[tf.Tensor, tf.Tensor]:
        """First row and stream of a micro-batch's randomness; the replica has `rows` rows."""
        first_row = replica * rows + micro * (rows // self.micro_batches)
        stream = replica * self.micro_batches + micro
        return tf.cast(first_row, tf.int64), tf.cast(stream, tf.int64)

    def _prepare(self, batch, inputs, first_row, stream):
        randomness = StepRandomness(inputs.keys, inputs.step, first_row, stream)
        return self._with_values(inputs.values).prepare(batch, randomness)

    def _with_values(self, values: Mapping[str, tf.Tensor]) -> Objective:
        """The objective as it is at a step."""
        return (
            cast(RampedObjective, self.objective).with_values(values) if values else self.objective
        )

    def _with_epsilon(self, denominators):
        epsilon = self.objective.denominator_epsilon
        return {name: value + epsilon for name, value in denominators.items()}

    def _losses(self, numerators, denominators, values):
        losses = {name: numerators[name] / denominators[name] for name in numerators}
        weights = self._with_values(values).loss_weights
        return tf.add_n([weights[name] * losses[name] for name in losses]), losses

    def _gradients(self, prepared, denominators, scale, inputs, first_row, stream):
        """Returns dense, scaled gradients of this part's share of the total loss, and its sums."""
        randomness = StepRandomness(inputs.keys, inputs.step, first_row, stream)
        with tf.GradientTape() as tape:
            objective = self._with_values(inputs.values)
            sums = Sums(*objective.compute(prepared, randomness, training=True))
            loss, _ = self._losses(sums.numerators, denominators, inputs.values)
            if scale is not None:
                loss *= scale
        gradients = tape.gradient(
            loss, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return self.densify(gradients), sums

    def densify(self, gradients: list) -> list[tf.Tensor]:
        """Turns the slices of lookups into dense gradients, equal rows added up."""
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _accumulate(self, prepared, denominators, scale, inputs, replica, rows):
        """Adds up gradients and sums over the micro-batches."""

        def part(micro, prepared):
            place = self._place(replica, rows, micro)
            return self._gradients_program(prepared, denominators, scale, inputs, *place)

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
