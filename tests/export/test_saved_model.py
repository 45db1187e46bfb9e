"""SavedModels compute, in a process without this package, what the Python API computes here."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import electra_tf2
import finetune
from electra_tf2.errors import UserError
from electra_tf2.export.saved_model import export_saved_model
from finetune.export.saved_model import export_saved_model as export_fine_tuned
from tests.finetune import trials
from tests.finetune.trials import (
    LABELS,
    TAGS,
    THRESHOLD,
    TOPICS,
    VOCAB,
    conformance_texts,
    write_trial,
)

pytestmark = pytest.mark.slow

CALLER = pathlib.Path(__file__).parent / "saved_model_calls.py"
PAIRS = [("the river", "a town"), ("an old market", ""), ("river " * 50, "the town " * 40)]
IDS = {
    "input_ids": [[2, 30, 31, 3], [2, 40, 3, 0]],
    "input_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
    "segment_ids": [[0, 0, 0, 0], [0, 0, 0, 0]],
}
TAG_IDS = {**IDS, "segment_ids": IDS["input_mask"]}
SENTENCES = ["The river crossed Zürich .", "", "a\u3000市場 \u200b market " + "town " * 80]
LONG = ["the old river crossed a market in town " * n for n in (0, 1, 7, 8, 20, 3)] + ["", "a"]
MASKED = ["the [MASK] crossed the [MASK].", "no mask", "[MASK]"]
TASKS = ("reviews", "points", "places", "topics")


@pytest.fixture(scope="module")
def texts():
    return conformance_texts()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Electric's networks in an official checkpoint, and a fine-tuned model."""
    folder = tmp_path_factory.mktemp("saved_model")
    shutil.copytree(VOCAB.parent / "electric" / "init", folder / "electric")
    shutil.copy(VOCAB, folder / "electric")
    return str(folder / "electric"), write_trial(folder / "trial", TASKS, seed=6)


@pytest.fixture(scope="module")
def called(models, texts, tmp_path_factory):
    """signature -> outputs, of all calls, made in another process."""
    folder = tmp_path_factory.mktemp("exported")
    pretrained, fine_tuned = str(folder / "pretrained"), str(folder / "fine_tuned")
    export_saved_model(models[0], pretrained)
    export_fine_tuned(models[1], fine_tuned)
    first, second = map(list, zip(*PAIRS, strict=True))
    natural = texts[::10]
    calls = [
        (pretrained, "encode", {"texts": natural}),
        (pretrained, "serving_default", {"texts": natural[:2]}),
        (pretrained, "encode_pairs", {"texts": first, "second_texts": second}),
        (pretrained, "encode_ids", IDS),
        (pretrained, "detect", {"texts": natural}),
        (pretrained, "detect_ids", IDS),
        (pretrained, "score", {"texts": natural}),
        (pretrained, "fill_mask", {"texts": MASKED}),
        (pretrained, "generate_ids", {**IDS, "positions": [[1, 2], [1, 0]]}),
        (fine_tuned, "reviews", {"texts": texts}),
        (fine_tuned, "reviews_pairs", {"texts": first, "second_texts": second}),
        (fine_tuned, "reviews_ids", IDS),
        (fine_tuned, "points", {"texts": texts}),
        (fine_tuned, "places", {"texts": SENTENCES}),
        (fine_tuned, "places_ids", TAG_IDS),
        (fine_tuned, "topics", {"texts": LONG}),
        (fine_tuned, "topics_ids", IDS),
        (fine_tuned, "serving_default", {"texts": []}),
    ]
    (folder / "calls.json").write_text(json.dumps(calls))
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(CALLER), str(folder / "calls.json"), str(folder / "results.json")],
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "custom gradients" not in done.stderr
    results = json.loads((folder / "results.json").read_text())
    names = [f"{'' if call[0] == pretrained else 'tuned '}{call[1]}" for call in calls]
    return {"folder": folder, **dict(zip(names, results, strict=True))}


def test_encode(models, called, texts):
    encoder = electra_tf2.Encoder.from_pretrained(models[0])
    for name, given in (("encode", texts[::10]), ("encode_pairs", PAIRS)):
        expected, found = encoder.encode(given), called[name]
        np.testing.assert_array_equal(np.array(found["mask"]) > 0, expected.mask)
        np.testing.assert_allclose(found["states"], expected.states, atol=1e-4)
        ids = encoder.tokenizer.vocabulary.ids
        for row, tokens in zip(found["input_ids"], expected.tokens, strict=True):
            assert row[: len(tokens)] == [ids[token] for token in tokens]
    default = called["serving_default"]["states"]
    np.testing.assert_allclose(default, encoder.encode(texts[::10][:2]).states, atol=1e-4)
    states = encoder.network(*map(np.array, IDS.values())).numpy()
    states[1, 3] = 0
    np.testing.assert_allclose(called["encode_ids"]["states"], states, atol=1e-4)


def test_detect_and_score(models, called, texts):
    discriminator = electra_tf2.Discriminator.from_pretrained(models[0])
    found = called["detect"]
    for i, expected in enumerate(discriminator.detect(texts[::10])):
        inside = slice(1, 1 + len(expected.tokens))
        assert found["tokens"][i][inside] == expected.tokens
        np.testing.assert_allclose(
            found["probabilities"][i][inside], expected.probabilities, atol=1e-5
        )
        assert not any(found["tokens"][i][inside.stop + 1 :])
    short = [text for text in texts[::10] if len(discriminator.tokenizer.encode(text)) <= 62]
    scores = dict(zip(texts[::10], called["score"]["scores"], strict=True))
    expected = [found.score for found in discriminator.score(short)]
    np.testing.assert_allclose([scores[text] for text in short], expected, rtol=1e-3, atol=1e-3)


