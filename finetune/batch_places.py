"""Which examples a step of fine-tuning trains on."""

from __future__ import annotations

import numpy as np

from finetune.batches import Batching
from finetune.task_data import NO_ROW, TaskData

# Examples of a task that are named one by one; the others are only counted.
_NAMED = 16


def describe_batch(data: TaskData, batching: Batching, *, seed: int, position: int) -> str:
    """Says which examples are in a batch, by their tasks and their numbers there.

    Args:
        data: the examples.
        batching: how batches are formed.
        seed: the run's seed.
        position: as in `finetune.batches.training_dataset`.
    """
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
