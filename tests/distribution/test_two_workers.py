"""Two processes on this machine train the model that one process trains."""

import shutil
import signal
import time

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.throughput import MEASURED
from tests.distribution import clusters
from tests.finetune import tiny_tasks
from tests.pretraining import tiny

pytestmark = pytest.mark.slow

STEPS = 60
MIDDLE = 20
TOLERANCE = 1e-5
# Every drawn number belongs to an example but those of dropout.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PRETRAINING = {
    "model_hparam_overrides": tiny.NETWORK | NO_DROPOUT,
    "learning_rate": 2e-3,
    "num_warmup_steps": 5,
    "num_train_steps": STEPS,
    "log_every_steps": 20,
    "save_checkpoints_steps": 1000,
    "do_eval": True,
    "num_eval_steps": 3,
}
FINETUNING = {"model_hparam_overrides": NO_DROPOUT, "head_dropout_prob": 0.0}
SECONDS_TO_LEAVE = 30


def checkpoint(model_dir):
    """The arrays of the newest checkpoint, weights and slots, and its step."""
    store = CheckpointStore(str(model_dir))
    found = store.load(store.latest())
    return {**found.weights, **found.optimizer}, found.step


def assert_close(model_dir, other_dir, before):
    """The weights agree to TOLERANCE, having moved by 100 times that since `before`."""
    one, two = (CheckpointStore(str(folder)) for folder in (model_dir, other_dir))
    one, two = one.load(one.latest()), two.load(two.latest())
    assert one.step == two.step
    for name, weights in one.weights.items():
        np.testing.assert_allclose(two.weights[name], weights, atol=TOLERANCE, err_msg=name)
        if name in before and clusters.WITHOUT_GRADIENT not in name:
            assert np.abs(weights - before[name]).max() > 100 * TOLERANCE, name


@pytest.fixture(scope="module")
def pretrained(tiny_data, tmp_path_factory):
    """Folder of models `workers-` one, with its checkpoints, and two; what the two said."""
    logs = tmp_path_factory.mktemp("logs")
    held_out = {"eval_tfrecords": str(tiny_data / "held_out" / tiny.GLOB)}
    with clusters.pretraining(tiny_data, "workers-two", logs, **PRETRAINING, **held_out) as cluster:
        kept = {"save_checkpoints_steps": MIDDLE, "keep_checkpoint_max": 0}
        tiny.pretrain_here(tiny_data, "workers-one", **PRETRAINING | held_out | kept)
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
        texts = [cluster.text(0), cluster.text(1)]
    return tiny_data / "models", texts


def test_pretraining_gives_the_same_weights(pretrained):
    models, _ = pretrained
    store = CheckpointStore(str(models / "workers-one"))
    before = store.load(f"{store.folder}/step-{MIDDLE:08d}").weights
    assert_close(models / "workers-one", models / "workers-two", before)


def test_pretraining_reports_the_same_figures(pretrained):
    models, texts = pretrained
    one, two = tiny.lines(models / "workers-one"), tiny.lines(models / "workers-two")
    assert len(one) == len(two) == STEPS // 20 + 1
    for line, other in zip(one, two, strict=True):
        for name, value in line.items():
            if name not in ("wall_time", *MEASURED) and isinstance(value, float):
                assert other[name] == pytest.approx(value, rel=2e-4, abs=1e-6), name
    results = [line for line in texts[1].splitlines() if line.startswith("  disc_auc")]
    assert results and results[0] in texts[0]


def test_only_the_chief_writes(pretrained):
    models, texts = pretrained
    assert "Worker 0 of 2 (chief). Devices: /job:worker/replica:0/task:0" in texts[0]
    assert "Worker 1 of 2. Devices: /job:worker/replica:0/task:1" in texts[1]
    assert "batch: 8 (4 a replica)" in texts[1]
    assert "Results written to" in texts[0] and "Results written to" not in texts[1]
    assert len(list((models / "workers-two" / "tensorboard" / "train").iterdir())) == 1


