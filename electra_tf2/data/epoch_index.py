"""Where the examples of an epoch lie, found from sentence lengths alone.

The number of examples that documents are cut into differs from epoch to epoch, so a position is
found by counting: the examples of the epochs before, and of the files before. That takes the
lengths of the sentences and no tokens. A run that starts at position 0 never counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.cutting import CutRule, Documents, count_examples
from electra_tf2.data.document_files import DocumentFiles
from electra_tf2.data.document_records import SENTENCE_LENGTHS
from electra_tf2.data.numbered_records import numbered_records
from electra_tf2.data.order import file_order

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
