"""The examples of docs/python_api.md and docs/saved_model.md run as they stand."""

import shutil

import numpy as np
import pytest

from electra_tf2.export.keras_file import export_keras
from electra_tf2.export.saved_model import export_saved_model
from tests.docs.pages import DOCS, run_python
from tests.finetune.trials import VOCAB, write_trial

# Keras, of NumPy's latest rules.
ARRAY_COPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CASES = VOCAB.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with models where the examples have theirs."""
    for name, folder in (
        ("electra_train", "quickstart_data/models/quickstart"),
        ("electric", "data/models/electric"),
    ):
        shutil.copytree(CASES / name / "init", tmp_path / folder)
        shutil.copy(VOCAB, tmp_path / folder)
    official = tmp_path / "electra_small"
    official.mkdir()
    shutil.copy(VOCAB, official)
    for file in (CASES / "electra_train" / "init").glob("model.ckpt-0.*"):
        shutil.copy(file, official / file.name.replace("model.ckpt-0", "electra_small"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_python_api(place):
    tuned = place / "quickstart_data/models/quickstart/finetuning_models/parameters_model_1"
    write_trial(tuned, ["places"])
    names = run_python(DOCS / "python_api.md")
    assert names["encoded"].states.shape[0] == len(names["encoded"].tokens) == 2
    assert names["looked_into"].states.shape[:2] == (1, 2)
    assert names["looked_into"].attentions.ndim == 5
    assert names["vectors"].shape == (2, 32)
    assert names["pairs"].shape == (1, 32)
    assert len(names["detection"].tokens) == len(names["detection"].probabilities)
    read = "".join(names["text"][start:end] for start, end in names["detection"].offsets)
    assert read == names["text"].replace(" ", "")
    assert [len(c) for c in names["generator"].fill_mask("[MASK] [MASK]", 3)] == [3, 3]
    assert np.isfinite(names["score"].score)
    assert names["tags"].words == "axis int optional the axis to sum over".split()
    assert names["official"].encode(["a text"]).states.shape[2] == 32


@pytest.mark.slow
@ARRAY_COPY
def test_saved_model(place):
    model = "quickstart_data/models/quickstart"
    export_saved_model(model, "exported")
    export_keras(model, "exported_keras")
    # Those have tests of their own.
    names = run_python(DOCS / "saved_model.md", without=("onnxruntime", "tflite"))
    assert names["outputs"]["tokens"].shape == names["outputs"]["probabilities"].shape
    expected = names["model"].signatures["encode_ids"](
        **{
            name: np.array([row], np.int32)
            for name, row in (
                ("input_ids", [2, 5, 6, 3]),
                ("input_mask", [1, 1, 1, 1]),
                ("segment_ids", [0, 0, 0, 0]),
            )
        }
    )
    np.testing.assert_allclose(names["states"], expected["states"], atol=1e-5)
