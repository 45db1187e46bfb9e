"""The one order of the training data: a pure function of (seed, epoch).

An epoch reads the files in a seeded permutation, each from its first record to its last. The
records of that sequence are cut into windows of `shuffle_buffer_size`, and each window is permuted
on its own. So the record at any position is known without replaying what came before it: whole
files are skipped by their counts and whole windows by their size, and resuming reads at most the
rest of one file and one window that it doesn't need. Every process that walks the stream, whatever
its number of replicas, sees the same order.

The draws are Philox numbers keyed by (seed, purpose, epoch, window), sorted: no generator state, no
Python hash, no dependence on threads.
"""

from __future__ import annotations

import tensorflow as tf

_FILES, _WINDOW = 1, 2
_SEED_MASK = (1 << 63) - 1


def file_order(seed: int, epoch: tf.Tensor | int, num_files: int) -> tf.Tensor:
    """The order in which an epoch reads the files.

    Args:
        seed: The run's seed, any integer.
        epoch: The epoch, counted from 0, int64 scalar.
        num_files: Number of files.

    Returns:
        A permutation of range(num_files), int32 [num_files].
    """
    return _permutation([seed & _SEED_MASK, _FILES], [epoch], num_files)


def window_order(
    seed: int, epoch: tf.Tensor | int, window: tf.Tensor | int, size: tf.Tensor | int
) -> tf.Tensor:
    """The order of the records within one window of an epoch.

    Args:
        seed: The run's seed, any integer.
        epoch: The epoch, counted from 0, int64 scalar.
        window: The window, counted from 0 in each epoch, int64 scalar.
        size: Number of records in the window (the last one of an epoch may be smaller), int scalar.

    Returns:
        A permutation of range(size), int32 [size].
    """
    return _permutation([seed & _SEED_MASK, _WINDOW], [epoch, window], size)


def ordered_records(
    paths: tuple[str, ...],
    counts: tuple[int, ...],
    *,
    seed: int,
    position: int,
    window_size: int,
) -> tf.data.Dataset:
    """The endless stream of serialized examples: epoch after epoch, from a position on.

    Args:
        paths: The TFRecord files.
        counts: Number of records in each; their sum is at least 1.
        seed: The run's seed.
        position: Number of examples since the start of the run that are passed over.
        window_size: Records that are shuffled together (1: only the files are shuffled).

    Returns:
        A dataset of scalar strings without an end.
    """
    num_examples = sum(counts)
    window_size = max(1, min(window_size, num_examples))
    first_epoch, first_offset = divmod(position, num_examples)

    def epoch_records(epoch: tf.Tensor) -> tf.data.Dataset:
        offset = tf.where(epoch == first_epoch, tf.constant(first_offset, tf.int64), 0)
        return _epoch_records(paths, counts, seed, epoch, offset, window_size)

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_records)


def _epoch_records(
    paths: tuple[str, ...],
    counts: tuple[int, ...],
    seed: int,
    epoch: tf.Tensor,
    offset: tf.Tensor,
    window_size: int,
) -> tf.data.Dataset:
    """One epoch from its record `offset` on."""
    order = file_order(seed, epoch, len(paths))
    ends = tf.cumsum(tf.gather(tf.constant(counts, tf.int64), order))
    first_window = offset // window_size
    window_start = first_window * window_size
    first_file = tf.searchsorted(ends, [window_start], side="right")[0]
    file_start = tf.concat([[0], ends], axis=0)[first_file]

    files = tf.gather(tf.constant(paths), order)[first_file:]
    # A file that lost records since the start would shift all that come after them.
    expected = tf.data.experimental.assert_cardinality(ends[-1] - file_start)
    records = tf.data.TFRecordDataset(files).apply(expected).skip(window_start - file_start)

    def permute(window: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
        return tf.gather(serialized, window_order(seed, epoch, window, tf.size(serialized)))

    windows = records.batch(window_size).enumerate(start=first_window).map(permute).prefetch(1)
    return windows.unbatch().skip(offset - window_start)


def _permutation(seed: list, folded: list, size: tf.Tensor | int) -> tf.Tensor:
    seed = tf.cast(seed, tf.int64)
    for number in folded:
        seed = tf.random.fold_in(seed, tf.cast(number, tf.int64), alg="philox")
    keys = tf.random.stateless_uniform(
        [size], seed, minval=None, maxval=None, dtype=tf.int64, alg="philox"
    )
    return tf.argsort(keys, stable=True)
