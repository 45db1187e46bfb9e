"""Documents to the batches that a model takes: examples are cut anew in every epoch.

The order is that of `order`: an epoch reads the files in a seeded permutation, each from its first
document to its last and each document from its first example to its last; windows of that sequence
are permuted. Every worker walks all of it and takes its rows of each global batch.

Documents are cut in NumPy, some hundred at a time, in a thread of their own while the model trains.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.background_producer import BackgroundProducer
from electra_tf2.data.dataset import DocumentFiles, numbered_records
from electra_tf2.data.documents import CutRule, Cuts, Documents, find_cuts, make_examples
from electra_tf2.data.order import (
    EpochIndex,
    ExamplePlace,
    ReplicaRows,
    count_at_most,
    file_order,
    replica_rows,
    window_order,
)
from electra_tf2.data.tfrecords import SENTENCE_LENGTHS, TOKEN_IDS, parse_token_ids, token_dtype

# Whatever the run's seed: figures of different runs are on the same examples.
EVALUATION_SEED = EVALUATION_EPOCH = 0

_DOCUMENTS_AT_A_TIME = 256
_window_order = tf.function(window_order, autograph=False)  # many small operations


class _Start(NamedTuple):
    """Where a run begins to read.

    Attributes:
        epoch: The epoch.
        window: The window in it.
        passed: Examples of the permuted window that come before.
        place: The first example of the window.
    """

    epoch: int
    window: int
    passed: int
    place: ExamplePlace


def training_dataset(
    files: DocumentFiles,
    *,
    max_seq_length: int,
    global_batch_size: int,
    seed: int,
    position: int,
    shuffle_buffer_size: int,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """The endless training data from a position on; see `electra_tf2.data.input`.

    From a position other than 0, the sentence lengths of the data set are read first, to find it.
    """
    share = replica_rows(global_batch_size, input_context)
    rule = files.rule(seed, max_seq_length)
    window_size = max(1, shuffle_buffer_size)
    start = _find_start(files, rule, position, window_size)
    producer = BackgroundProducer(
        lambda: _windows(files, rule, start, window_size), _specs(files, max_seq_length)
    )
    batches = producer.dataset().rebatch(global_batch_size, drop_remainder=True)
    return _replica_batches(batches, share, max_seq_length)


def evaluation_dataset(
    files: DocumentFiles,
    *,
    max_seq_length: int,
    global_batch_size: int,
    max_batches: int | None,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Every example of one cut, once, in the order of the files; see `electra_tf2.data.input`."""
    share = replica_rows(global_batch_size, input_context)
    rule = files.rule(EVALUATION_SEED, max_seq_length)
    # A few batches, made at once: they are few megabytes.
    wanted = max_batches * global_batch_size if max_batches else None
    examples = tf.data.Dataset.from_tensor_slices(_first_examples(files, rule, wanted))

    def fill_up(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        missing = global_batch_size - tf.shape(batch[0])[0]
        padded = [tf.pad(part, [[0, missing]] + [[0, 0]] * (part.ndim - 1)) for part in batch]
        shapes = [[global_batch_size, *part.shape[1:]] for part in batch]
        return tuple(map(tf.ensure_shape, padded, shapes))

    batches = examples.batch(global_batch_size).map(fill_up)
    return _replica_batches(batches, share, max_seq_length)


def num_examples(files: DocumentFiles, max_seq_length: int, at_most: int) -> int:
    """Returns how many examples an evaluation has, or `at_most` if there are more."""
    rule = files.rule(EVALUATION_SEED, max_seq_length)
    return count_at_most(files, rule, EVALUATION_EPOCH, at_most)


def _find_start(files: DocumentFiles, rule: CutRule, position: int, window_size: int) -> _Start:
    if not position:
        return _Start(0, 0, 0, ExamplePlace(0, 0, 0, 0))
    index = EpochIndex(files, rule)
    epoch, offset = index.find(position)
    window, passed = divmod(offset, window_size)
    return _Start(epoch, window, passed, index.place(epoch, window * window_size))


def _specs(files: DocumentFiles, max_seq_length: int) -> list[tf.TensorSpec]:
    """Those of batches of examples: input_ids, first_lengths and lengths, see `Examples`."""
    dtype = token_dtype(files.metadata.vocab_size)
    ids = tf.TensorSpec([None, max_seq_length], dtype.newbyteorder("="))
    return [ids, tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)]


