"""Opening pre-training TFRecords: every check that can be made before the first step.

Shards that `build_pretraining_dataset.py` wrote have a metadata.json beside them, which says what
they hold; the run's settings are compared with it. Records of the official program have none: their
files are walked to count the records, and the first records are looked into.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from electra_tf2 import files
from electra_tf2.data import tfrecords
from electra_tf2.data.documents import CutRule
from electra_tf2.data.shards import DatasetMetadata, read_metadata
from electra_tf2.errors import UserError
from electra_tf2.text.vocabulary import Vocabulary

_LOGGER = logging.getLogger(__name__)

FEATURES = ("input_ids", "input_mask", "segment_ids")

_CHECKED_RECORDS_PER_FILE = 8
_RECORDS = {"static": "examples", "dynamic": "documents"}  # by the metadata's segmentation
# Up to this size every byte is read and its checksum verified at the start (about a second).
_FULLY_VERIFIED_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """A checked set of TFRecord files.

    Attributes:
        paths: The files, sorted by name.
        counts: Number of records in each file: of examples, or of documents.
        metadata: What metadata.json beside the first file says; None for records of the official
            program.
    """

    paths: tuple[str, ...]
    counts: tuple[int, ...]
    metadata: DatasetMetadata | None = None

    @property
    def num_examples(self) -> int:
        """Number of records in all files; of examples, where they are not cut in training."""
        return sum(self.counts)

    @property
    def described(self) -> str:
        """How many records of what kind there are."""
        return f"{sum(self.counts):,} {_RECORDS[self._segmentation]}"

    @property
    def _segmentation(self) -> str:
        return self.metadata.segmentation if self.metadata else "static"


def open_records(
    patterns: str,
    *,
    max_seq_length: int,
    vocabulary: Vocabulary,
    do_lower_case: bool,
    strip_accents: bool | None,
    segmentation: Literal["static", "dynamic"] = "static",
) -> RecordFiles:
    """Finds the files of a data set and checks that the run can train on them.

    The checksums of the data are verified where the files have at most 1 GiB together; of larger
    sets only the sizes (with metadata) or the framing (without) are checked, and a record that
    turns out to be damaged during training is explained by `explain_data_loss`.

    Args:
        patterns: Comma-separated globs.
        max_seq_length: The run's length in tokens.
        vocabulary: The run's vocabulary.
        do_lower_case: Whether the run's tokenizer lower-cases.
        strip_accents: Whether it strips accents (which only matters where it lower-cases); None
            takes what the metadata says.
        segmentation: "static" for records that are examples, "dynamic" for documents, which may be
            cut at any `max_seq_length`.

    Returns:
        The files with their counts.

    Raises:
        UserError: No file matches a glob; the metadata contradicts the run, or the files; there is
            none beside documents; the records have other features, another length or ids outside
            the vocabulary; a file is truncated or corrupt; there is no example at all.
    """
    settings = {
        "segmentation": segmentation,
        "max_seq_length": max_seq_length,
        "vocab_size": len(vocabulary),
        "vocab_sha256": vocabulary.sha256,
        "do_lower_case": do_lower_case,
    }
    if segmentation == "dynamic":
        del settings["max_seq_length"]
    if strip_accents is not None:
        settings["strip_accents"] = strip_accents
    paths = _matching_files(patterns)
    directories = sorted({os.path.dirname(path) for path in paths})
    described = {directory: read_metadata(directory) for directory in directories}
    counts: dict[str, int] = {}
    for directory, metadata in described.items():
        members = [path for path in paths if os.path.dirname(path) == directory]
        if metadata is None and segmentation == "dynamic":
            raise _no_documents(directory)
        if metadata is None:
            counts |= {path: _count_and_check(path, max_seq_length, vocabulary) for path in members}
        else:
            _check_settings(directory, metadata, settings)
            counts |= _counts_from_metadata(directory, metadata, members)
    if not sum(counts.values()):
        raise UserError(
            "The TFRecords hold no example.",
            where=patterns,
            received=f"{len(paths)} files without a record",
            remedy="Build them from a corpus with more text.",
        )
    record_files = RecordFiles(
        tuple(paths), tuple(counts[path] for path in paths), described[os.path.dirname(paths[0])]
    )
    _verify_checksums(record_files)
    return record_files


def is_data_loss(record_files: RecordFiles, error: Exception) -> bool:
    """Whether an error of TensorFlow's says that the files are not what they were at the start.

    Args:
        record_files: The files.
        error: What was raised while reading them.
    """
    import tensorflow as tf

    if isinstance(error, tf.errors.DataLossError):
        return True
    if not isinstance(error, tf.errors.OpError):
        return False
    lost_records = "dataset was expected to contain" in error.message
    return lost_records or any(path in error.message for path in record_files.paths)


def explain_data_loss(record_files: RecordFiles, error: Exception) -> UserError:
    """Turns an error of TensorFlow's record reader into one that names the file and the place.

    Args:
        record_files: The files that were read.
        error: What was raised while reading them, see `is_data_loss`.

    Returns:
        An error naming the first damaged file and the byte at which its damaged record begins, or
        the first file that is gone. If all of them can be read on this second attempt, it says so
        and quotes the original message.
    """
    for path, count in zip(record_files.paths, record_files.counts, strict=True):
        try:
            _verify_file(path, count)
        except UserError as found:
            return found
        except OSError as found:
            return UserError(
                "A TFRecord file can't be read any more.",
                where=path,
                received=found.strerror or str(found),
                remedy="Bring the file back, then run the same command again: training continues "
                "from its last checkpoint.",
            )
    return UserError(
        "Reading the TFRecords failed, though every file could be read on a second attempt.",
        where=", ".join(record_files.paths[:3]) + (", …" if len(record_files.paths) > 3 else ""),
        received=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy="Check the disk or network that holds the files, then run the same command again: "
        "training continues from its last checkpoint.",
    )


def _matching_files(patterns: str) -> list[str]:
    import tensorflow as tf

    paths: set[str] = set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        try:
            matches = tf.io.gfile.glob(pattern)
        except tf.errors.NotFoundError:
            matches = []
        if not matches:
            raise UserError(
                "No TFRecord file matches a pattern.",
                where=pattern,
                received=f"no such file ({_nearest_directory(pattern)})",
                remedy="Build the data with build_pretraining_dataset.py, or correct the pattern "
                "(hparams pretrain_tfrecords and eval_tfrecords; comma-separated globs).",
            )
        folders = [path for path in matches if files.is_dir(path)]
        if folders:
            raise UserError(
                "A pattern for the TFRecords names a folder.",
                where=pattern,
                received=f"the folder {folders[0]}",
                remedy=f"Name the files in it by a pattern ({folders[0].rstrip('/')}/*.tfrecord*).",
            )
        paths.update(matches)
    if not paths:
        raise UserError(
            "No pattern for the TFRecords was given.",
            where="hparams pretrain_tfrecords and eval_tfrecords",
            received=repr(patterns),
            remedy="Give comma-separated globs, such as data/pretrain_tfrecords/*.tfrecord*.",
        )
    return sorted(paths)


def _nearest_directory(pattern: str) -> str:
    """Says how much of a pattern exists, which is what one has to know to correct it."""
    directory = os.path.dirname(pattern) or "."
    if any(character in directory for character in "*?["):
        return "the folder itself is a pattern"
    if not files.is_dir(directory):
        return f"there is no folder {directory}"
    return f"the folder {directory} has {len(files.list_dir(directory))} files of other names"


def _check_settings(
    directory: str, metadata: DatasetMetadata, settings: Mapping[str, object]
) -> None:
    """Compares what the records were built with to what the run was started with."""
    remedies = {
        "segmentation": "Set segmentation to the records' value, or build others: with "
        "build_pretraining_dataset.py --segmentation dynamic for documents that training cuts, "
        "without it for examples.",
        "max_seq_length": "Set max_seq_length to the records' value, or build the data again.",
        "vocab_sha256": "Give the vocab.txt that the data was built with, or build it again.",
        "vocab_size": "Give the vocab.txt that the data was built with, or build it again.",
        "do_lower_case": "Set do_lower_case to the records' value, or build the data again.",
        "strip_accents": "Set strip_accents to the records' value, or build the data again.",
    }
    for name, ours in settings.items():
        theirs = getattr(metadata, name)
        if name == "strip_accents" and not metadata.do_lower_case:
            continue  # A tokenizer that keeps the case never touches accents.
        if theirs != ours:
            raise UserError(
                f"The TFRecords were built with another {name} than the run's.",
                where=os.path.join(directory, "metadata.json"),
                received=f"{name} is {theirs} in the records, {ours} in the run",
                remedy=remedies[name],
            )


def _no_documents(directory: str) -> UserError:
    return UserError(
        "The TFRecords are no documents: there is no metadata.json beside them.",
        where=directory,
        received='segmentation "dynamic", and records without metadata, as of the official program',
        remedy="Build documents with build_pretraining_dataset.py --segmentation dynamic, or set "
        'segmentation to "static".',
    )


def _counts_from_metadata(
    directory: str, metadata: DatasetMetadata, members: Sequence[str]
) -> dict[str, int]:
    """The counts of a folder's files, after a look at the size of each."""
    shards = {shard.name: shard for shard in metadata.shards}
    for name in shards:
        if not files.exists(os.path.join(directory, name)):
            raise UserError(
                "A shard of the data set is missing.",
                where=os.path.join(directory, name),
                received=f"metadata.json lists {len(shards)} shards, this one is not there",
                remedy="Copy the shard here, or build the data set again.",
            )
    counts = {}
    for path in members:
        shard = shards.get(os.path.basename(path))
        if shard is None:
            raise UserError(
                "A file matches the pattern, but is no shard of the data set beside it.",
                where=path,
                received=f"metadata.json lists {len(shards)} shards, not this one",
                remedy="Move the file elsewhere, or make the pattern narrower.",
            )
        size = files.size(path)
        if size != shard.bytes:
            raise UserError(
                "A shard is truncated." if size < shard.bytes else "A shard has grown.",
                where=path,
                received=f"{size} bytes, while metadata.json says {shard.bytes}",
                remedy="Copy the shard again, or build the data set again.",
            )
        counts[path] = shard.examples
    return counts


