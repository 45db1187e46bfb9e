"""Serialized examples to the batches that a model takes.

Every worker walks the same stream of serialized records (see `order.py`), cuts it into global
batches, keeps the rows of its own replicas and only then parses. So replica r of R always gets the
rows [r * b, (r + 1) * b) of a global batch of R * b rows, however replicas are spread over workers.

A mixture of corpora is one such stream, which draws the corpus of each example.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from electra_tf2.data.document_input import DocumentFiles, RowBatch, permuted
from electra_tf2.data.open_records import RecordFiles, open_records
from electra_tf2.data.order import (
    Context,
    CorpusDraws,
    Reading,
    corpus_draws,
    ordered_records,
    replica_rows,
)
from electra_tf2.data.position import record_places
from electra_tf2.data.sources.found import real_path
from electra_tf2.data.tfrecords import FEATURES
from electra_tf2.errors import UserError
from electra_tf2.files import native
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class ExampleFiles(RecordFiles):
    """A checked set of TFRecord files whose records are examples."""

    def training_dataset(
        self, reading: Reading, position: int, global_batch_size: int, input_context: Context = None
    ) -> tf.data.Dataset:
        """The endless training data from a position on.

        Batches cross epochs, and no example is dropped: the rows of all batches are the
        concatenation of the epochs.

        Args:
            reading: decides the order.
            position: number of examples that the run has consumed since its start.
            global_batch_size: rows of one step over all replicas; a multiple of their number.
            input_context: this worker's place.

        Returns:
            A dataset with one element per local replica and step: a dict of input_ids, input_mask
            and segment_ids, each int32 [global_batch_size / number of replicas, L].

        Raises:
            UserError: the global batch can't be divided among the replicas.
        """
        records = self.records(reading, position)
        return _replica_batches(records, reading.max_seq_length, global_batch_size, input_context)

    def records(self, reading: Reading, position: int) -> tf.data.Dataset:
        """The endless serialized examples that `training_dataset` reads, scalar strings."""
        seed, _, window_size = reading
        return ordered_records(
            self.paths, self.counts, seed=seed, position=position, window_size=window_size
        )

    def evaluation_dataset(
        self,
        *,
        max_seq_length: int,
        global_batch_size: int,
        max_batches: int | None,
        input_context: Context = None,
    ) -> tf.data.Dataset:
        """Every example once, in the order of the files.

        The last global batch is filled up with empty rows, whose input_mask is 0 everywhere; they
        must carry no weight in any metric.

        Args:
            max_seq_length: length L of the examples in tokens.
            global_batch_size: rows of one step over all replicas; a multiple of their number.
            max_batches: largest number of global batches; None or 0 for all examples.
            input_context: as in `training_dataset`.

        Returns:
            A finite dataset with elements as in `training_dataset`.

        Raises:
            UserError: the global batch can't be divided among the replicas.
        """
        count = self.num_records
        if max_batches:
            count = min(count, max_batches * global_batch_size)
        records = tf.data.TFRecordDataset([*map(native, self.paths)]).take(count)
        padding = tf.data.Dataset.from_tensors(_empty_example(max_seq_length))
        records = records.concatenate(padding.repeat(-count % global_batch_size))
        return _replica_batches(records, max_seq_length, global_batch_size, input_context)

    def evaluation_size(self, max_seq_length: int, at_most: int) -> int:
        """Returns how many examples an evaluation has, or `at_most` if there are more."""
        return min(self.num_records, at_most)

    def places(self, reading: Reading, position: int, count: int) -> list[tuple[str, int]]:
        """Finds the (file, number of the record in it) of `count` examples in training."""
        return record_places(self, reading, position, count)

    @property
    def failure(self) -> Exception | None:
        """The error that has ended a training dataset, where the dataset can't say it itself."""
        return None

    def close(self) -> None:
        """Stops what makes training datasets in the background; these end in an error then."""


