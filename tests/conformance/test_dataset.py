"""Data sets built with the official random stream hold exactly the official program's examples."""

import random
from pathlib import Path

import pytest
import tensorflow as tf

from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.building.corpus import shuffled
from electra_tf2.data.sources.found import find_files
from tests.conformance.cases import Case


@pytest.mark.conformance("build_pretraining_dataset")
def test_every_shard_equals_the_official_one(case: Case, tmp_path: Path):
    spec = case.spec
    corpus, _ = find_files(str(case.folder / "corpus"), "--corpus-dir")
    order = [file.name for file in shuffled(corpus, random.Random(spec["seed"]))]
    assert order == spec["file_order"]

    metadata = build_dataset(
        BuildConfig(
            corpus_dir=str(case.folder / "corpus"),
            vocab_file=str(case.vocab),
            output_dir=str(tmp_path / "out"),
            max_seq_length=spec["max_seq_length"],
            blanks_separate_docs=spec["blanks_separate_docs"],
            do_lower_case=spec["do_lower_case"],
            strip_accents=spec["strip_accents"],
            seed=spec["seed"],
            num_out_files=spec["num_out_files"],
            sampling="official",
        )
    )

    assert metadata.num_examples == spec["n_written"] == sum(map(len, spec["shards"]))
    assert len(spec["shards"]) == spec["num_out_files"]
    for shard, expected in zip(metadata.shards, spec["shards"], strict=True):
        records = list(tf.data.TFRecordDataset(str(tmp_path / "out" / shard.name)))
        examples = [_read(record.numpy(), spec["max_seq_length"]) for record in records]
        assert examples == [tuple(example) for example in expected]


def _read(record: bytes, max_seq_length: int) -> tuple[list[int], int]:
    """A record in the form of the case: ids without padding, length of the first segment."""
    feature = tf.train.Example.FromString(record).features.feature
    assert sorted(feature) == ["input_ids", "input_mask", "segment_ids"]
    ids, mask, segments = (list(feature[name].int64_list.value) for name in sorted(feature))
    length, second = sum(mask), sum(segments)
    assert ids[length:] == [0] * (max_seq_length - length)
    assert mask == [1] * length + [0] * (max_seq_length - length)
    first = length - second
    assert segments == [0] * first + [1] * second + [0] * (max_seq_length - length)
    return ids[:length], first
