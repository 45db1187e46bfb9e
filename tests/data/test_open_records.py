"""The start-up checks of pre-training records: what is wrong is found and named."""

import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from electra_tf2.data.input import open_training_files
from electra_tf2.data.open_records import explain_data_loss
from electra_tf2.data.shards import DatasetMetadata, Shard, write_metadata
from electra_tf2.data.tfrecords import walk_records
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import Vocabulary

COUNTS = (4, 3, 0)
LENGTH = 4
VOCABULARY = Vocabulary(
    ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"piece{i}" for i in range(35)))
)


def open_directory(directory, **changes):
    settings = {
        "segmentation": "static",
        "max_seq_length": LENGTH,
        "vocabulary": VOCABULARY,
        "casing": UNCASED,
    }
    pattern = changes.pop("pattern", f"{directory}/pretrain_data.tfrecord*")
    return open_training_files(pattern, **(settings | changes))


def shard(directory, index):
    return directory / f"pretrain_data.tfrecord-{index}-of-{len(COUNTS)}"


def damage(path, offset):
    """Flips the bits of one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(bytes(data))


def assert_error(error, *parts):
    """Every part of the message a user needs is there: what, where, received and the remedy."""
    message = str(error.value)
    for part in ("where:", "received:", "what to do:", *parts):
        assert part in message, message


@pytest.fixture
def plain(write_records):
    """Records as the official program leaves them: without metadata."""
    return write_records(COUNTS)


def describe(directory, **changes):
    """Writes the metadata.json of a folder of shards."""
    shards = tuple(
        Shard(shard(directory, index).name, count, shard(directory, index).stat().st_size)
        for index, count in enumerate(COUNTS)
    )
    values = {
        "vocab_sha256": VOCABULARY.sha256,
        "vocab_size": len(VOCABULARY),
        "max_seq_length": LENGTH,
        "do_lower_case": True,
        "strip_accents": True,
        "blanks_separate_docs": True,
        "sampling": "chunked",
        "seed": 0,
        "num_examples": sum(COUNTS),
        "shards": shards,
        "counts": {},
        "electra_tf2_version": "0",
    }
    write_metadata(str(directory), DatasetMetadata(**(values | changes)))


@pytest.fixture
def built(plain):
    """Records as `build_pretraining_dataset.py` leaves them."""
    describe(plain)
    return plain


def test_metadata_gives_the_counts(built):
    files = open_directory(built)
    assert files.counts == COUNTS and files.metadata.max_seq_length == LENGTH


def test_a_pattern_may_take_some_of_the_shards(built):
    files = open_directory(built, pattern=f"{built}/*-1-of-*")
    assert files.counts == (COUNTS[1],)


@pytest.mark.parametrize(
    ("field", "theirs", "change", "ours"),
    [
        ("max_seq_length", "4", {"max_seq_length": 128}, "128"),
        ("vocab_size", "40", {"vocabulary": Vocabulary(VOCABULARY.tokens[:-1])}, "39"),
        (
            "vocab_sha256",
            VOCABULARY.sha256,
            {"vocabulary": Vocabulary((*VOCABULARY.tokens[:-1], "other"))},
            Vocabulary((*VOCABULARY.tokens[:-1], "other")).sha256,
        ),
        ("do_lower_case", "True", {"casing": Casing(lower_case=False)}, "False"),
        ("strip_accents", "True", {"casing": Casing(strip_accents=False)}, "False"),
    ],
)
def test_metadata_that_contradicts_the_run(built, field, theirs, change, ours):
    with pytest.raises(UserError) as error:
        open_directory(built, **change)
    assert_error(
        error, f"{built}/metadata.json", f"{field} is {theirs} in the records, {ours} in the run"
    )


@pytest.fixture
def two_folders(built, tmp_path):
    """Another folder of records; returns it, and a pattern for both."""
    other = shutil.copytree(built, tmp_path / "another")
    return other, f"{built}/pretrain_data.tfrecord*,{other}/pretrain_data.tfrecord*"


@pytest.mark.parametrize(
    "change",
    [{"do_lower_case": False}, {"strip_accents": False}, {"max_word_characters": 1000}],
    ids=lambda change: next(iter(change)),
)
def test_folders_of_different_casing(two_folders, change):
    """Where the run takes the casing from the records, it is not compared with the run's."""
    other, both = two_folders
    describe(other, **change)
    ((name, theirs),) = change.items()
    taken = ("do_lower_case", "strip_accents", "max_word_characters")
    with pytest.raises(UserError, match=f"built with different {name}") as error:
        open_directory(other, pattern=both, taken=taken)
    assert_error(error, "metadata.json", f"{name} is ", str(theirs))


