"""Sentence embeddings: rows, the loss beside NumPy, training, scores and predictions."""

import json

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.special import logsumexp

from electra_tf2.errors import UserError
from finetune.definitions import read_definition
from finetune.feature_tables import FeatureTable, TaskData
from finetune.fine_tuned import FineTuned
from finetune.model import FinetuningModel
from finetune.sentences.embedding import EmbeddingHead
from finetune.sentences.retrieval import RetrievalScorer, SimilarityScorer
from tests.finetune import tiny_tasks
from tests.finetune.sentences.sentence_samples import (
    PAIRS,
    SIMILARITY,
    TRIPLETS,
    make_task,
    triplets,
    write_lines,
)

WIDTH = 6


def directions(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def batch(texts, seed=0, length=4):
    """States and features of examples; a text below 0 is one that the example lacks."""
    texts = np.array(texts, np.int32)
    stream = np.random.default_rng(seed)
    table = stream.normal(size=(texts.max() + 1, length, WIDTH)).astype(np.float32)
    lengths = stream.integers(2, length + 1, size=texts.max() + 1)
    mask = (np.arange(length) < lengths[texts][..., None]) & (texts >= 0)[..., None]
    states = table[np.maximum(texts, 0)]
    features = {
        "input_mask": mask[:, 0].astype(np.int32),
        "more_mask": mask[:, 1:].astype(np.int32),
        "more_states": states[:, 1:],
        "texts": texts,
        "targets": np.zeros(len(texts), np.float32),
    }
    weights = mask[..., None] / np.maximum(mask.sum(-1), 1)[..., None, None]
    return states[:, 0], features, (states * weights).sum(2)


def expected_losses(texts, embeddings, scale):
    """An independent loop over anchors and candidates."""
    unit, losses = (
        embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-9),
        [],
    )
    for i, (anchor, positive, _) in enumerate(texts):
        logits = [scale * unit[i, 0] @ unit[i, 1]]
        for j, (other, *candidates) in enumerate(texts):
            for k, candidate in enumerate(candidates):
                its_own = k == 0 and other == anchor
                if candidate >= 0 and candidate not in (anchor, positive) and not its_own:
                    logits.append(scale * unit[i, 0] @ unit[j, 1 + k])
        losses.append(logsumexp(logits) - logits[0])
    return losses


@pytest.mark.parametrize(
    "texts",
    [
        [(0, 1, 2), (3, 4, 5), (6, 7, 8)],
        # one anchor twice, one positive twice, an anchor as a candidate, no negative
        [(0, 1, 2), (0, 3, -1), (4, 1, 5), (1, 6, 0)],
    ],
)
def test_the_loss_is_that_of_the_batch_s_negatives(texts):
    states, features, embeddings = batch(texts)
    result = EmbeddingHead(scale=5.0)(states, features, training=True)
    np.testing.assert_allclose(result.outputs["embeddings"], embeddings, atol=1e-6)
    np.testing.assert_allclose(result.losses, expected_losses(texts, embeddings, 5.0), atol=1e-5)
    assert not np.any(EmbeddingHead()(states, features, training=False).losses)


def test_rows_without_an_example_change_nothing():
    texts = [(0, 1, 2), (3, 4, 5)]
    states, features, embeddings = batch(texts)
    padded = {name: np.pad(v, [(0, 2)] + [(0, 0)] * (v.ndim - 1)) for name, v in features.items()}
    with tf.GradientTape() as tape:
        variable = tf.Variable(np.pad(states, [(0, 2), (0, 0), (0, 0)]))
        losses = EmbeddingHead()(variable, padded, training=True).losses
    np.testing.assert_allclose(losses[:2], expected_losses(texts, embeddings, 20.0), atol=1e-5)
    assert np.isfinite(tape.gradient(losses, variable)).all()


def test_texts_are_encoded_as_if_alone(tmp_path):
    task = make_task(tmp_path, TRIPLETS)
    rows = triplets(5)
    write_lines(tmp_path / "train.jsonl", rows)
    examples = task.read_examples(str(tmp_path / "train.jsonl"), "train")
    specs = task.get_feature_specs()
    table = FeatureTable.from_rows(task.featurize(examples, True), specs)
    assert table.lengths.tolist() == [2 + len(row["anchor"].split()) for row in rows]
    head = table.head(2)
    assert head.rows_each("more_ids") == 2 and head.num_rows == 2
    data = TaskData(["texts"], [table], [specs])
    assert data.num_texts == 3
    model = FinetuningModel([task], tiny_tasks.NETWORK)
    model.build()
    together = model(data.batch(np.array([3, 0, -1]), 16))["texts"].outputs["embeddings"].numpy()
    for place, row in ((0, rows[3]), (1, rows[0])):
        for i, column in enumerate(("anchor", "positive", "negative")):
            ids = [task.tokenizer.vocabulary.cls_id, *task.tokenizer.encode(row[column])]
            ids = np.array([[*ids, task.tokenizer.vocabulary.sep_id]], np.int32)
            alone = model.encoder(ids, np.ones_like(ids), np.zeros_like(ids)).numpy()[0].mean(0)
            np.testing.assert_allclose(together[place, i], alone, atol=1e-5)