def test_fill_mask(models, called):
    generator = electra_tf2.Generator.from_pretrained(models[0])
    found = called["fill_mask"]
    assert np.shape(found["tokens"]) == (3, 2, 5)
    for i in (0, 2):
        for j, candidates in enumerate(generator.fill_mask(MASKED[i])):
            assert found["tokens"][i][j] == [c.token for c in candidates]
            expected = [c.probability for c in candidates]
            np.testing.assert_allclose(found["probabilities"][i][j], expected, atol=1e-5)
    assert not np.any(found["probabilities"][1])
    assert set(np.ravel(found["tokens"][1])) == {""}
    assert np.shape(called["generate_ids"]["logits"]) == (2, 2, 485)


def test_classifies_and_scores_all_conformance_texts_as_predict_does(models, called, texts):
    model = finetune.FineTuned.from_pretrained(models[1])
    expected = model.predict(texts, task="reviews")
    found = called["tuned reviews"]
    assert len(texts) > 390
    differing = [
        (text, label, prediction.label)
        for text, label, prediction in zip(texts, found["label"], expected, strict=True)
        if label != prediction.label
    ]
    assert not differing
    assert set(found["label"]) == set(LABELS)
    probabilities = [list(prediction.probabilities.values()) for prediction in expected]
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-4)
    assert [LABELS[i] for i in found["label_id"]] == found["label"]
    scores = [prediction.score for prediction in model.predict(texts, task="points")]
    np.testing.assert_allclose(called["tuned points"]["score"], scores, atol=1e-3)
    pairs = [list(p.probabilities.values()) for p in model.predict(PAIRS, task="reviews")]
    np.testing.assert_allclose(called["tuned reviews_pairs"]["probabilities"], pairs, atol=1e-4)
    assert called["tuned serving_default"]["label"] == []


def test_tags_as_predict_does(models, called):
    model = finetune.FineTuned.from_pretrained(models[1])
    found = called["tuned places"]
    for i, expected in enumerate(model.predict(SENTENCES, task="places")):
        count = len(expected.words)
        assert found["words"][i][:count] == expected.words
        assert found["tags"][i][:count] == expected.tags
        assert not any(found["tags"][i][count:])
        probabilities = [p or 0.0 for p in expected.probabilities]
        np.testing.assert_allclose(found["probabilities"][i][:count], probabilities, atol=1e-4)


def test_several_labels_of_long_texts_as_predict_does(models, called):
    model = finetune.FineTuned.from_pretrained(models[1])
    found, expected = called["tuned topics"], model.predict(LONG, task="topics")
    probabilities = [list(prediction.probabilities.values()) for prediction in expected]
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-4)
    assert [[x for x in own if x] for own in found["labels"]] == [p.labels for p in expected]
    assert np.any(found["predictions"]) and not np.all(found["predictions"])
    np.testing.assert_array_equal(found["predictions"], np.array(probabilities) >= THRESHOLD)
    assert np.shape(called["tuned topics_ids"]["probabilities"]) == (2, len(TOPICS))


def test_tags_of_ids(called):
    found = called["tuned places_ids"]
    kept = np.array(IDS["input_mask"]) > 0
    assert np.array_equal(np.array(found["tags"]) != "", kept)
    assert np.array_equal(np.array(found["probabilities"]) > 0, kept)
    assert [TAGS[i] for i in np.array(found["tag_ids"])[kept]] == list(
        np.array(found["tags"])[kept]
    )


def test_assets(called):
    assets = called["folder"] / "fine_tuned" / "assets"
    assert (assets / "vocab.txt").read_text() == VOCAB.read_text()
    assert (assets / "reviews_labels.txt").read_text().split() == LABELS
    assert (assets / "places_labels.txt").read_text().split() == TAGS
    assert not list(called["folder"].glob("*.tmp"))


def test_what_can_not_be_exported(models, called, tmp_path):
    folder = write_trial(tmp_path / "qa", ["reviews", "manuals"])
    with pytest.raises(UserError, match="SavedModel that takes raw strings") as caught:
        export_fine_tuned(folder, str(tmp_path / "out"))
    assert caught.value.where == "task manuals"
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="taken"):
        export_saved_model(models[0], str(called["folder"] / "pretrained"))


def test_tasks_whose_signatures_would_have_one_name_are_refused(tmp_path, monkeypatch):
    for table in (trials.TASKS, trials.STATES):
        monkeypatch.setitem(table, "reviews_pairs", table["reviews"])
    folder = write_trial(tmp_path / "trial", ["reviews", "reviews_pairs"])
    with pytest.raises(UserError, match="would have one name") as error:
        export_fine_tuned(str(folder), str(tmp_path / "exported"))
    assert error.value.received == "reviews_pairs"
    assert not (tmp_path / "exported").exists()


def test_a_signature_has_the_name_of_its_task_whatever_that_is(tmp_path, monkeypatch):
    name = "été 'x' [1] \"評価\" %s {:} ~"
    for table in (trials.TASKS, trials.STATES):
        monkeypatch.setitem(table, name, table["reviews"])
    folder = write_trial(tmp_path / "trial", [name])
    export_fine_tuned(folder, str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    outputs = loaded.signatures[name](texts=tf.constant(["The river"]))
    (expected,) = finetune.FineTuned.from_pretrained(folder).predict(["The river"])
    assert outputs["label"].numpy()[0].decode() == expected.label
    assert (tmp_path / "exported" / "assets" / f"{name}_labels.txt").exists()
