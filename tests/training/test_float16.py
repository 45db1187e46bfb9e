"""Training in float16: overflowing gradients are skipped everywhere, and nothing is lost by it."""

import math

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training import optimizers
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizers import LossScale
from electra_tf2.training.step import StepResult
from electra_tf2.training.trainer import NonFiniteLoss
from tests.training import replica_runs
from tests.training.products import Products, Root, log_lines, make_trainer, rows

OVERFLOWING = replica_runs.OVERFLOWING
FITTING = [1, 1, 4, 1]


def saved_state(trainer):
    """All arrays of the newest checkpoint, and its state."""
    checkpoint = trainer.run.store.load(trainer.run.store.latest())
    return {**checkpoint.weights, **checkpoint.optimizer}, checkpoint.state


def weight(trainer):
    return float(trainer.run.objective.weight.numpy()[0])


@pytest.mark.slow
def test_an_overflow_on_one_replica_is_skipped_on_both():
    two = replica_runs.results()["float16"]["two"]
    before, skipped, updated, last = two["seen"]
    assert before["loss_scale"] == [2.0**15] * 2
    assert skipped["loss_scale"] == [2.0**14] * 2
    assert skipped["loss_scale_good_steps"] == [0, 0]
    for name in before.keys() - {"loss_scale"}:
        assert skipped[name] == before[name], name
    # Training continues, with the same rows, and both replicas stay equal.
    for state, count in ((updated, 1), (last, 2)):
        assert state["loss_scale"] == [2.0**14] * 2
        assert state["loss_scale_good_steps"] == [count] * 2
        (first,), (second,) = state["weight"]
        assert first == second < 1.0
    assert updated["weight"] != last["weight"]
    assert two["skipped"] == 1
    assert [line["loss_scale"] for line in two["log"]] == [2.0**15, 2.0**14, 2.0**14]


@pytest.mark.slow
def test_two_replicas_equal_one_device():
    runs = replica_runs.results()["float16"]
    for one, two in zip(runs["one"]["seen"], runs["two"]["seen"], strict=True):
        assert all(two[name] == [value] * 2 for name, (value,) in one.items())


def test_the_run_goes_on_and_counts(tmp_path):
    """On an overflow even "stop" only skips, also within a graph call of several steps."""
    trainer = make_trainer(tmp_path, n_steps=6, log_every=3, iterations_per_loop=3)
    trainer.train(rows(FITTING, OVERFLOWING, FITTING, FITTING, [1, 16, 1, 1]))
    assert (trainer.step, trainer.skipped, trainer.examples_seen) == (6, 2, 24)
    lines = log_lines(tmp_path)
    assert [line["skipped_updates"] for line in lines] == [1, 2]
    assert [line["loss_scale"] for line in lines] == [2.0**14, 2.0**13]
    assert all(math.isfinite(line["loss"]) for line in lines)
    arrays, state = saved_state(trainer)
    assert arrays["loss_scale"] == 2.0**13 and arrays["loss_scale_good_steps"] == 1
    assert state["skipped_updates"] == 2


@pytest.mark.parametrize(
    "losses, norms, scales, steps, updates",
    [
        ([1, 1, 1, 1, 1], [1, math.inf, 1, math.nan, 1], [4, 4, 2, 2, 2], 5, 3),
        ([1, 1, 1, 1, 1], [1, math.inf, 1, math.inf, 1], [2, 2, 1, 1, 1], 4, 2),
        ([1, math.nan, 1, 1, 1], [1, math.nan, 1, 1, 1], [4, 4, 4, 4, 4], 2, 1),
    ],
    ids=["overflows", "at the smallest scale", "loss"],
)
def test_a_graph_call_ends_early_only_at_what_no_scale_mends(losses, norms, scales, steps, updates):
    def replica_step(batch, inputs, active):
        loss, norm, scale = (batch[name][0] for name in ("loss", "norm", "scale"))
        finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        return StepResult(loss, {}, {}, norm, finite, scale)

    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    data = {"loss": losses, "norm": norms, "scale": scales}
    columns = {name: np.float32(values)[:, None] for name, values in data.items()}
    iterator = iter(tf.data.Dataset.from_tensor_slices(columns))
    window = StepLoop(strategy, replica_step, stop_at_nonfinite=True)(iterator, 0, 5)
    assert (int(window.steps), int(window.updates)) == (steps, updates)
    assert float(window.loss) == updates


