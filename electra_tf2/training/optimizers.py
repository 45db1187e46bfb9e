"""The optimizers AdamW and LAMB, and the loss scale of float16.

An update is two moments, clipping, and one compiled program for every replica.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.training.devices import ReplicaVariables, compiled

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig
    from configure_pretraining import PretrainingConfig

# Variables whose names match are not decayed. The vocabulary head's output_bias matches "bias".
NOT_DECAYED = re.compile("LayerNorm|layer_norm|bias")
# Without the name of a task, which is the user's: "media_bias".
_TASK = re.compile("task_specific/[^/]*/")
SLOTS = ("adam_m", "adam_v")
UPDATES = "updates"


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Constants of an update; the defaults are the official program's.

    Attributes:
        beta_1: decay of the first moment.
        beta_2: decay of the second moment.
        epsilon: added to the square root of the second moment.
        weight_decay_rate: decoupled decay, relative to the learning rate.
        bias_correction: whether to divide the moments by 1 - beta^t.
        max_grad_norm: global gradient norm to clip to.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-6
    weight_decay_rate: float = 0.01
    bias_correction: bool = False
    max_grad_norm: float = 1.0

    @classmethod
    def from_hparams(cls, config: PretrainingConfig | FinetuningConfig) -> OptimizerSettings:
        """Takes the constants from a configuration's `adam_…`, `weight_decay_rate` and so on."""
        return cls(
            beta_1=config.adam_beta_1,
            beta_2=config.adam_beta_2,
            epsilon=config.adam_epsilon,
            weight_decay_rate=config.weight_decay_rate,
            bias_correction=config.adam_bias_correction,
            max_grad_norm=config.max_grad_norm,
        )


# The loss scale at the start, and the updates in a row until it doubles; its limits: without an
# upper one, a loss that is always 0 would double it to infinity.
INITIAL_SCALE, GROWTH_STEPS = 2.0**15, 2000
MIN_SCALE, MAX_SCALE = 1.0, 2.0**24


class LossScale:
    """What the loss is multiplied by, so that small gradients don't vanish in float16.

    float16 has no numbers between 0 and 6e-8, and none above 65504. The gradients of a scaled loss
    use that range better; they are divided by the scale before anything else is done with them.
    The scale adapts: it halves when the gradient of the global batch is not finite (that update is
    skipped), and doubles after `growth_steps` updates in a row without that. All scales are powers
    of two, so that scaling adds no rounding.

    Source: arXiv:1710.03740 (Micikevicius et al. 2018), section 3.2, with the usual constants.

    Args:
        strategy: the strategy under whose scope the state is made; each replica has a copy.
        initial: the scale at the start.
        growth_steps: updates in a row until it doubles.

    Attributes:
        variables: the state by its names in checkpoints: `loss_scale`, float32, and
            `loss_scale_good_steps`, int64, updates since the scale last changed.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        *,
        initial: float = INITIAL_SCALE,
        growth_steps: int = GROWTH_STEPS,
    ):
        self._growth_steps = growth_steps
        with strategy.scope():
            self.variables = {
                "loss_scale": tf.Variable(tf.constant(initial, tf.float32), trainable=False),
                "loss_scale_good_steps": tf.Variable(tf.zeros([], tf.int64), trainable=False),
            }
        self._state = ReplicaVariables(strategy, self.variables)

    def value(self, replica_id: int | tf.Tensor) -> tf.Tensor:
        """Returns the present scale from a replica's copy, float32 scalar."""
        return self._state.local(replica_id)[0].read_value()

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Returns the state by name."""
        return self._state.to_numpy()

    def update(self, replica_id: int | tf.Tensor, loss: tf.Tensor, norm: tf.Tensor) -> None:
        """Adapts a replica's copy to a step's outcome.

        A loss that is not finite leaves the scale as it is: the loss is computed without it.

        Args:
            loss: float32 scalar, of the global batch.
            norm: float32 scalar, of the global batch's gradient.
        """
        scale_variable, count_variable = self._state.local(replica_id)
        scale, count = scale_variable.read_value(), count_variable.read_value() + 1
        good = tf.math.is_finite(norm)
        grown = count >= self._growth_steps
        after_good = tf.where(grown, tf.minimum(2.0 * scale, MAX_SCALE), scale)
        new_scale = tf.where(good, after_good, tf.maximum(0.5 * scale, MIN_SCALE))
        new_count = tf.where(good & ~grown, count, tf.zeros_like(count))
        valid = tf.math.is_finite(loss)
        scale_variable.assign(tf.where(valid, new_scale, scale))
        count_variable.assign(tf.where(valid, new_count, count - 1))


@compiled
def global_norm(gradients: list[tf.Tensor]) -> tf.Tensor:
    """Returns the root of the sum of squares over dense gradients, float32 scalar."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(g)) for g in gradients]))


