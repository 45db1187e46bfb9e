"""Signatures of fine-tuned models, called without being exported."""

import json

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from finetune.export.saved_model import export_saved_model, exporter_of, tagging_signatures
from finetune.fine_tuned import FineTuned
from tests.finetune.fine_tuned_models import write_fine_tuned


def test_tags_of_ids_are_those_of_words(tmp_path):
    folder, _, _ = write_fine_tuned(tmp_path, ["places"])
    model = FineTuned.from_pretrained(str(folder))
    (expected,) = model.predict(["the ship sailed to a harbour"])
    tokenizer = model.source.tokenizer
    pieces = [tokenizer.encode(word) for word in expected.words]
    vocabulary = tokenizer.vocabulary
    ids = [vocabulary.cls_id, *(i for own in pieces for i in own), vocabulary.sep_id, 0]
    first = np.cumsum([1, *map(len, pieces)])[:-1]
    mask = np.array([[1] * (len(ids) - 1) + [0]], np.int32)
    signature = tagging_signatures(model, model.task("places")).signatures["places_ids"]
    found = {
        n: v.numpy()[0]
        for n, v in signature.function(np.array([ids], np.int32), mask, mask).items()
    }
    assert [found["tags"][i].decode() for i in first] == expected.tags
    assert [model.task("places").labels[i] for i in found["tag_ids"][first]] == expected.tags
    np.testing.assert_allclose(found["probabilities"][first], expected.probabilities, atol=1e-5)
    assert found["tags"][-1] == b"" and found["probabilities"][-1] == 0


def test_vectors_and_choices_of_texts(tmp_path):
    folder, _, _ = write_fine_tuned(tmp_path, ["texts", "endings"])
    model = FineTuned.from_pretrained(str(folder))
    texts = ["the ship", "a harbour in the old town"]
    exporters = {name: exporter_of(model.task(name)) for name in model.tasks}
    embed, choose = (exporters[name](model, model.task(name)).signatures for name in exporters)
    assert embed.keys() == {"texts", "texts_ids"} and choose.keys() == {"endings", "endings_ids"}
    found = embed["texts"].function(tf.constant(texts))["embeddings"]
    np.testing.assert_allclose(found, model.encode(texts, task="texts"), atol=1e-5)
    endings = ["sailed to the sea", "in a town", "the"]
    found = choose["endings"].function(tf.constant(texts), tf.constant([endings] * 2))
    expected = model.predict([(text, endings) for text in texts], task="endings")
    np.testing.assert_allclose(
        found["probabilities"], [e.probabilities for e in expected], atol=1e-5
    )
    assert found["choice"].numpy().tolist() == [e.choice for e in expected]


@pytest.mark.parametrize("label", ["a\nb", "\ud83d"])
@pytest.mark.parametrize("task", ["marks", "places"])
def test_labels_that_a_line_can_t_hold(tmp_path, task, label):
    folder, _, _ = write_fine_tuned(tmp_path, [task])
    stored = json.loads((folder / "tasks.json").read_text())
    stored[task]["labels"][0] = label
    (folder / "tasks.json").write_text(json.dumps(stored))
    with pytest.raises(UserError) as error:
        export_saved_model(str(folder), str(tmp_path / "out"))
    assert error.value.where == f"task {task}" and repr(label) in error.value.received
    assert not (tmp_path / "out").exists()
