"""A sample of named entities in the form of CoNLL-2003, from the file to the score."""

import numpy as np
import pytest
import tensorflow as tf

from finetune.tagging.custom import make_tagging
from finetune.tagging.head import TaggingHead
from tests.finetune.tagging.tagging_samples import config, tokenizer, write

TRAIN = """-DOCSTART- -X- -X- O

Anna NNP I-NP I-PER
Smith NNP I-NP I-PER
of IN I-PP O
New NNP I-NP I-LOC
York NNP I-NP I-LOC
Times NNP I-NP I-ORG
barks VBZ I-VP O
. . O O

-DOCSTART- -X- -X- O

Paris NNP I-NP I-LOC
, , O O
U.N. NNP I-NP I-ORG
, , O O
"""
DEV = """-DOCSTART- -X- -X- O

The DT I-NP O
U.N. NNP I-NP I-ORG
dog NN I-NP O
barks VBZ I-VP O
in IN I-PP O
Paris NNP I-NP I-LOC
New NNP I-NP B-LOC
York NNP I-NP I-LOC
Anna NNP I-NP I-PER

Smith NNP I-NP I-PER
"""
TAGS = [
    "O S-ORG O O O S-LOC B-LOC E-LOC S-PER".split(),
    ["S-PER"],
]


@pytest.fixture
def task(tmp_path):
    write(tmp_path, train=TRAIN, dev=DEV)
    return make_tagging(config(tmp_path), "ner", tokenizer(), {})


def _batch(rows, length):
    def padded(name, dtype):
        array = np.zeros((len(rows), length), dtype)
        for target, row in zip(array, rows, strict=True):
            target[: len(row[name])] = row[name]
        return array

    names = {"labels": np.int32, "labels_mask": np.float32, "labeled_positions": np.int32}
    return {name: padded(name, dtype) for name, dtype in names.items()}


def _outputs(task, rows, length):
    """Of a head that sees the gold label in the state of a word's first piece, and only there."""
    size = len(task.labels)
    head = TaggingHead(size, size, dtype="float32")
    head.build()
    head.classifier.kernel.assign(20.0 * np.eye(size, dtype=np.float32))
    features = _batch(rows, length)
    states = np.random.default_rng(0).uniform(size=(len(rows), length, size)).astype(np.float32)
    for state, row in zip(states, rows, strict=True):
        for position, label in zip(row["labeled_positions"], row["labels"], strict=True):
            state[position] = np.eye(size)[label]
    outputs = head(tf.constant(states), {k: tf.constant(v) for k, v in features.items()}).outputs
    return [
        {"eid": row["eid"], **{name: value[i].numpy() for name, value in outputs.items()}}
        for i, row in enumerate(rows)
    ]


def test_examples(task):
    assert [list(example.tags) for example in task.get_examples("dev")] == TAGS
    assert task.get_examples("train")[0].tags == tuple(
        "B-PER E-PER O B-LOC E-LOC S-ORG O O".split()
    )


@pytest.mark.parametrize("length", [16, 40])
def test_a_head_that_knows_scores_100(task, length):
    examples = task.get_examples("dev")
    rows = list(task.featurize(examples, is_training=False))
    assert len(rows[0]["input_ids"]) == 15  # u . n . and bark ##s, between [CLS] and [SEP]
    outputs = _outputs(task, rows, length)
    scorer = task.get_scorer("dev")
    for output in reversed(outputs):
        scorer.update(output)
    results = dict(scorer.get_results())
    assert results["f1"] == results["seqeval_f1"] == 100
    assert 0 <= results["loss"] < 1e-6
    records = task.prediction_records("dev", outputs, examples)
    assert [record["tags"] for record in records] == TAGS
    assert [span["text"] for span in records[0]["spans"]] == ["U.N.", "Paris", "New York", "Anna"]
