"""Serialized examples to the batches that a model takes.

Every worker walks the same stream of serialized records (see `order.py`), cuts it into global
batches, keeps the rows of its own replicas and only then parses. So replica r of R always gets the
rows [r * b, (r + 1) * b) of a global batch of R * b rows, however replicas are spread over workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.data import document_input
from electra_tf2.data.dataset import FEATURES, RecordFiles, open_documents, open_records
from electra_tf2.data.document_input import document_places
from electra_tf2.data.order import ordered_records, record_places, replica_rows


def training_dataset(
    files: RecordFiles,
    *,
    max_seq_length: int,
    global_batch_size: int,
    seed: int,
    position: int,
    shuffle_buffer_size: int,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """The endless training data from a position on.

    The order is a function of (files, seed, shuffle_buffer_size) alone. Batches cross epochs, and
    no example is dropped: the rows of all batches are the concatenation of the epochs.

    Args:
        files: The checked files.
        max_seq_length: Length L of the examples in tokens.
        global_batch_size: Rows of one step over all replicas; a multiple of their number.
        seed: The run's seed.
        position: Number of examples that the run has consumed since its start.
        shuffle_buffer_size: Number of examples that are shuffled together.
        input_context: This worker's place, from `strategy.distribute_datasets_from_function`; None
            for one replica in one process.

    Returns:
        A dataset with one element per local replica and step: a dict of input_ids, input_mask and
        segment_ids, each int32 [global_batch_size / number of replicas, L].

    Raises:
        UserError: The global batch can't be divided among the replicas.
    """
    records = ordered_records(
        files.paths, files.counts, seed=seed, position=position, window_size=shuffle_buffer_size
    )
    return _replica_batches(records, max_seq_length, global_batch_size, input_context)


def evaluation_dataset(
    files: RecordFiles,
    *,
    max_seq_length: int,
    global_batch_size: int,
    max_batches: int | None,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Every example once, in the order of the files.

    The last global batch is filled up with empty rows, whose input_mask is 0 everywhere; they must
    carry no weight in any metric.

    Args:
        files: The checked files.
        max_seq_length: Length L of the examples in tokens.
        global_batch_size: Rows of one step over all replicas; a multiple of their number.
        max_batches: At most so many global batches; None or 0 for all examples.
        input_context: As in `training_dataset`.

    Returns:
        A finite dataset with elements as in `training_dataset`.

    Raises:
        UserError: The global batch can't be divided among the replicas.
    """
    count = files.num_examples
    if max_batches:
        count = min(count, max_batches * global_batch_size)
    records = tf.data.TFRecordDataset(list(files.paths)).take(count)
    padding = tf.data.Dataset.from_tensors(_empty_example(max_seq_length))
    records = records.concatenate(padding.repeat(-count % global_batch_size))
    return _replica_batches(records, max_seq_length, global_batch_size, input_context)


def _replica_batches(
    records: tf.data.Dataset,
    max_seq_length: int,
    global_batch_size: int,
    input_context: tf.distribute.InputContext | None,
) -> tf.data.Dataset:
    """Cuts a stream into global batches and parses this worker's rows, a batch per replica."""
    share = replica_rows(global_batch_size, input_context)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: tf.io.FixedLenFeature([max_seq_length], tf.int64) for name in FEATURES}
        features = tf.io.parse_example(serialized, spec)
        return {name: tf.cast(features[name], tf.int32) for name in FEATURES}

    batches = records.batch(global_batch_size, drop_remainder=True).map(share.of).unbatch()
    batches = batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    options.deterministic = True
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def _empty_example(max_seq_length: int) -> bytes:
    zeros = tf.train.Feature(int64_list=tf.train.Int64List(value=[0] * max_seq_length))
    features = tf.train.Features(feature=dict.fromkeys(FEATURES, zeros))
    return tf.train.Example(features=features).SerializeToString()


# The two ways to read pre-training data, by the hparam `segmentation`.


class Reader(NamedTuple):
    """A way to read. Arguments are given by name, but for the files.

    Attributes:
        open: `open_records` or its like.
        training_dataset: `input.training_dataset` or its like.
        evaluation_dataset: `input.evaluation_dataset` or its like.
        num_examples: (files, max_seq_length, at_most) -> number of examples of an evaluation, but
            at most so many.
        places: (files, max_seq_length, seed, position, count, shuffle_buffer_size) -> the (file,
            number of the record in it) of examples in training.
    """

    open: Callable[..., RecordFiles]
    training_dataset: Callable[..., tf.data.Dataset]
    evaluation_dataset: Callable[..., tf.data.Dataset]
    num_examples: Callable[[Any, int, int], int]
    places: Callable[..., list[tuple[str, int]]]


def _places_of_examples(
    files: RecordFiles, *, max_seq_length: int, **order: int
) -> list[tuple[str, int]]:
    return record_places(files, **order)


READERS = {
    "static": Reader(
        open_records,
        training_dataset,
        evaluation_dataset,
        lambda files, max_seq_length, at_most: min(files.num_examples, at_most),
        _places_of_examples,
    ),
    "dynamic": Reader(
        open_documents,
        document_input.training_dataset,
        document_input.evaluation_dataset,
        document_input.num_examples,
        document_places,
    ),
}
