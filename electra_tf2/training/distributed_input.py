"""A strategy's iterator over batches of known shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import tensorflow as tf


def distributed_iterator(
    strategy: tf.distribute.Strategy,
    make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> Iterator:
    """Opens the input of all of this process's replicas.

    Args:
        strategy: on whose devices the batches are used.
        make_dataset: gives the batches of one input pipeline, one element a replica and step.

    Returns:
        An iterator whose elements go into `strategy.run`.
    """
    several = strategy.num_replicas_in_sync > 1
    if not several and not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return iter(strategy.distribute_datasets_from_function(make_dataset))
    # If the data could end, replicas would ask each other before every step whether it has for one
    # of them, and batches would be of unknown size. All draw the same number of batches anyway.
    return iter(
        strategy.distribute_datasets_from_function(lambda context: make_dataset(context).repeat())
    )
