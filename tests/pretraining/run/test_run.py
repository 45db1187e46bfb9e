"""Training and evaluation from a configuration: what is written, logged and returned."""

import json

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.tfrecords import FEATURES
from electra_tf2.pretraining import metrics
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.throughput import MEASURED
from tests.pretraining import tiny
from tests.tensorboard_scalars import scalars

pytestmark = pytest.mark.slow

N_STEPS = 8
EVAL_BATCH = 12  # does not divide the number of held-out examples
HPARAMS = {"num_train_steps": N_STEPS, "eval_every_steps": 4, "eval_batch_size": EVAL_BATCH}
SCALARS = {
    "loss",
    "generator_loss",
    "discriminator_loss",
    "masked_lm_accuracy",
    "sampled_masked_lm_accuracy",
    "disc_accuracy",
    "disc_auc",
    "disc_precision",
    "disc_recall",
}
TRAINING_SCALARS = SCALARS | {"learning_rate", "gradient_norm", *MEASURED} - {"mfu"}


def held_out(data):
    return {"do_eval": True, "eval_tfrecords": str(data / "held_out" / tiny.GLOB)}


@pytest.fixture(scope="module")
def trained(tiny_data):
    """(figures, what was printed, model folder) of a run that trains and evaluates."""
    figures, shown = tiny.pretrain_here(tiny_data, "both", **HPARAMS, **held_out(tiny_data))
    return figures, shown, tiny_data / "models" / "both"


def events(folder):
    """(step, tag) to value of the scalars that TensorBoard shows of a folder of event files."""
    shown = [(step, tag, v) for tag, points in scalars(folder).items() for step, v in points]
    found = {(step, tag): value for step, tag, value in shown}
    assert len(found) == len(shown)  # every step once
    return found


def test_model_folder(trained):
    _, _, model_dir = trained
    assert {path.name for path in model_dir.iterdir()} == {
        ".lock", ".metrics.jsonl.lock", ".warnings.jsonl.lock", "casing.json", "checkpoints",
        "config.json", "metrics.jsonl", "results", "tensorboard", "vocab.txt", "warnings.jsonl",
    }  # fmt: skip
    assert CheckpointStore(str(model_dir)).steps() == [3, 6, 8]
    config = json.loads((model_dir / "config.json").read_text())
    assert config["hparams"]["num_train_steps"] == N_STEPS
    assert config["network"]["hidden_size"] == tiny.NETWORK["hidden_size"]
    casing = json.loads((model_dir / "casing.json").read_text())
    assert casing == {"do_lower_case": True, "strip_accents": True}


def test_results_are_what_is_returned_and_the_speed(trained):
    figures, shown, model_dir = trained
    assert SCALARS < figures.keys() and figures["global_step"] == N_STEPS
    assert all(np.isfinite(value) for value in figures.values())
    stored = json.loads((model_dir / "results" / "unsup_results.json").read_text())
    assert {name: value for name, value in stored.items() if name not in MEASURED} == figures
    assert stored.keys() - figures.keys() == {*MEASURED} - {"mfu"}
    text = (model_dir / "results" / "unsup_results.txt").read_text()
    assert text.splitlines() == [f"{name} = {value}" for name, value in sorted(stored.items())]
    for line in text.splitlines():
        assert f"  {line}\n" in shown


