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

import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.dataset import DocumentFiles, RecordFiles, numbered_records
from electra_tf2.data.documents import CutRule, Documents, count_examples
from electra_tf2.data.tfrecords import SENTENCE_LENGTHS
from electra_tf2.errors import UserError

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


# Which files the examples of a training step come from.


# Files that are named one by one; the others are only counted.
_NAMED = 8


def record_places(
    files: RecordFiles, *, seed: int, position: int, count: int, shuffle_buffer_size: int
) -> list[tuple[str, int]]:
    """Finds the records at some positions of the training data's order, without reading them.

    Args:
        files: The checked files.
        seed: The run's seed.
        position: The first position: examples that come before it.
        count: How many positions.
        shuffle_buffer_size: Number of examples that are shuffled together.

    Returns:
        (file, number of the record in it, from 0) of each; see `electra_tf2.data.order`.
    """
    total = files.num_examples
    size = max(1, min(shuffle_buffer_size, total))

    @functools.cache
    def order_of_files(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = file_order(seed, epoch, len(files.paths)).numpy()
        return order, np.cumsum(np.array(files.counts)[order])

    @functools.cache
    def order_in_window(epoch: int, window: int) -> np.ndarray:
        return window_order(seed, epoch, window, min(size, total - window * size)).numpy()

    places = []
    for index in range(position, position + count):
        epoch, offset = divmod(index, total)
        window, place = divmod(offset, size)
        record = window * size + order_in_window(epoch, window)[place]
        order, ends = order_of_files(epoch)
        file = np.searchsorted(ends, record, side="right")
        start = ends[file - 1] if file else 0
        places.append((files.paths[order[file]], int(record - start)))
    return places


def describe_places(places: list[tuple[str, int]]) -> str:
    """Says how many examples come from which file, the most first."""
    counts = collections.Counter(path for path, _ in places).most_common()
    named = ", ".join(f"{count} of {path}" for path, count in counts[:_NAMED])
    more = f" and {len(counts) - _NAMED} more files" if len(counts) > _NAMED else ""
    return f"examples: {named}{more}"


# Which rows of a global batch belong to the replicas of a worker.


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


# Where the examples of an epoch lie, found from sentence lengths alone.
#
# The number of examples that documents are cut into differs from epoch to epoch, so a position is
# found by counting: the examples of the epochs before, and of the files before. That takes the
# lengths of the sentences and no tokens. A run that starts at position 0 never counts.


_DOCUMENTS_AT_A_TIME = 1024


class ExamplePlace(NamedTuple):
    """Where an example lies in its epoch.

    Attributes:
        rank: How many files the epoch reads before its file.
        file: The file's number.
        document: The document's number in the file.
        number: The example's number in the document.
    """

    rank: int
    file: int
    document: int
    number: int


class EpochIndex:
    """Numbers of examples, counted when they are first asked for.

    Args:
        files: The documents.
        rule: How they are cut.
    """

    def __init__(self, files: DocumentFiles, rule: CutRule):
        self._files, self._rule = files, rule
        self._counts: list[np.ndarray] = []  # of each file, by epoch
        self._document_counts: dict[tuple[int, int], np.ndarray] = {}

    def find(self, position: int) -> tuple[int, int]:
        """Finds a position of the run.

        Args:
            position: Number of examples since the start of the run that come before.

        Returns:
            The epoch, and the number of its examples that come before.
        """
        for epoch in itertools.count():
            total = self.num_examples(epoch)
            if position < total:
                return epoch, position
            position -= total
            # Epochs differ little in size: those that will be needed are counted in one go.
            self._count_epochs(epoch + 2 + position // total)
        raise AssertionError("unreachable")

    def num_examples(self, epoch: int) -> int:
        """Returns the number of examples of an epoch."""
        self._count_epochs(epoch + 1)
        return int(self._counts[epoch].sum())

    def place(self, epoch: int, example: int) -> ExamplePlace:
        """Finds an example.

        Args:
            epoch: The epoch.
            example: Its number in the order in which the epoch reads files and documents, before
                windows are shuffled.
        """
        self._count_epochs(epoch + 1)
        order = file_order(self._rule.seed, epoch, len(self._files.paths)).numpy()
        rank, rest = _find(self._counts[epoch][order], example)
        file = int(order[rank])
        document, number = _find(self._counts_of_documents(epoch, file), rest)
        return ExamplePlace(rank, file, document, number)

    def _count_epochs(self, num_epochs: int) -> None:
        """Counts the epochs below a number that have not been counted."""
        epochs = range(len(self._counts), num_epochs)
        if not epochs:
            return
        found = np.zeros([len(epochs), len(self._files.paths)], np.int64)
        for documents in _sentence_lengths(self._files, range(len(self._files.paths))):
            for counts, epoch in zip(found, epochs, strict=True):
                np.add.at(counts, documents.files, count_examples(documents, epoch, self._rule))
        self._counts += list(found)

    def _counts_of_documents(self, epoch: int, file: int) -> np.ndarray:
        if (epoch, file) not in self._document_counts:
            counts = [
                count_examples(documents, epoch, self._rule)
                for documents in _sentence_lengths(self._files, [file])
            ]
            self._document_counts[epoch, file] = np.concatenate(counts)
        return self._document_counts[epoch, file]


def count_at_most(files: DocumentFiles, rule: CutRule, epoch: int, limit: int) -> int:
    """Counts the examples of an epoch, but stops at a limit.

    Args:
        files: The documents.
        rule: How they are cut.
        epoch: The epoch.
        limit: The number that is enough.

    Returns:
        The smaller one of the number of examples and the limit.
    """
    found = 0
    for documents in _sentence_lengths(files, range(len(files.paths))):
        found += int(count_examples(documents, epoch, rule).sum())
        if found >= limit:
            return limit
    return found


def _sentence_lengths(files: DocumentFiles, numbers: Sequence[int]) -> Iterator[Documents]:
    """Yields the documents of some files, many at a time; their token ids are not decoded."""
    spec = {SENTENCE_LENGTHS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)}

    def parse(files: tf.Tensor, numbers: tf.Tensor, records: tf.Tensor) -> tuple:
        lengths = tf.io.parse_example(records, spec)[SENTENCE_LENGTHS]
        return files, numbers, lengths.values, lengths.row_splits

    records = numbered_records(files, tf.constant(numbers), _DOCUMENTS_AT_A_TIME)
    parsed = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    for parts in parsed.as_numpy_iterator():
        yield Documents(*parts)


def _find(counts: np.ndarray, index: int) -> tuple[int, int]:
    """Finds the group that an index falls into, and its index there."""
    ends = np.cumsum(counts)
    group = int(np.searchsorted(ends, index, side="right"))
    return group, index - int(ends[group] - counts[group])
