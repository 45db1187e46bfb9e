"""AdamW against the formulas in float64."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.optimizers import AdamW, AdamWSettings, global_norm
from tests.training import optimizer_steps as steps


def reference(settings, factors):
    def change(name, weight, update):
        return update + settings.weight_decay_rate * weight * (name in steps.DECAYED)

    return steps.reference(settings, factors, change)


@pytest.mark.parametrize(
    "settings, factors",
    [
        (AdamWSettings(), {}),
        (AdamWSettings(bias_correction=True), {}),
        (AdamWSettings(weight_decay_rate=0.3, max_grad_norm=0.1), {}),
        (AdamWSettings(weight_decay_rate=0.0, max_grad_norm=1e9, epsilon=1e-2, beta_1=0.5), {}),
        (AdamWSettings(weight_decay_rate=0.3), {"encoder/kernel": 0.25, "encoder/bias": 0.0}),
    ],
    ids=["official", "bias correction", "decay and clip", "no decay, no clip", "factors"],
)
def test_against_float64(settings, factors):
    optimizer = steps.updated(AdamW, settings, factors)
    steps.assert_close(optimizer, reference(settings, factors))
    if "encoder/bias" in factors:
        found = optimizer.variables.to_numpy()["encoder/bias"]
        np.testing.assert_array_equal(found, steps.draw(0)["encoder/bias"])


def test_the_reference_decays_what_it_says():
    """The names matter to the result: without the exclusions it would be another one."""
    with_decay, _, _ = reference(AdamWSettings(weight_decay_rate=0.3), {})
    without, _, _ = reference(AdamWSettings(weight_decay_rate=0.0), {})
    changed = {n for n in steps.SHAPES if np.abs(with_decay[n] - without[n]).max() > 1e-3}
    assert changed == steps.DECAYED


def test_global_norm():
    arrays = steps.draw(3)
    norm = global_norm([tf.constant(array) for array in arrays.values()])
    assert float(norm) == pytest.approx(steps.norm_of(arrays), rel=1e-6)


def test_slots_are_named_after_variables():
    optimizer = steps.updated(AdamW, AdamWSettings(), {})
    expected = {f"{n}/{s}" for n in steps.SHAPES for s in ("adam_m", "adam_v")}
    assert set(optimizer.slots.names) == expected
    saved = optimizer.slots.to_numpy()
    optimizer.restore_slots({name: array + 1 for name, array in saved.items()}, updates=0)
    for name, array in optimizer.slots.to_numpy().items():
        np.testing.assert_array_equal(array, saved[name] + 1)


def test_updates_are_counted_where_the_moments_are_corrected():
    optimizer = steps.updated(AdamW, AdamWSettings(bias_correction=True), {})
    saved = optimizer.slots.to_numpy()
    assert saved["updates"] == steps.N_STEPS
    optimizer.restore_slots({**saved, "updates": np.int64(7)}, updates=3)
    assert optimizer.slots.to_numpy()["updates"] == 7
    del saved["updates"]  # as in an official checkpoint
    optimizer.restore_slots(saved, updates=3)
    assert optimizer.slots.to_numpy()["updates"] == 3
