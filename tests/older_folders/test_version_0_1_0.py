"""Folders that version 0.1.0 left behind open, and resume to the weights it would have reached.

`version_0_1_0.zip` holds a data folder: records, a pre-trained model with its checkpoints of steps
3 and 6, and a fine-tuned trial of it with those of steps 4 and 8. Every test takes the later
checkpoint away, as if the run had been killed before it, and lets this version train it again.
"""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.loading.folder import read_casing
from electra_tf2.text.normalization import UNCASED
from electra_tf2.training.checkpoints import CheckpointStore
from finetune import FineTuned
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

ARCHIVE = Path(__file__).with_name("version_0_1_0.zip")
MODEL = Path("data/models/model")
TRIAL = MODEL / "finetuning_models" / "marks_model_1"
PRETRAINING = {"save_checkpoints_steps": 3}
FINETUNING = {"save_checkpoints_steps": 4, "model": "model"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The data folder, to be named as it was when it was made: `data`."""
    zipfile.ZipFile(ARCHIVE).extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("data")


@pytest.fixture(scope="module")
def sums_alike(tmp_path_factory):
    """Whether this machine adds up as the one that made the folder, to the last bit.

    Processors with other vector units sum in another order; training from the start shows it.
    """
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("from_the_start")
        zipfile.ZipFile(ARCHIVE).extractall(place)
        patch.chdir(place)
        expected = load(MODEL, 3)
        shutil.rmtree(MODEL)
        tiny.pretrain_here(Path("data"), **PRETRAINING)
        return alike(load(MODEL, 3), expected)


def alike(ours, theirs) -> bool:
    """Compares two checkpoints; they must agree but for rounding.

    Returns:
        Whether they agree to the last bit.
    """
    equal = True
    for one, other in ((ours.weights, theirs.weights), (ours.optimizer, theirs.optimizer)):
        assert one.keys() == other.keys()
        for name, array in one.items():
            close = 1e-5 * np.abs(other[name]).max()
            np.testing.assert_allclose(array, other[name], rtol=0, atol=close, err_msg=name)
            equal &= array.tobytes() == other[name].tobytes()
    return equal


def load(folder, step):
    return CheckpointStore(str(folder)).load(str(folder / "checkpoints" / f"step-{step:08d}"))


def without(folder, step, *files):
    """Takes a checkpoint away; returns what it held."""
    taken = load(folder, step)
    shutil.rmtree(folder / "checkpoints" / f"step-{step:08d}")
    for name in files:
        (folder / name).unlink()
    return taken


@pytest.mark.slow
def test_pretraining_resumes_bit_for_bit(folder, sums_alike):
    expected = without(MODEL, 6)
    _, shown = tiny.pretrain_here(folder, **PRETRAINING)
    assert "Resuming at step 3" in shown
    assert alike(load(MODEL, 6), expected) or not sums_alike
    assert read_casing(str(MODEL)) == UNCASED and (MODEL / "casing.json").exists()


@pytest.mark.slow
def test_finetuning_resumes_bit_for_bit(folder, sums_alike):
    tiny_tasks.write_marks(folder, train=32, dev=8)
    expected = without(TRIAL, 8, "finished.json")
    _, shown = tiny_tasks.finetune_here(folder, **FINETUNING)
    assert "Resuming at step 4" in shown
    assert alike(load(TRIAL, 8), expected) or not sums_alike


def test_a_finished_trial_is_not_trained_again(folder):
    tiny_tasks.write_marks(folder, train=32, dev=8)
    _, shown = tiny_tasks.finetune_here(folder, **FINETUNING)
    assert "step 8/8" not in shown
    (answer,) = FineTuned.from_pretrained(str(TRIAL)).predict(["the ship and the harbour"])
    assert answer.label in ("good", "bad")


def test_another_casing_than_the_stored_one_is_refused(folder):
    cased = {"do_lower_case": True, "strip_accents": False}
    (MODEL / "tokenizer.json").write_text(json.dumps(cased))
    with pytest.raises(UserError, match="tokenized otherwise") as error:
        tiny.pretrain_here(folder, **PRETRAINING | {"num_train_steps": 9})
    assert error.value.where.endswith("tokenizer.json")


@pytest.mark.parametrize("strips", [True, False])
def test_exports_have_the_casing(folder, strips):
    stored = {"do_lower_case": True, "strip_accents": strips}
    (MODEL / "tokenizer.json").write_text(json.dumps(stored))
    export_huggingface(str(MODEL), "out", ExportOptions(network="discriminator"))
    settings = json.loads(Path("out/tokenizer_config.json").read_text())
    assert settings["do_lower_case"] is True and settings["strip_accents"] is strips