def test_phases_give_the_same_weights(tiny_data, tmp_path):
    """Each phase has graphs of its own, which both workers have to change to together."""
    second = {"num_train_steps": 6, "train_batch_size": 4, "num_warmup_steps": 2, "recompute": True}
    hparams = PRETRAINING | {
        "do_eval": False,
        "num_train_steps": 12,
        "phases": [{"num_train_steps": 6}, second],
    }
    with clusters.pretraining(tiny_data, "workers-phases", tmp_path, **hparams) as cluster:
        tiny.pretrain_here(tiny_data, "workers-phases-one", **hparams)
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
    assert f"Phase 2 of 2: 4 x {tiny.LENGTH} tokens a step" in cluster.text(1)
    models = tiny_data / "models"
    assert_close(models / "workers-phases-one", models / "workers-phases", {})


def trial_folder(data_dir):
    return data_dir / "models" / tiny_tasks.MODEL / "finetuning_models" / "marks_model_1"


@pytest.fixture(scope="module")
def finetuned(tiny_finetuning, tmp_path_factory):
    """Data folders in which one device, two replicas and two workers have fine-tuned."""
    folder = tmp_path_factory.mktemp("finetuned")
    ways = {way: folder / way for way in ("one", "replicas", "workers")}
    for way in ways.values():
        shutil.copytree(tiny_finetuning, way)
    with clusters.finetuning(ways["workers"], folder, **FINETUNING) as cluster:
        tiny_tasks.finetune_here(ways["one"], **FINETUNING)
        clusters.finetune_on_replicas(ways["replicas"], **FINETUNING)
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
        assert "Results written to" in cluster.text(0)
        assert "Results written to" not in cluster.text(1)
    return ways


@pytest.mark.parametrize("way", ["replicas", "workers"])
def test_finetuning_gives_the_same_weights_and_scores(finetuned, way):
    one, other = finetuned["one"], finetuned[way]
    start = CheckpointStore(str(one / "models" / tiny_tasks.MODEL))
    before = start.load(start.latest()).weights
    assert_close(trial_folder(one), trial_folder(other), before)
    expected, scores = (
        clusters.trial_results(folder)[0]["scores"]["marks"] for folder in (one, other)
    )
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-4), name
    assert clusters.dev_predictions(other) == clusters.dev_predictions(one)


def test_finetuning_after_the_loss_of_both_workers(tiny_finetuning, tmp_path):
    """Killed with SIGKILL, dropout on: ends bit for bit as a run that nothing happened to."""
    hparams = {"save_checkpoints_steps": 10, "iterations_per_loop": 2}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        shutil.copytree(tiny_finetuning, folder)
    with clusters.finetuning(whole, tmp_path, **hparams) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
    with clusters.finetuning(broken, tmp_path, **hparams) as cluster:
        cluster.wait_for(trial_folder(broken) / "checkpoints" / "step-00000020")
        for process in cluster.processes:
            process.kill()
    with clusters.finetuning(broken, tmp_path, **hparams) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
        assert "Resuming at step" in cluster.text(1)
    (arrays, _), (expected, _) = (checkpoint(trial_folder(f)) for f in (broken, whole))
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)


PREDICT = """
import numpy as np
import tensorflow as tf
from electra_tf2.training.predictor import Predictor

strategy = tf.distribute.MultiWorkerMirroredStrategy()
gather, calls = strategy.gather, []
strategy.gather = lambda value, axis: calls.append(value) or gather(value, axis)


def data(context):
    def row(number):
        return tf.fill([1, number + 1], 2 * number + context.input_pipeline_id)

    return tf.data.Dataset.range(9).map(row)


predictor = Predictor(strategy, lambda rows: {"rows": rows, "half": tf.cast(rows, tf.float32) / 2})
for number, batch in enumerate(predictor.batches(data, 9)):
    expected = np.repeat([[2 * number], [2 * number + 1]], number + 1, axis=1)
    np.testing.assert_array_equal(batch["rows"], expected)
    np.testing.assert_array_equal(batch["half"], expected / 2)
assert len(calls) == 2, calls
"""


