"""Positions in the training data: which file and record the example at a position comes from.

A position is a number of examples since the start of the run; a checkpoint stores it as
`examples_seen`. Of static data, every epoch has as many examples as there are records, so a
position is found from the counts of the files. The number of examples that documents are cut into
differs from epoch to epoch, so a position in dynamic data is found by counting: the examples of the
epochs before, and of the files before. That takes the lengths of the sentences and no tokens. A run
that starts at position 0 never counts.

A position has a meaning in one sequence of records only, so a checkpoint also stores what tells
that sequence from others, its identity.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2 import files as files_lib
from electra_tf2.data.documents import Documents, count_examples
from electra_tf2.data.open_records import RecordFiles
from electra_tf2.data.order import Reading, file_order, numbered_records, window_order
from electra_tf2.data.segments import CutRule
from electra_tf2.data.tfrecords import SENTENCE_LENGTHS
from electra_tf2.errors import UserError, first_of

_DOCUMENTS_AT_A_TIME = 1024

# Up to this size every byte counts for the identity; of larger data, three blocks of each file.
_WHOLLY_READ_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 16
_READING_THREADS = 8


def record_places(
    files: RecordFiles, reading: Reading, position: int, count: int
) -> list[tuple[str, int]]:
    """Finds the records at some positions of static data, without reading them.

    Args:
        files: the checked files.
        reading: decides the order.
        position: the first position: examples that come before it.
        count: how many positions.

    Returns:
        (file, number of the record in it, from 0) of each.
    """
    total, seed = files.num_records, reading.seed
    size = max(1, min(reading.window_size, total))

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


def document_places(
    files: RecordFiles, rule: CutRule, window_size: int, position: int, count: int
) -> list[tuple[str, int]]:
    """Finds the documents at some positions of dynamic data.

    Args:
        files: the checked files, whose records are documents.
        rule: how they are cut.
        window_size: number of examples that are shuffled together.
        position: the first position: examples that come before it.
        count: how many positions.

    Returns:
        (file, number of the document in it, from 0) of each.
    """
    index = EpochIndex(files, rule)
    size = max(1, window_size)

    @functools.cache
    def order_in_window(epoch: int, window: int) -> np.ndarray:
        examples = min(size, index.num_examples(epoch) - window * size)
        return window_order(rule.seed, epoch, window, examples).numpy()

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


def describe_places(places: list[tuple[str, int]]) -> str:
    """Says how many examples come from which file, the most first."""
    counts = collections.Counter(path for path, _ in places).most_common()
    return "examples: " + first_of([f"{count} of {path}" for path, count in counts], 8, ", ")


class ExamplePlace(NamedTuple):
    """Where an example lies in its epoch.

    Attributes:
        rank: how many files the epoch reads before its file.
        file: the file's number.
        document: the document's number in the file.
        number: the example's number in the document.
    """

    rank: int
    file: int
    document: int
    number: int


class EpochIndex:
    """Numbers of examples, counted when they are first asked for."""

    def __init__(self, files: RecordFiles, rule: CutRule):
        self._files, self._rule = files, rule
        self._counts: list[np.ndarray] = []  # of each file, by epoch
        self._document_counts: dict[tuple[int, int], np.ndarray] = {}

    def find(self, position: int) -> tuple[int, int]:
        """Finds a position of the run.

        Args:
            position: number of examples since the start of the run that come before.

        Returns:
            The epoch, and the number of its examples that come before.
        """
        epoch = 0
        while position >= (total := self.num_examples(epoch)):
            position -= total
            epoch += 1
            # Epochs differ little in size: those that will be needed are counted in one go.
            self._count_epochs(epoch + 1 + position // total)
        return epoch, position

    def num_examples(self, epoch: int) -> int:
        """Returns the number of examples of an epoch."""
        self._count_epochs(epoch + 1)
        return int(self._counts[epoch].sum())

    def place(self, epoch: int, example: int) -> ExamplePlace:
        """Finds an example.

        Args:
            example: its number in the order in which the epoch reads files and documents, before
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
        for documents in sentence_lengths(self._files, range(len(self._files.paths))):
            for counts, epoch in zip(found, epochs, strict=True):
                np.add.at(counts, documents.files, count_examples(documents, epoch, self._rule))
        self._counts += list(found)

    def _counts_of_documents(self, epoch: int, file: int) -> np.ndarray:
        if (epoch, file) not in self._document_counts:
            counts = [
                count_examples(documents, epoch, self._rule)
                for documents in sentence_lengths(self._files, [file])
            ]
            self._document_counts[epoch, file] = np.concatenate(counts)
        return self._document_counts[epoch, file]


def sentence_lengths(files: RecordFiles, numbers: Sequence[int]) -> Iterator[Documents]:
    """Yields the documents of some files, many at a time; their token ids are not decoded."""
    spec = {SENTENCE_LENGTHS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)}

    @tf.autograph.experimental.do_not_convert
    def parse(files: tf.Tensor, numbers: tf.Tensor, records: tf.Tensor) -> tuple:
        lengths = tf.io.parse_example(records, spec)[SENTENCE_LENGTHS]
        return files, numbers, lengths.values, lengths.row_splits

    records = numbered_records(files, tf.constant(numbers), _DOCUMENTS_AT_A_TIME)
    parsed = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    for parts in parsed.as_numpy_iterator():
        yield Documents(*parts)


