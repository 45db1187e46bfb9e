"""Opening pre-training TFRecords: every check that can be made before the first step.

Shards that `build_pretraining_dataset.py` wrote have a metadata.json beside them, which says what
they hold; the run's settings are compared with it. Records of the official program have none: their
files are walked to count the records, and the first records are looked into.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import tensorflow as tf
from google.protobuf.message import DecodeError

from electra_tf2 import files
from electra_tf2.data.shards import (
    METADATA,
    RECORD_KINDS,
    DatasetMetadata,
    combine_metadata,
    read_metadata,
)
from electra_tf2.data.sources.found import real_path
from electra_tf2.data.tfrecords import FEATURES, corrupt_data, walk_records
from electra_tf2.errors import UserError, first_of
from electra_tf2.patterns import literal, matches, plain, split
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import Vocabulary

_LOGGER = logging.getLogger(__name__)

_CHECKED_RECORDS_PER_FILE = 8
# Up to this size every byte is read and its checksum verified at the start (about a second).
_FULLY_VERIFIED_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """A checked set of TFRecord files.

    Attributes:
        paths: the files, sorted by name.
        counts: number of records in each file: of examples, or of documents.
        metadata: what metadata.json beside the files says, see `combine_metadata` for several
            folders; None for records of the official program.
    """

    paths: tuple[str, ...]
    counts: tuple[int, ...]
    metadata: DatasetMetadata | None

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        return sum(self.counts)

    @property
    def described(self) -> str:
        """How many records of what kind there are, such as "1,200 examples"."""
        kind = self.metadata.kind if self.metadata else RECORD_KINDS["static"]
        return f"{self.num_records:,} {kind.name}"


def open_records(
    patterns: str,
    *,
    max_seq_length: int,
    vocabulary: Vocabulary,
    casing: Casing,
    taken: Collection[str] = (),
    segmentation: Literal["static", "dynamic"] = "static",
) -> RecordFiles:
    """Finds the files of a data set and checks that the run can train on them.

    The checksums of the data are verified where the files have at most 1 GiB together; of larger
    sets only the sizes (with metadata) or the framing (without) are checked, and a record that
    turns out to be damaged during training is explained by `explain_data_loss`.

    Args:
        patterns: comma-separated globs.
        max_seq_length: the run's length in tokens.
        casing: how the run normalizes text.
        taken: settings of the casing, by their names in metadata.json, that the run takes from the
            metadata and that are therefore not compared.
        segmentation: "static" for records that are examples, "dynamic" for documents, which may be
            cut at any `max_seq_length`.

    Returns:
        The files with their counts.

    Raises:
        UserError: no file matches a glob; the metadata contradicts the run, the files or that of
            another folder, or is missing beside documents; the records have other features, another
            length or ids outside the vocabulary; a file is truncated or corrupt; there is no record
            at all.
    """
    settings = {
        "segmentation": segmentation,
        "max_seq_length": max_seq_length,
        "vocab_size": len(vocabulary),
        "vocab_sha256": vocabulary.sha256,
        **{name: value for name, value in casing.settings().items() if name not in taken},
    }
    if segmentation == "dynamic":
        del settings["max_seq_length"]
    paths = _matching_files(patterns)
    directories = list(dict.fromkeys(map(os.path.dirname, paths)))
    described = {directory: read_metadata(directory) for directory in directories}
    counts: dict[str, int] = {}
    for directory, metadata in described.items():
        members = [path for path in paths if os.path.dirname(path) == directory]
        if metadata is not None:
            _check_settings(directory, metadata, settings)
            counts |= _counts_from_metadata(directory, metadata, members)
        elif segmentation == "static":
            counts |= {path: _count_and_check(path, max_seq_length, vocabulary) for path in members}
        else:
            raise _not_documents(directory)
    if not sum(counts.values()):
        raise UserError(
            "The TFRecords hold no example.",
            where=patterns,
            received=f"{len(paths)} files without a record",
            remedy="Build them from a corpus with more text.",
        )
    _check_alike({directory: own for directory, own in described.items() if own is not None})
    metadata = combine_metadata(described.values())
    record_files = RecordFiles(tuple(paths), tuple(counts[path] for path in paths), metadata)
    _verify_checksums(record_files)
    return record_files


def _not_documents(directory: str) -> UserError:
    return UserError(
        "The TFRecords are not documents: there is no metadata.json beside them.",
        where=directory,
        received='segmentation "dynamic", and records without metadata, like those of the official '
        "program",
        remedy="Build documents with build_pretraining_dataset.py --segmentation dynamic, or set "
        'segmentation to "static".',
    )


def is_data_loss(record_files: RecordFiles, error: Exception) -> bool:
    """Whether an error of TensorFlow says that the files are not what they were at the start."""
    if isinstance(error, tf.errors.DataLossError):
        return True
    if not isinstance(error, tf.errors.OpError):
        return False
    message = str(error)
    lost_records = "dataset was expected to contain" in message
    return lost_records or any(path in message for path in record_files.paths)


def explain_data_loss(record_files: RecordFiles, error: Exception) -> UserError:
    """Turns an error of TensorFlow's record reader into one that names the file and the place.

    Returns:
        An error naming the first damaged file and the byte at which its damaged record begins, or
        the first file that is gone. If all of them can be read on this second attempt, it says so
        and quotes the original message.
    """
    for path, count in zip(record_files.paths, record_files.counts, strict=True):
        try:
            verify_file(path, count)
        except UserError as found:
            return found
        except OSError as found:
            return UserError(
                "A TFRecord file can't be read any more.",
                where=path,
                received=files.reason(found),
                remedy="Bring the file back, then run the same command again: training continues "
                "from its last checkpoint.",
            )
    return UserError(
        "Reading the TFRecords failed, though every file could be read on a second attempt.",
        where=first_of(record_files.paths, 3, ", "),
        received=str(error).splitlines()[0] if str(error) else type(error).__name__,
        remedy="Check the disk or network that holds the files, then run the same command again: "
        "training continues from its last checkpoint.",
    )


def _matching_files(patterns: str) -> list[str]:
    paths: set[str] = set()
    for pattern in split(patterns):
        found = matches(pattern)
        if not found:
            raise UserError(
                "No TFRecord file matches a pattern.",
                where=pattern,
                received=f"no such file ({_nearest_directory(pattern)})",
                remedy="Build the data with build_pretraining_dataset.py, or correct the pattern "
                "(hparams pretrain_tfrecords and eval_tfrecords; comma-separated globs).",
            )
        for path in found:
            _check_is_file(path, pattern)
        paths.update(found)
    if not paths:
        raise UserError(
            "No pattern for the TFRecords was given.",
            where="hparams pretrain_tfrecords and eval_tfrecords",
            received=repr(patterns),
            remedy="Give comma-separated globs, such as data/pretrain_tfrecords/*.tfrecord*.",
        )
    return _without_repeats(paths)


def _without_repeats(paths: Iterable[str]) -> list[str]:
    """Sorts paths; of those that lead to one file, by links or "./", the most direct one stays."""
    once: dict[str, str] = {}
    for path in sorted(paths, key=_directness):
        once.setdefault(real_path(path), path)
    return sorted(once.values())


def _directness(path: str) -> tuple[bool, int, str]:
    is_linked = files.is_local(path) and real_path(path) != os.path.abspath(path)
    return is_linked, len(path), path


def _check_is_file(path: str, pattern: str) -> None:
    if files.is_file(path):
        _check_is_readable(path)
        return
    if files.is_dir(path):
        inside = f"{literal(path.rstrip('/'))}/*.tfrecord*"
        raise UserError(
            "A pattern for the TFRecords names a folder.",
            where=pattern,
            received=f"the folder {path}",
            remedy=f"Name the files in it by a pattern ({inside}).",
        )
    raise UserError(
        "A pattern for the TFRecords names something that is not a file.",
        where=path,
        received="a pipe, a socket or a device" if files.exists(path) else "a link to nothing",
        remedy="Move it elsewhere, or make the pattern narrower.",
    )


def _check_is_readable(path: str) -> None:
    try:
        if files.is_local(path):
            files.open_binary(path).close()
    except OSError as error:
        raise UserError(
            "A TFRecord file can't be read.",
            where=path,
            received=files.reason(error),
            remedy="Make it readable, or make the pattern narrower.",
        ) from error


def _nearest_directory(pattern: str) -> str:
    """Says how much of a pattern exists, which helps to correct it."""
    folder = os.path.dirname(pattern)
    directory = plain(folder) if not files.is_dir(folder) else folder
    if directory is None:
        return "the folder itself is a pattern"
    if not files.is_dir(directory or "."):
        return f"there is no folder {directory}"
    try:
        count = len(files.list_dir(directory or "."))
    except OSError as error:
        return f"the folder {directory or '.'} can't be listed: {files.reason(error)}"
    return f"the folder {directory or '.'} has {count} files of other names"


def _check_settings(
    directory: str, metadata: DatasetMetadata, settings: Mapping[str, object]
) -> None:
    """Compares what the records were built with to what the run was started with."""
    vocabulary_remedy = "Give the vocab.txt that the data was built with, or rebuild the data."
    remedies = {
        "segmentation": "Set segmentation to the records' value, or build others: with "
        "build_pretraining_dataset.py --segmentation dynamic for documents that training cuts, "
        "without it for examples.",
        "vocab_sha256": vocabulary_remedy,
        "vocab_size": vocabulary_remedy,
    }
    for name, ours in settings.items():
        theirs = getattr(metadata, name)
        if name == "strip_accents" and not metadata.do_lower_case:
            continue  # a tokenizer that keeps the case never touches accents
        if theirs != ours:
            raise UserError(
                f"The TFRecords were built with another {name} than the run's.",
                where=os.path.join(directory, METADATA),
                received=f"{name} is {theirs} in the records, {ours} in the run",
                remedy=remedies.get(
                    name,
                    f"Set {name} to the records' value if all records of the run have it, or "
                    "rebuild the data.",
                ),
            )


def _check_alike(described: Mapping[str, DatasetMetadata]) -> None:
    """Compares the folders of a data set, whose metadata fit the run, with the first of them."""
    first_directory, first = next(iter(described.items()), ("", None))
    for directory, own in described.items():
        names = ["do_lower_case", "max_word_characters"]
        names += ["strip_accents"] * own.do_lower_case
        names += ["split_long_lines"] * (own.segmentation == "dynamic")
        for name in names:
            theirs, ours = getattr(first, name), getattr(own, name)
            if theirs != ours:
                raise UserError(
                    f"The folders of the TFRecords were built with different {name}.",
                    where=os.path.join(directory, METADATA),
                    received=f"{name} is {ours} there, {theirs} in {first_directory}",
                    remedy=f"Build it again with the flags of {first_directory}."
                    + " For a new run they may also be corpora of a mixture, pretrain_tfrecords "
                    "with a weight for each (docs/beyond_electra.md)."
                    * (name == "split_long_lines"),
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
                remedy="Copy the shard here, or rebuild the data set.",
            )
    counts = {}
    for path in members:
        shard = shards.get(os.path.basename(path))
        if shard is None:
            raise UserError(
                "A file matches the pattern, but is not a shard of the data set beside it.",
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
                remedy="Copy the shard again, or rebuild the data set.",
            )
        counts[path] = shard.examples
    return counts


def _count_and_check(path: str, max_seq_length: int, vocabulary: Vocabulary) -> int:
    """Counts the records of a file without metadata and checks the first ones."""
    first_records = tf.data.TFRecordDataset(files.native(path)).as_numpy_iterator()
    count = 0
    for record in walk_records(path):
        if count < _CHECKED_RECORDS_PER_FILE:
            try:
                data = bytes(next(first_records))
            except tf.errors.DataLossError as error:
                raise corrupt_data(path, record) from error
            where = f"{path}, record {count} (byte {record.offset})"
            _check_example(data, where, max_seq_length, vocabulary)
        count += 1
    return count


def _check_example(data: bytes, where: str, max_seq_length: int, vocabulary: Vocabulary) -> None:
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
                remedy=f"Set max_seq_length to {len(values)}, or rebuild the data.",
            )
    ids = features["input_ids"].int64_list.value
    if max(ids) >= len(vocabulary) or min(ids) < 0:
        raise UserError(
            "The TFRecords hold ids outside the vocabulary.",
            where=where,
            received=f"id {max(ids) if min(ids) >= 0 else min(ids)}, while the vocabulary has "
            f"{len(vocabulary)} pieces",
            remedy="Give the vocab.txt that the data was built with, or rebuild the data.",
        )


def _verify_checksums(record_files: RecordFiles) -> None:
    """Reads everything once where that is quick, and compares the counts."""
    total = sum(files.size(path) for path in record_files.paths)
    if total > _FULLY_VERIFIED_BYTES:
        _LOGGER.info("%.1f GB of TFRecords: checksums are verified as they are read.", total / 1e9)
        return
    try:
        count = _read_through(record_files.paths)
    except tf.errors.DataLossError as error:
        raise explain_data_loss(record_files, error) from error
    if count != record_files.num_records:
        raise explain_data_loss(record_files, ValueError(f"{count} records were read"))


def verify_file(path: str, expected: int) -> None:
    """Reads a file of so many records to its end.

    Raises:
        UserError: it is damaged, or has another number of records; names the place.
    """
    records = list(walk_records(path))
    if len(records) != expected:
        raise UserError(
            "A shard has another number of records than metadata.json says.",
            where=path,
            received=f"{len(records)} records instead of {expected}",
            remedy="Rebuild the data set.",
        )
    read = 0
    try:
        for _ in tf.data.TFRecordDataset(files.native(path)):
            read += 1
    except tf.errors.DataLossError as error:
        raise corrupt_data(path, records[min(read, expected - 1)]) from error


def _read_through(paths: Sequence[str]) -> int:
    """Reads all records, which makes TensorFlow verify their checksums; returns their number."""
    records = tf.data.TFRecordDataset(
        [*map(files.native, paths)], num_parallel_reads=min(4, len(paths))
    )
    sizes = records.batch(1024).map(lambda batch: tf.size(batch, out_type=tf.int64))
    return int(sizes.reduce(tf.constant(0, tf.int64), lambda total, size: total + size))
