"""Tagging tasks: examples, features, labels, state, records, and data that can't be used."""

import json
import logging

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig
from finetune.definitions import TaggingDefinition
from finetune.tagging.layout import Columns
from finetune.tagging.metrics import SpanScorer, WordAccuracyScorer
from finetune.tagging.tasks import Chunking, CustomTagging, TaggingTask
from finetune.task_builder import get_task
from tests.finetune.tagging.tagging_samples import (
    DEV,
    TRAIN,
    config,
    ids,
    outputs,
    tokenizer,
    write,
)


def _task(folder, *, is_token_level=False, **values):
    return TaggingTask(config(folder, **values), "ner", tokenizer(), is_token_level)


def features(task, split):
    """The features of a split's examples, as lists and numbers."""
    rows = task.featurize(task.get_examples(split), is_training=split == "train")
    return [{name: np.asarray(values).tolist() for name, values in row.items()} for row in rows]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, train=TRAIN, dev=DEV)


def test_chunk_is_registered(folder):
    settings = config(folder)
    settings.tasks = {}
    task = get_task(settings, "chunk", tokenizer())
    assert type(task) is Chunking
    assert (task.name, task.main_metric, task.is_token_level) == ("chunk", "f1", False)


def test_examples_and_labels(folder):
    task = _task(folder)
    first, second = task.get_examples("train")
    assert (first.eid, second.eid) == (0, 1)
    assert first.words == ("anna", "smith", "barks", "in", "paris")
    assert first.tags == ("B-PER", "E-PER", "O", "O", "S-LOC")
    # Of train and dev, sorted.
    labels = ["B-LOC", "B-PER", "E-LOC", "E-PER", "O", "S-LOC"]
    assert task.labels == labels


def test_features(folder):
    task = _task(folder)
    first, _ = features(task, "train")
    assert first == {
        "eid": 0,
        "input_ids": ids("[CLS]", "anna", "smith", "bark", "##s", "in", "paris", "[SEP]"),
        "segment_ids": [1] * 8,
        "labels": [1, 3, 4, 4, 5],
        "labels_mask": [1.0] * 5,
        "labeled_positions": [1, 2, 3, 5, 6],
    }
    specs = {spec.name: spec for spec in task.get_feature_specs()}
    assert set(specs) == set(first) - {"eid", "input_ids", "segment_ids"}
    assert all(spec.per_token for spec in specs.values())
    assert [name for name, spec in specs.items() if not spec.is_int_feature] == ["labels_mask"]


@pytest.mark.parametrize(
    ("max_seq_length", "pieces", "kept"),
    [
        (8, "anna smith bark ##s in paris", 5),
        (7, "anna smith bark ##s in", 4),
        (6, "anna smith bark ##s", 3),
        (5, "anna smith", 2),  # a word is cut off whole
        (3, "anna", 1),
    ],
)
def test_as_many_words_as_fit(folder, max_seq_length, pieces, kept):
    task = _task(folder, max_seq_length=max_seq_length)
    row = features(task, "train")[0]
    assert row["input_ids"] == ids("[CLS]", *pieces.split(), "[SEP]")
    assert row["labels"] == [1, 3, 4, 4, 5][:kept]
    assert row["labels_mask"] == [1.0] * kept
    assert row["labeled_positions"] == [1, 2, 3, 5, 6][:kept]


def test_a_sentence_of_which_no_word_fits(tmp_path, caplog):
    write(tmp_path, train="barks B-A\n\ndog O\n", dev="barks B-A\ndog O\n\ndog O\n")
    task = _task(tmp_path, max_seq_length=3)
    assert [r["eid"] for r in features(task, "train")] == [1]
    with caplog.at_level(logging.WARNING, logger="absl"):
        empty, _ = features(task, "dev")
    assert "2 words of 1 sentences (66.7 % of all words, 50.0 % of all" in caplog.text
    assert empty == {
        "eid": 0,
        "input_ids": ids("[CLS]", "[SEP]"),
        "segment_ids": [1, 1],
        "labels": [],
        "labels_mask": [],
        "labeled_positions": [],
    }
    scorer = task.get_scorer()
    scorer.update(outputs(0, [], labels=task.labels, loss=0.0))
    scorer.update(outputs(1, ["O"], labels=task.labels))
    assert dict(scorer.get_results())["recall"] == 0
    assert [(own.name, own.gold) for own in scorer.class_scores().figures if own.gold] == [("A", 1)]
    record = task.prediction_records(
        "dev", [outputs(0, [], labels=task.labels)], task.get_examples("dev")[:1]
    )[0]
    assert record["tags"] == ["O", "O"] and record["spans"] == []
    json.dumps(record, allow_nan=False)


