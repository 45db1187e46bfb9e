"""AdamW and LAMB against the formulas in float64, and on two replicas."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.training.optimizers import (
    AdamW,
    Lamb,
    OptimizerSettings,
    global_norm,
    make_optimizer,
)
from tests.training import replica_runs

SHAPES = {
    "encoder/kernel": (3, 4),
    "encoder/bias": (4,),
    "encoder/layer_norm/gamma": (4,),
    "old/LayerNorm/beta": (4,),
    "head/output_bias": (5,),
    "task_specific/media_bias/classifier/kernel": (4, 2),
    "task_specific/media_bias/classifier/bias": (2,),
    "embeddings/word_embeddings": (5, 4),
}
# What is neither LayerNorm nor bias.
DECAYED = {
    "encoder/kernel",
    "embeddings/word_embeddings",
    "task_specific/media_bias/classifier/kernel",
}
# As in the paper.
lamb_settings = functools.partial(OptimizerSettings, bias_correction=True)
N_STEPS = 5
RATES = [1e-2, 2e-2, 5e-3, 1e-2, 3e-2]
DECAY = 0.3
FACTORS = {"encoder/kernel": 0.25, "encoder/bias": 0.0}


def draw(seed):
    """Arrays of the variables' shapes, normally distributed."""
    generator = np.random.default_rng(seed)
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}


def gradients(step):
    """Of a norm over 1 in some steps and under 1 in others."""
    scale = 0.02 if step % 2 else 1.0
    return {name: scale * array for name, array in draw(100 + step).items()}


def norm(*arrays):
    """Their global norm, in float64."""
    return float(np.sqrt(sum(np.square(np.float64(a)).sum() for a in arrays)))


def updated(optimizer_class, settings, factors=None, initial=None, gradients=gradients):
    """The optimizer after the steps, from `initial` or `draw(0)` on."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    initial = initial or draw(0)
    variables = {name: keras.Variable(array, name="v") for name, array in initial.items()}
    optimizer = optimizer_class(strategy, variables, settings, factors)
    for step in range(N_STEPS):
        tensors = [tf.constant(array) for array in gradients(step).values()]
        optimizer.apply(0, tensors, global_norm(tensors), tf.constant(RATES[step]))
    return optimizer


def reference(settings, change, factors=None, initial=None):
    """Weights, m and v after the steps, in float64.

    Args:
        settings: the constants.
        change: (name, weight, m / (√v + epsilon)) -> what the learning rate multiplies.
        factors: of the learning rate, by name.
        initial: the weights at first; `draw(0)` if None.
    """
    weights = {name: np.float64(array) for name, array in (initial or draw(0)).items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step in range(N_STEPS):
        given = gradients(step)
        clip = min(1.0, settings.max_grad_norm / norm(*given.values()))
        for name in SHAPES:
            g = np.float64(given[name]) * clip
            m[name] = settings.beta_1 * m[name] + (1 - settings.beta_1) * g
            v[name] = settings.beta_2 * v[name] + (1 - settings.beta_2) * g**2
            first = 1 - settings.beta_1 ** (step + 1) if settings.bias_correction else 1
            second = 1 - settings.beta_2 ** (step + 1) if settings.bias_correction else 1
            update = (m[name] / first) / (np.sqrt(v[name] / second) + settings.epsilon)
            rate = RATES[step] * (factors or {}).get(name, 1.0)
            weights[name] = weights[name] - rate * change(name, weights[name], update)
    return weights, m, v


def adamw(decay):
    return lambda name, weight, update: update + decay * weight * (name in DECAYED)


def trust_ratio(weight, r):
    return norm(weight) / norm(r) if norm(weight) > 0 and norm(r) > 0 else 1.0


def lamb(decay):
    def change(name, weight, update):
        if name not in DECAYED:
            return update
        r = update + decay * weight
        return trust_ratio(weight, r) * r

    return change


def assert_close(optimizer, expected):
    """Compares weights and moments with a reference."""
    weights, m, v = expected
    found, slots = optimizer.variables.to_numpy(), optimizer.slots.to_numpy()
    for name in SHAPES:
        np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(slots[f"{name}/adam_m"], m[name], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(slots[f"{name}/adam_v"], v[name], rtol=1e-5, atol=1e-10)


SMALL_BETA = {"weight_decay_rate": 0.0, "max_grad_norm": 1e9, "epsilon": 1e-2, "beta_1": 0.5}


@pytest.mark.parametrize(
    "settings, factors",
    [
        (OptimizerSettings(), {}),
        (OptimizerSettings(bias_correction=True), {}),
        (OptimizerSettings(weight_decay_rate=DECAY, max_grad_norm=0.1), {}),
        (OptimizerSettings(**SMALL_BETA), {}),
        (OptimizerSettings(weight_decay_rate=DECAY), FACTORS),
    ],
    ids=["official", "bias correction", "decay and clip", "no decay, no clip", "factors"],
)
def test_adamw_against_float64(settings, factors):
    optimizer = updated(AdamW, settings, factors)
    assert_close(optimizer, reference(settings, adamw(settings.weight_decay_rate), factors))
    if factors:
        found = optimizer.variables.to_numpy()["encoder/bias"]
        np.testing.assert_array_equal(found, draw(0)["encoder/bias"])


@pytest.mark.parametrize("beta_2", [0.0, 1 - 1e-8])
def test_corrected_moments_of_any_decay(beta_2):
    """1 - 1e-8 is 1 in float32, and 1 - 1^t is 0."""
    settings = OptimizerSettings(beta_2=beta_2, bias_correction=True)
    expected, _, _ = reference(settings, adamw(settings.weight_decay_rate))
    found = updated(AdamW, settings).variables.to_numpy()
    for name, weights in expected.items():
        np.testing.assert_allclose(found[name], weights, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "settings, factors",
    [
        (lamb_settings(), {}),
        (lamb_settings(weight_decay_rate=DECAY), {}),
        (OptimizerSettings(weight_decay_rate=DECAY, max_grad_norm=0.1), {}),
        (lamb_settings(**SMALL_BETA), {}),
        (lamb_settings(weight_decay_rate=DECAY), FACTORS),
    ],
    ids=["default", "decay", "no bias correction, clip", "no decay, no clip", "factors"],
)
def test_lamb_against_float64(settings, factors):
    expected = reference(settings, lamb(settings.weight_decay_rate), factors)
    assert_close(updated(Lamb, settings, factors), expected)


def decay_outside_the_ratio(name, weight, update):
    if name not in DECAYED:
        return update
    return trust_ratio(weight, update) * update + DECAY * weight


def ratio_for_all(name, weight, update):
    r = update + DECAY * weight * (name in DECAYED)
    return trust_ratio(weight, r) * r


@pytest.mark.parametrize(
    "right, wrong, where",
    [
        (adamw(DECAY), adamw(0.0), DECAYED),
        (lamb(DECAY), lamb(0.0), DECAYED),
        (lamb(DECAY), decay_outside_the_ratio, DECAYED),
        (lamb(DECAY), ratio_for_all, SHAPES.keys() - DECAYED),
    ],
    ids=["AdamW without decay", "no decay", "decay outside the ratio", "ratio for all"],
)
def test_other_algorithms_give_other_weights(right, wrong, where):
    """The comparison with the reference would notice each of these."""
    settings = lamb_settings(weight_decay_rate=DECAY)
    one, other = (reference(settings, change)[0] for change in (right, wrong))
    assert {n for n in SHAPES if np.abs(one[n] - other[n]).max() > 1e-3} == where


def test_lamb_takes_adams_step_from_weights_of_zero():
    initial = {**draw(0), "encoder/kernel": np.zeros((3, 4), np.float32)}
    settings = lamb_settings()
    expected = reference(settings, lamb(0.01), initial=initial)
    assert_close(updated(Lamb, settings, initial=initial), expected)
    assert norm(expected[0]["encoder/kernel"]) > 0.01


def test_lamb_without_anything_to_change():
    """No gradient and no decay: ‖r‖ is 0, and nothing becomes NaN."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    settings = lamb_settings(weight_decay_rate=0.0)
    optimizer = updated(Lamb, settings, gradients=lambda step: zeros)
    for name, array in optimizer.variables.to_numpy().items():
        np.testing.assert_array_equal(array, draw(0)[name])


