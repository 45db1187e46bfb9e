"""A network's outputs for every row of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

Batch = Mapping[str, tf.Tensor]


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
        self._step = tf.function(
            lambda iterator: strategy.run(forward, args=(next(iterator),)), autograph=False
        )

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
        if self._strategy.num_replicas_in_sync == 1:
            # A plain iterator: a distributed one takes more than a second to be taken down.
            iterator = iter(make_dataset(tf.distribute.InputContext()))
        else:
            iterator = iter(self._strategy.distribute_datasets_from_function(make_dataset))
        for _ in range(n_batches):
            outputs = self._step(iterator)
            yield {
                name: np.concatenate(
                    [part.numpy() for part in self._strategy.experimental_local_results(value)]
                )
                for name, value in outputs.items()
            }