def test_words_that_clean_to_nothing_are_tagged(tmp_path):
    write(tmp_path, train="the O\n\u200b B-A\n\ufffd I-A\ndog O\n")
    task = _task(tmp_path)
    (row,) = features(task, "train")
    assert row["input_ids"] == ids("[CLS]", "the", "[UNK]", "[UNK]", "dog", "[SEP]")
    assert row["labeled_positions"] == [1, 2, 3, 4]


def test_without_dev_the_test_split_is_scored(tmp_path, caplog):
    write(tmp_path, train=TRAIN, test=DEV)
    task = _task(tmp_path)
    assert task.data_file("dev") == str(tmp_path / "test.txt")
    assert task.test_splits == ()
    assert "E-LOC" in task.labels
    with caplog.at_level(logging.INFO, logger="absl"):
        for _ in range(2):
            task.get_scorer("dev")
    assert caplog.text.count(str(tmp_path / "test.txt")) == 1
    write(tmp_path, dev=DEV)
    assert task.data_file("dev") == str(tmp_path / "dev.txt")
    assert task.test_splits == ("test",)


def test_a_test_split_without_tags(folder, caplog):
    write(folder, test="anna\nbarks\n")
    task = _task(folder)
    (example,) = task.get_examples("test")
    assert example.words == ("anna", "barks") and example.tags == ()
    (row,) = task.featurize([example], is_training=False)
    assert row["labels"] == [0, 0] and row["labels_mask"] == [1.0, 1.0]
    labels = _task(write(folder, test="anna O\nbarks O\n")).labels
    assert task.labels == labels
    # Where it has tags, they are labels too.
    assert "S-ORG" in _task(write(folder, test="anna B-ORG\n")).labels
    caplog.clear()
    for placeholder in ("_", "?"):  # no tags that mark spans, as a shared task holds its own back
        assert _task(write(folder, test=f"anna {placeholder}\n")).labels == labels
        assert "no labels to learn" in caplog.text
        caplog.clear()
    assert _task(write(folder, test="")).labels == labels


def test_a_file_to_predict_may_have_tags_or_not(folder):
    task = _task(folder)
    for text in ("anna\n\nnew\nyork\n", "anna nonsense\n\nnew -\nyork -"):
        (folder / "own.txt").write_text(text)
        examples = task.read_examples(str(folder / "own.txt"), "predict")
        assert [e.words for e in examples] == [("anna",), ("new", "york")]


def test_tags_that_only_dev_has_are_labels_and_said(tmp_path, caplog):
    write(tmp_path, train="anna B-PER\nthe O\n", dev="paris B-LOC\n")
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert _task(tmp_path).labels == ["O", "S-LOC", "S-PER"]
    assert "S-LOC" in caplog.text


def test_state_round_trip(folder):
    trained = _task(folder)
    state = json.loads(json.dumps(trained.get_state()))
    write(folder, train="anna B-OTHER\n", dev="anna B-PER\ndog O\n\nnew B-LOC\n")
    task = _task(folder)
    task.set_state(state)
    assert task.labels == trained.labels
    assert task.get_state() == state
    # A place of a known type that was not trained: scored as it is, learned as the type's first.
    first, second = task.get_examples("dev")
    assert first.tags == ("S-PER", "O") and second.tags == ("S-LOC",)
    rows = list(task.featurize([first, second], False))
    assert [row["labels"] for row in rows] == [[1, 4], [5]]


