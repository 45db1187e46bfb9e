"""The two ways to read pre-training data, by the hparam `segmentation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.data import document_input, input
from electra_tf2.data.document_files import open_documents
from electra_tf2.data.document_places import document_places
from electra_tf2.data.record_places import record_places
from electra_tf2.data.records import RecordFiles, open_records


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
        input.training_dataset,
        input.evaluation_dataset,
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
