"""LAMB against the published algorithm in float64, and on two replicas."""

import numpy as np
import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.training.optimizers import AdamW, AdamWSettings, Lamb, LambSettings, make_optimizer
from tests.training import optimizer_steps as steps
from tests.training import replica_runs

DECAY = 0.3


def norm(array):
    return np.sqrt(np.square(array).sum())


def trust_ratio(weight, r):
    return norm(weight) / norm(r) if norm(weight) > 0 and norm(r) > 0 else 1.0


def published(decay):
    def change(name, weight, update):
        if name not in steps.DECAYED:
            return update
        r = update + decay * weight
        return trust_ratio(weight, r) * r

    return change


def decay_outside_the_ratio(name, weight, update):
    if name not in steps.DECAYED:
        return update
    return trust_ratio(weight, update) * update + DECAY * weight


def ratio_for_all(name, weight, update):
    r = update + DECAY * weight * (name in steps.DECAYED)
    return trust_ratio(weight, r) * r


@pytest.mark.parametrize(
    "settings, factors",
    [
        (LambSettings(), {}),
        (LambSettings(weight_decay_rate=DECAY), {}),
        (LambSettings(weight_decay_rate=DECAY, bias_correction=False, max_grad_norm=0.1), {}),
        (LambSettings(weight_decay_rate=0.0, epsilon=1e-2, beta_1=0.5, max_grad_norm=1e9), {}),
        (LambSettings(weight_decay_rate=DECAY), {"encoder/kernel": 0.25, "encoder/bias": 0.0}),
    ],
    ids=["default", "decay", "no bias correction, clip", "no decay, no clip", "factors"],
)
def test_against_float64(settings, factors):
    expected = steps.reference(settings, factors, published(settings.weight_decay_rate))
    steps.assert_close(steps.updated(Lamb, settings, factors), expected)


@pytest.mark.parametrize(
    "other, where",
    [
        (decay_outside_the_ratio, steps.DECAYED),
        (ratio_for_all, steps.SHAPES.keys() - steps.DECAYED),
        (published(0.0), steps.DECAYED),
    ],
    ids=["decay outside the ratio", "ratio for LayerNorm and biases", "no decay"],
)
def test_other_algorithms_give_other_weights(other, where):
    """The comparison with the reference would notice each of these."""
    settings = LambSettings(weight_decay_rate=DECAY)
    right, _, _ = steps.reference(settings, {}, published(DECAY))
    wrong, _, _ = steps.reference(settings, {}, other)
    assert {n for n in steps.SHAPES if np.abs(right[n] - wrong[n]).max() > 1e-3} == where


def test_weights_of_zero_take_adams_step():
    initial = {**steps.draw(0), "encoder/kernel": np.zeros((3, 4), np.float32)}
    settings = LambSettings()
    expected = steps.reference(settings, {}, published(0.01), initial)
    steps.assert_close(steps.updated(Lamb, settings, {}, initial), expected)
    assert norm(expected[0]["encoder/kernel"]) > 0.01


def test_nothing_to_change(monkeypatch):
    """No gradient and no decay: ‖r‖ is 0, and nothing becomes NaN."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in steps.SHAPES.items()}
    monkeypatch.setattr(steps, "gradients", lambda step: zeros)
    optimizer = steps.updated(Lamb, LambSettings(weight_decay_rate=0.0), {})
    for name, array in optimizer.variables.to_numpy().items():
        np.testing.assert_array_equal(array, steps.draw(0)[name])


def test_two_replicas_equal_one():
    runs = replica_runs.results()["lamb"]
    for name, one in runs["one"].items():
        moved = np.abs(np.subtract(one, runs["initial"][name])).max()
        assert moved > 1e-2, name
        np.testing.assert_allclose(runs["two"][name], one, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "make_config",
    [
        lambda **hparams: PretrainingConfig("m", "unused", **hparams),
        lambda **hparams: FinetuningConfig("m", "unused", task_names=["cola"], **hparams),
    ],
    ids=["pre-training", "fine-tuning"],
)
def test_chosen_by_hparam(make_config):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    made = make_optimizer(make_config(optimizer="lamb", adam_beta_2=0.9), strategy, {})
    assert type(made) is Lamb
    assert made.settings == LambSettings(beta_2=0.9, bias_correction=True)
    given = make_config(optimizer="lamb", adam_bias_correction=False)
    assert not make_optimizer(given, strategy, {}).settings.bias_correction
    default = make_optimizer(make_config(), strategy, {})
    assert type(default) is AdamW and not default.settings.bias_correction
    corrected = make_optimizer(make_config(adam_bias_correction=True), strategy, {})
    assert corrected.settings == AdamWSettings(bias_correction=True)
