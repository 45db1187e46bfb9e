"""What training says of its data: epochs, padding, lost text; and what it refuses."""

import json

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.input import open_training_files
from electra_tf2.data.order import Reading
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import read_casing
from electra_tf2.pretraining.phases import phases_of
from electra_tf2.pretraining.run import data_report
from electra_tf2.pretraining.run.data_report import (
    check_text,
    epoch_cuts,
    first_records,
    long_words,
    report_data,
)
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import load_vocabulary
from tests.pretraining import tiny


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    tiny.write_data(folder, sizes=(20000,))
    tiny.write_data(folder, records="documents", length=None, flags=("--segmentation", "dynamic"))
    return folder


def opened(root, records="pretrain_tfrecords", **changes):
    given = tiny.HPARAMS | {"pretrain_tfrecords": f"{root / records}/{tiny.GLOB}"} | changes
    config = tiny.configure(root, **given)
    vocabulary = load_vocabulary(config.vocab_file)
    files = open_training_files(
        config.pretrain_tfrecords,
        segmentation=config.segmentation,
        max_seq_length=config.max_seq_length,
        vocabulary=vocabulary,
        casing=UNCASED,
    )
    return files, vocabulary, phases_of(config)[0]


def without_counts(root, folder, **changes):
    """The records with another metadata.json; without one if there are no changes."""
    there = root / "pretrain_tfrecords"
    folder.mkdir()
    for path in there.glob(tiny.GLOB):
        (folder / path.name).write_bytes(path.read_bytes())
    if changes:
        metadata = json.loads((there / "metadata.json").read_text()) | changes
        (folder / "metadata.json").write_text(json.dumps(metadata))


def test_figures_come_from_the_builder(root):
    files, vocabulary, phase = opened(root, num_train_steps=100)
    report = report_data(files, vocabulary, phase)
    epochs = 100 * 8 / files.num_records
    assert report.trained_on == f"{files.num_records:,} examples ({epochs:.2g} epochs)"
    counts = files.metadata.counts
    assert f"{counts['unknown_tokens'] / counts['tokens']:.1%} of the tokens" in report.lines[0]
    assert f"Data: characters {counts['characters']:,} (of words, normalized); " in report.lines[0]
    assert any("tokens are [UNK]" in line for line in report.lines[1:])


def test_too_many_epochs_are_warned_of(root):
    files, vocabulary, phase = opened(root, num_train_steps=10**6)
    assert any("by heart" in line for line in report_data(files, vocabulary, phase).lines)


@pytest.mark.parametrize("changes", [{}, {"counts": {"tokens": 7}}], ids=["official", "older"])
def test_records_without_counts_are_looked_into(root, tmp_path, changes):
    without_counts(root, tmp_path / "old", **changes)
    files, vocabulary, phase = opened(root, f"{tmp_path / 'old'}")
    first = first_records(files, vocabulary)
    counts = opened(root)[0].metadata.counts
    assert first.tokens == counts["example_tokens"]
    ids = np.concatenate([
        tf.train.Example.FromString(record.numpy()).features.feature["input_ids"].int64_list.value
        for record in tf.data.TFRecordDataset(list(files.paths))
    ])  # fmt: skip
    words = ids[~np.isin(ids, [vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id])]
    assert first.unknown == pytest.approx(np.mean(words == vocabulary.unk_id))
    fill = counts["example_tokens"] / (files.num_records * tiny.LENGTH)
    (figures, *_) = report_data(files, vocabulary, phase).lines
    assert f"{first.unknown:.1%} of the tokens" in figures and f"{fill:.1%} of their" in figures


def test_what_documents_are_cut_into_is_counted_exactly(root):
    files, vocabulary, phase = opened(root, "documents", segmentation="dynamic")
    cuts = epoch_cuts(files, phase.config)
    assert cuts.all_counted
    reading = Reading(phase.config.seed, tiny.LENGTH, 1)
    batches = files.training_dataset(reading, 0, 1).take(cuts.examples)
    ids = np.concatenate([batch["input_ids"] for batch in batches])
    files.close()
    assert cuts.fill == pytest.approx(np.mean(ids > 0))
    kept = np.sum((ids > 0) & (ids != vocabulary.cls_id) & (ids != vocabulary.sep_id))
    assert cuts.dropped == pytest.approx(1 - kept / files.metadata.counts["tokens"])
    report = report_data(files, vocabulary, phase)
    assert f"{cuts.examples:,} examples in the first epoch" in report.trained_on
    assert any(f"{cuts.dropped:.1%}" in line and "--split-long-lines" in line
               for line in report.lines[1:])  # fmt: skip


def write_unknown(folder):
    folder.mkdir()
    feature = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in (
            ("input_ids", [2, *[1] * (tiny.LENGTH - 2), 3]),
            ("input_mask", [1] * tiny.LENGTH),
            ("segment_ids", [0] * tiny.LENGTH),
        )
    }
    with tf.io.TFRecordWriter(str(folder / "pretrain_data.tfrecord-0-of-1")) as writer:
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())


def test_records_that_are_all_unknown_are_refused_unless_allowed(root, tmp_path):
    write_unknown(tmp_path / "unknown")
    files, vocabulary, phase = opened(root, f"{tmp_path / 'unknown'}")
    with pytest.raises(UserError, match="Nearly all") as caught:
        check_text(files, vocabulary, phase.config)
    assert caught.value.where == files.paths[0] and "allow_unknown" in caught.value.remedy
    phase.config.allow_unknown = True
    check_text(files, vocabulary, phase.config)


def test_the_limit_for_long_words_comes_with_the_data(tmp_path):
    flags = ("--max-word-characters", "1000")
    tiny.write_data(tmp_path, sizes=(3000,), flags=flags)
    run = tiny.UNIFORM | {"num_train_steps": 1}
    _, shown = tiny.pretrain_here(tmp_path, **run)
    assert "examples (" in shown and "epochs); the first step" in shown and "\nData: " in shown
    assert read_casing(str(tmp_path / "models" / "model")) == Casing(max_word_characters=1000)
    with pytest.raises(UserError, match="another max_word_characters") as caught:
        tiny.pretrain_here(tmp_path, "other", **run, max_word_characters=200)
    assert caught.value.where.endswith("metadata.json")


@pytest.mark.parametrize("records", ["pretrain_tfrecords", "documents"])
def test_words_that_are_too_long_to_be_hidden_as_a_whole(root, monkeypatch, records):
    """The longest words have two pieces; of 32 tokens only one may be hidden at 3 %."""
    segmentation = "dynamic" if records == "documents" else "static"
    given = {"segmentation": segmentation, "mask_prob": 0.03}
    files, vocabulary, phase = opened(root, records, masking="whole_word", **given)
    share = long_words(files, vocabulary, phase.config)
    ids, _ = data_report._first_ids(files)
    pairs = np.isin(ids, vocabulary.continuation_ids).sum()
    assert share == pytest.approx(2 * pairs / len(ids)) and share > 0.05
    lines = report_data(files, vocabulary, phase).lines
    assert any(f"{share:.1%} of the tokens" in line and "languages.md" in line for line in lines)
    check_text(files, vocabulary, phase.config)
    monkeypatch.setattr(data_report, "NEARLY_ALL", share)
    with pytest.raises(UserError, match="too long to be hidden") as error:
        check_text(files, vocabulary, phase.config)
    assert error.value.where == files.paths[0] and "masking whole_word" in error.value.received
    assert long_words(files, vocabulary, opened(root, records, **given)[2].config) == 0