def _count_and_check(path: str, max_seq_length: int, vocabulary: Vocabulary) -> int:
    """Counts the records of a file without metadata and checks the first ones."""
    count = 0
    for record in tfrecords.walk_records(path):
        if count < _CHECKED_RECORDS_PER_FILE:
            where = f"{path}, record {count} (byte {record.offset})"
            _check_example(tfrecords.read_data(path, record), where, max_seq_length, vocabulary)
        count += 1
    return count


def _check_example(data: bytes, where: str, max_seq_length: int, vocabulary: Vocabulary) -> None:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise UserError(
            "A record is not a tf.train.Example.",
            where=where,
            received=f"{len(data)} bytes that don't parse",
            remedy="Give TFRecords that build_pretraining_dataset.py wrote.",
        ) from error
    for name in FEATURES:
        values = features[name].int64_list.value if name in features else ()
        if not values:
            raise UserError(
                f"A record lacks the integer feature {name}.",
                where=where,
                received=", ".join(sorted(features)) or "no feature",
                remedy="Give TFRecords that build_pretraining_dataset.py wrote.",
            )
        if len(values) != max_seq_length:
            raise UserError(
                "The TFRecords have another length than the run.",
                where=where,
                received=f"{name} has {len(values)} values, max_seq_length is {max_seq_length}",
                remedy=f"Set max_seq_length to {len(values)}, or build the data again.",
            )
    largest, smallest = (
        max(features["input_ids"].int64_list.value),
        min(features["input_ids"].int64_list.value),
    )
    if largest >= len(vocabulary) or smallest < 0:
        raise UserError(
            "The TFRecords hold ids outside the vocabulary.",
            where=where,
            received=f"id {largest if smallest >= 0 else smallest}, while the vocabulary has "
            f"{len(vocabulary)} pieces",
            remedy="Give the vocab.txt that the data was built with, or build the data again.",
        )