def test_gradients_are_those_of_the_loss(tmp_path):
    """The scale is taken out again, whether compiled or not: the moments are those of float32."""
    found = {}
    for name, options in (
        ("float32", {"loss_scale": False, "objective": lambda: Products(tf.float32)}),
        ("float16", {}),
        ("compiled", {"jit_compile": True}),
    ):
        trainer = make_trainer(tmp_path / name, n_steps=4, **options)
        trainer.train(rows(FITTING, FITTING))
        found[name] = {**trainer.run.optimizer.slots.to_numpy(), "weight": weight(trainer)}
    for other in ("float16", "compiled"):
        for name, array in found["float32"].items():
            np.testing.assert_allclose(found[other][name], array, rtol=1e-6, err_msg=name)
        assert found[other]["loss_scale_good_steps"] == 4
    assert "loss_scale" not in log_lines(tmp_path / "float32")[0]


def test_small_gradients_need_the_scale(tmp_path):
    """The smallest number of float16, divided by the batch size, is 0 without a scale."""
    smallest = 2.0**-24
    found = {}
    for scale in (1.0, 2.0**15):
        trainer = make_trainer(
            tmp_path / str(scale), n_steps=1, loss_scale={"initial": scale}, save_every=1
        )
        trainer.train(rows([smallest] * 4))
        found[scale] = float(trainer.run.optimizer.slots.to_numpy()["product/weight/adam_m"][0])
    assert found[1.0] == 0.0
    assert found[2.0**15] == pytest.approx(0.1 * smallest)