def test_features_depend_on_columns_and_level(folder):
    settings = _task(folder).feature_settings()
    assert json.loads(json.dumps(settings)) == settings
    write(folder, train="anna O O\n", dev="dog O O\n")
    assert _task(folder).feature_settings() == settings
    assert _task(folder, is_token_level=True).feature_settings() != settings
    for columns in (Columns(1, -1), Columns(0, 1), Columns(separator="\t")):
        task = _task(folder)
        task.columns = columns
        assert task.feature_settings() != settings


@pytest.mark.parametrize("state", [{}, {"min": 0.0, "max": 1.0}, {"labels": ["a", "b"]}])
def test_the_state_of_another_kind_of_task(folder, state):
    with pytest.raises(UserError, match="(?s)another kind.*ner.*tagging here"):
        _task(folder).set_state(state)


def test_token_level(tmp_path):
    write(tmp_path, train="the DT\ndog NN-x\n. -LRB-\n", dev="dog NN\n")
    task = _task(tmp_path, is_token_level=True, max_seq_length=4)
    assert task.labels == ["-LRB-", "DT", "NN", "NN-x"]
    assert task.main_metric == "accuracy"
    assert isinstance(task.get_scorer(), WordAccuracyScorer)
    (example,) = task.get_examples("train")
    assert example.tags == ("DT", "NN-x", "-LRB-")
    (record,) = task.prediction_records(
        "train", [outputs(0, ["DT", "NN"], labels=task.labels)], [example]
    )
    probability = np.exp(2) / (np.exp(2) + 3)
    assert record == {
        "id": 0,
        "words": ["the", "dog", "."],
        "tags": ["DT", "NN", None],
        "probabilities": [pytest.approx(probability), pytest.approx(probability), None],
    }


def test_records_of_spans_come_in_the_order_of_the_examples(folder):
    task = _task(folder)
    examples = task.get_examples("train")
    tags = [["B-PER", "E-PER", "O", "O"], ["O", "S-LOC", "O"]]
    shuffled = [outputs(eid, tags[eid], labels=task.labels) for eid in (1, 0)]
    records = task.prediction_records("train", shuffled, examples)
    assert [record["id"] for record in records] == [0, 1]
    assert records[0]["tags"] == [*tags[0], "O"]
    assert records[0]["probabilities"][-1] is None
    assert records[0]["spans"] == [{"start": 0, "end": 2, "type": "PER", "text": "anna smith"}]
    assert records[1]["spans"] == [{"start": 1, "end": 2, "type": "LOC", "text": "dog"}]


def test_perfect_predictions_score_100(folder):
    task = _task(folder)
    scorer = task.get_scorer("dev")
    assert isinstance(scorer, SpanScorer)
    for example in task.get_examples("dev"):
        scorer.update(outputs(example.eid, list(example.tags), labels=task.labels))
    results = dict(scorer.get_results())
    assert results["f1"] == results["seqeval_f1"] == results["precision"] == 100


def test_scores_of_a_truncated_sentence_count_the_whole(folder):
    task = _task(folder, max_seq_length=4)
    scorer = task.get_scorer("dev")
    (row,) = task.featurize(task.get_examples("dev"), False)
    predicted = [task.labels[i] for i in row["labels"]]
    scorer.update(outputs(0, predicted, labels=task.labels))
    assert predicted == ["O", "B-LOC"]
    assert dict(scorer.get_results())["f1"] == 0  # new york is cut in two
    assert {own.name: own.gold for own in scorer.class_scores().figures}["LOC"] == 1


@pytest.mark.parametrize("dev", [DEV + "\nthe O\n", "the O\nnew B-LOC\nyork I-LOC\n"])
def test_a_file_that_changes_between_its_features_and_its_scores(folder, dev):
    task = _task(folder)
    result = outputs(0, ["O", "B-LOC", "E-LOC", "O"], labels=task.labels)
    write(folder, dev=dev)
    with pytest.raises(UserError, match="(?s)file was changed.*dev.txt"):
        scorer = task.get_scorer("dev")
        scorer.update(result)
        scorer.get_results()
    with pytest.raises(UserError, match="(?s)file was changed.*dev.txt"):
        task.prediction_records("dev", [result], task.get_examples("dev"))


