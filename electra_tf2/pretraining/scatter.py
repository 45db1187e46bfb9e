"""Writes values at some positions of each row."""

from __future__ import annotations

import tensorflow as tf


def scatter_positions(
    sequence: tf.Tensor, updates: tf.Tensor, positions: tf.Tensor, chosen: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces the tokens at `positions` by `updates`.

    A position that occurs several times gets the floor of the mean of its updates, which is what
    the official program does.

    Args:
        sequence: int32 [batch, length].
        updates: int32 [batch, n].
        positions: int32 [batch, n].
        chosen: bool [batch, n]; what is False is not written.

    Returns:
        The changed sequence, int32 [batch, length], and int32 [batch, length] with 1 where
        something was written.
    """
    batch, length = tf.shape(sequence)[0], tf.shape(sequence)[1]
    rows = tf.broadcast_to(tf.range(batch)[:, tf.newaxis], tf.shape(positions))
    indices = tf.stack([rows, positions], axis=-1)
    written = tf.cast(chosen, tf.int32)
    shape = tf.stack([batch, length])
    count = tf.scatter_nd(indices, written, shape)
    total = tf.scatter_nd(indices, written * updates, shape)
    mean = tf.math.floordiv(total, tf.maximum(count, 1))
    changed = tf.ensure_shape(tf.where(count > 0, mean, sequence), sequence.shape)
    return changed, tf.ensure_shape(tf.minimum(count, 1), sequence.shape)
