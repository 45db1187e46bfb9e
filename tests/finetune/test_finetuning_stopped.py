"""A stopped fine-tuning run goes on to the same weights and scores."""

import signal
import time

import numpy as np
import pytest

from electra_tf2.training.checkpoints import CheckpointStore
from finetune.results import read_results
from tests.finetune import tiny_tasks

pytestmark = pytest.mark.slow

HPARAMS = {"num_train_epochs": 30.0, "log_every_steps": 1, "save_checkpoints_steps": 100}


def run_to_the_end(data_dir):
    process = tiny_tasks.start(data_dir, **HPARAMS)
    _, message = process.communicate(timeout=300)
    assert process.returncode == 0, message
    return message


def outcome(data_dir):
    """(checkpoint, scores) of the first trial."""
    folder = data_dir / "models" / tiny_tasks.MODEL
    store = CheckpointStore(str(folder / "finetuning_models" / "marks_model_1"))
    results = read_results(str(folder / "results" / "marks_results.json"))
    return store.load(store.latest()), results["trials"][0]["scores"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on(data_dir, tmp_path, number):
    import shutil

    shutil.copytree(data_dir, tmp_path / "undisturbed")
    process = tiny_tasks.start(data_dir, **HPARAMS)
    log = data_dir / "models/tiny/finetuning_models/marks_model_1/metrics.jsonl"
    deadline = time.monotonic() + 300
    while not log.exists() or log.read_text().count("\n") < 250:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, message = process.communicate(timeout=300)
    assert process.returncode == (75 if number == signal.SIGTERM else -number), message
    assert "Resuming at step" in run_to_the_end(data_dir)
    run_to_the_end(tmp_path / "undisturbed")
    (ours, scores), (theirs, expected) = outcome(data_dir), outcome(tmp_path / "undisturbed")
    assert scores == expected
    assert ours.step == theirs.step == 900
    for kind in ("weights", "optimizer"):
        one, other = getattr(ours, kind), getattr(theirs, kind)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