TrainingFiles = ExampleFiles | DocumentFiles


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One of the corpora of a mixture.

    Attributes:
        name: short, for what is printed and logged.
        files: its records.
        weight: positive; its share is this weight's of the sum over the mixture.
        passed: its examples that the run has trained on before the mixture begins.
    """

    name: str
    files: TrainingFiles
    weight: float
    passed: int = 0


@dataclasses.dataclass(frozen=True)
class Mixture(RecordFiles):
    """Several corpora, from which the examples of training are drawn by weight.

    Each corpus has the order that it has alone, and goes round its own epochs. Methods take and
    return what those of `ExampleFiles` do.

    Attributes:
        paths, counts: of all corpora, one after the other.
        metadata: of the first corpus.
        corpora: all of static or all of dynamic data.
    """

    corpora: tuple[Corpus, ...]

    @staticmethod
    def of(corpora: Sequence[Corpus]) -> Mixture:
        """Makes a mixture of corpora that were opened with the same settings.

        Raises:
            UserError: a file is in two of them.
        """
        owners: dict[str, str] = {}
        for corpus in corpora:
            for path in corpus.files.paths:
                real = real_path(path)
                if owners.setdefault(real, corpus.name) != corpus.name:
                    raise UserError(
                        "A file is in two corpora of the mixture.",
                        where=path,
                        received=f"it is in {owners[real]} and in {corpus.name}",
                        remedy="Make a pattern of pretrain_tfrecords narrower, so that each file "
                        "matches one of them. (A larger weight repeats a corpus more often.)",
                    )
        files = [corpus.files for corpus in corpora]
        return Mixture(
            tuple(path for own in files for path in own.paths),
            tuple(count for own in files for count in own.counts),
            files[0].metadata,
            tuple(corpora),
        )

    @property
    def described(self) -> str:
        """How many records of what kind there are, and in how many corpora."""
        return f"{super().described} in {len(self.corpora)} corpora"

    @property
    def shares(self) -> list[float]:
        """The probabilities that an example comes from each corpus."""
        return self._draws(0).shares.tolist()

    def positions(self, seed: int, position: int) -> list[int]:
        """Returns each corpus's position at one of the mixture, examples `passed` before included.

        Args:
            position: number of examples since the mixture began.
        """
        counts = self._draws(seed).counts(position).tolist()
        return [own.passed + count for own, count in zip(self.corpora, counts, strict=True)]

    def training_dataset(
        self, reading: Reading, position: int, global_batch_size: int, input_context: Context = None
    ) -> tf.data.Dataset:
        """The endless training data from a position on; windows are of each corpus."""
        batches = reading.max_seq_length, global_batch_size, input_context
        draws, streams, windows = self._draws(reading.seed), [], []
        for own, at in zip(self.corpora, self.positions(reading.seed, position), strict=True):
            if isinstance(own.files, ExampleFiles):
                streams.append(own.files.records(reading, at))
            else:
                windows.append(own.files.windows(reading, at))
        first = self.corpora[0].files
        if isinstance(first, ExampleFiles):
            records = tf.data.Dataset.choose_from_datasets(streams, draws.dataset(position))
            return _replica_batches(records, *batches)
        return first.dataset_of(
            lambda: _mixed([make() for make in windows], draws.batches(position)), *batches
        )

    def places(self, reading: Reading, position: int, count: int) -> list[tuple[str, int]]:
        """Finds the (file, number of the record in it) of `count` examples in training."""
        corpora = self._draws(reading.seed).drawn(position, count)
        found: list[Iterator[tuple[str, int]]] = []
        for number, at in enumerate(self.positions(reading.seed, position)):
            own = int(np.count_nonzero(corpora == number))
            found.append(iter(self.corpora[number].files.places(reading, at, own)))
        return [next(found[number]) for number in corpora]

    @property
    def failure(self) -> Exception | None:
        """The error that has ended a training dataset, where the dataset can't say it itself."""
        return next(
            (own.files.failure for own in self.corpora if own.files.failure is not None), None
        )

    def close(self) -> None:
        """Stops what makes training datasets in the background; these end in an error then."""
        for own in self.corpora:
            own.files.close()

    def _draws(self, seed: int) -> CorpusDraws:
        return corpus_draws(seed, tuple(own.weight for own in self.corpora))


def _mixed(windows: list[Iterator[RowBatch]], drawn: Iterator[np.ndarray]) -> Iterator[RowBatch]:
    """Yields the rows of several streams of windows in the order in which corpora are drawn."""
    rest: list[RowBatch] = [()] * len(windows)
    for corpora in drawn:
        parts: list[RowBatch] = []
        for number, count in enumerate(np.bincount(corpora, minlength=len(windows)).tolist()):
            while count:
                if not rest[number] or not len(rest[number][0]):
                    rest[number] = next(windows[number])
                parts.append(tuple(array[:count] for array in rest[number]))
                rest[number] = tuple(array[count:] for array in rest[number])
                count -= len(parts[-1][0])
        # The rows now lie corpus by corpus; each one's place is among those of its corpus.
        places = np.empty_like(corpora)
        places[np.argsort(corpora, kind="stable")] = np.arange(len(corpora))
        yield tuple(permuted(arrays, places) for arrays in zip(*parts, strict=True))


def open_training_files(
    patterns: str,
    *,
    segmentation: Literal["static", "dynamic"],
    max_seq_length: int,
    vocabulary: Vocabulary,
    casing: Casing,
    taken: Collection[str] = (),
) -> TrainingFiles:
    """Opens a data set for training or evaluation.

    Arguments and errors are those of `open_records`.
    """
    found = open_records(
        patterns,
        segmentation=segmentation,
        max_seq_length=max_seq_length,
        vocabulary=vocabulary,
        casing=casing,
        taken=taken,
    )
    if segmentation == "static":
        return ExampleFiles(found.paths, found.counts, found.metadata)
    assert found.metadata is not None  # without it, these are not documents
    return DocumentFiles(
        found.paths, found.counts, found.metadata, vocabulary.cls_id, vocabulary.sep_id
    )


def _replica_batches(
    records: tf.data.Dataset, max_seq_length: int, global_batch_size: int, input_context: Context
) -> tf.data.Dataset:
    """Cuts a stream into global batches and parses this worker's rows, a batch per replica."""
    share = replica_rows(global_batch_size, input_context)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: tf.io.FixedLenFeature([max_seq_length], tf.int64) for name in FEATURES}
        features = tf.io.parse_example(serialized, spec)
        tensors = {name: tf.cast(features[name], tf.int32) for name in FEATURES}
        return tensors  # pyright: ignore[reportReturnType] # all of them dense

    return share.batches(records.batch(global_batch_size, drop_remainder=True), parse)


def _empty_example(max_seq_length: int) -> bytes:
    zeros = tf.train.Feature(int64_list=tf.train.Int64List(value=[0] * max_seq_length))
    features = tf.train.Features(feature=dict.fromkeys(FEATURES, zeros))
    return tf.train.Example(features=features).SerializeToString()
