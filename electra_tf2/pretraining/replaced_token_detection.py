"""Replaced-token detection, ELECTRA's objective (Clark et al. 2020), and Electric's.

A generator fills masked positions with samples; a discriminator says of every token whether it is
the original.

    the chef cooked the meal  →  the [MASK] cooked the meal  →  the man cooked the meal
                                                                0    1    0      0    0
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from electra_tf2.pretraining import metrics
from electra_tf2.pretraining.batch import DetectionResult, as_inputs
from electra_tf2.pretraining.logits import (
    discriminator_losses,
    sample_tokens,
    softmax_cross_entropy,
)
from electra_tf2.pretraining.masking import Masking, check_ids, check_logits, scatter_positions
from electra_tf2.pretraining.objective import (
    DENOMINATOR_EPSILON,
    Prepared,
    PretrainingObjective,
    dropout_seed,
    masked_lm_metrics,
)
from electra_tf2.pretraining.protocol import DiscriminatorNetwork, GeneratorNetwork
from electra_tf2.randomness import DISCRIMINATOR_SITES, StepRandomness, site_seed


@dataclasses.dataclass(frozen=True)
class Options:
    """Switches of the objective.

    Attributes:
        gen_weight: weight of the generator's loss.
        disc_weight: weight of the discriminator's loss.
        temperature: of sampling; over 0.
        disallow_correct: never sample the original token.
        all_candidates: the generator predicts every token that may be masked, from the unmasked
            input, instead of the masked ones (for a generator that cannot see the token it
            predicts).
        electric: Electric's noise-contrastive objective: the labels are the masked positions
            themselves, and the generator's log-probability of the token (at temperature 1) and the
            log-odds of masking are added to the discriminator's logit. Needs `all_candidates`.
        train_generator: False: the generator's variables stay as they are, those that it shares
            with the discriminator too; it runs forward only, without dropout, and its loss is
            reported but doesn't count (Fast-ELECTRA, arXiv:2310.07347).

    Raises:
        ValueError: `electric` without `all_candidates`, a negative weight, or a temperature that is
            not positive.
    """

    gen_weight: float = 1.0
    disc_weight: float = 50.0
    temperature: float = 1.0
    disallow_correct: bool = False
    all_candidates: bool = False
    electric: bool = False
    train_generator: bool = True

    def __post_init__(self):
        if self.electric and not self.all_candidates:
            raise ValueError("electric needs all_candidates")
        for name in ("gen_weight", "disc_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} has to be at least 0. Received: {getattr(self, name)!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature has to be over 0. Received: {self.temperature!r}")


class ReplacedTokenOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        mlm_logits: float32 [batch, n, vocab_size], at the masked positions.
        mlm_nll: float32 [batch, n], negative log-likelihood of the true tokens, in nats.
        mlm_predictions: int32 [batch, n], likeliest tokens.
        candidate_nll: float32 [batch, length] over all tokens, where `all_candidates`; or None.
        sampled_ids: int32 [batch, n], the replacements.
        corrupted_ids: int32 [batch, length], the discriminator's input.
        labels: int32 [batch, length], 1 for replaced tokens.
        disc_logits: float32 [batch, length].
        disc_losses: float32 [batch, length], 0 at padding.
    """

    mlm_logits: tf.Tensor
    mlm_nll: tf.Tensor
    mlm_predictions: tf.Tensor
    candidate_nll: tf.Tensor | None
    sampled_ids: tf.Tensor
    corrupted_ids: tf.Tensor
    labels: tf.Tensor
    disc_logits: tf.Tensor
    disc_losses: tf.Tensor


