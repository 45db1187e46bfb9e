"""The one order of the training data: a pure function of (seed, epoch).

An epoch reads the files in a seeded permutation, each from its first record to its last. The
records of that sequence are cut into windows of `shuffle_buffer_size`, and each window is permuted
on its own. So the record at any position is known without replaying what came before it: whole
files are skipped by their counts and whole windows by their size, and resuming reads at most the
rest of one file and one window that it doesn't need. Every process that walks the stream, whatever
its number of replicas, sees the same order.

The draws are Philox numbers keyed by (seed, purpose, epoch, window), sorted: no generator state, no
Python hash, no dependence on threads.

In a mixture, each corpus has such an order of its own and goes round its own epochs. Which corpus
comes next is a draw that belongs to the position in the stream; how far each corpus is at a
position is counted from the draws before it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.open_records import RecordFiles
from electra_tf2.errors import UserError
from electra_tf2.files import native
from electra_tf2.randomness import corpus_words

_FILES, _WINDOW = 1, 2
_SEED_MASK = (1 << 63) - 1
_DRAWS_AT_A_TIME, _COUNTED_AT_A_TIME = 1 << 10, 1 << 22
_PREFETCHED = 8  # batches of a replica

Context = tf.distribute.InputContext | None
"""A worker's place, from `strategy.distribute_datasets_from_function`; None for one replica in one
process.
"""


class Reading(NamedTuple):
    """How a run reads its data; with the files, this decides the order of the examples.

    Attributes:
        seed: the run's seed.
        max_seq_length: length L of the examples in tokens.
        window_size: number of examples that are shuffled together (hparam shuffle_buffer_size).
    """

    seed: int
    max_seq_length: int
    window_size: int


def file_order(seed: int, epoch: tf.Tensor | int, num_files: int) -> tf.Tensor:
    """The order in which an epoch reads the files.

    Args:
        seed: the run's seed, any integer.
        epoch: the epoch, counted from 0, int64 scalar.
        num_files: number of files.

    Returns:
        A permutation of range(num_files), int32 [num_files].
    """
    return _permutation([seed & _SEED_MASK, _FILES], [epoch], num_files)


def window_order(
    seed: int, epoch: tf.Tensor | int, window: tf.Tensor | int, size: tf.Tensor | int
) -> tf.Tensor:
    """The order of the records within one window of an epoch.

    Args:
        seed: the run's seed, any integer.
        epoch: the epoch, counted from 0, int64 scalar.
        window: the window, counted from 0 in each epoch, int64 scalar.
        size: number of records in the window (the last one of an epoch may be smaller), int scalar.

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
        paths: the TFRecord files.
        counts: number of records in each; their sum is at least 1.
        position: number of examples since the start of the run that are passed over.
        window_size: records that are shuffled together (1: only the files are shuffled).

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

    # Files without records are not opened: of a thousand, that takes longer than to read the rest.
    files = tf.gather(tf.constant([*map(native, paths)]), order)[first_file:]
    files = tf.boolean_mask(files, tf.gather(tf.constant(counts), order)[first_file:] > 0)
    # A file that lost records since the start would shift all that come after them.
    expected = tf.data.experimental.assert_cardinality(ends[-1] - file_start)
    records = tf.data.TFRecordDataset(files).apply(expected).skip(window_start - file_start)

    def permute(window: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
        return tf.gather(serialized, window_order(seed, epoch, window, tf.size(serialized)))

    windows = records.batch(window_size).enumerate(start=first_window).map(permute).prefetch(1)
    return windows.unbatch().skip(offset - window_start)


class CorpusDraws:
    """Which corpus of a mixture the example at each position comes from.

    Args:
        seed: the run's seed.
        weights: of the corpora, positive; an example comes from one with probability weight / sum.

    Attributes:
        shares: these probabilities as they are drawn, multiples of 2^-32; float64 `[corpora]`.
    """

    def __init__(self, seed: int, weights: Sequence[float]):
        ends = np.cumsum(np.array(weights, np.float64) / max(weights))
        # A word below the first end is the first corpus, and so on.
        self._ends = np.rint(ends / ends[-1] * 2.0**32).astype(np.int64)
        self.shares = np.diff(self._ends, prepend=0) / 2.0**32
        self._seed = seed
        self._counted = 0, np.zeros(len(weights), np.int64)

    def drawn(self, first: int, count: int) -> np.ndarray:
        """Returns the corpora of `count` positions from `first` on, int64 `[count]`."""
        return np.searchsorted(self._ends, self._words(first, count), side="right")

    def batches(self, position: int) -> Iterator[np.ndarray]:
        """Yields the corpora of all positions from one on, many at a time."""
        while True:
            yield self.drawn(position, _DRAWS_AT_A_TIME)
            position += _DRAWS_AT_A_TIME

    def dataset(self, position: int) -> tf.data.Dataset:
        """Returns the same, one by one, as a dataset of int64 scalars without an end."""
        at_a_time = _DRAWS_AT_A_TIME

        def draw(batch: tf.Tensor) -> tf.Tensor:
            words = corpus_words(self._seed, batch * at_a_time, at_a_time)
            words = tf.cast(words, tf.int64)
            return tf.searchsorted(self._ends, words, side="right", out_type=tf.int64)

        first, passed = divmod(position, at_a_time)
        return tf.data.Dataset.range(first, tf.int64.max).map(draw).unbatch().skip(passed)

    def counts(self, position: int) -> np.ndarray:
        """Counts the examples of each corpus before a position, int64 `[corpora]`.

        Counted on from the last call where it can be; else a hundred million take about a second.
        """
        at, found = self._counted
        if position < at:
            at, found = 0, np.zeros_like(found)
        while at < position:
            count = min(_COUNTED_AT_A_TIME, position - at)
            words = self._words(at, count)
            below = [np.count_nonzero(words < end) for end in self._ends[:-1]]
            found = found + np.diff(np.array([0, *below, count], np.int64))
            at += count
        self._counted = at, found
        return found

    def _words(self, first: int, count: int) -> np.ndarray:
        with tf.device("CPU"):  # where there is a GPU, this would go there, and come back
            return corpus_words(self._seed, first, count).numpy()


@functools.lru_cache(maxsize=16)
def corpus_draws(seed: int, weights: tuple[float, ...]) -> CorpusDraws:
    """Returns the draws of a mixture: the same object each time, which knows what it counted."""
    return CorpusDraws(seed, weights)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset whose iterators end at once, and whose elements come in order.

    The autotuner is a thread of each iterator that sleeps for longer and longer, up to a minute. It
    can miss that it is told to stop; whoever deletes the iterator waits until it wakes up. (In
    TensorFlow 2.21 on a busy machine: one of six iterators, after a few seconds of use.) Without
    it, maps with `AUTOTUNE` have a thread for each core, up to 16, and buffers need a size.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)