def test_grows_after_good_steps(tmp_path):
    trainer = make_trainer(tmp_path, n_steps=7, loss_scale={"initial": 64.0, "growth_steps": 3})
    trainer.train(rows(FITTING))
    scales = [line["loss_scale"] for line in log_lines(tmp_path)]
    assert scales == [64, 64, 64, 128, 128, 128, 256]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run whose scale goes down and up, and the state that it saved."""
    folder = tmp_path_factory.mktemp("undisturbed")
    trainer = make_trainer(folder, loss_scale={"growth_steps": 4})
    trainer.train(rows(FITTING, OVERFLOWING, FITTING))
    return folder, saved_state(trainer)


@pytest.mark.parametrize("halted_at", [2, 4])
def test_resumed_is_undisturbed(tmp_path, undisturbed, halted_at):
    """Halted right after an overflow, and in the middle of counting up to the next growth."""
    data = rows(FITTING, OVERFLOWING, FITTING)
    options = {"loss_scale": {"growth_steps": 4}}
    halted = make_trainer(tmp_path, n_steps=halted_at, **options)
    halted.train(data)
    resumed = make_trainer(tmp_path, **options)
    resumed.restore(resumed.run.store.load(resumed.run.store.latest()))
    assert resumed.step == halted_at
    resumed.train(data)
    arrays, state = saved_state(resumed)
    folder, (expected, expected_state) = undisturbed
    assert state == expected_state
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    scales = {a["step"]: a["loss_scale"] for a in log_lines(tmp_path)}
    assert scales == {a["step"]: a["loss_scale"] for a in log_lines(folder)}
    assert len(set(scales.values())) > 2  # it went down and up


def test_checkpoints_of_other_precisions_can_be_read(tmp_path):
    plain = make_trainer(tmp_path / "float32", n_steps=1, loss_scale=False)
    plain.train(rows(FITTING))
    arrays, _ = saved_state(plain)
    assert "loss_scale" not in arrays
    scaled = make_trainer(tmp_path / "float16", n_steps=2, loss_scale={"initial": 32.0})
    scaled.restore(plain.run.store.load(plain.run.store.latest()))
    assert weight(scaled) == weight(plain)
    assert scaled.run.optimizer.slots.to_numpy()["loss_scale"] == 32.0
    scaled.train(rows(FITTING))
    back = make_trainer(tmp_path / "back", loss_scale=False)
    back.restore(CheckpointStore(str(tmp_path / "float16")).load(scaled.run.store.latest()))
    assert weight(back) == weight(scaled)


def test_a_skipped_step_does_not_count_for_the_bias_correction(tmp_path):
    """Corrected by its own number, the first update is as long as the learning rate."""
    trainer = make_trainer(tmp_path, n_steps=2, bias_correction=True)
    start = weight(trainer)
    trainer.train(rows(OVERFLOWING, FITTING))
    assert trainer.skipped == 1
    assert saved_state(trainer)[0]["updates"] == 1
    decay = trainer.run.optimizer.settings.weight_decay_rate * start
    rate = float(trainer.run.schedule(tf.constant(2, tf.int64)))
    assert abs(start - weight(trainer)) == pytest.approx(rate * (1 + decay), rel=1e-3)


def test_a_loss_that_is_not_finite_is_not_the_scales_fault(tmp_path):
    data = rows(FITTING, [1, math.nan, 1, 1])
    trainer = make_trainer(tmp_path / "stop")
    with pytest.raises(NonFiniteLoss, match="step 2, "):
        trainer.train(data)
    trainer = make_trainer(tmp_path / "skip", on_nonfinite="skip", n_steps=3)
    trainer.train(data)
    assert trainer.skipped == 1
    assert saved_state(trainer)[0]["loss_scale"] == 2.0**15


def test_a_gradient_that_no_scale_mends_stops_the_run(tmp_path):
    trainer = make_trainer(tmp_path, objective=Root, loss_scale={"initial": 4.0})
    with pytest.raises(NonFiniteLoss, match="step 3, ") as info:
        trainer.train(rows())
    assert info.value.received == "loss 0.0, gradient norm inf"
    assert [line["loss_scale"] for line in log_lines(tmp_path)] == [4.0, 2.0]
    assert weight(trainer) == 1.0
    trainer = make_trainer(
        tmp_path / "skip",
        objective=Root,
        on_nonfinite="skip",
        n_steps=4,
        loss_scale={"initial": 4.0},
    )
    trainer.train(rows())
    assert trainer.skipped == 4 and saved_state(trainer)[0]["loss_scale"] == 1.0


def test_micro_batches_share_the_scale(tmp_path):
    """An overflow in one of them skips the whole update, and the rest equals one batch."""
    found = []
    for parts in (1, 2):
        trainer = make_trainer(tmp_path / str(parts), n_steps=3, micro_batches=parts)
        trainer.train(rows(OVERFLOWING, FITTING))
        assert trainer.skipped == 1
        found.append(weight(trainer))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


GOOD, OVERFLOW, BAD_LOSS = (1.0, 1.0), (1.0, math.inf), (math.nan, math.nan)


def scales(outcomes, **options):
    """The state after each of the outcomes, (loss, gradient norm)."""
    scale = LossScale(tf.distribute.OneDeviceStrategy("/cpu:0"), **options)
    found = []
    for loss, norm in outcomes:
        scale.update(0, tf.constant(loss), tf.constant(norm))
        assert float(scale.value(0)) == scale.to_numpy()["loss_scale"]
        found.append(tuple(v.item() for v in scale.to_numpy().values()))
    return found


def test_constants_are_the_usual_ones():
    (first,) = scales([GOOD])
    assert first == (2.0**15, 1)
    assert optimizers.GROWTH_STEPS == 2000


def test_doubles_after_good_steps_in_a_row():
    found = scales([GOOD] * 7, initial=8.0, growth_steps=3)
    assert found == [(8, 1), (8, 2), (16, 0), (16, 1), (16, 2), (32, 0), (32, 1)]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_halves_at_an_overflow_and_counts_from_zero(norm):
    found = scales([GOOD, GOOD, (1.0, norm), GOOD, GOOD, GOOD], initial=8.0, growth_steps=3)
    assert found == [(8, 1), (8, 2), (4, 0), (4, 1), (4, 2), (8, 0)]


def test_stays_within_its_bounds():
    assert scales([OVERFLOW] * 3, initial=2.0) == [(1, 0)] * 3
    found = scales([GOOD] * 2, initial=optimizers.MAX_SCALE / 2, growth_steps=1)
    assert found == [(optimizers.MAX_SCALE, 0)] * 2


def test_a_bad_loss_says_nothing_of_the_scale():
    found = scales([GOOD, BAD_LOSS, (math.inf, 1.0), GOOD], initial=8.0, growth_steps=2)
    assert found == [(8, 1), (8, 1), (8, 1), (16, 0)]
