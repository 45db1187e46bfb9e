"""Replaced-token detection as a Keras model, for `compile` and `fit`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.batch import Inputs, as_inputs
from electra_tf2.pretraining.masking import Masking, outside_vocabulary
from electra_tf2.pretraining.metrics import FitFigures
from electra_tf2.pretraining.objective import EVALUATION_SEED_OFFSET
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.randomness import StepRandomness
from electra_tf2.training.step import all_reduce_sum, replica_id

# What the check inside the graph says, and `fit` looks for.
_OUTSIDE = "token ids outside of the vocabulary"
# What TensorFlow says where an embedding is looked up.
_NOT_IN_TABLE = re.compile(r"indices\[[\d,]*\] = (-?\d+) is not in \[0, (\d+)\)")


class PretrainingModel(keras.Model):
    """A generator and a discriminator that `fit` trains together.

    Losses and gradients are means over the tokens of the global batch, on one device and under
    `MirroredStrategy`: the same numbers on both, as far as addition allows. Masks, samples and
    dropout follow from the seed and the number of steps made, which is a weight of this model; so a
    run that `keras.callbacks.BackupAndRestore` resumes repeats the same draws. Evaluations
    mask alike every time.

    Args:
        generator: a built Keras model that meets the generator's `protocol`.
        discriminator: a built Keras model that meets the discriminator's.
        masking: how tokens are hidden.
        options: weights of the losses, temperature and so on.
        discriminator_layer: see `ReplacedTokenDetection`.
        seed: of masks, samples and dropout.

    Call arguments:
        Token ids int [batch, length], or a dict of input_ids, input_mask and segment_ids, as they
        are: `predict` returns the discriminator's logits [batch, length], positive for "replaced".

    Attributes:
        objective: the `ReplacedTokenDetection` that is trained.
        generator, discriminator: the models that were given. Save what you keep by
            `discriminator.save(path)`.

    Raises:
        UserError: a model does not meet the protocol.

    Example:
        >>> model = PretrainingModel(generator, discriminator, Masking(mask_id=4))
        >>> model.compile(keras.optimizers.Adam(1e-3))
        >>> history = model.fit(dataset_of_ids, epochs=3, validation_data=other_ids)
        >>> history.history["val_disc_auc"]
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        masking: Masking,
        options: Options | None = None,
        *,
        discriminator_layer: str | None = None,
        seed: int = 0,
        name: str = "pretraining",
    ):
        super().__init__(name=name)
        for model in (generator, discriminator):
            if isinstance(model, keras.Model):
                _check_scope(model.name, model.variables, self.distribute_strategy)
        self.objective = ReplacedTokenDetection(
            generator, discriminator, masking, options, discriminator_layer=discriminator_layer
        )
        self.seed = seed
        self._lengths: dict[str, int | None] = {}
        self.generator = generator
        self.discriminator = discriminator
        self.head = self.objective.discriminator.head
        self.steps = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="steps",
        )
        self.figures = FitFigures(
            self.objective.loss_weights, self.objective.options.disc_weight > 0
        )
        self.built = True

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """What is trained, in the order in which the optimizer has it, as Keras takes for granted.

        (It pairs the two by their places, for moving averages of the weights among others.)
        """
        return self.objective.trainable_variables

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """As `trainable_weights`."""
        return self.objective.trainable_variables

    def compile(self, optimizer: Any = "adam", *, jit_compile: bool = False, **kwargs: Any) -> None:
        """Chooses the optimizer; the loss and the metrics are the objective's.

        Args:
            optimizer: any Keras optimizer. Clipping, too, is of the global batch's gradient.
            jit_compile: whether XLA compiles the steps. It leaves checks out: token ids that are
                not in the vocabulary then go unnoticed.
            **kwargs: `run_eagerly`, `steps_per_execution`.

        Raises:
            UserError: a loss, weights or metrics are given; the optimizer was made outside of the
                strategy's scope; or gradients would be accumulated on several replicas, which
                Keras can't do in a step of one's own.
        """
        names = ("loss", "loss_weights", "metrics", "weighted_metrics")
        given = [name for name in names if kwargs.get(name)]
        if given:
            raise UserError(
                "The pre-training model has its loss and metrics already.",
                where="PretrainingModel.compile",
                received=", ".join(given),
                remedy="Leave them out; weights of the losses are in Options.",
            )
        if isinstance(optimizer, keras.optimizers.Optimizer):
            _check_scope("optimizer", optimizer.variables, self.distribute_strategy)
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1 and getattr(self.optimizer, "gradient_accumulation_steps", None):
            raise UserError(
                "Gradients can't be accumulated on several replicas.",
                where="PretrainingModel.compile",
                received=f"gradient_accumulation_steps="
                f"{self.optimizer.gradient_accumulation_steps}, {replicas} replicas",
                remedy="Leave gradient_accumulation_steps out, or train on one device.",
            )
        with self.distribute_strategy.scope():
            self.optimizer.build(self.objective.trainable_variables)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The figures of the objective."""
        return [self.figures]

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Returns the discriminator's logits [batch, length] of inputs as they are."""
        inputs = as_inputs(inputs, self.objective.masking.pad_id)
        seed = None
        if training:
            seed = self._randomness(inputs, self.seed, self.steps.value).dropout_seed()
        return self.objective.discriminator.logits(inputs, training=training, seed=seed)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """`keras.Model.fit`; `x` gives token ids, or dicts as in the call arguments.

        Raises:
            UserError: a batch does not fit the models, or an argument has no meaning here.
        """
        for callback in _as_list(kwargs.get("callbacks")):
            is_checkpoint = isinstance(callback, keras.callbacks.ModelCheckpoint)
            if is_checkpoint and not callback.save_weights_only:
                raise _not_as_a_whole("ModelCheckpoint")  # not only after an epoch
        return self._explaining("train", super().fit, args, kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`; masks and samples are the same at every call.

        Raises:
            UserError: a batch does not fit the models.
        """
        return self._explaining("test", super().evaluate, args, kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict`: the discriminator's logits [rows, length].

        Raises:
            UserError: a batch does not fit the models.
        """
        return self._explaining("predict", super().predict, args, kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.train_on_batch`; errors as of `fit`."""
        return self._explaining("train", super().train_on_batch, args, kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.test_on_batch`; errors as of `fit`."""
        return self._explaining("test", super().test_on_batch, args, kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.predict_on_batch`; errors as of `fit`."""
        return self._explaining("predict", super().predict_on_batch, args, kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Refuses, before Keras opens the file; see `get_config`."""
        raise _not_as_a_whole("PretrainingModel.save")

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Makes one update; returns the figures since the epoch began."""
        inputs = self._inputs(data)
        objective, optimizer = self.objective, self.optimizer
        variables = objective.trainable_variables
        randomness = self._randomness(inputs, self.seed, self.steps.value)
        prepared, denominators = objective.prepare(inputs._asdict(), randomness)
        whole = all_reduce_sum(denominators)
        with tf.GradientTape() as tape:
            numerators, sums = objective.compute(prepared, randomness, training=True)
            loss = optimizer.scale_loss(self._loss(numerators, whole))
        gradients = tape.gradient(
            loss,
            [v.value for v in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        optimizer.apply(_for_optimizer(gradients, optimizer), variables)
        self.steps.assign_add(1)
        self.figures.update_state(numerators, denominators, sums)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Scores a batch; returns the figures since the evaluation began."""
        inputs = self._inputs(data)
        batches = tf.convert_to_tensor(self.figures.batches)
        randomness = self._randomness(inputs, self.seed + EVALUATION_SEED_OFFSET, batches)
        prepared, denominators = self.objective.prepare(inputs._asdict(), randomness)
        numerators, sums = self.objective.compute(prepared, randomness, training=False)
        self.figures.update_state(numerators, denominators, sums)
        return self.get_metrics_result()

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns the discriminator's logits [batch, length]."""
        # Not by way of Keras's __call__, which would bury the message of a wrong batch.
        return self.call(self._inputs(data)._asdict())

    def get_config(self) -> dict[str, Any]:
        """Refuses: a file of the whole would untie what the two models share.

        Raises:
            UserError: always.
        """
        raise _not_as_a_whole("PretrainingModel.save")

    def _loss(self, numerators, denominators):
        weights, epsilon = self.objective.loss_weights, self.objective.denominator_epsilon
        return tf.add_n(
            [weights[n] * numerators[n] / (denominators[n] + epsilon) for n in numerators]
        )

    def _inputs(self, data) -> Inputs:
        """The inputs of a batch as `fit` gives it, their ids checked."""
        x, *others = keras.utils.unpack_x_y_sample_weight(data)
        if any(other is not None for other in others):
            raise _without_meaning("labels or sample weights")
        inputs = as_inputs(x, self.objective.masking.pad_id)
        if self.objective.vocab_size is None:
            return inputs
        ids = inputs.input_ids
        inside = tf.reduce_all((ids >= 0) & (ids < self.objective.vocab_size))
        with tf.control_dependencies([tf.debugging.Assert(inside, [_OUTSIDE])]):
            return inputs._replace(input_ids=tf.identity(ids))

    def _randomness(self, inputs, seed, step) -> StepRandomness:
        """The random numbers of this replica's rows of the global batch."""
        replica = replica_id()
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        rows = tf.cast(tf.shape(inputs.input_ids)[0], tf.float32)
        # The last batch of an epoch may be shared out unevenly.
        rows_of_all = all_reduce_sum(tf.one_hot(replica, replicas) * rows)
        first_row = tf.cumsum(rows_of_all, exclusive=True)[replica]
        return StepRandomness(
            seed, *(tf.cast(number, tf.int64) for number in (step, first_row, replica))
        )

    def _forget_graph_of_another_length(self, kind: str, data: Any) -> None:
        """Keras would make one graph for rows of all lengths, where masking needs to know it."""
        length = _row_length(data)
        if length is not None and self._lengths.get(kind, length) != length:
            setattr(self, f"{kind}_function", None)
        self._lengths[kind] = length or self._lengths.get(kind)

    def _explaining(
        self, kind: str, run: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]
    ) -> Any:
        """Calls Keras, and turns a failed check inside the graph into its message."""
        for name in ("y", "sample_weight", "class_weight"):
            if kwargs.get(name) is not None:  # Keras would drop some of them
                raise _without_meaning(name)
        self._forget_graph_of_another_length(kind, args[0] if args else kwargs.get("x"))
        try:
            return run(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            failure, message = error, str(error)
        if _OUTSIDE in message:
            raise outside_vocabulary(_OUTSIDE, self.objective.vocab_size)
        outside = _NOT_IN_TABLE.search(message)
        if outside is None:
            raise failure
        raise UserError(
            "A token id is not in the embedding table of one of the models.",
            where="batch['input_ids']",
            received=f"id {outside[1]}, a table of {outside[2]} rows",
            remedy="Build both models for the vocabulary that made the ids.",
        )


def _check_scope(
    where: str, variables: list[keras.Variable], strategy: tf.distribute.Strategy
) -> None:
    """Refuses variables that were made in the scope of another strategy, or in none."""
    wanted = isinstance(strategy, tf.distribute.MirroredStrategy)
    if all(isinstance(v.value, tf.distribute.DistributedValues) == wanted for v in variables):
        return
    raise UserError(
        "Not all parts of the pre-training model were made in the scope of one strategy.",
        where=where,
        received="variables on one device, for a pre-training model of several"
        if wanted
        else "variables on several devices, for a pre-training model of one",
        remedy="Build both networks, PretrainingModel and the optimizer within `with "
        "strategy.scope():`.",
    )


def _row_length(data: Any) -> int | None:
    """The length of the rows of what `fit` was given; None if that can't be told."""
    first = getattr(data, "element_spec", data)
    while isinstance(first, tuple | Mapping) and first:
        first = first[0] if isinstance(first, tuple) else first.get("input_ids")
    shape: Any = getattr(first, "shape", None)
    shape = tf.TensorShape(shape)
    return shape[1] if shape.rank == 2 else None


def _as_list(callbacks: Any) -> list:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _not_as_a_whole(where: str) -> UserError:
    return UserError(
        "The pre-training model isn't saved as a whole.",
        where=where,
        remedy="Keep a network by model.discriminator.save(path), or all weights by "
        "model.save_weights(path) or ModelCheckpoint(…, save_weights_only=True).",
    )


def _without_meaning(what: str) -> UserError:
    return UserError(
        "The objective makes its own labels and weights.",
        where="PretrainingModel.fit",
        received=what,
        remedy="Give token ids alone, or a dict of input_ids, input_mask and segment_ids.",
    )


def _for_optimizer(gradients: list, optimizer: keras.optimizers.Optimizer) -> list[tf.Tensor]:
    """Gradients in the form in which a Keras optimizer gives the global batch's update.

    It adds up the replicas' gradients, which is right, but clips (and looks for overflow) before
    it does. Where it clips, the first replica gets the whole gradient, and the others zeros.
    """
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    clips = any(getattr(inner, name, None) for name in ("clipnorm", "global_clipnorm", "clipvalue"))
    if not clips and inner is optimizer:
        return gradients
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return gradients
    whole = all_reduce_sum(gradients)
    first = tf.equal(replica_id(), 0)
    return [tf.where(first, gradient, tf.zeros_like(gradient)) for gradient in whole]