def test_rows_of_all_workers_are_gathered_by_one_graph(tmp_path):
    """Each call of `gather` builds one; a batch took half a second, whatever the network."""
    script = tmp_path / "predict.py"
    script.write_text(PREDICT, "utf-8")
    with clusters.Cluster(script, [[], []], tmp_path) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)


# Dropout is on: what a worker draws is the same again after a resume.
SAVE_EVERY = 25
LONG = {"num_train_steps": 200, "save_checkpoints_steps": SAVE_EVERY, "log_every_steps": 25}


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory):
    """What two workers train when nothing happens to them."""
    logs = tmp_path_factory.mktemp("logs")
    with clusters.pretraining(tiny_data, "workers-undisturbed", logs, **LONG) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
    return checkpoint(tiny_data / "models" / "workers-undisturbed")


def wait_for_next_save(cluster, model_dir):
    """Waits for a checkpoint beyond those that are there."""
    done = max(CheckpointStore(str(model_dir)).steps(), default=0)
    step = (done // SAVE_EVERY + 1) * SAVE_EVERY
    cluster.wait_for(model_dir / "checkpoints" / f"step-{step:08d}")


def test_stopped_and_killed_workers(tiny_data, tmp_path, undisturbed):
    """One gets a signal, later on each is killed; the run ends as if nothing had happened."""
    name = "workers-disturbed"
    model_dir = tiny_data / "models" / name
    with clusters.pretraining(tiny_data, name, tmp_path, **LONG) as cluster:
        wait_for_next_save(cluster, model_dir)
        cluster.processes[1].send_signal(signal.SIGTERM)
        assert cluster.wait(60) == [75, 75], cluster.text(0) + cluster.text(1)
        for index in range(2):
            assert "The run was stopped after step" in cluster.text(index)
            assert "received: SIGTERM" in cluster.text(index)
    for lost in (0, 1):
        with clusters.pretraining(tiny_data, name, tmp_path, **LONG) as cluster:
            wait_for_next_save(cluster, model_dir)
            cluster.processes[lost].kill()
            start = time.monotonic()
            other = cluster.processes[1 - lost]
            assert other.wait(SECONDS_TO_LEAVE) == 75, cluster.text(1 - lost)
            assert time.monotonic() - start < SECONDS_TO_LEAVE
            message = cluster.text(1 - lost)
        assert "Resuming at step" in message
        assert "error: Another worker of the run is gone." in message
        assert "run the same command on all hosts again" in message
        assert "Traceback" not in message
    with clusters.pretraining(tiny_data, name, tmp_path, **LONG) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
        assert "Resuming at step" in cluster.text(1)
    arrays, step = checkpoint(model_dir)
    expected, expected_step = undisturbed
    assert step == expected_step
    for array, value in expected.items():
        np.testing.assert_array_equal(arrays[array], value, err_msg=array)


def test_a_run_moves_between_devices(tiny_data, tmp_path, pretrained):
    """From one device to two replicas, then to two workers."""
    models, _ = pretrained
    hparams = PRETRAINING | {"do_eval": False}
    moving = models / "workers-moving"
    shutil.copytree(models / "workers-one", moving)
    for folder in (moving / "checkpoints").iterdir():
        if folder.name != f"step-{MIDDLE:08d}":
            shutil.rmtree(folder)
    clusters.pretrain_until(tiny_data, moving.name, 2 * MIDDLE, devices=2, **hparams)
    with clusters.pretraining(tiny_data, moving.name, tmp_path, **hparams) as cluster:
        assert cluster.wait() == [0, 0], cluster.text(0) + cluster.text(1)
        assert f"Resuming at step {2 * MIDDLE}" in cluster.text(0)
    assert_close(models / "workers-one", moving, {})