def count_at_most(files: RecordFiles, rule: CutRule, epoch: int, limit: int) -> int:
    """Counts the examples of an epoch, but stops at a limit.

    Returns:
        The number of examples, or the limit if there are more.
    """
    found = 0
    for documents in sentence_lengths(files, range(len(files.paths))):
        found += int(count_examples(documents, epoch, rule).sum())
        if found >= limit:
            return limit
    return found


def _find(counts: np.ndarray, index: int) -> tuple[int, int]:
    """Finds the group that an index falls into, and its index there."""
    ends = np.cumsum(counts)
    group = int(np.searchsorted(ends, index, side="right"))
    return group, index - int(ends[group] - counts[group])


def data_identity(files: RecordFiles) -> dict[str, Any]:
    """Describes what a run is trained on: contents and their order, wherever the files lie.

    Returns:
        JSON values, for the state of checkpoints and `data_changes`: `records` (their number and
        kind), `shards` (number of files), `contents` (a hash of each file in order, separated by
        spaces; of more than 1 GiB together, a hash of their sizes, beginnings, middles and ends),
        `build` (how the program that builds data sets was called, as far as metadata.json says).
        Of a mixture, its caller adds `corpora`: what decides how its corpora are mixed.
    """
    whole = sum(map(files_lib.size, files.paths)) <= _WHOLLY_READ_BYTES
    with concurrent.futures.ThreadPoolExecutor(_READING_THREADS) as threads:
        digests = threads.map(_digest, files.paths, files.counts, itertools.repeat(whole))
        contents = " ".join(digests)
    built = files.metadata
    names = ("seed", "sampling", "blanks_separate_docs", "split_long_lines")
    return {
        "records": files.described,
        "shards": len(files.paths),
        "contents": contents,
        "build": {name: getattr(built, name) for name in names} if built else {},
    }


def _digest(path: str, count: int, whole: bool) -> str:
    """Hashes a file: all of it, or its size and three blocks."""
    try:
        size = files_lib.size(path)
        starts = range(0, size, _BLOCK_BYTES)
        if not whole and len(starts) > 3:
            starts = (0, (size - _BLOCK_BYTES) // 2, size - _BLOCK_BYTES)
        digest = hashlib.blake2b(f"{count} {size}".encode(), digest_size=8)
        with files_lib.reported_as_os_errors(path), files_lib.open_binary(path) as file:
            for start in starts:
                file.seek(start)
                digest.update(file.read(_BLOCK_BYTES))
    except OSError as error:
        raise UserError(
            "A TFRecord file can't be read.",
            where=path,
            received=files_lib.reason(error),
            remedy="Make the file readable, or copy it again.",
        ) from error
    return digest.hexdigest()


def changed_files(
    before: Mapping[str, Any], now: Mapping[str, Any], paths: Sequence[str]
) -> list[str]:
    """Returns the files whose contents differ, of as many as before; arguments: `data_changes`."""
    theirs, ours = str(before.get("contents")).split(), now["contents"].split()
    if len(theirs) != len(ours):
        return []
    pairs = zip(paths, theirs, ours, strict=True)
    return [path for path, one, other in pairs if one != other]


def data_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], paths: Sequence[str]
) -> list[str]:
    """Says how data differ from those whose identity a checkpoint stored.

    Returns:
        The differences, for a message; empty if the position means the same in both.
    """
    theirs, ours = str(before.get("contents")).split(), now["contents"].split()
    built = before.get("build")
    built = built if isinstance(built, dict) else {}
    rebuilt = [name for name, value in now["build"].items() if built.get(name, value) != value]
    mixed = before.get("corpora") != now.get("corpora")
    # Of documents this decides how they are cut; the rest of `build` shows in the contents.
    if theirs == ours and "split_long_lines" not in rebuilt and not mixed:
        return []
    changes = [
        f"{name}: {before.get(name)} before, {now[name]} now"
        for name in ("records", "shards")
        if before.get(name) != now[name]
    ]
    if mixed:
        told = " before, ".join(_mixture_in_words(own.get("corpora")) for own in (before, now))
        changes.append(f"mixture: {told} now")
    changes += [f"{name}: {built[name]} before, {now['build'][name]} now" for name in rebuilt]
    changed = changed_files(before, now, paths)
    what = "the same shards in another order" if sorted(theirs) == sorted(ours) else "contents"
    return changes + ([f"{what}: {first_of(changed, 3, ', ')}"] if changed else [])


def _mixture_in_words(corpora: object) -> str:
    """Says how corpora are mixed, from what an identity states of them."""
    words = []
    for own in corpora if isinstance(corpora, list) else []:
        if isinstance(own, dict) and isinstance(own.get("share"), float):
            split = ", long lines split" if own.get("split_long_lines") else ""
            passed = f" after {own['passed']} examples" if own.get("passed") else ""
            words.append(f"{own['share']:.6g} of {own.get('shards')} shards{passed}{split}")
    return " + ".join(words) or "none"