def test_two_tasks_share_a_batch(tmp_path):
    """Rows of another task are no negatives, and its head sees its own states."""
    embedding = make_task(tmp_path, PAIRS)
    marks = make_task(
        tmp_path,
        {**tiny_tasks.HPARAMS["tasks"]["marks"], "labels": ["bad", "good"]},
        "marks",
    )
    write_lines(tmp_path / "train.jsonl", triplets(3))
    write_lines(tmp_path / "m.jsonl", [{"text": t, "label": y} for t, y in tiny_tasks.sentences(3)])
    examples = [
        embedding.read_examples(str(tmp_path / "train.jsonl"), "train"),
        marks.read_examples(str(tmp_path / "m.jsonl"), "train"),
    ]
    tasks = [embedding, marks]
    specs = [task.get_feature_specs() for task in tasks]
    tables = [
        FeatureTable.from_rows(task.featurize(own, True), spec)
        for task, own, spec in zip(tasks, examples, specs, strict=True)
    ]
    model = FinetuningModel(tasks, tiny_tasks.NETWORK)
    model.build()
    mixed = TaskData(["texts", "marks"], tables, specs)
    seed = tf.constant([0, 0], tf.int64)
    both = model(mixed.batch(np.arange(6), 16))
    for i, (name, output) in enumerate((("texts", "embeddings"), ("marks", "logits"))):
        alone = TaskData([name], tables[i : i + 1], specs[i : i + 1])
        expected = model(alone.batch(np.arange(3), 16), only=name)[name].outputs[output]
        np.testing.assert_allclose(both[name].outputs[output][3 * i :][:3], expected, atol=1e-5)
    states, features, embeddings = batch([(0, 1, 2), (3, 4, 5), (6, 7, 8)])
    features["more_mask"][1] = 0  # a row of another task
    losses = EmbeddingHead()(states, features, training=True, seed=seed).losses.numpy()
    kept = [(0, 1, 2), (6, 7, 8)]
    expected = expected_losses(kept, embeddings[[0, 2]], 20.0)
    np.testing.assert_allclose(losses[[0, 2]], expected, atol=1e-5)


def test_retrieval_ranks_the_positives_of_all_examples():
    stream = np.random.default_rng(3)
    texts = [(0, 10), (1, 11), (1, 12), (2, 11), (11, 13)]
    table = {number: stream.normal(size=3) for number in {n for pair in texts for n in pair}}
    scorer = RetrievalScorer(2.0)
    for eid, (anchor, positive) in reversed([*enumerate(texts)]):
        pair = np.array([table[anchor], table[positive]])
        scorer.update({"eid": eid, "embeddings": pair, "texts": np.array([anchor, positive, -1])})
    ranks, losses = [], []
    for anchor, positive in texts:
        others = {p for _, p in texts} - {p for a, p in texts if a == anchor} - {anchor}
        cosines = {n: directions(table[anchor]) @ directions(table[n]) for n in others}
        own = directions(table[anchor]) @ directions(table[positive])
        ranks.append(1 + sum(c > own for c in cosines.values()))
        losses.append(logsumexp([2 * own, *(2 * c for c in cosines.values())]) - 2 * own)
    results = dict(scorer.get_results())
    assert results["accuracy"] == pytest.approx(100 * np.mean(np.array(ranks) == 1))
    assert results["mrr_at_10"] == pytest.approx(100 * np.mean(1 / np.array(ranks)))
    assert results["loss"] == pytest.approx(np.mean(losses))
    assert scorer.stuck_at() is None


def test_equal_embeddings_are_worth_nothing():
    scorer = RetrievalScorer(20.0)
    for eid in range(12):
        texts = np.array([2 * eid, 2 * eid + 1, -1])
        scorer.update({"eid": eid, "embeddings": np.ones((2, 4)), "texts": texts})
    assert dict(scorer.get_results())["mrr_at_10"] == 0
    assert "one embedding" in str(scorer.stuck_at())