def test_lines_of_the_log(trained):
    figures, _, model_dir = trained
    training = tiny.lines(model_dir, "train")
    assert [line["step"] for line in training] == [2, 4, 6, 8]
    for line in training:
        assert TRAINING_SCALARS <= line.keys()
        step = line["step"]
        rate = 1e-3 * (1 - step / N_STEPS) * min(1, step / 4)
        assert line["learning_rate"] == pytest.approx(rate, rel=1e-5, abs=1e-12)
        total = line["generator_loss"] + 50 * line["discriminator_loss"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
    assert training[-1]["loss"] < training[0]["loss"]
    evaluations = tiny.lines(model_dir, "eval")
    assert [line["step"] for line in evaluations] == [4, 8]
    for name in SCALARS:
        assert evaluations[-1][name] == figures[name]
        assert evaluations[0][name] is not None
    assert evaluations[0]["loss"] > evaluations[1]["loss"]


def test_tensorboard_has_the_same_scalars(trained):
    model_dir = trained[2]
    for split, names in (("train", TRAINING_SCALARS), ("eval", SCALARS)):
        found = events(model_dir / "tensorboard" / split)
        assert names <= {tag for _, tag in found}
        for line in tiny.lines(model_dir, split):
            for name in names:
                assert found[line["step"], name] == pytest.approx(line[name], rel=1e-6)


def test_progress_is_plain_lines_in_a_log(trained):
    shown = trained[1]
    lines = [line for line in shown.splitlines() if line.startswith("pre-training both: step ")]
    assert lines[0].startswith("pre-training both: step 2/8 (25.0 %), ")
    assert lines[-1].startswith("pre-training both: step 8/8 (100.0 %), ")
    assert "steps/s" in lines[0] and "ETA" in lines[0] and "disc_auc" in lines[0]
    assert "gradient_norm" not in lines[0]  # all figures are in metrics.jsonl
    assert "\r" not in shown and "\x1b" not in shown
    assert "1 replica" in shown and "parameters" in shown
    assert "Training from step 0 to 8" in shown


def test_evaluating_again_gives_the_same_figures(trained, tiny_data, monkeypatch):
    """And counts every held-out token once, though the batches don't come out even."""
    sums = []
    summarize = metrics.summarize
    monkeypatch.setattr(metrics, "summarize", lambda s: (sums.append(s), summarize(s))[1])
    model_dir = trained[2]
    before = CheckpointStore(str(model_dir)).steps()

    hparams = HPARAMS | held_out(tiny_data) | {"do_train": False}
    figures, shown = tiny.pretrain_here(tiny_data, "both", **hparams)

    assert figures == trained[0]
    assert CheckpointStore(str(model_dir)).steps() == before
    assert "Training from" not in shown
    examples = records(tiny_data / "held_out")
    assert len(examples) % EVAL_BATCH
    n_tokens = sum(sum(example["input_mask"]) for example in examples)
    (sums,) = sums
    assert sums["disc_accuracy"][1] == n_tokens
    assert sums["disc_auc"].sum() == n_tokens


def records(folder):
    """The examples of a data set as dicts of lists."""
    paths = sorted(str(path) for path in folder.glob(tiny.GLOB))
    parsed = map(tf.train.Example.FromString, tf.data.TFRecordDataset(paths).as_numpy_iterator())
    return [
        {name: list(example.features.feature[name].int64_list.value) for name in FEATURES}
        for example in parsed
    ]


def test_the_same_command_again_does_nothing_more(trained, tiny_data):
    model_dir = trained[2]
    before = (model_dir / "metrics.jsonl").read_bytes()
    figures, shown = tiny.pretrain_here(tiny_data, "both", **HPARAMS)
    assert figures is None
    assert "Already trained for 8 steps (num_train_steps 8): nothing to do." in shown
    assert (model_dir / "metrics.jsonl").read_bytes() == before


def test_more_steps_than_before(tiny_data):
    """Another end of training is no other model: it goes on, with the new schedule."""
    hparams = tiny.UNIFORM | {"log_every_steps": 1, "num_train_steps": 4}
    tiny.pretrain_here(tiny_data, "longer", **hparams)
    figures, shown = tiny.pretrain_here(tiny_data, "longer", **hparams | {"num_train_steps": 10})
    model_dir = tiny_data / "models" / "longer"
    assert figures is None and not (model_dir / "results").exists()
    assert f"Resuming at step 4 from {model_dir}/checkpoints/step-00000004" in shown
    assert "Training from step 4 to 10" in shown
    lines = tiny.lines(model_dir)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert lines[3]["learning_rate"] == 0.0
    assert lines[4]["learning_rate"] == pytest.approx(1e-3 * 0.5, rel=1e-5)
    assert CheckpointStore(str(model_dir)).steps()[-1] == 10
    stored = json.loads((model_dir / "config.json").read_text())
    assert stored["hparams"]["num_train_steps"] == 10
