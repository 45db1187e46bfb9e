"""A replica's own copy of a variable."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf


class ReplicaVariables:
    """Named variables, and each local replica's copies of them.

    Under MirroredStrategy a variable has one component a device. Inside `strategy.run` the
    optimizer reads and assigns the component of its own replica plainly: all replicas compute the
    same update from the same reduced gradients, so nothing has to be sent.

    Args:
        strategy: the strategy under whose scope the variables were made.
        variables: name -> variable, in an order that all replicas share.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        variables: Mapping[str, keras.Variable | tf.Variable],
    ):
        self.names = list(variables)
        self.variables = [
            v.value if isinstance(v, keras.Variable) else v for v in variables.values()
        ]
        self._components = [strategy.experimental_local_results(v) for v in self.variables]

    def local(self, replica_id: int | tf.Tensor) -> list[tf.Variable]:
        """Returns the copies of the replica with this id (ids of several hosts count on).

        Where one graph serves all replicas the id is a tensor, and the variables themselves stand
        for the copies.
        """
        if not isinstance(replica_id, int):
            return self.variables
        return [parts[replica_id % len(parts)] for parts in self._components]

    def to_numpy(self) -> dict:
        """Returns name -> array, from the first local replica."""
        return {
            name: parts[0].numpy()
            for name, parts in zip(self.names, self._components, strict=True)
        }

    def snapshot(self) -> dict:
        """Returns name -> read-only array of the present value, from the first local replica.

        On the CPU nothing is copied: TensorFlow gives a variable that is assigned another buffer
        while somebody holds the old one. Values on other devices are copied to the host.
        """
        return {
            name: np.asarray(parts[0].read_value())
            for name, parts in zip(self.names, self._components, strict=True)
        }

    def assign(self, arrays: Mapping) -> None:
        """Sets every copy of every variable from name -> array."""
        for name, parts in zip(self.names, self._components, strict=True):
            for part in parts:
                part.assign(arrays[name])
