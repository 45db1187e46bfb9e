"""Documents to the batches that a model takes: new examples are cut in every epoch.

The order is that of `order`: an epoch reads the files in a seeded permutation, each from its first
document to its last and each document from its first example to its last; windows of that sequence
are permuted. Every worker walks all of it and takes its rows of each global batch.

Documents are cut in NumPy, some hundred at a time, in a thread of their own while the model trains.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.data.documents import Cuts, Documents, find_cuts, make_examples
from electra_tf2.data.open_records import RecordFiles
from electra_tf2.data.order import (
    Context,
    Reading,
    ReplicaRows,
    file_order,
    numbered_records,
    replica_rows,
    window_order,
)
from electra_tf2.data.position import EpochIndex, ExamplePlace, count_at_most, document_places
from electra_tf2.data.segments import CutRule
from electra_tf2.data.shards import DatasetMetadata
from electra_tf2.data.tfrecords import SENTENCE_LENGTHS, TOKEN_IDS, parse_token_ids, token_dtype

# Whatever the run's seed: figures of different runs are on the same examples.
EVALUATION_SEED = EVALUATION_EPOCH = 0

_DOCUMENTS_AT_A_TIME = 256
_QUEUED_WINDOWS = 4
_SECONDS_TO_STOP = 30
RowBatch = tuple[np.ndarray, ...]
_FIRST_PLACE = ExamplePlace(0, 0, 0, 0)
_window_order = tf.function(window_order, autograph=False)  # many small operations


@dataclasses.dataclass(frozen=True)
class DocumentFiles(RecordFiles):
    """A checked set of TFRecord files whose records are documents.

    Methods take and return what those of `input.ExampleFiles` do.

    Attributes:
        paths, counts: as in `RecordFiles`; `counts` are documents.
        metadata: what metadata.json beside the files says; see `RecordFiles`.
        cls_id: id of [CLS].
        sep_id: id of [SEP].
    """

    metadata: DatasetMetadata
    cls_id: int
    sep_id: int
    _producers: list[BackgroundProducer] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def rule(self, seed: int, max_seq_length: int) -> CutRule:
        """Returns how the documents are cut."""
        return CutRule(seed, max_seq_length, self.metadata.split_long_lines)

    def training_dataset(
        self, reading: Reading, position: int, global_batch_size: int, input_context: Context = None
    ) -> tf.data.Dataset:
        """The endless training data from a position on, made by a thread that `close` stops.

        From a position other than 0, the sentence lengths of the data set are read first, to find
        it.
        """
        make_windows = self.windows(reading, position)
        return self.dataset_of(
            make_windows, reading.max_seq_length, global_batch_size, input_context
        )

    def windows(self, reading: Reading, position: int) -> Callable[[], Iterator[RowBatch]]:
        """Finds a position in training; returns what makes the permuted windows from there on.

        The windows have no end; each is (input_ids, first_lengths, lengths), see `Examples`.
        """
        rule = self.rule(reading.seed, reading.max_seq_length)
        window_size = max(1, reading.window_size)
        start = _find_start(self, rule, position, window_size)
        return lambda: _windows(self, rule, start, window_size)

    def dataset_of(
        self,
        make_windows: Callable[[], Iterator[RowBatch]],
        max_seq_length: int,
        global_batch_size: int,
        input_context: Context,
    ) -> tf.data.Dataset:
        """Cuts windows, which a thread makes that `close` stops, into training batches."""
        share = replica_rows(global_batch_size, input_context)
        producer = BackgroundProducer(make_windows, _specs(self, max_seq_length))
        self._producers.append(producer)
        batches = producer.dataset().rebatch(global_batch_size, drop_remainder=True)
        return _replica_batches(batches, share, max_seq_length)

    def evaluation_dataset(
        self,
        *,
        max_seq_length: int,
        global_batch_size: int,
        max_batches: int | None,
        input_context: Context = None,
    ) -> tf.data.Dataset:
        """Every example of one cut, once, in the order of the files."""
        share = replica_rows(global_batch_size, input_context)
        rule = self.rule(EVALUATION_SEED, max_seq_length)
        # A few batches, made at once: they are few megabytes.
        wanted = max_batches * global_batch_size if max_batches else None
        with tf.device("CPU"):  # they would go to a GPU first
            examples = tf.data.Dataset.from_tensor_slices(_first_examples(self, rule, wanted))

        def fill_up(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            missing = global_batch_size - tf.shape(batch[0])[0]
            padded = [tf.pad(part, [[0, missing]] + [[0, 0]] * (part.ndim - 1)) for part in batch]
            shapes = [[global_batch_size, *part.shape[1:]] for part in batch]
            return tuple(map(tf.ensure_shape, padded, shapes))

        batches = examples.batch(global_batch_size).map(fill_up)
        return _replica_batches(batches, share, max_seq_length)

    def evaluation_size(self, max_seq_length: int, at_most: int) -> int:
        """Returns how many examples an evaluation has, or `at_most` if there are more."""
        rule = self.rule(EVALUATION_SEED, max_seq_length)
        return count_at_most(self, rule, EVALUATION_EPOCH, at_most)

    def places(self, reading: Reading, position: int, count: int) -> list[tuple[str, int]]:
        """Finds the (file, number of the document in it) of examples in training."""
        rule = self.rule(reading.seed, reading.max_seq_length)
        return document_places(self, rule, reading.window_size, position, count)

    @property
    def failure(self) -> Exception | None:
        """The error that has ended a training dataset; its reader learns only that a queue closed.

        None if there is none, and after `close`.
        """
        return next((p.failure for p in self._producers if p.failure is not None), None)

    def close(self) -> None:
        """Stops the threads that make training datasets; these end in an error then."""
        while self._producers:
            self._producers.pop().stop()


class BackgroundProducer:
    """A thread that fills a queue with arrays, which a dataset takes out.

    The threads of tf.data must not call Python (`tf.numpy_function`, `from_generator`): when an
    iterator is deleted it waits for their calls, and it holds Python's lock, which the calls wait
    for. So a thread of our own puts the arrays into one of TensorFlow's queues.

    Args:
        make_arrays: called in the thread; yields tuples of arrays without an end.
        specs: what the arrays are, two or more.

    Attributes:
        failure: the error that ended `make_arrays`, if one did.
    """

    def __init__(
        self,
        make_arrays: Callable[[], Iterator[RowBatch]],
        specs: Sequence[tf.TensorSpec],
    ):
        self.failure: Exception | None = None
        self._make_arrays, self._specs = make_arrays, tuple(specs)
        with tf.device("CPU"):
            self._queue = tf.queue.FIFOQueue(_QUEUED_WINDOWS, [spec.dtype for spec in specs])
        self._stopped = False
        self._thread = threading.Thread(target=self._produce, daemon=True)
        atexit.register(self.stop)  # Python must not end while a thread is in TensorFlow
        self._thread.start()

    def dataset(self) -> tf.data.Dataset:
        """Returns the arrays in order, to be iterated once; ends in an error where they do."""

        def take(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            parts = self._queue.dequeue()
            shapes = [spec.shape for spec in self._specs]
            return tuple(map(tf.ensure_shape, parts, shapes))

        return tf.data.Dataset.range(tf.int64.max).map(take)

    def stop(self) -> None:
        """Ends the thread, and the dataset in an error; until then, both hold the queue."""
        self._stopped = True
        self._close(cancel_pending_enqueues=True)
        self._thread.join(_SECONDS_TO_STOP)
        atexit.unregister(self.stop)

    def _close(self, **options: bool) -> None:
        with contextlib.suppress(tf.errors.CancelledError):  # it was closed before
            self._queue.close(**options)

    def _produce(self) -> None:
        try:
            # Where there is a GPU, operations outside of a graph would go there, between the steps
            # of training, and every array too, only to come back to the queue.
            with tf.device("CPU"):
                for arrays in self._make_arrays():
                    if self._stopped:
                        return
                    self._queue.enqueue([tf.convert_to_tensor(array) for array in arrays])
        except tf.errors.CancelledError:
            return  # closed while it waited for room
        except Exception as error:
            self.failure = error
        finally:
            if not self._stopped:
                self._close()  # whoever takes from it gets an error, and looks at `failure`


class _Start(NamedTuple):
    """Where a run begins to read: the window of an epoch, and its first example.

    `passed` examples of the permuted window come before.
    """

    epoch: int
    window: int
    passed: int
    place: ExamplePlace


def _find_start(files: DocumentFiles, rule: CutRule, position: int, window_size: int) -> _Start:
    if not position:
        return _Start(0, 0, 0, _FIRST_PLACE)
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
) -> Iterator[RowBatch]:
    """Yields the permuted windows of all epochs from the start on."""
    while True:
        yield from _epoch_windows(files, rule, start, window_size)
        start = _Start(start.epoch + 1, 0, 0, _FIRST_PLACE)


def _epoch_windows(
    files: DocumentFiles, rule: CutRule, start: _Start, window_size: int
) -> Iterator[RowBatch]:
    order = file_order(rule.seed, start.epoch, len(files.paths))[start.place.rank :]
    window, passed = start.window, start.passed
    for parts in _in_windows(_cut(files, order, rule, start), window_size):
        size = sum(len(part[0]) for part in parts)
        place = (tf.constant(number) for number in (start.epoch, window, size))
        chosen = _window_order(rule.seed, *place).numpy()
        yield tuple(permuted(arrays, chosen)[passed:] for arrays in zip(*parts, strict=True))
        window, passed = window + 1, 0


def _in_windows(batches: Iterator[RowBatch], size: int) -> Iterator[list[RowBatch]]:
    """Cuts a stream of batches into windows, lists of parts of them; the last may be smaller."""
    waiting: list[RowBatch] = []
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


def permuted(parts: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
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
    """The examples of an evaluation: the first `wanted`, or all."""
    start = _Start(EVALUATION_EPOCH, 0, 0, _FIRST_PLACE)
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
) -> Iterator[RowBatch]:
    """Reads the files `order`, and cuts their documents; yields what `Examples` has, rows [n]."""
    spec = {
        SENTENCE_LENGTHS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        TOKEN_IDS: tf.io.FixedLenFeature([], tf.string),
    }

    @tf.autograph.experimental.do_not_convert
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

    return share.batches(batches, features)
