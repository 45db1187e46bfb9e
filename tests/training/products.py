"""An objective of one variable that computes in float16, and whose gradients can overflow."""

import json

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.loop import LoopSettings
from electra_tf2.training.optimizers import AdamW, LossScale, OptimizerSettings
from electra_tf2.training.reports import RunLog
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Trainer, TrainingRun

BATCH = 4


class Products:
    """The mean of weight * x.

    The gradient on the way is scale / BATCH * x in float16: of x = 8 it overflows at a scale of
    2**15 and fits at 2**14; the loss itself is far from an overflow.

    Args:
        dtype: computes in it.
    """

    loss_weights = {"product": 1.0}
    denominator_epsilon = 0.0

    def __init__(self, dtype=tf.float16):
        self.weight = keras.Variable(np.float32([1.0]), name="weight")
        self._dtype = dtype

    def named_variables(self):
        return {"product/weight": self.weight}

    def prepare(self, batch, randomness):
        return batch["x"], {"product": tf.cast(tf.shape(batch["x"])[0], tf.float32)}

    def compute(self, x, randomness, training):
        product = tf.cast(self.weight.value, self._dtype) * tf.cast(x, self._dtype)
        return {"product": tf.reduce_sum(tf.cast(product, tf.float32))}, {"rows": tf.zeros([1])}

    def summarize(self, sums):
        return {}


class Root(Products):
    """The root of a weight that is 0: a loss of 0 whose gradient is infinite at any scale."""

    def compute(self, x, randomness, training):
        root = tf.sqrt(self.weight.value - 1.0)
        return {"product": tf.reduce_sum(root * x)}, {"rows": tf.zeros([1])}


def rows(*batches):
    """Data whose first batches are these, and then ones for ever."""
    given = np.float32([value for batch in batches for value in batch])

    def make_dataset(position, context):
        values = np.concatenate([given[position:], np.ones(BATCH * 1000, np.float32)])
        dataset = tf.data.Dataset.from_tensor_slices({"x": values})
        dataset = dataset.batch(context.get_per_replica_batch_size(BATCH), drop_remainder=True)
        return dataset.shard(context.num_input_pipelines, context.input_pipeline_id)

    return make_dataset


def make_trainer(
    folder,
    strategy=None,
    objective=None,
    *,
    n_steps=12,
    loss_scale=None,
    bias_correction=False,
    **settings,
):
    """A trainer of `Products` with a loss scale.

    Args:
        folder: for checkpoints and log.
        strategy: one device if None.
        objective: `Products` if None, made under the strategy's scope.
        n_steps: steps.
        loss_scale: arguments of the `LossScale`; False for none.
        bias_correction: of the optimizer.
        **settings: of the loop.
    """
    strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        objective = (objective or Products)()
    optimizer = AdamW(
        strategy,
        objective.named_variables(),
        OptimizerSettings(max_grad_norm=1e9, bias_correction=bias_correction),
        loss_scale=None if loss_scale is False else LossScale(strategy, **(loss_scale or {})),
    )
    settings = {"log_every": 1, "save_every": 5} | settings
    return Trainer(
        TrainingRun(
            objective=objective,
            strategy=strategy,
            optimizer=optimizer,
            schedule=PolynomialDecay(0.1, 100),
            settings=LoopSettings(
                n_steps, BATCH, 5, **({"log_every": 1, "save_every": 5} | settings)
            ),
            store=CheckpointStore(str(folder), None),
            log=RunLog(str(folder)),
        )
    )


def log_lines(folder):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