def test_documents_that_would_be_cut_in_different_ways(two_folders):
    other, both = two_folders
    dynamic = {"segmentation": "dynamic", "format_version": 2, "max_seq_length": 0}
    describe(other, **dynamic, split_long_lines=True)
    describe(other.parent / "records", **dynamic)
    with pytest.raises(UserError, match="different split_long_lines") as error:
        open_directory(other, pattern=both, segmentation="dynamic")
    assert_error(error, "a mixture")


def test_the_text_of_all_folders_is_counted(two_folders):
    other, both = two_folders
    describe(other, counts={"tokens": 5, "bad_records": 2}, seed=3)
    assert open_directory(other, pattern=both).metadata.counts == {}
    describe(other.parent / "records", counts={"tokens": 7})
    metadata = open_directory(other, pattern=both).metadata
    assert metadata.counts == {"tokens": 12, "bad_records": 2} and metadata.num_examples == 14
    (other / "metadata.json").unlink()
    assert open_directory(other, pattern=both).metadata.counts == {}


def test_the_first_file_s_folder_decides_on_the_settings(built):
    """Not the first folder: "records-2/" comes before "records/", and after "records"."""
    other = shutil.copytree(built, f"{built}-2")
    describe(pathlib.Path(other), seed=7)
    files = open_directory(built, pattern=f"{built}*/pretrain_data.tfrecord*")
    assert files.paths[0].startswith(f"{other}/") and files.metadata.seed == 7


def test_accents_do_not_matter_where_the_case_is_kept(plain):
    describe(plain, do_lower_case=False, strip_accents=False)
    assert open_directory(plain, casing=Casing(lower_case=False)).num_records == 7


def test_a_missing_shard(built):
    shard(built, 1).unlink()
    with pytest.raises(UserError) as error:
        open_directory(built)
    assert_error(error, "missing", str(shard(built, 1)))


def test_a_file_that_is_no_shard(built):
    stray = built / "pretrain_data.tfrecord-0-of-9"
    stray.write_bytes(b"")
    with pytest.raises(UserError) as error:
        open_directory(built)
    assert_error(error, "not a shard", str(stray))


@pytest.mark.parametrize(("change", "message"), [(-5, "truncated"), (5, "grown")])
def test_a_shard_of_another_size(built, change, message):
    size = shard(built, 0).stat().st_size
    os.truncate(shard(built, 0), size + change)
    with pytest.raises(UserError) as error:
        open_directory(built)
    assert_error(error, message, str(shard(built, 0)), f"{size + change} bytes", f"says {size}")


def test_a_corrupt_shard_of_the_right_size(built):
    record = list(walk_records(str(shard(built, 0))))[1]
    damage(shard(built, 0), record.data_start)
    with pytest.raises(UserError) as error:
        open_directory(built)
    assert_error(error, "corrupt", f"{shard(built, 0)}, in the record at byte {record.offset}")


def test_a_shard_with_another_number_of_records(plain):
    sizes = [shard(plain, index).stat().st_size for index in range(3)]
    counts = (COUNTS[0] + 1, COUNTS[1], 0)
    shards = [Shard(shard(plain, i).name, counts[i], sizes[i]) for i in range(3)]
    describe(plain, shards=tuple(shards), num_examples=sum(counts))
    with pytest.raises(UserError) as error:
        open_directory(plain)
    assert_error(error, str(shard(plain, 0)), "4 records instead of 5")


def test_records_without_metadata_are_counted(plain):
    files = open_directory(plain)
    assert files.counts == COUNTS and files.num_records == 7 and files.metadata is None
    assert files.paths == tuple(str(shard(plain, index)) for index in range(3))


def test_patterns_are_a_list_and_a_file_counts_once(plain):
    first, second = shard(plain, 0), shard(plain, 1)
    files = open_directory(plain, pattern=f"{second}, {first},{plain}/*-0-of-*")
    assert files.paths == (str(first), str(second))


@pytest.mark.parametrize(
    "again", ["{}/../{}/*.tfrecord*", "{}/./*.tfrecord*", "a_link/*.tfrecord*"]
)
def test_a_file_that_several_paths_lead_to_counts_once(built, monkeypatch, again):
    monkeypatch.chdir(built.parent)
    os.symlink(built.name, "a_link")
    again = again.format(built.name, built.name)
    files = open_directory(built, pattern=f"{again},{built.name}/*.tfrecord*")
    assert files.paths == tuple(f"{built.name}/{shard(built, i).name}" for i in range(len(COUNTS)))
    assert files.metadata.num_examples == files.num_records == sum(COUNTS)


