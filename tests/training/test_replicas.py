"""One replica and two, plain and compiled: the same weights.

`test_step_program` and `test_run_modes` compare one replica, compiled and plain.
"""

import json

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.throughput import MEASURED
from tests.distribution.clusters import WITHOUT_GRADIENT
from tests.pretraining import tiny
from tests.programs import run_python

pytestmark = pytest.mark.slow

N_STEPS = 60
TOLERANCE = 1e-5
HPARAMS = {
    "model_hparam_overrides": tiny.NETWORK
    | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "learning_rate": 2e-3,
    "num_warmup_steps": 5,
    "num_train_steps": N_STEPS,
    "log_every_steps": 20,
    "save_checkpoints_steps": 1000,
    "keep_checkpoint_max": 0,
}
WAYS = {
    "one": {"distribution": "one_device"},
    "two": {"distribution": "mirrored"},
    "two compiled": {"distribution": "mirrored", "xla": True},
}

# Devices are split before TensorFlow is initialized, hence a process of its own. It saves the
# initial weights too, and continues after an error.
PROGRAM = """
import json, sys
import tensorflow as tf
import run_pretraining
from electra_tf2 import cli
from electra_tf2.training.trainer import Trainer

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
train = Trainer.train

def save_and_train(self, *arguments, **options):
    self.save()
    train(self, *arguments, **options)

Trainer.train = save_and_train
for arguments in json.loads(sys.argv[1]):
    try:
        cli.run(lambda _: run_pretraining.main(arguments))
    except SystemExit as exit:
        print("exit code", exit.code, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def runs(tiny_data):
    """Final weights of each way, the initial weights, what was printed, and the data folder."""
    commands = [tiny.arguments(tiny_data, way, **HPARAMS, **WAYS[way]) for way in WAYS]
    odd = HPARAMS | WAYS["two"] | {"train_batch_size": 7}
    commands.append(tiny.arguments(tiny_data, "odd", **odd))
    done = run_python("-c", PROGRAM, json.dumps(commands))
    folders = {way: tiny_data / "models" / way for way in WAYS}
    final = {way: weights(folder, N_STEPS) for way, folder in folders.items()}
    return final, weights(folders["one"], 0), done.stderr, tiny_data / "models"


def weights(model_dir, step):
    store = CheckpointStore(str(model_dir))
    return store.load(f"{store.folder}/step-{step:08d}").weights


def largest_differences(these, those):
    return {name: float(np.abs(these[name] - those[name]).max()) for name in those}


def test_two_replicas_train(runs):
    assert "(1 replica); batch: 8 (8 a replica)" in runs[2]
    assert "(2 replicas); batch: 8 (4 a replica)" in runs[2]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "one"])
def test_same_weights(runs, way):
    final, start, _, _ = runs
    apart = largest_differences(final[way], final["one"])
    moved = largest_differences(final["one"], start)
    assert max(apart.values()) <= TOLERANCE, apart
    trained = {name: d for name, d in moved.items() if not name.endswith(WITHOUT_GRADIENT)}
    assert len(moved) - len(trained) == 2  # one a network
    assert min(trained.values()) >= 100 * TOLERANCE, moved


@pytest.mark.parametrize("way", [way for way in WAYS if way != "one"])
def test_same_figures(runs, way):
    one, these = (tiny.lines(runs[3] / name) for name in ("one", way))
    assert [line["step"] for line in one] == [20, 40, 60]
    assert one[0]["loss"] > one[1]["loss"] > one[2]["loss"]
    for line, other in zip(one, these, strict=True):
        for name in line.keys() - {"wall_time", "split", *MEASURED}:
            assert other[name] == pytest.approx(line[name], rel=1e-4, abs=1e-6), name


def test_a_batch_that_can_not_be_shared(runs):
    message = runs[2][runs[2].index("error: The batch") :]
    assert message.splitlines()[:5] == [
        "error: The batch can't be divided evenly.",
        "  where: hparam train_batch_size",
        "  received: 7 examples for 2 replicas x 1 micro-batches",
        "  what to do: Choose a multiple of 2.",
        "exit code 2",
    ]
    assert "Traceback" not in runs[2]
    assert not (runs[3] / "odd").exists()
