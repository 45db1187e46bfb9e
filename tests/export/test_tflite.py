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
from finetune.export.saved_model import task_signatures
from finetune.export.tflite import export_tflite as export_fine_tuned
from finetune.export.tflite import export_tflite_int8
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
TASKS = {"marks": {"label_id", "probabilities"}, "topics": {"predictions", "probabilities"}}
TASKS |= {"grades": {"score"}, "places": {"tag_ids", "probabilities"}}
WIDE = dataclasses.replace(tiny_tasks.NETWORK, hidden_size=64, intermediate_size=256)


def outputs_of(path, inputs):
    """Runs a file as LiteRT does, with built-in operations only."""
    interpreter = tf.lite.Interpreter(model_path=str(path))
    return interpreter.get_signature_runner()(**inputs)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """(model's folder, folder of its files in float32, and in 8 bits)."""
    folder = tmp_path_factory.mktemp("tflite")
    source, _, _ = write_fine_tuned(folder, list(TASKS), WIDE)
    export_fine_tuned(str(source), str(folder / "float"))
    export_tflite_int8(str(source), str(folder / "int8"))
    return str(source), folder / "float", folder / "int8"


def test_outputs_of_every_task_for_any_batch_and_length(fine_tuned):
    source, exported, _ = fine_tuned
    signatures, _ = task_signatures(FineTuned.from_pretrained(source))
    longer = {name: np.tile(rows, (2, 3)) for name, rows in IDS.items()}
    for task, names in TASKS.items():
        for inputs in (IDS, longer):
            expected = signatures[f"{task}_ids"].function(*map(tf.constant, inputs.values()))
            found = outputs_of(exported / f"{task}.tflite", inputs)
            assert found.keys() == names
            for name, value in found.items():
                np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_in_8_bits_files_are_smaller_and_outputs_nearly_the_same(fine_tuned):
    _, exported, quantized = fine_tuned
    for task in TASKS:
        sizes = [os.path.getsize(folder / f"{task}.tflite") for folder in (exported, quantized)]
        assert sizes[1] < 0.7 * sizes[0]
        one, other = (outputs_of(f / f"{task}.tflite", IDS) for f in (exported, quantized))
        name = "score" if task == "grades" else "probabilities"
        np.testing.assert_allclose(one[name], other[name], atol=0.1)
        assert np.abs(one[name] - other[name]).max() > 0


def test_the_page_s_example(fine_tuned, tmp_path, monkeypatch):
    (block,) = [block for block in blocks(PAGE, "python") if "tflite" in block]
    (tmp_path / "exported_tflite").mkdir()
    shutil.copy(fine_tuned[2] / "marks.tflite", tmp_path / "exported_tflite" / "reviews.tflite")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    assert names["answers"]["probabilities"].shape == (1, 3)


def test_files_beside_it(fine_tuned):
    _, exported, _ = fine_tuned
    labels = {f"{task}_labels.txt" for task in TASKS if task != "grades"}
    files = {f"{task}.tflite" for task in TASKS}
    assert set(os.listdir(exported)) == files | labels | {"vocab.txt"}
    assert (exported / "marks_labels.txt").read_text().split() == ["bad", "good", "unclear"]


def test_the_encoder_of_a_pretrained_model(tmp_path):
    model = tiny_tasks.write_model(tmp_path)
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
