"""Replaced-token detection as a Keras model, for `compile` and `fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.fit_figures import FitFigures
from electra_tf2.pretraining.inputs import Inputs, as_inputs
from electra_tf2.pretraining.masking import Masking
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from electra_tf2.pretraining.vocabulary_checks import outside_vocabulary
from electra_tf2.randomness import StepRandomness
from electra_tf2.training.replica_step import all_reduce_sum, replica_id

# Keeps the masks and samples of evaluations apart from those of training.
_EVALUATION_SEED = 1 << 32
# What the check inside the graph says, and `fit` looks for.
_OUTSIDE = "token ids outside of the vocabulary"


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
        self.objective = ReplacedTokenDetection(
            generator, discriminator, masking, options, discriminator_layer=discriminator_layer
        )
        self.seed = seed
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

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Chooses the optimizer; the loss and the metrics are the objective's.

        Args:
            optimizer: any Keras optimizer. Clipping, too, is of the global batch's gradient.
            **kwargs: `run_eagerly`, `jit_compile`, `steps_per_execution`.

        Raises:
            UserError: a loss or metrics are given.
        """
        given = [name for name in ("loss", "metrics", "weighted_metrics") if kwargs.get(name)]
        if given:
            raise UserError(
                "The pre-training model has its loss and metrics already.",
                where="PretrainingModel.compile",
                received=", ".join(given),
                remedy="Leave them out; weights of the losses are in Options.",
            )
        super().compile(optimizer=optimizer, **kwargs)
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
            UserError: a batch does not fit the models.
        """
        return self._explaining(super().fit, args, kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """`keras.Model.evaluate`; masks and samples are the same at every call.

        Raises:
            UserError: a batch does not fit the models.
        """
        return self._explaining(super().evaluate, args, kwargs)

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
        randomness = self._randomness(inputs, self.seed + _EVALUATION_SEED, batches)
        prepared, denominators = self.objective.prepare(inputs._asdict(), randomness)
        numerators, sums = self.objective.compute(prepared, randomness, training=False)
        self.figures.update_state(numerators, denominators, sums)
        return self.get_metrics_result()

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns the discriminator's logits [batch, length]."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        # Not by way of Keras's __call__, which would bury the message of a wrong batch.
        return self.call(x)

    def get_config(self) -> dict[str, Any]:
        """Refuses: a file of the whole would untie what the two models share.

        Raises:
            UserError: always.
        """
        raise UserError(
            "The pre-training model isn't saved as a whole.",
            where="PretrainingModel.save",
            remedy="Keep a network by model.discriminator.save(path), or all weights by "
            "model.save_weights(path).",
        )

    def _loss(self, numerators, denominators):
        weights, epsilon = self.objective.loss_weights, self.objective.denominator_epsilon
        return tf.add_n(
            [weights[n] * numerators[n] / (denominators[n] + epsilon) for n in numerators]
        )

    def _inputs(self, data) -> Inputs:
        """The inputs of a batch as `fit` gives it, their ids checked."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
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

    def _explaining(self, run: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """Calls Keras, and turns a failed check inside the graph into its message."""
        try:
            return run(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            if _OUTSIDE not in str(error):
                raise
        raise outside_vocabulary(_OUTSIDE, self.objective.vocab_size)


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
