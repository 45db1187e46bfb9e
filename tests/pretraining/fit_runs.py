"""`fit` on one device and on two virtual replicas, in a process of its own.

TensorFlow splits the CPU before it is initialized, so the tests' own process can't. `results()`
starts this file as a program, once for all tests.
"""

import contextlib
import functools
import json

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.pretraining.fit import PretrainingModel
from electra_tf2.pretraining.masking import Masking
from tests.pretraining.batches import CLS, MASK, PAD, SEP
from tests.pretraining.networks import LENGTH, VOCAB, counting_rows
from tests.programs import run_python

# 14 rows in batches of 8: the last batch gives three rows to each of two replicas.
N_ROWS, BATCH = 14, 8


@functools.cache
def results():
    """What `main` prints."""
    return json.loads(run_python(__file__, timeout=300).stdout.splitlines()[-1])


MASKING = Masking(MASK, (CLS, SEP, MASK), mask_prob=0.3)


def rows_of_unequal_length():
    """Rows whose padding differs, so that a mean of the replicas' means is no mean."""
    ids = counting_rows(1)["input_ids"][0][:N_ROWS]
    lengths = np.random.default_rng(3).integers(3, LENGTH + 1, (N_ROWS, 1))
    lengths[: BATCH // 2] = LENGTH
    return np.where(np.arange(LENGTH) < lengths, ids, PAD)


def pair(dropout=0.0, layer_width=8):
    """Functional models over one table."""
    table = keras.layers.Embedding(VOCAB, layer_width, name="table")

    def network(outputs, name):
        ids = keras.Input((LENGTH,), dtype="int32")
        convolution = keras.layers.Conv1D(
            layer_width, 3, padding="same", activation="relu", name=f"{name}_convolution"
        )
        x = keras.layers.Dropout(dropout, name=f"{name}_states")(convolution(table(ids)))
        logits = keras.layers.Dense(outputs, name=f"{name}_logits")(x)
        return keras.Model(ids, logits, name=name)

    return network(VOCAB, "generator"), network(1, "discriminator")


def model(**options):
    """A pre-training model with the same weights every time."""
    keras.utils.set_random_seed(7)
    dropout = options.pop("dropout", 0.0)
    return PretrainingModel(*pair(dropout), MASKING, **options)


def train(strategy, *, epochs=3, dropout=0.0):
    """History and weights of a training on rows of unequal length, an evaluation after it."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        trained = model(dropout=dropout, discriminator_layer="discriminator_states")
        trained.compile(keras.optimizers.SGD(1.0, global_clipnorm=0.1))
    data = tf.data.Dataset.from_tensor_slices(rows_of_unequal_length()).batch(BATCH)
    history = trained.fit(data, epochs=epochs, verbose=0, shuffle=False).history
    named = trained.objective.named_variables()
    return {
        "history": history,
        "scores": {} if dropout else trained.evaluate(data, verbose=0, return_dict=True),
        "weights": {name: v.numpy().tolist() for name, v in named.items()},
    }


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    mirrored = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    found = {
        "one": train(None),
        "two": train(mirrored),
        "two, dropout": train(mirrored, epochs=2, dropout=0.1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
