"""The same training in other number types, compiled otherwise, or with less memory."""

import json

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from tests.pretraining import tiny
from tests.programs import run_python

pytestmark = pytest.mark.slow

HPARAMS = tiny.UNIFORM | {"log_every_steps": 1, "num_train_steps": 6}


def losses(data, name, **hparams):
    _, shown = tiny.pretrain_here(data, name, **HPARAMS, **hparams)
    lines = tiny.lines(data / "models" / name)
    assert [line["step"] for line in lines] == list(range(1, 7))
    return np.array([line["loss"] for line in lines]), shown


@pytest.fixture(scope="module")
def plain(tiny_data):
    """Losses in float32, not compiled by XLA, dropout on."""
    found, shown = losses(tiny_data, "plain", xla=False, precision="float32")
    assert "computing in float32" in shown
    assert found[-1] < found[0] - 2
    return found


def test_bfloat16_is_close_to_float32(tiny_data, plain):
    found, shown = losses(tiny_data, "bfloat16", precision="bfloat16")
    assert "computing in bfloat16" in shown
    np.testing.assert_allclose(found, plain, rtol=2e-2)
    assert (found != plain).any()
    # Weights and slots stay in float32.
    store = CheckpointStore(str(tiny_data / "models" / "bfloat16"))
    saved = store.load(store.latest())
    for arrays in (saved.weights, saved.optimizer):
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_xla_gives_the_same_losses(tiny_data, plain):
    found, _ = losses(tiny_data, "xla", xla=True)
    np.testing.assert_allclose(found, plain, rtol=1e-4)


def test_recomputed_activations_give_the_same_losses(tiny_data, plain):
    found, _ = losses(tiny_data, "recompute", recompute=True)
    np.testing.assert_allclose(found, plain, rtol=1e-5)


def test_accumulated_gradients_give_close_losses(tiny_data, plain):
    """Only dropout differs: it draws by micro-batch."""
    found, _ = losses(tiny_data, "accumulated", gradient_accumulation_steps=4)
    np.testing.assert_allclose(found, plain, rtol=5e-2)


def test_debug_mode(tiny_data):
    hparams = {name: value for name, value in tiny.HPARAMS.items() if "_steps" not in name}
    hparams = {n: v for n, v in hparams.items() if "batch" not in n} | tiny.UNIFORM
    from configure_pretraining import PretrainingConfig
    from electra_tf2.pretraining.run.pretrain import pretrain

    figures = pretrain(
        PretrainingConfig("debug", str(tiny_data), debug=True, do_eval=True, **hparams)
    )
    model_dir = tiny_data / "models" / "debug"
    assert figures["global_step"] == 20
    assert [line["step"] for line in tiny.lines(model_dir, "train")] == [10, 20]
    store = CheckpointStore(str(model_dir))
    weights = store.load(store.latest()).weights
    assert sum(name.endswith("attention/query/kernel") for name in weights) == 3
    assert weights["electra/layer_2/attention/query/kernel"].shape == (144, 144)


# TensorFlow stays deterministic until the process ends, hence one of its own.
PROGRAM = """
import json, sys
import run_pretraining
for arguments in json.loads(sys.argv[1]):
    run_pretraining.main(arguments)
"""


def test_deterministic_runs(tiny_data, plain):
    """TensorFlow refuses what isn't deterministic, also on a CPU, where nothing else changes."""
    hparams = HPARAMS | {"deterministic": True, "precision": "float32"}
    names = {xla: f"deterministic {xla}" for xla in (False, True)}
    commands = [tiny.arguments(tiny_data, names[xla], xla=xla, **hparams) for xla in names]
    run_python("-c", PROGRAM, json.dumps(commands))
    for name in names.values():
        found = tiny.lines(tiny_data / "models" / name)
        np.testing.assert_allclose([line["loss"] for line in found], plain, rtol=1e-4)
        assert "input_wait" not in found[-1] and "examples_per_second" in found[-1]
