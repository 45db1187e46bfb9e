"""Keras files of networks: opened again, they compute the same."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from electra_tf2.export.keras_file import export_keras
from electra_tf2.export.saved_model import export_saved_model
from electra_tf2.export.tflite import export_tflite
from electra_tf2.loading.networks import build_discriminator, build_encoder, build_generator
from electra_tf2.loading.source import open_source

# Keras, of NumPy's latest rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES = Path(__file__).parents[1] / "conformance" / "cases"
INPUTS = [
    np.array([[2, 30, 31, 3], [2, 40, 3, 0]], np.int32),
    np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.int32),
    np.array([[0, 0, 1, 1], [0, 0, 0, 0]], np.int32),
]
BUILD = {
    "encoder": build_encoder,
    "discriminator": build_discriminator,
    "generator": build_generator,
}
NETWORKS = {
    "electra_train": {"encoder", "discriminator", "generator"},
    "untied_embeddings": {"encoder", "discriminator", "generator"},
    "masked_lm": {"encoder", "generator"},
    "electric": {"encoder", "discriminator"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_a_file_compute_the_same(name, tmp_path):
    shutil.copytree(CASES / name / "init", tmp_path / "model")
    shutil.copy(CASES / "vocab.txt", tmp_path / "model")
    export_keras(str(tmp_path / "model"), str(tmp_path / "out"))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"vocab.txt", "casing.json", *(f"{n}.keras" for n in NETWORKS[name])}
    source = open_source(str(tmp_path / "model"))
    for network in NETWORKS[name]:
        loaded = keras.models.load_model(tmp_path / "out" / f"{network}.keras")
        expected = BUILD[network](source)
        np.testing.assert_array_equal(loaded(*INPUTS), expected(*INPUTS))
        assert len(loaded.trainable_variables) == len(expected.trainable_variables)


@pytest.mark.parametrize("export", [export_keras, export_saved_model, export_tflite])
def test_heads_of_tasks_are_left_out_with_a_word(tmp_path, capsys, export):
    shutil.copytree(CASES / "finetune_cola" / "final", tmp_path / "model")
    shutil.copy(CASES / "vocab.txt", tmp_path / "model")
    export(str(tmp_path / "model"), str(tmp_path / "out"))
    assert "The heads of tasks are left out" in capsys.readouterr().err
