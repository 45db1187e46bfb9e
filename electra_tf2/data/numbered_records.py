"""Records with the numbers of their files, and their own in these."""

from __future__ import annotations

import tensorflow as tf

from electra_tf2.data.records import RecordFiles


def numbered_records(
    files: RecordFiles,
    order: tf.Tensor,
    batch_size: int,
    first_record: tf.Tensor | int = 0,
) -> tf.data.Dataset:
    """Reads files one after the other.

    Args:
        files: The checked files.
        order: The numbers of those to read, in this order; int `[n]`, n at least 1.
        batch_size: Number of records in a batch, but for the last one.
        first_record: Records to pass over in the first file, int64 scalar.

    Returns:
        A dataset of batches (number of the file int64 `[b]`, number of the record in it int64
        `[b]`, serialized record string `[b]`).
    """
    order = tf.cast(order, tf.int64)
    first_record = tf.cast(first_record, tf.int64)
    counts = tf.gather(tf.constant(files.counts, tf.int64), order)
    ends = tf.cumsum(counts)

    def number(batch: tf.Tensor, records: tf.Tensor) -> tuple[tf.Tensor, ...]:
        size = tf.size(records, out_type=tf.int64)
        places = first_record + batch * batch_size + tf.range(size)
        ranks = tf.searchsorted(ends, places, side="right")
        starts = tf.gather(ends - counts, ranks)
        return tf.gather(order, ranks), places - starts, records

    # Files are read through their known numbers of records: one reader for all of them is much
    # quicker than one for each, with numbers beside every record.
    records = tf.data.TFRecordDataset(tf.gather(tf.constant(files.paths), order))
    # A file that lost records since the start would shift all that come after them.
    records = records.apply(tf.data.experimental.assert_cardinality(ends[-1]))
    return records.skip(first_record).batch(batch_size).enumerate().map(number)