@tf.autograph.experimental.do_not_convert  # rewriting functions takes a while
def numbered_records(
    files: RecordFiles,
    order: tf.Tensor,
    batch_size: int,
    first_record: tf.Tensor | int = 0,
) -> tf.data.Dataset:
    """Reads files one after the other, and numbers their records.

    Args:
        files: the checked files.
        order: the numbers of those to read, in this order; int `[n]`, n at least 1.
        batch_size: number of records in a batch; the last one may have fewer.
        first_record: records to pass over in the first file, int64 scalar.

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
    # faster than one for each, with numbers beside every record.
    paths = tf.gather(tf.constant([*map(native, files.paths)]), order)
    records = tf.data.TFRecordDataset(tf.boolean_mask(paths, counts > 0))
    # A file that lost records since the start would shift all that come after them.
    records = records.apply(tf.data.experimental.assert_cardinality(ends[-1]))
    batches = records.skip(first_record).batch(batch_size).enumerate()
    return without_autotuning(batches.map(number))


def _permutation(
    seed: list[int], folded: list[tf.Tensor | int], size: tf.Tensor | int
) -> tf.Tensor:
    fold_in: Any = tf.random.fold_in  # its stub has integers where it takes and returns tensors
    key = tf.cast(seed, tf.int64)
    for number in folded:
        key = fold_in(key, tf.cast(number, tf.int64), alg="philox")
    keys = tf.random.stateless_uniform(
        tf.reshape(size, [1]),
        key,
        minval=None,  # pyright: ignore[reportArgumentType] # all integers; its stub lacks this
        maxval=None,
        dtype=tf.int64,
        alg="philox",
    )
    return tf.argsort(keys, stable=True)


class ReplicaRows(NamedTuple):
    """A worker's share of a global batch.

    Attributes:
        first: its first row.
        replicas: number of its replicas.
        rows: rows of each.
    """

    first: int
    replicas: int
    rows: int

    def of(self, batch: tf.Tensor) -> tf.Tensor:
        """Takes them from a global batch [b, ...]; returns [replicas, rows, ...]."""
        taken = batch[self.first : self.first + self.replicas * self.rows]
        return tf.reshape(taken, [self.replicas, self.rows, *batch.shape[1:]])

    def batches(
        self, global_batches: tf.data.Dataset, parse: Callable[..., dict[str, tf.Tensor]]
    ) -> tf.data.Dataset:
        """Takes them from each global batch, and parses them to a batch for each replica."""
        own = global_batches.map(lambda *parts: tuple(map(self.of, parts))).unbatch()
        own = own.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return without_autotuning(own.prefetch(_PREFETCHED))


def replica_rows(global_batch_size: int, input_context: Context) -> ReplicaRows:
    """Divides a global batch.

    Raises:
        UserError: the rows can't be divided among the replicas.
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
