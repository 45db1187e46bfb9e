"""The ONNX recipe of docs/saved_model.md, as it stands, gives what the SavedModel gives."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from finetune.export.saved_model import export_saved_model
from tests.docs.pages import DOCS, blocks, run_shell
from tests.finetune.trials import write_trial

pytestmark = [pytest.mark.slow, pytest.mark.interop]

PAGE = DOCS / "saved_model.md"
TASKS = ("reviews", "points", "places", "topics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Has a fine-tuned model in `exported`, and `<task>.onnx` of each, by the page's command."""
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed: run make test-slow")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: run make test-slow")
    folder = tmp_path_factory.mktemp("onnx")
    export_saved_model(write_trial(folder / "trial", TASKS, seed=6), str(folder / "exported"))
    (command,) = [block for block in blocks(PAGE) if "tf2onnx.convert" in block]
    ((flag, program, *arguments),) = run_shell(command, folder)
    for task in TASKS:
        own = [argument.replace("reviews", task) for argument in arguments]
        done = subprocess.run(
            [sys.executable, flag, program, *own],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def same_outputs(folder, session, task, inputs):
    """Compares all outputs; returns them by name."""
    model = tf.saved_model.load(str(folder / "exported"))
    expected = model.signatures[f"{task}_ids"](**{n: tf.constant(v) for n, v in inputs.items()})
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, inputs), strict=True))
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value.dtype == tf.string:
            assert found[name].tolist() == tf.nest.map_structure(
                bytes.decode, value.numpy().tolist()
            )
        else:
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4)
    return found


def test_the_page_s_classifier(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    (block,) = [b for b in blocks(PAGE, "python") if "onnxruntime" in b]
    exec(compile(block, PAGE.name, "exec"), names)
    found = same_outputs(folder, names["session"], "reviews", names["inputs"])
    assert found["label"].tolist() == names["labels"].tolist()
    lengths = names["inputs"]["input_mask"].sum(1)
    assert lengths[0] != lengths[1] and len(lengths) == len(names["probabilities"])


@pytest.mark.parametrize("task", TASKS)
def test_any_batch_and_length(folder, task):
    import onnxruntime

    path = str(folder / f"{task}.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(3)
    for shape in ((1, 3), (5, 17), (2, 64)):
        lengths = draw.integers(1, shape[1], (shape[0], 1), endpoint=True)
        mask = (np.arange(shape[1]) < lengths).astype(np.int32)
        ids = draw.integers(5, 485, shape).astype(np.int32) * mask
        segments = mask if task == "places" else np.zeros_like(mask)
        inputs = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
        same_outputs(folder, session, task, inputs)
