"""Runs of two phases: short examples first, then long ones, stopped and resumed at any step."""

import json
import os

import numpy as np
import pytest

from electra_tf2.data.input import ExampleFiles
from electra_tf2.errors import UserError
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.pretraining.phases import RunCompute
from electra_tf2.pretraining.run.build_pretraining import build_objective, build_pretraining
from electra_tf2.pretraining.run.open_run import open_run
from electra_tf2.pretraining.run.phase_trainers import PhaseTrainers
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.devices import open_devices
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.trainer import Interrupted
from tests.data.small_corpus import content
from tests.pretraining import tiny

SHORT, LONG = 16, tiny.LENGTH
N_SHORT, N_LONG = 4, 5


def first_phase(root):
    return {
        "num_train_steps": N_SHORT,
        "max_seq_length": SHORT,
        "num_warmup_steps": 2,
        "pretrain_tfrecords": f"{root}/short_tfrecords/{tiny.GLOB}",
    }


def second_phase(**changes):
    return {
        "num_train_steps": N_LONG,
        "train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 5e-4,
        "end_learning_rate": 1e-5,
        "lr_decay_power": 0.5,
        "num_warmup_steps": 3,
        "mask_prob": 0.25,
        "recompute": True,
    } | changes


def hparams(root, *phases):
    """Those of `tiny` for phases; everything is logged."""
    given = {name: value for name, value in tiny.HPARAMS.items() if name != "num_train_steps"}
    given |= tiny.UNIFORM | {"log_every_steps": 1}
    return given | {"phases": list(phases or (first_phase(root), second_phase()))}


def train(root, name, *phases, **changes):
    """Runs the phases; returns what was printed."""
    total = sum(phase["num_train_steps"] for phase in phases) if phases else N_SHORT + N_LONG
    given = hparams(root, *phases) | {"num_train_steps": total} | changes
    return tiny.pretrain_here(root, name, **given)[1]


def assert_same_end(root, name, other):
    # The hparam `phases` may say the same in another way.
    tiny.assert_same_end(root, name, other, but=["config"])
    assert tiny.figures(root, name) == tiny.figures(root, other)


@pytest.fixture(scope="module")
def root(tiny_data):
    """The tiny data with records of length 16 beside those of 32."""
    tiny.write_data(tiny_data, records="short_tfrecords", flags=("--max-seq-length", str(SHORT)))
    return tiny_data


@pytest.fixture(scope="module")
def undisturbed(root):
    """A run without a stop; returns its name, what was printed, and the data it opened."""
    opened = []
    with pytest.MonkeyPatch.context() as patch:
        make = ExampleFiles.training_dataset

        def recorded(files, reading, position, *batches):
            opened.append((position, reading.max_seq_length))
            return make(files, reading, position, *batches)

        patch.setattr(ExampleFiles, "training_dataset", recorded)
        shown = train(root, "undisturbed_phases")
    return "undisturbed_phases", shown, opened


def test_the_phases_run_one_after_the_other(root, undisturbed):
    name, shown, opened = undisturbed
    assert "Phase 1 of 2: 8 x 16 tokens a step\nTraining from step 0 to 4" in shown
    assert "Phase 2 of 2: 4 x 32 tokens a step\nTraining from step 4 to 9" in shown
    assert opened == [(0, SHORT), (0, LONG)]
    assert [line["step"] for line in tiny.figures(root, name)] == list(
        range(1, N_SHORT + N_LONG + 1)
    )
    assert CheckpointStore(str(root / "models" / name)).steps() == [3, 4, 6, 9]
    assert tiny.newest(root, name).state["examples_seen"] == N_SHORT * 8 + N_LONG * 4
    stored = json.loads((root / "models" / name / "config.json").read_text())["hparams"]
    assert stored["phases"] == [first_phase(root), second_phase()]
    assert stored["num_train_steps"] == N_SHORT + N_LONG


def test_the_schedule_starts_anew(root, undisturbed):
    rates = [line["learning_rate"] for line in tiny.figures(root, undisturbed[0])]
    first = PolynomialDecay(1e-3, N_SHORT, 2)
    second = PolynomialDecay(5e-4, N_LONG, 3, 0.5, 1e-5)
    expected = [float(first(step)) for step in range(1, N_SHORT + 1)]
    expected += [float(second(step)) for step in range(1, N_LONG + 1)]
    assert rates == expected


def test_moments_and_weights_are_carried_over(root, undisturbed):
    store = CheckpointStore(str(root / "models" / undisturbed[0]))
    before, after = (store.load(f"{store.folder}/step-{step:08d}") for step in (4, 6))
    # Two updates keep .998 of the second moment, and move a weight by little.
    for name, moment in before.optimizer.items():
        if name.endswith("adam_v"):
            assert (after.optimizer[name] >= 0.997 * moment).all(), name
    for name, weight in before.weights.items():
        assert np.abs(after.weights[name] - weight).max() < 0.02, name