class ReplicaOptimizer:
    """Base of the optimizers: w -= lr x factor x change(w, u), u = m / (√v + epsilon).

    m and v are running means of the clipped gradient and its square (arXiv:1412.6980). A subclass
    defines the change.

    Args:
        strategy: the strategy under whose scope the slots are made.
        variables: name -> trainable variable.
        settings: constants.
        learning_rate_factors: name -> factor of the learning rate; 1 for names not in it.
        loss_scale: of a run in float16; its state is saved with the slots.
        constants: name -> variable that stays as it is, and that checkpoints hold all the same.

    Attributes:
        constants: the names of what is not trained.
        variables: all variables that a checkpoint holds, those that are not trained among them.
        slots: what a checkpoint keeps besides: the moments, named `<variable>/adam_m` and
            `<variable>/adam_v`; with bias correction `updates`, int64, the number of updates so
            far, without skipped steps; and the loss scale's state.
        loss_scale: as given.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        variables: Mapping[str, keras.Variable],
        settings: OptimizerSettings,
        learning_rate_factors: Mapping[str, float] | None = None,
        loss_scale: LossScale | None = None,
        constants: Mapping[str, keras.Variable] | None = None,
    ):
        self.settings = settings
        self.loss_scale = loss_scale
        factors = learning_rate_factors or {}
        self._factors = [factors.get(name, 1.0) for name in variables]
        self._excluded = [bool(NOT_DECAYED.search(_TASK.sub("", name))) for name in variables]
        self._trained = ReplicaVariables(strategy, variables)
        self.constants = frozenset(constants or {})
        self.variables = ReplicaVariables(strategy, {**variables, **(constants or {})})
        moments, count = {}, {}
        with strategy.scope():
            for slot in SLOTS:
                for name, variable in variables.items():
                    moments[f"{name}/{slot}"] = tf.Variable(
                        tf.zeros(variable.shape), trainable=False, name=slot
                    )
            if settings.bias_correction:
                count[UPDATES] = tf.Variable(tf.zeros([], tf.int64), trainable=False)
        self._scale_at_start = {} if loss_scale is None else loss_scale.to_numpy()
        self._moments = ReplicaVariables(strategy, moments)
        self._count = ReplicaVariables(strategy, count)
        scale = {} if loss_scale is None else loss_scale.variables
        self.slots = ReplicaVariables(strategy, {**moments, **count, **scale})
        self._update = compiled(self._new_values)

    def reset_slots(self) -> None:
        """Sets the slots to what they are before the first update."""
        zeros = {name: np.zeros_like(array) for name, array in self.slots.to_numpy().items()}
        self.slots.assign({**zeros, **self._scale_at_start})

    def restore_slots(self, arrays: Mapping[str, np.ndarray], *, updates: int) -> None:
        """Takes the slots from a checkpoint.

        Args:
            arrays: name -> array. The loss scale keeps its present state where they lack it, as in
                checkpoints of other precisions and of the official program.
            updates: number of updates that made the moments, for a checkpoint that does not tell.
        """
        kept = {} if self.loss_scale is None else self.loss_scale.to_numpy()
        counted = dict.fromkeys(self._count.names, np.int64(updates))
        self.slots.assign({**kept, **counted, **arrays})

    def apply(
        self,
        replica_id: int | tf.Tensor,
        gradients: list[tf.Tensor],
        norm: tf.Tensor,
        learning_rate: tf.Tensor,
        active: tf.Tensor | bool = True,
    ) -> None:
        """Updates one replica's copies of all variables and slots.

        Args:
            replica_id: whose copies.
            gradients: dense float32 gradients of the global batch, in the variables' order.
            norm: their global norm, float32 scalar; gradients are scaled down to `max_grad_norm`.
            learning_rate: float32 scalar.
            active: bool scalar; False leaves everything as it is.
        """
        variables = self._trained.local(replica_id)
        moments = self._moments.local(replica_id)
        n = len(variables)
        clip = self.settings.max_grad_norm / tf.maximum(norm, self.settings.max_grad_norm)
        values = self._update(
            [v.read_value() for v in variables],
            [s.read_value() for s in moments[:n]],
            [s.read_value() for s in moments[n:]],
            gradients,
            clip,
            learning_rate,
            active,
            *self._corrections(self._count.local(replica_id), active),
        )
        for variable, value in zip([*variables, *moments], values, strict=True):
            variable.assign(value)

    def change(self, variable: tf.Tensor, update: tf.Tensor, *, excluded: bool) -> tf.Tensor:
        """Returns what is subtracted from a variable, before the learning rate.

        Args:
            variable: float32, its present value.
            update: float32, the same shape: m / (√v + epsilon).
            excluded: whether it belongs to a LayerNorm or is a bias.

        Returns:
            float32, the same shape.
        """
        raise NotImplementedError

    def _corrections(self, count, active):
        """Returns the divisors of the two moments: 1 - beta^t of this update, or 1.

        It is not the number of the step: a skipped step doesn't age the moments.
        """
        s = self.settings
        if not s.bias_correction:
            return tf.ones([]), tf.ones([])
        t = tf.cast(count[0].assign_add(tf.cast(active, tf.int64)), tf.float32)
        # As a power in float32, a beta of 1 - 1e-8 would be 1, and the divisor 0.
        logs = [math.log(beta) if beta else -math.inf for beta in (s.beta_1, s.beta_2)]
        first, second = (-tf.math.expm1(t * log) for log in logs)
        return first, second

    def _new_values(self, variables, ms, vs, gradients, clip, rate, active, first, second):
        s = self.settings
        old = [*variables, *ms, *vs]
        new_variables, new_ms, new_vs = [], [], []
        for variable, m, v, gradient, factor, excluded in zip(
            variables, ms, vs, gradients, self._factors, self._excluded, strict=True
        ):
            gradient = gradient * clip
            m = s.beta_1 * m + (1.0 - s.beta_1) * gradient
            v = s.beta_2 * v + (1.0 - s.beta_2) * tf.square(gradient)
            update = (m / first) / (tf.sqrt(v / second) + s.epsilon)
            change = self.change(variable, update, excluded=excluded)
            new_variables.append(variable - rate * factor * change)
            new_ms.append(m)
            new_vs.append(v)
        new = [*new_variables, *new_ms, *new_vs]
        # Chosen inside the same pass: a branch would have to hand every variable in and out.
        return [tf.where(active, n, o) for n, o in zip(new, old, strict=True)]


class Lamb(ReplicaOptimizer):
    """w -= lr ‖w‖ / ‖r‖ r, r = m / (√v + epsilon) + decay w, separately for each variable.

    So a step is as long as the weights it changes, which suits large batches. The trust ratio
    ‖w‖ / ‖r‖ is 1 where one of the two is 0. LayerNorm and biases are neither decayed nor scaled:
    they take Adam's step. Arguments as `ReplicaOptimizer`.

    Source: arXiv:1904.00962 (You et al. 2020), algorithm 2 with φ the identity. Clipping by the
    global gradient norm comes before the moments, as with AdamW.
    """

    def change(self, variable: tf.Tensor, update: tf.Tensor, *, excluded: bool) -> tf.Tensor:
        """Returns r times the trust ratio; see `ReplicaOptimizer.change`."""
        if excluded:
            return update
        r = update + self.settings.weight_decay_rate * variable
        length, step_length = tf.norm(variable), tf.norm(r)
        usable = (length > 0) & (step_length > 0)
        return r * tf.where(usable, length / tf.where(usable, step_length, 1.0), 1.0)


class AdamW(ReplicaOptimizer):
    """w -= lr (m / (√v + epsilon) + decay w), m and v running means of gradient and its square.

    LayerNorm and biases are not decayed. Arguments as `ReplicaOptimizer`.

    Source: the official program's optimizer; decoupled decay is arXiv:1711.05101.
    """

    def change(self, variable: tf.Tensor, update: tf.Tensor, *, excluded: bool) -> tf.Tensor:
        """Returns update + decay x variable; see `ReplicaOptimizer.change`."""
        if excluded or not self.settings.weight_decay_rate:
            return update
        return update + self.settings.weight_decay_rate * variable


# By the values of the hparam `optimizer`.
OPTIMIZERS: dict[str, type[ReplicaOptimizer]] = {"adamw": AdamW, "lamb": Lamb}


def make_optimizer(
    config: PretrainingConfig | FinetuningConfig,
    strategy: tf.distribute.Strategy,
    variables: Mapping[str, keras.Variable],
    learning_rate_factors: Mapping[str, float] | None = None,
    constants: Mapping[str, keras.Variable] | None = None,
) -> ReplicaOptimizer:
    """Builds the optimizer by the hparams, with a loss scale if `precision` is "float16".

    Args:
        config: gives `optimizer`, `precision`, `weight_decay_rate`, `max_grad_norm` and the
            `adam_…` constants.
        strategy: the strategy under whose scope the slots are made.
        variables: name -> trainable variable.
        learning_rate_factors: name -> factor of the learning rate; 1 for names not in it.
        constants: name -> variable that stays as it is, see `ReplicaOptimizer`.

    Returns:
        The optimizer, its slots at 0.
    """
    return OPTIMIZERS[config.optimizer](
        strategy,
        variables,
        OptimizerSettings.from_hparams(config),
        learning_rate_factors,
        LossScale(strategy) if config.precision == "float16" else None,
        constants,
    )
