"""Which examples form a batch, and how long it is.

Sentences differ in length by a factor of ten, and a batch costs what its longest example costs.
So examples of about the same length are put together: an epoch's examples are shuffled, sorted by
length within windows of `WINDOW` batches, cut into batches, and the batches shuffled. The order is
a function of the seed and the epoch alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.order import Context, replica_rows, without_autotuning
from finetune.feature_tables import NO_ROW, TaskData

# Batches that are sorted together. A window this large leaves few sentences much shorter than the
# longest of their batch, and this small leaves a batch's neighbours random.
WINDOW = 50
# How many lengths batches have at most where XLA compiles for every length, which takes longer than
# what padding costs: the longest one and its halves, 128, 64, 32 and 16.
_COMPILED_LENGTHS = 4
_PURPOSES = {"examples": 1, "batches": 2}
# Examples of a task that are named one by one; the others are only counted.
_NAMED = 16


def permutation(seed: int, purpose: str, epoch: int, size: int) -> np.ndarray:
    """Returns a permutation of range(size), int64, that depends on the arguments alone.

    Sorted raw Philox words: NumPy promises that these never change, unlike its `permutation`.

    Args:
        seed: the run's seed, at least 0.
        purpose: "examples" or "batches".
        epoch: from 0.
        size: how many.
    """
    philox = np.random.Philox(key=[seed, _PURPOSES[purpose]], counter=[0, 0, 0, epoch])
    return np.argsort(philox.random_raw(size), kind="stable")


class BatchPlan(NamedTuple):
    """One batch.

    Attributes:
        rows: int64 [batch size], which examples; `NO_ROW` where there is none.
        length: tokens to pad to.
    """

    rows: np.ndarray
    length: int


class Batching(NamedTuple):
    """How batches are formed.

    Attributes:
        batch_size: examples a batch, over all replicas.
        max_seq_length: longest example, in tokens.
        pad_to_max_length: pad all batches to that, in plain shuffled order.
        sort: train on batches of examples of about the same length; False: only pad to the longest
            of a random batch.
        few_lengths: pad batches to one of four lengths.
    """

    batch_size: int
    max_seq_length: int
    pad_to_max_length: bool = False
    sort: bool = True
    few_lengths: bool = False

    def batches_per_epoch(self, num_rows: int) -> int:
        """Returns the number of batches for all examples; the last one may be filled up."""
        return -(-num_rows // self.batch_size)

    def epoch(self, lengths: np.ndarray, seed: int, epoch: int) -> list[BatchPlan]:
        """Returns the batches of one epoch of training; every example is in one of them.

        Args:
            lengths: int64 [examples], in tokens.
            epoch: from 0.
        """
        order = permutation(seed, "examples", epoch, len(lengths))
        if self.pad_to_max_length or not self.sort:
            return self._cut(order, lengths)
        size = WINDOW * self.batch_size
        windows = [order[i : i + size] for i in range(0, len(order), size)]
        windows = [window[np.argsort(lengths[window], kind="stable")] for window in windows]
        batches = self._cut(np.concatenate(windows), lengths)
        return [batches[i] for i in permutation(seed, "batches", epoch, len(batches))]

    def by_length(self, lengths: np.ndarray) -> list[BatchPlan]:
        """Returns batches for scoring: every example once, the longest first.

        The first batch then needs the most memory, so that a lack of it shows at once.
        """
        order = np.arange(len(lengths))
        if not self.pad_to_max_length:
            order = np.argsort(-lengths, kind="stable")
        return self._cut(order, lengths)

    def _cut(self, order: np.ndarray, lengths: np.ndarray) -> list[BatchPlan]:
        missing = -len(order) % self.batch_size
        rows = np.concatenate([order, np.full(missing, NO_ROW)]).astype(np.int64)
        return [
            BatchPlan(batch, self._length(lengths[batch[batch != NO_ROW]]))
            for batch in rows.reshape(-1, self.batch_size)
        ]

    def _length(self, lengths: np.ndarray) -> int:
        if self.pad_to_max_length:
            return self.max_seq_length
        longest = length = int(lengths.max())
        if self.few_lengths:
            halves = (self.max_seq_length / 2**k for k in range(1, _COMPILED_LENGTHS))
            rounded = (8 * math.ceil(half / 8) for half in halves)  # what matrix units like
            length = min(n for n in (self.max_seq_length, *rounded) if n >= longest)
        return length


def training_dataset(
    data: TaskData,
    batching: Batching,
    *,
    seed: int,
    position: int,
    num_steps: int,
    input_context: Context = None,
) -> tf.data.Dataset:
    """The training data from a position on.

    Args:
        data: the examples.
        batching: how batches are formed.
        position: examples consumed since the start of the run, filled-up rows included: a multiple
            of the batch size.
        num_steps: number of batches.
        input_context: this worker's place.

    Returns:
        A dataset with one element per local replica and step, see `TaskData.gather`.
    """
    per_epoch = batching.batches_per_epoch(data.num_rows)
    epoch, first = divmod(position // batching.batch_size, per_epoch)
    plans: list[BatchPlan] = []
    while len(plans) < first + num_steps:
        plans += batching.epoch(data.lengths, seed, epoch)
        epoch += 1
    return _dataset(data, plans[first : first + num_steps], input_context)


def scoring_dataset(
    data: TaskData, batching: Batching, input_context: Context = None
) -> tf.data.Dataset:
    """Every example once; arguments and elements as in `training_dataset`."""
    return _dataset(data, batching.by_length(data.lengths), input_context)


def _dataset(data: TaskData, plans: list[BatchPlan], input_context: Context) -> tf.data.Dataset:
    rows = np.stack([plan.rows for plan in plans])
    first, replicas, each = replica_rows(rows.shape[1], input_context)
    rows = rows[:, first : first + replicas * each].reshape(-1, each)
    lengths = np.repeat(np.array([plan.length for plan in plans], np.int64), replicas)
    batches = tf.data.Dataset.from_tensor_slices((rows, lengths))
    batches = batches.map(data.gather, num_parallel_calls=2, deterministic=True)
    return without_autotuning(batches.prefetch(8))


def describe_batch(data: TaskData, batching: Batching, *, seed: int, position: int) -> str:
    """Says which examples are in a batch, by their tasks and their numbers there."""
    per_epoch = batching.batches_per_epoch(data.num_rows)
    epoch, index = divmod(position // batching.batch_size, per_epoch)
    rows = batching.epoch(data.lengths, seed, epoch)[index].rows
    rows = rows[rows != NO_ROW]
    ends = np.cumsum([table.num_rows for table in data.tables])
    parts = []
    for name, table, end in zip(data.names, data.tables, ends, strict=True):
        own = rows[(rows >= end - table.num_rows) & (rows < end)] - (end - table.num_rows)
        numbers = np.unique(table.scalars["eid"][own])
        if len(numbers):
            more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
            parts.append(f"{name} {', '.join(map(str, numbers[:_NAMED]))}{more}")
    return "examples: " + "; ".join(parts)