def _verify_checksums(record_files: RecordFiles) -> None:
    """Reads everything once where that is quick, and compares the counts."""
    import tensorflow as tf

    total = sum(files.size(path) for path in record_files.paths)
    if total > _FULLY_VERIFIED_BYTES:
        _LOGGER.info("%.1f GB of TFRecords: checksums are verified as they are read.", total / 1e9)
        return
    try:
        count = _read_through(record_files.paths)
    except tf.errors.DataLossError as error:
        raise explain_data_loss(record_files, error) from error
    if count != record_files.num_examples:
        raise explain_data_loss(record_files, ValueError(f"{count} records were read"))


def _verify_file(path: str, expected: int) -> None:
    """Raises a `UserError` that names the place, if anything is wrong with a file."""
    import tensorflow as tf

    records = list(tfrecords.walk_records(path))
    if len(records) != expected:
        raise UserError(
            "A shard has another number of records than metadata.json says.",
            where=path,
            received=f"{len(records)} records instead of {expected}",
            remedy="Build the data set again.",
        )
    read = 0
    try:
        for _ in tf.data.TFRecordDataset(path):
            read += 1
    except tf.errors.DataLossError as error:
        raise tfrecords.corrupt_data(path, records[min(read, expected - 1)]) from error


def _read_through(paths: Sequence[str]) -> int:
    """Reads all records, which makes TensorFlow verify their checksums; returns their number."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(list(paths), num_parallel_reads=min(4, len(paths)))
    sizes = records.batch(1024).map(lambda batch: tf.size(batch, out_type=tf.int64))
    return int(sizes.reduce(tf.constant(0, tf.int64), lambda total, size: total + size))


# The checked files of a data set of documents.


@dataclasses.dataclass(frozen=True)
class DocumentFiles(RecordFiles):
    """A checked set of TFRecord files whose records are documents.

    Attributes:
        paths, counts, metadata: As in `RecordFiles`; `counts` are documents, and there always is
            metadata.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
    """

    cls_id: int = -1
    sep_id: int = -1

    def rule(self, seed: int, max_seq_length: int) -> CutRule:
        """Returns how the documents are cut."""
        return CutRule(seed, max_seq_length, self.metadata.split_long_lines)


def open_documents(patterns: str, *, vocabulary: Vocabulary, **settings: Any) -> DocumentFiles:
    """Finds the files of a data set of documents and checks that the run can train on them.

    Arguments and errors are those of `open_records`.
    """
    found = open_records(patterns, vocabulary=vocabulary, segmentation="dynamic", **settings)
    return DocumentFiles(
        found.paths, found.counts, found.metadata, vocabulary.cls_id, vocabulary.sep_id
    )


# Records with the numbers of their files, and their own in these.


def numbered_records(
    files: RecordFiles,
    order: tf.Tensor,
    batch_size: int,
    first_record: tf.Tensor | int = 0,
) -> tf.data.Dataset:
    """Reads files one after the other.

    Args:
        files: The checked files.
        order: The numbers of those to read, in this order; int `[n]`, n at least 1.
        batch_size: Number of records in a batch, but for the last one.
        first_record: Records to pass over in the first file, int64 scalar.

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
    # quicker than one for each, with numbers beside every record.
    records = tf.data.TFRecordDataset(tf.gather(tf.constant(files.paths), order))
    # A file that lost records since the start would shift all that come after them.
    records = records.apply(tf.data.experimental.assert_cardinality(ends[-1]))
    return records.skip(first_record).batch(batch_size).enumerate().map(number)
