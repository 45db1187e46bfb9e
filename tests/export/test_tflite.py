"""TFLite files compute what the SavedModel's signatures compute."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2 import Encoder
from electra_tf2.errors import UserError
from electra_tf2.export.tflite import export_tflite
from finetune.export.saved_model import export_tflite as export_fine_tuned
from finetune.export.saved_model import task_signatures
from finetune.fine_tuned import FineTuned
from tests.docs.pages import DOCS, blocks
from tests.finetune import tiny_tasks, trials
from tests.finetune.fine_tuned_models import write_fine_tuned

PAGE = DOCS / "saved_model.md"
IDS = {
    "input_ids": [[2, 8, 9, 10, 3], [2, 12, 13, 3, 0], [2, 3, 0, 0, 0]],
    "input_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]],
    "segment_ids": [[0] * 5] * 3,
}
IDS = {name: np.array(rows, np.int32) for name, rows in IDS.items()}
OUTPUTS = {
    "marks": {"label_id", "probabilities"},
    "places": {"tag_ids", "probabilities"},
    "topics": {"predictions", "probabilities"},
    "grades": {"score"},
    "pages": {"score"},
    "texts": {"embeddings"},
    "endings": {"logits"},
}
WIDE = dataclasses.replace(tiny_tasks.NETWORK, hidden_size=64, intermediate_size=256)


def outputs_of(path, inputs):
    """Runs a file as LiteRT does, with built-in operations only."""
    interpreter = tf.lite.Interpreter(model_path=str(path))
    return interpreter.get_signature_runner()(**inputs)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """(model's folder, folder of its files in float32, and in 8 bits)."""
    folder = tmp_path_factory.mktemp("tflite")
    source, _, _ = write_fine_tuned(folder, ["marks"], WIDE)
    export_fine_tuned(str(source), str(folder / "float"))
    export_fine_tuned(str(source), str(folder / "int8"), int8=True)
    return str(source), folder / "float", folder / "int8"


def assert_as_in_tensorflow(source, exported, tasks):
    signatures, _ = task_signatures(FineTuned.from_pretrained(source))
    longer = {name: np.tile(rows, (2, 3)) for name, rows in IDS.items()}
    for task in tasks:
        for inputs in (IDS, longer):
            expected = signatures[f"{task}_ids"].function(*map(tf.constant, inputs.values()))
            found = outputs_of(exported / f"{task}.tflite", inputs)
            assert found.keys() == OUTPUTS[task]
            for name, value in found.items():
                np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_a_classifier_for_any_batch_and_length(fine_tuned):
    source, exported, _ = fine_tuned
    assert_as_in_tensorflow(source, exported, ["marks"])
    assert set(os.listdir(exported)) == {"marks.tflite", "marks_labels.txt", "vocab.txt"}
    assert (exported / "marks_labels.txt").read_text().split() == ["bad", "good", "unclear"]


@pytest.mark.slow
def test_other_kinds_of_tasks(tmp_path):
    tasks = [task for task in OUTPUTS if task != "marks"]
    source, _, _ = write_fine_tuned(tmp_path, tasks, WIDE)
    export_fine_tuned(str(source), str(tmp_path / "out"))
    assert_as_in_tensorflow(str(source), tmp_path / "out", tasks)
    files = {f"{task}.tflite" for task in tasks} | {"places_labels.txt", "topics_labels.txt"}
    assert set(os.listdir(tmp_path / "out")) == files | {"vocab.txt"}


def test_in_8_bits_a_file_is_smaller_and_its_outputs_nearly_the_same(fine_tuned):
    files = [folder / "marks.tflite" for folder in fine_tuned[1:]]
    assert os.path.getsize(files[1]) < 0.7 * os.path.getsize(files[0])
    one, other = (outputs_of(file, IDS)["probabilities"] for file in files)
    assert 0 < np.abs(one - other).max() < 0.1


def test_the_page_s_example(fine_tuned, tmp_path, monkeypatch):
    (block,) = [block for block in blocks(PAGE, "python") if "tflite" in block]
    (tmp_path / "exported_tflite").mkdir()
    shutil.copy(fine_tuned[2] / "marks.tflite", tmp_path / "exported_tflite" / "reviews.tflite")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    assert names["answers"]["probabilities"].shape == (1, 3)


MODERN = {"encoder": "modern", "num_hidden_layers": 2, "global_attention_every": 2}


@pytest.mark.parametrize("changed", [{}, MODERN | {"local_attention": 2}], ids=str)
def test_the_encoder_of_a_pretrained_model(tmp_path, changed):
    network = dataclasses.replace(tiny_tasks.NETWORK, **changed)
    model = tiny_tasks.write_model(tmp_path, network)
    export_tflite(str(model), str(tmp_path / "out"))
    assert sorted(os.listdir(tmp_path / "out")) == ["encode.tflite", "vocab.txt"]
    found = outputs_of(tmp_path / "out/encode.tflite", IDS)
    assert found.keys() == {"states"}
    encoder = Encoder.from_pretrained(str(model))
    expected = encoder.network(*map(tf.constant, IDS.values()))
    mask = IDS["input_mask"][..., None]
    np.testing.assert_allclose(found["states"], expected * mask, atol=1e-5)


def test_question_answering_is_refused(tmp_path):
    source = trials.write_trial(tmp_path / "trial", ["manuals"])
    with pytest.raises(UserError) as error:
        export_fine_tuned(source, str(tmp_path / "out"))
    assert error.value.where == "task manuals" and not (tmp_path / "out").exists()