class ReplacedTokenDetection(PretrainingObjective):
    """Trains a generator and a discriminator together.

    total = gen_weight x Σ w nll / (Σ w + 1e-6) + disc_weight x Σ m bce / (Σ m + 1e-6), w the used
    mask slots, m the tokens that are not padding. No gradient flows through the samples.

    Args:
        generator: a Keras model that meets the generator's `protocol`.
        discriminator: a Keras model that meets the discriminator's.
        masking: how tokens are hidden.
        options: the switches.
        discriminator_layer: name (or path) of a layer of the discriminator. Its output, [batch,
            length, width], is taken for the discriminator's states, and a Dense(1) is put on top
            (`objective.discriminator.head`); what the discriminator does after it is left
            out. None: the model returns the logits itself.

    Raises:
        UserError: a model does not meet the protocol, or a special token is not in the
            generator's vocabulary.
        ValueError: Electric's objective with words or spans hidden as a whole.

    Example:
        >>> objective = ReplacedTokenDetection(generator, discriminator, Masking(mask_id=4))
        >>> with tf.GradientTape() as tape:
        ...     result = objective(ids, step=step)
        >>> gradients = tape.gradient(result.loss, objective.trainable_variables)
        >>> optimizer.apply(gradients, objective.trainable_variables)
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        masking: Masking,
        options: Options | None = None,
        *,
        discriminator_layer: str | None = None,
    ):
        for name, value, kind in (
            ("generator", generator, keras.Model),
            ("discriminator", discriminator, keras.Model),
            ("masking", masking, Masking),
            ("options", options, Options | None),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} is a {type(value).__name__}, expected {kind}")
        self.generator = GeneratorNetwork(generator)
        self.discriminator = DiscriminatorNetwork(discriminator, discriminator_layer)
        models = {"generator": generator, "discriminator": discriminator}
        if self.discriminator.head is not None:
            models["discriminator_head"] = self.discriminator.head
        super().__init__(masking, models)
        if self.vocab_size is not None:
            masking.check_vocabulary(self.vocab_size)
        self.options = options or Options()
        if self.options.electric and masking.unit != "token":
            raise ValueError(
                "electric's log-odds rest on tokens that are hidden independently of each other. "
                f"Received: Masking(unit={masking.unit!r})"
            )
        self.loss_weights = {
            "generator_loss": self.options.gen_weight if self.options.train_generator else 0.0,
            "discriminator_loss": self.options.disc_weight,
        }

    @property
    def vocab_size(self) -> int | None:
        """Number of token ids, if it is known before the generator is called."""
        return self.masking.vocab_size or self.generator.vocab_size

    def named_variables(self) -> dict[str, keras.Variable]:
        """Returns name -> trainable variable, without those that no loss depends on."""
        kept = self._generator_ids()
        unused = {id(v) for v in self.discriminator.unused}
        left_out = unused - kept if self.options.train_generator else unused | kept
        named = super().named_variables()
        return {name: v for name, v in named.items() if id(v) not in left_out}

    def named_constants(self) -> dict[str, keras.Variable]:
        """Returns name -> variable of a generator that is not trained; {} of one that is."""
        if self.options.train_generator:
            return {}
        kept, named = self._generator_ids(), super().named_variables()
        return {name: v for name, v in named.items() if id(v) in kept}

    def _generator_ids(self) -> set[int]:
        return {id(v) for v in self.generator.model.trainable_variables}

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the losses depend on, in the order of the names; shared variables once."""
        return list(self.named_variables().values())

    # Nothing here is for autograph, which a user's tf.function has on by default.
    @tf.autograph.experimental.do_not_convert
    def __call__(
        self, batch: Any, *, step: int | tf.Tensor, seed: int = 0, training: bool = True
    ) -> DetectionResult:
        """Computes losses, accuracies and samples of a batch, for a training loop of one's own.

        Nothing is kept between calls: the same seed and step hide the same positions and draw the
        same samples and dropout. Inside a `tf.function` the step has to be a tensor.

        Args:
            batch: token ids, or a dict of input_ids, input_mask and segment_ids, each int [batch,
                length].
            step: number of the step, 0 or more: another one for every batch.
            training: whether dropout is on.

        Returns:
            The result; gradients flow from its losses to `trainable_variables`.

        Raises:
            UserError: the batch, or a model's output, is not as it should be.
        """
        inputs = as_inputs(batch, self.masking.pad_id)
        zero = tf.constant(0, tf.int64)
        randomness = StepRandomness(seed, tf.cast(step, tf.int64), zero, zero)
        prepared, denominators = self.prepare(inputs._asdict(), randomness)
        if tf.executing_eagerly():
            check_ids(inputs, self.vocab_size)
        output = self.forward(prepared, randomness, training)
        numerators, sums = self.contribution(prepared, output)
        if "disc_accuracy" not in sums:
            sums |= _discriminator_metrics(inputs.input_mask, output)
        losses = {
            name: numerator / (denominators[name] + self.denominator_epsilon)
            for name, numerator in numerators.items()
        }
        masked = prepared.masked
        return DetectionResult(
            loss=tf.add_n([self.loss_weights[name] * losses[name] for name in losses]),
            **losses,
            **{name: _quotient(sums[name]) for name in ("masked_lm_accuracy", "disc_accuracy")},
            masked_ids=masked.input_ids,
            positions=masked.positions,
            weights=masked.weights,
            sampled_ids=output.sampled_ids,
            corrupted_ids=output.corrupted_ids,
            labels=output.labels,
            predictions=tf.cast(output.disc_logits > 0, tf.int32) * inputs.input_mask,
            generator_logits=output.mlm_logits,
            discriminator_logits=output.disc_logits,
            input_mask=inputs.input_mask,
            sums=sums,
        )

    def denominators(self, prepared: Prepared) -> dict[str, tf.Tensor]:
        inputs, masked = prepared
        if self.options.all_candidates:
            predicted = tf.cast(self.masking.candidates(inputs), tf.float32)
        else:
            predicted = masked.weights
        return {
            "generator_loss": tf.reduce_sum(predicted),
            "discriminator_loss": tf.reduce_sum(tf.cast(inputs.input_mask, tf.float32)),
        }

    def forward(
        self,
        prepared: Prepared,
        randomness: StepRandomness | None,
        training: bool,
        sampled_ids: tf.Tensor | None = None,
    ) -> ReplacedTokenOutput:
        """Runs both networks.

        Args:
            prepared: the batch and its masks.
            randomness: the step's random numbers; None if `sampled_ids` is given and `training`
                is off.
            training: whether dropout is on.
            sampled_ids: int32 [batch, n], replacements to use instead of samples.

        Returns:
            All intermediate results.
        """
        inputs, masked = prepared
        seed = dropout_seed(randomness, training)
        logits, everywhere = self._generator_logits(prepared, training, seed)
        nll, best = softmax_cross_entropy(logits, masked.ids)
        candidate_nll = None
        if everywhere is not None:
            candidate_nll, _ = softmax_cross_entropy(everywhere, inputs.input_ids)
        if sampled_ids is None:
            sampled_ids = self._sample(logits, masked, randomness)
        corrupted_ids, masked_here = scatter_positions(
            inputs.input_ids, sampled_ids, masked.positions, masked.weights > 0
        )
        if self.options.electric:
            labels = masked_here
        else:
            labels = masked_here * tf.cast(corrupted_ids != inputs.input_ids, tf.int32)
        corrupted = inputs._replace(input_ids=corrupted_ids)
        disc_logits = self.discriminator.logits(
            corrupted, training=training, seed=site_seed(seed, DISCRIMINATOR_SITES)
        )
        if self.options.electric:
            disc_logits += self._log_odds(everywhere, corrupted_ids)
        losses = discriminator_losses(disc_logits, labels, inputs.input_mask)
        return ReplacedTokenOutput(
            mlm_logits=logits,
            mlm_nll=nll,
            mlm_predictions=best,
            candidate_nll=candidate_nll,
            sampled_ids=sampled_ids,
            corrupted_ids=corrupted_ids,
            labels=labels,
            disc_logits=disc_logits,
            disc_losses=losses,
        )

    def contribution(self, prepared: Prepared, output: ReplacedTokenOutput):
        inputs, masked = prepared
        if self.options.all_candidates:
            predicted = tf.cast(self.masking.candidates(inputs), tf.float32)
            assert output.candidate_nll is not None
            generator_loss = tf.reduce_sum(predicted * output.candidate_nll)
        else:
            generator_loss = tf.reduce_sum(masked.weights * output.mlm_nll)
        numerators = {
            "generator_loss": generator_loss,
            "discriminator_loss": tf.reduce_sum(output.disc_losses),
        }
        sums = masked_lm_metrics(masked, output.mlm_nll, output.mlm_predictions)
        sums["sampled_masked_lm_accuracy"] = metrics.ratio(
            output.sampled_ids == masked.ids, masked.weights
        )
        if self.options.disc_weight > 0 or "disc_weight" in self._values:
            sums.update(_discriminator_metrics(inputs.input_mask, output))
        return numerators, sums

    def _generator_logits(self, prepared, training, seed):
        """Logits at the masked positions, and everywhere where the objective needs those."""
        inputs, masked = prepared
        if self.options.all_candidates:
            everywhere = self._ask_generator(inputs, None, training, seed)
            return tf.gather(everywhere, masked.positions, batch_dims=1), everywhere
        hidden = inputs._replace(input_ids=masked.input_ids)
        return self._ask_generator(hidden, masked.positions, training, seed), None

    def _ask_generator(self, inputs, positions, training, seed) -> tf.Tensor:
        is_trained = self.options.train_generator
        logits = self.generator.logits(
            inputs, positions, training=training and is_trained, seed=seed if is_trained else None
        )
        check_logits(logits, self.masking, self.generator.where)
        return logits if is_trained else tf.stop_gradient(logits)

    def _sample(self, logits, masked, randomness) -> tf.Tensor:
        options = self.options
        batch, slots = tf.shape(masked.ids)[0], masked.ids.shape[1]
        uniform = randomness.uniform("sample", batch, 2 * slots)
        return sample_tokens(
            tf.stop_gradient(logits),
            tf.reshape(uniform, [batch, slots, 2]),
            self._values.get("temperature", options.temperature),
            masked.ids if options.disallow_correct else None,
        )

    def _log_odds(self, everywhere, corrupted_ids):
        """log q(token) + log(p / (1 - p)), p the masking probability; no gradient."""
        nll, _ = softmax_cross_entropy(tf.stop_gradient(everywhere), corrupted_ids)
        p = self.masking.mask_prob
        return math.log(p / (1.0 - p)) - nll


