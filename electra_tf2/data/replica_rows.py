"""Which rows of a global batch belong to the replicas of a worker."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from electra_tf2.errors import UserError


class ReplicaRows(NamedTuple):
    """A worker's share of a global batch.

    Attributes:
        first: Its first row.
        replicas: Number of its replicas.
        rows: Rows of each.
    """

    first: int
    replicas: int
    rows: int

    def of(self, batch: tf.Tensor) -> tf.Tensor:
        """Takes them from a global batch [b, ...]; returns [replicas, rows, ...]."""
        taken = batch[self.first : self.first + self.replicas * self.rows]
        return tf.reshape(taken, [self.replicas, self.rows, *batch.shape[1:]])


def replica_rows(
    global_batch_size: int, input_context: tf.distribute.InputContext | None
) -> ReplicaRows:
    """Divides a global batch.

    Args:
        global_batch_size: Its rows.
        input_context: The worker's place; None for one replica in one process.

    Raises:
        UserError: The rows can't be divided among the replicas.
    """
    context = input_context or tf.distribute.InputContext()
    replicas = context.num_replicas_in_sync
    if global_batch_size < 1 or global_batch_size % replicas:
        raise UserError(
            "The batch size can't be divided among the replicas.",
            received=f"{global_batch_size} rows for {replicas} replicas",
            remedy="Make it a multiple of the number of replicas.",
        )
    rows = global_batch_size // replicas
    local_replicas = replicas // context.num_input_pipelines
    return ReplicaRows(context.input_pipeline_id * local_replicas * rows, local_replicas, rows)