@pytest.mark.slow
def test_stopped_between_the_phases_and_in_the_second(root, undisturbed):
    """(A run that is stopped in its first phase is in test_dynamic_run.)"""
    name = "stopped_phases"
    for step in (N_SHORT, 6):
        with tiny.disturbed_at(step, tiny.terminate), pytest.raises(Interrupted) as info:
            train(root, name)
        assert f"after step {step}" in info.value.what
        assert tiny.newest(root, name).step == step
    # After the checkpoint of step 6.
    with tiny.disturbed_at(8, tiny.die), pytest.raises(RuntimeError, match="died"):
        train(root, name)
    shown = train(root, name)
    assert "Resuming at step 6" in shown and "Training from step 6 to 9" in shown
    assert "Phase 1" not in shown
    assert_same_end(root, name, undisturbed[0])


@pytest.mark.slow
def test_a_finished_run_gets_another_phase(root, undisturbed):
    """From a run that knew of no phases."""
    config = {**hparams(root), **first_phase(root), "phases": None}
    tiny.pretrain_here(root, "appended", **config)
    assert tiny.newest(root, "appended").step == N_SHORT
    shown = train(root, "appended")
    assert "Phase 2 of 2: 4 x 32 tokens a step\nTraining from step 4 to 9" in shown
    assert_same_end(root, "appended", undisturbed[0])
    assert "nothing to do" in train(root, "appended")


@pytest.mark.slow
def test_one_phase_is_a_run_without_phases(root):
    steps = {"num_train_steps": 3}
    train(root, "one_phase", steps)
    plain = {**hparams(root), **steps, "phases": None}
    _, shown = tiny.pretrain_here(root, "plain_run", **plain)
    assert "Training from step 0 to 3" in shown and "Phase 1" not in shown
    assert_same_end(root, "one_phase", "plain_run")


@pytest.mark.slow
def test_evaluation_is_of_the_phase_that_was_trained(root, undisturbed):
    """Its length and data, and no others have to be there."""
    name = undisturbed[0]
    only = {"do_train": False, "do_eval": True, "num_eval_steps": 2}
    gone = {**first_phase(root), "pretrain_tfrecords": "/nowhere"}
    shown = train(root, name, gone, second_phase(), **only)
    assert f"Evaluating step 9 on the training data, {root}/pretrain_tfrecords" in shown
    after_first = CheckpointStore(str(root / "models" / name)).folder + "/step-00000004"
    ended = CheckpointStore(str(root / "models" / "ended")).folder
    os.makedirs(ended)
    os.symlink(after_first, f"{ended}/step-00000004")
    gone = second_phase(pretrain_tfrecords="/nowhere")
    shown = train(root, "ended", first_phase(root), gone, **only)
    assert f"Evaluating step 4 on the training data, {root}/short_tfrecords" in shown


def test_the_compute_of_a_resumed_run_is_that_of_its_phase(root, undisturbed):
    phases = [first_phase(root), second_phase(), second_phase()]
    given = hparams(root, *phases) | {"num_train_steps": N_SHORT + 2 * N_LONG}
    config = tiny.configure(root, undisturbed[0], **given)
    trainers = PhaseTrainers(open_run(config, open_devices(config)))
    assert trainers.phase.number == 3
    counted = trainers.trainer.run.settings.flops_per_example
    costs = [RunCompute(config, config.network()).example(n).training_products for n in range(3)]
    assert counted == costs[2] > costs[0]


@pytest.mark.parametrize("changes", [{}, {"electric_objective": True}, tiny.UNIFORM], ids=str)
def test_a_phase_sets_recomputation_in_all_networks(root, changes):
    plain = tiny.configure(root, **changes)
    frugal = tiny.configure(root, **changes, recompute=True)
    vocabulary = load_vocabulary(str(root / "vocab.txt"))
    _, pair = build_pretraining(plain, plain.network(), vocabulary)
    build_objective(frugal, pair, vocabulary)
    layers = [*pair.generator._flatten_layers(), *pair.discriminator._flatten_layers()]
    encoders = {id(layer): layer for layer in layers if isinstance(layer, Encoder)}
    assert len(encoders) == (1 if changes == tiny.UNIFORM else 3 if changes else 2)
    assert all(encoder.recompute for encoder in encoders.values())
    build_objective(plain, pair, vocabulary)
    assert not any(encoder.recompute for encoder in encoders.values())


def test_a_finished_phase_keeps_its_hparams(root, undisturbed):
    before = content(root / "models")
    changed = {**first_phase(root), "learning_rate": 7e-4}
    with pytest.raises(UserError, match="trained with another configuration") as info:
        train(root, undisturbed[0], changed, second_phase())
    assert info.value.received == "phase 1: learning_rate: the model has 0.001, this run 0.0007"
    assert content(root / "models") == before


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"max_seq_length": SHORT}, ["another max_seq_length", "metadata.json, phase 2 of 2"]),
        ({"pretrain_tfrecords": "/nowhere/*"}, ["No TFRecord file", "/nowhere/*, phase 2 of 2"]),
    ],
    ids=["another length", "no data"],
)
def test_the_data_of_a_later_phase_is_checked_at_the_start(root, changes, expected):
    before = content(root / "models")
    with pytest.raises(UserError) as info:
        train(root, "refused", first_phase(root), second_phase(**changes))
    assert all(part in str(info.value) for part in expected), str(info.value)
    assert content(root / "models") == before
