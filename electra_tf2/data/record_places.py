"""Which files the examples of a training step come from."""

from __future__ import annotations

import collections
import functools

import numpy as np

from electra_tf2.data.order import file_order, window_order
from electra_tf2.data.records import RecordFiles

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
