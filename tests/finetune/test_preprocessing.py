"""Features from the cache: read where nothing changed, never where anything did."""

import pathlib

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from finetune.feature_tables import FeatureTable
from finetune.features import Preprocessor, describe_example
from finetune.task import FeatureSpec
from finetune.task_builder import get_tasks
from tests.finetune import tiny_tasks


class Counting:
    """Makes the features of the tiny task and counts how often that was done anew."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.made = 0

    def __call__(self, split="train", lower_case=True, **hparams):
        config = tiny_tasks.configure(self.data_dir, **hparams)
        vocabulary = load_vocabulary(str(self.data_dir / "vocab.txt"))
        (task,) = get_tasks(config, make_tokenizer(vocabulary, Casing(lower_case)))
        original = task.featurize

        def featurize(*arguments, **named):
            self.made += 1
            return original(*arguments, **named)

        task.featurize = featurize
        return Preprocessor(config).features(task, split)


@pytest.fixture
def features(data_dir):
    counting = Counting(data_dir)
    counting()
    assert counting.made == 1
    return counting


def same(one, other):
    ours, theirs = one.to_arrays(), other.to_arrays()
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name]) for name in ours
    )


def test_unchanged_features_are_read(features):
    first = features()
    assert features.made == 1
    assert same(first, features(use_tfrecords_if_existing=False))
    assert features.made == 2


@pytest.mark.parametrize(
    "change",
    [{"max_seq_length": 8}, {"lower_case": False}, {"split": "dev"}, {"debug": True}],
)
def test_other_settings_are_other_features(features, change):
    features(**change)
    assert features.made == 2
    features()
    assert features.made == 2


def test_texts_that_are_cut_are_counted_from_the_cache_too(features, caplog):
    assert "are cut" not in caplog.text
    first = features(max_seq_length=8)
    cut = int(np.count_nonzero(first.cut))
    line = f"marks, train: {cut} of 240 examples ({cut / 2.4:.1f} %) are cut by max_seq_length 8;"
    assert 0 < cut < 240 and line in caplog.text
    caplog.clear()
    assert same(first, features(max_seq_length=8))
    assert features.made == 2 and line in caplog.text


def test_changed_data_and_labels_are_read_anew(features):
    path = features.data_dir / "finetuning_data" / "marks" / "train.tsv"
    text = path.read_text()
    path.write_text(text + "the ship .\tgood\n")
    longer = features()
    assert features.made == 2
    path.write_text(text + "the ship .\tother\n")
    assert not same(longer, features())
    assert features.made == 3
    path.write_text(text)
    features()
    assert features.made == 3


def test_a_changed_vocabulary_is_read_anew(features):
    path = features.data_dir / "vocab.txt"
    path.write_text(path.read_text().replace("bread\nharbour", "harbour\nbread"))
    features()
    assert features.made == 2


def test_features_that_a_task_makes_otherwise_by_now_are_made_anew(features, monkeypatch):
    table = "finetune.classification.table_tasks.TableTask"
    monkeypatch.setattr(f"{table}.features_version", 1000)
    features()
    features()
    assert features.made == 2


def test_damaged_cache_is_made_anew(features, capsys):
    folder = pathlib.Path(tiny_tasks.configure(features.data_dir).preprocessed_data_dir)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    features()
    assert features.made == 2
    assert "damaged" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_table_round_trip():
    rows = [
        {"eid": 7, "input_ids": [1, 2, 3], "segment_ids": [0, 0, 1], "score": 0.5, "tags": [4]},
        {"eid": 9, "input_ids": [5], "segment_ids": [0], "score": 1.5, "tags": [], "cut": 5},
    ]
    specs = [FeatureSpec("score", is_int_feature=False), FeatureSpec("tags", per_token=True)]
    table = FeatureTable.from_arrays(FeatureTable.from_rows(rows, specs).to_arrays())
    assert table.cut.tolist() == [0, 5]
    assert table.num_rows == 2 and table.lengths.tolist() == [3, 1]
    assert table.scalars["score"].tolist() == [0.5, 1.5]
    ids, tags = table.ragged["input_ids"], table.ragged["tags"]
    assert ids.values.tolist() == [1, 2, 3, 5] and ids.splits.tolist() == [0, 3, 4]
    assert tags.values.tolist() == [4] and tags.splits.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "row", [{"eid": 1}, {"eid": 1, "input_ids": [], "segment_ids": [], "more": 0}]
)
def test_rows_have_the_features_of_the_specs(row):
    with pytest.raises(ValueError, match="not those of the specs"):
        FeatureTable.from_rows([row], [])


def test_no_row_is_an_error(data_dir):
    config = tiny_tasks.configure(data_dir)
    vocabulary = load_vocabulary(str(data_dir / "vocab.txt"))
    (task,) = get_tasks(config, make_tokenizer(vocabulary))
    task.featurize = lambda examples, is_training: []
    with pytest.raises(UserError, match="No example of the task is left"):
        Preprocessor(config).features(task, "train")


def test_an_example_is_described(features):
    config = tiny_tasks.configure(features.data_dir)
    vocabulary = load_vocabulary(str(features.data_dir / "vocab.txt"))
    (task,) = get_tasks(config, make_tokenizer(vocabulary))
    lines = describe_example(task, features()).splitlines()
    assert lines[1].startswith("  tokens: [CLS] ") and lines[1].endswith("[SEP]")
    assert any(line.startswith("  label_ids: ") for line in lines)