@pytest.mark.slow
def test_lamb_on_two_replicas_equals_one():
    runs = replica_runs.results()["lamb"]
    for name, one in runs["one"].items():
        moved = np.abs(np.subtract(one, runs["initial"][name])).max()
        assert moved > 1e-2, name
        np.testing.assert_allclose(runs["two"][name], one, rtol=0, atol=1e-6, err_msg=name)


def test_global_norm():
    arrays = draw(3).values()
    found = global_norm([tf.constant(array) for array in arrays])
    assert float(found) == pytest.approx(norm(*arrays), rel=1e-6)


def test_slots_are_named_after_variables():
    optimizer = updated(AdamW, OptimizerSettings())
    assert set(optimizer.slots.names) == {f"{n}/{s}" for n in SHAPES for s in ("adam_m", "adam_v")}
    saved = optimizer.slots.to_numpy()
    optimizer.restore_slots({name: array + 1 for name, array in saved.items()}, updates=0)
    for name, array in optimizer.slots.to_numpy().items():
        np.testing.assert_array_equal(array, saved[name] + 1)


def test_updates_are_counted_where_the_moments_are_corrected():
    optimizer = updated(AdamW, OptimizerSettings(bias_correction=True))
    saved = optimizer.slots.to_numpy()
    assert saved["updates"] == N_STEPS
    optimizer.restore_slots({**saved, "updates": np.int64(7)}, updates=3)
    assert optimizer.slots.to_numpy()["updates"] == 7
    del saved["updates"]  # as in an official checkpoint
    optimizer.restore_slots(saved, updates=3)
    assert optimizer.slots.to_numpy()["updates"] == 3


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
    assert made.settings == OptimizerSettings(beta_2=0.9, bias_correction=True)
    given = make_config(optimizer="lamb", adam_bias_correction=False)
    assert not make_optimizer(given, strategy, {}).settings.bias_correction
    default = make_optimizer(make_config(), strategy, {})
    assert type(default) is AdamW and not default.settings.bias_correction
    corrected = make_optimizer(make_config(adam_bias_correction=True), strategy, {})
    assert corrected.settings == OptimizerSettings(bias_correction=True)