@pytest.mark.parametrize("pattern", ["nowhere/x*", "{}/other*", ""])
def test_a_pattern_without_files(plain, pattern):
    pattern = pattern.format(plain)
    with pytest.raises(UserError) as error:
        open_directory(plain, pattern=f"{plain}/pretrain*,{pattern}" if pattern else ",")
    assert pattern in str(error.value) and "what to do:" in str(error.value)


@pytest.mark.parametrize(("function", "where"), [("open_binary", "a shard"), ("list_dir", "*")])
def test_what_the_system_refuses_is_named(built, monkeypatch, function, where):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(f"electra_tf2.files.{function}", refuse)
    pattern = str(shard(built, 0)) if where == "a shard" else f"{built}/other*"
    with pytest.raises(UserError) as error:
        open_directory(built, pattern=pattern)
    assert_error(error, pattern, "Permission denied")


def test_records_of_another_length_say_which(plain):
    with pytest.raises(UserError) as error:
        open_directory(plain, max_seq_length=128)
    assert_error(error, str(shard(plain, 0)), "4 values, max_seq_length is 128")


def test_records_without_a_feature(write_records):
    features = {"input_ids": [1] * LENGTH, "input_mask": [1] * LENGTH}
    with pytest.raises(UserError) as error:
        open_directory(write_records((1,), features=features))
    assert_error(error, "lacks the integer feature segment_ids", "input_ids, input_mask")


def test_records_that_are_no_examples(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "pretrain_data.tfrecord-0-of-1")) as writer:
        writer.write(b"\xff\xff not a protocol buffer")
    with pytest.raises(UserError) as error:
        open_directory(tmp_path)
    assert_error(error, "not a tf.train.Example", "record 0 (byte 0)")


@pytest.mark.parametrize("bad", [len(VOCABULARY), -1])
def test_ids_outside_the_vocabulary(write_records, bad):
    features = {name: [bad] * LENGTH for name in ("input_ids", "input_mask", "segment_ids")}
    with pytest.raises(UserError) as error:
        open_directory(write_records((1,), features=features))
    assert_error(error, f"id {bad}", "40 pieces")


def test_a_set_without_examples(write_records):
    with pytest.raises(UserError, match="no example"):
        open_directory(write_records((0, 0)))


@pytest.mark.parametrize("missing", [1, 3, 10])
def test_a_truncated_file_names_the_record(plain, missing):
    path = shard(plain, 1)
    records = list(walk_records(str(path)))
    os.truncate(path, path.stat().st_size - missing)
    with pytest.raises(UserError) as error:
        open_directory(plain)
    assert_error(error, "truncated", f"{path}, in the record at byte {records[-1].offset}")


def test_a_file_cut_inside_a_header(plain):
    path = shard(plain, 1)
    last = list(walk_records(str(path)))[-1]
    os.truncate(path, last.offset + 5)
    with pytest.raises(UserError) as error:
        open_directory(plain)
    assert_error(error, "truncated", f"byte {last.offset}", "5 bytes where a header")


def test_a_damaged_length_names_the_byte(plain):
    path = shard(plain, 0)
    record = list(walk_records(str(path)))[2]
    damage(path, record.offset)
    with pytest.raises(UserError) as error:
        open_directory(plain)
    assert_error(error, "corrupt", f"{path}, byte {record.offset}")


@pytest.mark.parametrize("index", [2, 20])
def test_damaged_data_names_the_record(write_records, index):
    """Among the first records, which are looked into, and later ones, which are only read."""
    plain = write_records((30, 1), folder="longer")
    path = plain / "pretrain_data.tfrecord-0-of-2"
    record = list(walk_records(str(path)))[index]
    damage(path, record.data_start + 3)
    with pytest.raises(UserError) as error:
        open_directory(plain)
    assert_error(error, "corrupt", f"{path}, in the record at byte {record.offset}")


def test_a_data_loss_during_training_is_explained(plain):
    files = open_directory(plain)
    path = shard(plain, 1)
    record = list(walk_records(str(path)))[1]
    damage(path, record.data_start)
    dataset = files.evaluation_dataset(max_seq_length=LENGTH, global_batch_size=1, max_batches=None)
    with pytest.raises(tf.errors.DataLossError) as loss:
        list(dataset)
    explained = explain_data_loss(files, loss.value)
    assert explained.where == f"{path}, in the record at byte {record.offset}"


def test_a_loss_that_does_not_repeat_quotes_the_original(plain):
    explained = explain_data_loss(open_directory(plain), OSError("stale handle"))
    assert "stale handle" in str(explained) and "second attempt" in str(explained)
