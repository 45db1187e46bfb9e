"""Which documents the examples of a training step are cut from."""

from __future__ import annotations

import functools

import numpy as np

from electra_tf2.data.document_files import DocumentFiles
from electra_tf2.data.epoch_index import EpochIndex
from electra_tf2.data.order import window_order


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