def _quotient(ratio: tf.Tensor) -> tf.Tensor:
    """Figure of a `metrics.ratio`; 0/0 is 0."""
    return tf.math.divide_no_nan(ratio[0], ratio[1])


def _discriminator_metrics(input_mask, output: ReplacedTokenOutput) -> dict[str, tf.Tensor]:
    """Sums over tokens that are not padding; `disc_loss` is a mean over rows of row means."""
    weights = tf.cast(input_mask, tf.float32)
    labels = tf.cast(output.labels, tf.float32)
    # Official rounding: round((sign(logit) + 1) / 2), half to even, so a logit of 0 is "original".
    predicted = tf.cast(output.disc_logits > 0, tf.float32)
    correct = tf.cast(predicted == labels, tf.float32)
    tokens = tf.reduce_sum(weights, axis=-1)
    row_loss = tf.reduce_sum(output.disc_losses, axis=-1) / (tokens + DENOMINATOR_EPSILON)
    return {
        "disc_loss": metrics.ratio(row_loss, tokens > 0),
        "disc_accuracy": metrics.ratio(correct, weights),
        "disc_precision": metrics.ratio(correct, predicted * weights),
        "disc_recall": metrics.ratio(correct, labels * weights),
        "disc_auc": metrics.ranking(output.disc_logits, output.labels, weights),
    }
