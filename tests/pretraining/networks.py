"""Ordinary Keras models to train with, and a toy language to train on."""

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.randomness import StepRandomness
from electra_tf2.training.devices import make_strategy
from electra_tf2.training.loop import Average, StepLoop
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from tests.pretraining.batches import CLS, FIRST_TOKEN, SEP

CYCLE = 10
VOCAB = FIRST_TOKEN + CYCLE
LENGTH = 12
WIDTH = 16
BATCH = 16
LEARNING_RATE = 0.01


def counting_rows(n_steps):
    """A toy language: every token is the one before plus one, modulo ten.

    A replaced token shows by its neighbours; a masked one follows from them.
    """
    start = np.random.default_rng(4).integers(0, CYCLE, (n_steps, BATCH, 1))
    ids = FIRST_TOKEN + (start + np.arange(LENGTH)) % CYCLE
    ids[..., 0], ids[..., -1] = CLS, SEP
    ids = ids.astype(np.int32)
    return {
        "input_ids": ids,
        "input_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
    }


class UnigramGenerator(keras.Model):
    """A subclassed Keras model that predicts from the embedding of the position itself.

    Args:
        embedding: shared with a discriminator.
    """

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.dropout = keras.layers.Dropout(0.1)
        self.logits = keras.layers.Dense(VOCAB)

    def call(self, input_ids, positions, training=False):
        states = tf.gather(self.embedding(input_ids), positions, batch_dims=1)
        return self.logits(self.dropout(states, training=training))


def embedding_layer():
    return keras.layers.Embedding(VOCAB, WIDTH, name="tokens")


def unigram_generator(embedding):
    """The subclassed generator, built."""
    model = UnigramGenerator(embedding, name="generator")
    model(np.zeros((1, LENGTH), np.int32), np.zeros((1, 2), np.int32))
    return model


def convolution_discriminator(embedding):
    """A functional Keras model that looks at a token's neighbours; logits [batch, length, 1]."""
    ids = keras.Input((LENGTH,), dtype="int32", name="input_ids")
    mask = keras.Input((LENGTH,), dtype="int32", name="input_mask")
    x = embedding(ids) * keras.ops.cast(mask, "float32")[..., None]
    x = keras.layers.Dropout(0.1, name="first_dropout")(x)
    x = keras.layers.Conv1D(32, 3, padding="same", activation="relu", name="neighbours")(x)
    x = keras.layers.Dropout(0.1, name="second_dropout")(x)
    logits = keras.layers.Dense(1, name="logit")(x)
    return keras.Model([ids, mask], logits, name="discriminator")


class Engine:
    """The project's training engine over an objective and the toy language."""

    def __init__(self, objective, n_steps, seed=0, ramps=None):
        strategy = make_strategy("one_device")
        self.objective = objective
        self.optimizer = AdamW(strategy, objective.named_variables(), OptimizerSettings())
        schedule = PolynomialDecay(LEARNING_RATE, num_train_steps=10 * n_steps)
        step = ReplicaStep(objective, self.optimizer)
        self._loop = StepLoop(strategy, step.train, schedule, ramps, stop_at_nonfinite=True)
        self._seed = seed
        self.rows = counting_rows(n_steps)

    def run(self, first_step, n_steps):
        """Trains some steps; returns their figures."""
        rows = {name: a[first_step : first_step + n_steps] for name, a in self.rows.items()}
        iterator = iter(tf.data.Dataset.from_tensor_slices(rows))
        window = self._loop(iterator, first_step, n_steps, seed=self._seed)
        assert int(window.updates) == n_steps
        average = Average(self.objective.summarize)
        average.add(tf.nest.map_structure(lambda t: t.numpy(), window), 1.0)
        return average.figures()

    @property
    def traces(self):
        """How often the loop was made into a program."""
        return self._loop._many_steps.experimental_get_tracing_count()

    def state(self):
        """All weights and slots."""
        return self.optimizer.variables.to_numpy(), self.optimizer.slots.to_numpy()

    def restore(self, state):
        """Takes them back."""
        self.optimizer.variables.assign(state[0])
        self.optimizer.slots.assign(state[1])


def dropout_seed(step=0, seed=0):
    """The seed that models get at a step."""
    zero = tf.constant(0, tf.int64)
    return StepRandomness(seed, tf.constant(step, tf.int64), zero, zero).dropout_seed()
