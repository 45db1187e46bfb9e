"""Runs on one device and on two virtual replicas, in one process of their own.

TensorFlow splits the CPU before it is initialized, so the tests' own process can't. `results()`
starts this file as a program, once for all tests.
"""

import functools
import json
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.training.devices import make_strategy
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizers import Lamb, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from electra_tf2.training.trainer import Hooks
from tests.programs import run_python
from tests.training import products

# Replica 1 gets the second half of a batch; only its rows overflow.
OVERFLOWING = [1, 1, 8, 1]


@functools.cache
def results():
    """What `main` prints."""
    return json.loads(run_python(__file__, timeout=300).stdout.splitlines()[-1])


class Regression:
    """A layer with LayerNorm against random targets."""

    loss_weights = {"squared_error": 1.0}
    denominator_epsilon = 0.0
    shapes = {"layer/kernel": (6, 3), "layer/bias": (3,), "layer/layer_norm/gamma": (3,)}

    def __init__(self):
        generator = np.random.default_rng(0)
        self._variables = {
            name: keras.Variable(np.float32(generator.standard_normal(shape)), name="v")
            for name, shape in self.shapes.items()
        }

    def named_variables(self):
        return self._variables

    def prepare(self, batch, randomness):
        return batch, {"squared_error": tf.cast(tf.shape(batch["x"])[0], tf.float32)}

    def compute(self, batch, randomness, training):
        kernel, bias, gamma = (v.value for v in self._variables.values())
        output = gamma * tf.tanh(tf.matmul(batch["x"], kernel) + bias)
        return {"squared_error": tf.reduce_sum((output - batch["y"]) ** 2)}, {}


def lamb(strategy, n_steps=10):
    """(initial, final) weights, by name."""
    with strategy.scope():
        objective = Regression()
    settings = OptimizerSettings(weight_decay_rate=0.1, bias_correction=True)
    optimizer = Lamb(strategy, objective.named_variables(), settings)
    initial = optimizer.variables.to_numpy()
    step = ReplicaStep(objective, optimizer)
    numbers = np.float32(np.random.default_rng(1).standard_normal((8 * n_steps, 9)))

    def make_dataset(context):
        data = {"x": numbers[:, :6], "y": numbers[:, 6:]}
        rows = tf.data.Dataset.from_tensor_slices(data)
        return rows.batch(context.get_per_replica_batch_size(8), drop_remainder=True)

    iterator = iter(strategy.distribute_datasets_from_function(make_dataset))
    schedule = PolynomialDecay(0.05, 100)
    StepLoop(strategy, step.train, schedule, stop_at_nonfinite=True)(iterator, 0, n_steps)
    return initial, optimizer.variables.to_numpy()


def float16(strategy, folder):
    """What every replica has before and after each of three steps; the first one overflows."""
    trainer = products.make_trainer(folder, strategy, n_steps=3, eval_every=1)
    slots = trainer.run.optimizer.slots
    variables = dict(zip(slots.names, slots.variables, strict=True))
    variables["weight"] = trainer.run.objective.weight.value
    local = strategy.experimental_local_results
    seen = []

    def look():
        seen.append({n: [part.numpy().tolist() for part in local(v)] for n, v in variables.items()})

    look()
    trainer.train(products.rows(OVERFLOWING, OVERFLOWING), Hooks(evaluate=look))
    return {"seen": seen, "skipped": trainer.skipped, "log": products.log_lines(folder)}


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    one, two = make_strategy("one_device"), make_strategy("mirrored")
    initial, final = lamb(one)
    found = {"lamb": {"initial": initial, "one": final, "two": lamb(two)[1]}}
    found["lamb"] = {
        run: {name: array.tolist() for name, array in arrays.items()}
        for run, arrays in found["lamb"].items()
    }
    two = make_strategy("mirrored")  # as a second run in one process does
    with tempfile.TemporaryDirectory() as folder:
        found["float16"] = {
            name: float16(strategy, pathlib.Path(folder) / name)
            for name, strategy in (("one", one), ("two", two))
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