def test_debug_reads_the_first_sentences(tmp_path):
    write(tmp_path, train="dog O\n\n" * 150 + "anna B-PER\n")
    assert len(_task(tmp_path, debug=True).get_examples("train")) == 100
    assert _task(tmp_path, debug=True).labels == ["O", "S-PER"]
    assert len(_task(tmp_path).get_examples("train")) == 151


def test_the_head_has_a_unit_for_each_label(folder):
    task = _task(folder)
    encoder = TransformerConfig(vocab_size=40, hidden_size=8, num_attention_heads=2)
    head = task.make_head(encoder, "float32")
    head.build((None, None, 8))
    assert [tuple(v.shape) for v in head.trainable_variables] == [(8, 6), (6,)]


@pytest.mark.parametrize(
    ("files", "split", "where", "received"),
    [
        ({"dev": DEV}, "train", "train.txt", "holds dev.txt"),
        ({"train": TRAIN}, "dev", "dev.txt", "holds train.txt"),
        ({"train": TRAIN}, "test", "test.txt", "holds train.txt"),
        ({"train": TRAIN, "dev": "a O\n\nb\n"}, "train", "dev.txt, line 3", "'b'"),
        ({"train": "a NN\n"}, "train", "train.txt, line 1", "'NN'"),
        ({"train": TRAIN, "dev": "a O\nb X-A\n"}, "dev", "dev.txt, line 2", "'X-A'"),
        ({"train": "a O\nb U-A\n"}, "train", "train.txt, line 2", "'U-A'"),
    ],
)
def test_bad_files(tmp_path, files, split, where, received):
    write(tmp_path, **files)
    with pytest.raises(UserError) as error:
        _task(tmp_path).get_examples(split)
    assert error.value.where == str(tmp_path / where)
    assert received in error.value.received


def test_end_tags_in_a_file_said_to_be_iob(tmp_path):
    write(tmp_path, train="a B-A\nb E-A\n")
    task = CustomTagging(config(tmp_path), "mine", tokenizer(), TaggingDefinition(scheme="iob"))
    with pytest.raises(UserError, match="(?s)line 2.*'E-A'.*B-, I-"):
        task.get_examples("train")


@pytest.mark.parametrize(
    ("is_token_level", "train", "dev", "expected"),
    [
        (False, TRAIN, "the O\nanna I-LOC\n\ndog B-LOCC\n", ["line 4", "'LOCC'", "mean 'LOC'"]),
        (True, "a NN\nb DT\n", "a NN\nb NNP\n", ["line 2", "'NNP'", "mean 'NN'"]),
        (True, "a NN\nb DT\n", "a O\n", ["line 1", "'O'", "one of: DT, NN"]),
    ],
)
def test_a_tag_in_dev_that_a_trained_model_does_not_know(
    tmp_path, is_token_level, train, dev, expected
):
    state = TaggingTask(
        config(write(tmp_path, train=train)), "ner", tokenizer(), is_token_level
    ).get_state()
    task = TaggingTask(config(write(tmp_path, dev=dev)), "ner", tokenizer(), is_token_level)
    task.set_state(state)
    with pytest.raises(UserError) as error:
        task.get_examples("dev")
    for part in ("dev.txt", "was trained with", *expected):
        assert part in str(error.value)


def test_no_room_for_a_word(tmp_path):
    task = _task(write(tmp_path, train=TRAIN), max_seq_length=2)
    with pytest.raises(UserError, match="(?s)no room.*max_seq_length"):
        list(task.featurize(task.get_examples("train"), True))


def test_tags_with_several_hyphens(tmp_path):
    write(tmp_path, train="the B-NP-SBJ\ndog I-NP-SBJ\nbarks B-NP-OBJ-1\n")
    task = _task(tmp_path)
    assert task.get_examples("train")[0].tags == ("B-NP-SBJ", "E-NP-SBJ", "S-NP-OBJ-1")