def _windows(
    files: DocumentFiles, rule: CutRule, start: _Start, window_size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields the permuted windows of all epochs from the start on."""
    while True:
        yield from _epoch_windows(files, rule, start, window_size)
        start = _Start(start.epoch + 1, 0, 0, ExamplePlace(0, 0, 0, 0))


def _epoch_windows(
    files: DocumentFiles, rule: CutRule, start: _Start, window_size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    order = file_order(rule.seed, start.epoch, len(files.paths))[start.place.rank :]
    window, passed = start.window, start.passed
    for parts in _in_windows(_cut(files, order, rule, start), window_size):
        size = sum(len(part[0]) for part in parts)
        place = (tf.constant(number) for number in (start.epoch, window, size))
        chosen = _window_order(rule.seed, *place).numpy()
        yield tuple(_permuted(arrays, chosen)[passed:] for arrays in zip(*parts, strict=True))
        window, passed = window + 1, 0


def _in_windows(
    batches: Iterator[tuple[np.ndarray, ...]], size: int
) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """Cuts a stream of batches of any sizes into windows, lists of parts of these batches.

    The last window may be smaller.
    """
    waiting: list[tuple[np.ndarray, ...]] = []
    room = size
    for batch in batches:
        while len(batch[0]) >= room:
            yield [*waiting, tuple(part[:room] for part in batch)]
            batch = tuple(part[room:] for part in batch)
            waiting, room = [], size
        if len(batch[0]):
            waiting.append(batch)
            room -= len(batch[0])
    if waiting:
        yield waiting


def _permuted(parts: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Returns `np.concatenate(parts)[order]`, but copies every row only once."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    result = np.empty((len(order), *parts[0].shape[1:]), parts[0].dtype)
    first = 0
    for part in parts:
        result[places[first : first + len(part)]] = part
        first += len(part)
    return result


def _first_examples(
    files: DocumentFiles, rule: CutRule, wanted: int | None
) -> tuple[np.ndarray, ...]:
    """The examples of an evaluation, all or so many."""
    start = _Start(EVALUATION_EPOCH, 0, 0, ExamplePlace(0, 0, 0, 0))
    found, count = [], 0
    for batch in _cut(files, tf.range(len(files.paths)), rule, start):
        found.append(batch)
        count += len(batch[0])
        if wanted is not None and count >= wanted:
            break
    parts = zip(*found, strict=True)
    return tuple(np.concatenate(part)[:wanted].astype(np.int32) for part in parts)


def _cut(
    files: DocumentFiles, order: tf.Tensor, rule: CutRule, start: _Start
) -> Iterator[tuple[np.ndarray, ...]]:
    """Reads documents and cuts them.

    Args:
        files: The documents.
        order: The numbers of the files to read, in this order.
        rule: How to cut.
        start: Has the epoch, and the document and the example of it to begin with.

    Yields:
        (input_ids [n, L], of the type in the records, first_lengths int32 [n], lengths int32 [n]),
        see `Examples`; n varies.
    """
    spec = {
        SENTENCE_LENGTHS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        TOKEN_IDS: tf.io.FixedLenFeature([], tf.string),
    }

    def parse(numbers_of_files: tf.Tensor, numbers: tf.Tensor, serialized: tf.Tensor) -> tuple:
        features = tf.io.parse_example(serialized, spec)
        lengths = features[SENTENCE_LENGTHS]
        return numbers_of_files, numbers, lengths.values, lengths.row_splits, features[TOKEN_IDS]

    records = numbered_records(files, order, _DOCUMENTS_AT_A_TIME, start.place.document)
    passed = start.place.number
    for *parts, strings in records.map(parse).prefetch(2).as_numpy_iterator():
        documents = Documents(*parts)
        token_ids = parse_token_ids(strings, int(documents.sentence_lengths.sum()))
        cuts = Cuts(*(part[passed:] for part in find_cuts(documents, start.epoch, rule)))
        examples = make_examples(
            documents, token_ids, cuts, start.epoch, rule, files.cls_id, files.sep_id
        )
        yield examples.input_ids, *(part.astype(np.int32) for part in examples[1:])
        passed = 0


def _replica_batches(
    batches: tf.data.Dataset, share: ReplicaRows, max_seq_length: int
) -> tf.data.Dataset:
    """Takes this worker's rows of global batches and gives a batch to each replica."""

    def features(
        input_ids: tf.Tensor, first_lengths: tf.Tensor, lengths: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        columns = tf.range(max_seq_length)
        is_real = columns < lengths[:, None]
        is_second = is_real & (columns >= first_lengths[:, None])
        return {
            "input_ids": tf.cast(input_ids, tf.int32),
            "input_mask": tf.cast(is_real, tf.int32),
            "segment_ids": tf.cast(is_second, tf.int32),
        }

    own = batches.map(lambda *parts: tuple(map(share.of, parts))).unbatch()
    options = tf.data.Options()
    options.deterministic = True
    own = own.map(features, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return own.with_options(options).prefetch(tf.data.AUTOTUNE)


# Which documents the examples of a training step are cut from.


def document_places(
    files: DocumentFiles,
    *,
    max_seq_length: int,
    seed: int,
    position: int,
    count: int,
    shuffle_buffer_size: int,
) -> list[tuple[str, int]]:
    """Finds the documents of some positions of the training data's order.

    Args:
        files: The checked files.
        max_seq_length: Length of an example in tokens.
        seed: The run's seed.
        position: The first position: examples that come before it.
        count: How many positions.
        shuffle_buffer_size: Number of examples that are shuffled together.

    Returns:
        (file, number of the document in it, from 0) of each; see `document_input`.
    """
    index = EpochIndex(files, files.rule(seed, max_seq_length))
    size = max(1, shuffle_buffer_size)

    @functools.cache
    def order_in_window(epoch: int, window: int) -> np.ndarray:
        examples = min(size, index.num_examples(epoch) - window * size)
        return window_order(seed, epoch, window, examples).numpy()

    places = []
    epoch, offset = index.find(position)
    for _ in range(count):
        if offset == index.num_examples(epoch):
            epoch, offset = epoch + 1, 0
        window, place = divmod(offset, size)
        found = index.place(epoch, window * size + int(order_in_window(epoch, window)[place]))
        places.append((files.paths[found.file], found.document))
        offset += 1
    return places
