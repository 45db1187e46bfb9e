"""A network's outputs for every row of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from electra_tf2.training.distributed_input import distributed_iterator

Batch = Mapping[str, tf.Tensor]

# How many batches one CPU computes at the same time. Between its matrix products a network runs one
# small operation after the other, which leaves cores idle: on two cores, two batches at a time of
# sentences of a dozen tokens take 2/3 of the time (bfloat16) and 4/5 (float32); four take no less.
CPU_BATCHES_AT_ONCE = 2


class Predictor:
    """Runs a function over global batches and brings its outputs to the host.

    Args:
        strategy: where it runs; the networks' variables were made under its scope.
        forward: one replica's rows -> output name -> tensor whose first axis is the row.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, forward: Callable[[Batch], dict[str, tf.Tensor]]
    ):
        self._strategy = strategy
        self._one_replica = strategy.num_replicas_in_sync == 1
        on_cpu = "CPU" in strategy.extended.worker_devices[0].upper()
        self._at_once = CPU_BATCHES_AT_ONCE if self._one_replica and on_cpu else 1

        def step(iterator, count):
            return [strategy.run(forward, args=(next(iterator),)) for _ in range(count)]

        self._step = tf.function(step, autograph=False)

    def batches(
        self,
        make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        n_batches: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields the outputs of each global batch, the rows of its replicas one after the other.

        Args:
            make_dataset: gives the batches of one input pipeline.
            n_batches: how many global batches there are.
        """
        if self._one_replica:
            # A plain iterator: a distributed one takes more than a second to be taken down.
            iterator = iter(make_dataset(tf.distribute.InputContext()))
        else:
            iterator = distributed_iterator(self._strategy, make_dataset)
        for first in range(0, n_batches, self._at_once):
            for outputs in self._step(iterator, min(self._at_once, n_batches - first)):
                yield {name: self._on_host(value) for name, value in outputs.items()}

    def _on_host(self, value) -> np.ndarray:
        if not self._one_replica:  # some of them may be other hosts'
            value = self._strategy.gather(value, axis=0)
        return value.numpy()