def test_similarity_is_scored_by_correlations(tmp_path):
    task = make_task(tmp_path, SIMILARITY)
    assert task.main_metric == "spearman"
    rows = [{**row, "score": i * i} for i, row in enumerate(triplets(6))]
    write_lines(tmp_path / "dev.jsonl", rows)
    examples = task.read_examples(str(tmp_path / "dev.jsonl"), "dev")
    targets = [row["targets"] for row in task.featurize(examples, False)]
    assert targets == [i * i / 25 for i in range(6)]
    scorer, cosines = task.get_scorer(), []
    assert isinstance(scorer, SimilarityScorer)
    for i, target in enumerate(targets):
        vectors = np.random.default_rng(i).normal(size=(2, 5))
        cosines.append(directions(vectors[0]) @ directions(vectors[1]))
        scorer.update({"embeddings": vectors, "targets": target})
    expected = 100 * scipy.stats.spearmanr(cosines, targets)[0]
    assert dict(scorer.get_results())["spearman"] == pytest.approx(expected)


def test_points_between_thousands_of_scores_are_refused(tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text("anchor;positive;score\na;b;1.500\nc;d;2.250,5\n")
    with pytest.raises(UserError, match="(?s)thousands.*line 3"):
        make_task(tmp_path, SIMILARITY).read_examples(str(path), "dev")


@pytest.mark.parametrize(
    "change, key",
    [
        ({"text_b": None}, "text_b"),
        ({"text_b": "anchor"}, "text_b"),
        ({"negative": "positive"}, "negative"),
        ({"negative": "anchor"}, "negative"),
        ({"label": "positive"}, "label"),
        ({"windows": "mean"}, "windows"),
        ({"scale": 0}, "scale"),
    ],
)
def test_bad_definitions(change, key):
    with pytest.raises(UserError) as error:
        read_definition("texts", {**PAIRS, **change})
    assert error.value.where == f"hparam tasks.texts.{key}"


def test_rows_without_a_text_are_named(tmp_path):
    task = make_task(tmp_path, TRIPLETS)
    rows = [{**row, "positive": ""} for row in triplets(2)]
    write_lines(tmp_path / "train.jsonl", rows)
    with pytest.raises(UserError, match="line 1: text_b .*is empty") as error:
        task.read_examples(str(tmp_path / "train.jsonl"), "train")
    assert error.value.where == str(tmp_path / "train.jsonl")


def test_micro_batches_are_refused(tmp_path):
    with pytest.raises(UserError, match="negatives") as error:
        make_task(tmp_path, PAIRS, gradient_accumulation_steps=2)
    assert "gradient_accumulation_steps" in error.value.received


def test_models_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="another kind"):
        make_task(tmp_path, PAIRS).set_state({"labels": ["a", "b"]})


def test_training_scores_predictions_and_python(data_dir, tmp_path):
    """Reordered words are found by their bag of words after a few steps."""
    folder = data_dir / "finetuning_data" / "texts"
    write_lines(folder / "train.jsonl", triplets(64))
    write_lines(folder / "dev.jsonl", triplets(12, seed=1))
    hparams = {"task_names": ["texts"], "tasks": {"texts": TRIPLETS}, "num_train_epochs": 2.0}
    (result,), shown = tiny_tasks.finetune_here(data_dir, **hparams)
    scores = result.scores["texts"]
    assert scores["accuracy"] > 50 and scores["mrr_at_10"] >= scores["accuracy"]
    assert np.isfinite(scores["loss"]) and "mrr_at_10" in shown

    trial = tiny_tasks.model_of(data_dir) / "finetuning_models" / "texts_model_1"
    assert json.loads((trial / "tasks.json").read_text()) == {"texts": {"pooling": "mean"}}
    model = FineTuned.from_pretrained(str(trial))
    texts = ["the ship", "a harbour in the sea", ""]
    vectors = model.encode(texts)
    assert vectors.shape == (3, tiny_tasks.NETWORK.hidden_size) and vectors.dtype == np.float32
    unit = model.encode(texts, batch_size=1, normalize=True)
    np.testing.assert_allclose(unit, directions(vectors), atol=1e-5)
    single = model.predict(texts[:1])[0]
    np.testing.assert_allclose(single.embedding, vectors[0], atol=1e-6)
    (pair,) = model.predict([tuple(texts[:2])])
    assert pair.score == pytest.approx(float(unit[0] @ unit[1]), abs=1e-5)
    assert model.encode([]).shape == (0, tiny_tasks.NETWORK.hidden_size)
    with pytest.raises(ValueError, match="not both"):
        model.predict([texts[0], ("a", "b")])
