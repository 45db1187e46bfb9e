"""AdamW against the formulas in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.optimizer import AdamW, AdamWSettings, global_norm

SHAPES = {
    "encoder/kernel": (3, 4),
    "encoder/bias": (4,),
    "encoder/layer_norm/gamma": (4,),
    "old/LayerNorm/beta": (4,),
    "head/output_bias": (5,),
    "embeddings/word_embeddings": (5, 4),
}
DECAYED = {"encoder/kernel", "embeddings/word_embeddings"}
N_STEPS = 5
RATES = [1e-2, 2e-2, 5e-3, 1e-2, 3e-2]


def draw(seed):
    generator = np.random.default_rng(seed)
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}


def gradients(step):
    """Of a norm over 1 in some steps and under 1 in others."""
    scale = 0.02 if step % 2 else 1.0
    return {name: scale * array for name, array in draw(100 + step).items()}


def norm_of(arrays):
    return float(np.sqrt(sum(np.square(np.float64(a)).sum() for a in arrays.values())))


def reference(settings, factors):
    """Weights, m and v after the steps, in float64."""
    weights = {name: np.float64(array) for name, array in draw(0).items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step in range(N_STEPS):
        given = gradients(step)
        clip = min(1.0, settings.max_grad_norm / norm_of(given))
        for name in SHAPES:
            g = np.float64(given[name]) * clip
            m[name] = settings.beta_1 * m[name] + (1 - settings.beta_1) * g
            v[name] = settings.beta_2 * v[name] + (1 - settings.beta_2) * g**2
            first = 1 - settings.beta_1 ** (step + 1) if settings.bias_correction else 1
            second = 1 - settings.beta_2 ** (step + 1) if settings.bias_correction else 1
            change = (m[name] / first) / (np.sqrt(v[name] / second) + settings.epsilon)
            if name in DECAYED:
                change = change + settings.weight_decay_rate * weights[name]
            weights[name] = weights[name] - RATES[step] * factors.get(name, 1.0) * change
    return weights, m, v


def updated(settings, factors):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    variables = {name: keras.Variable(array, name="v") for name, array in draw(0).items()}
    optimizer = AdamW(strategy, variables, settings, factors)
    for step in range(N_STEPS):
        tensors = [tf.constant(array) for array in gradients(step).values()]
        optimizer.apply(
            0,
            tensors,
            global_norm(tensors),
            tf.constant(RATES[step]),
            tf.constant(step, tf.int64),
        )
    return optimizer


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
    weights, m, v = reference(settings, factors)
    optimizer = updated(settings, factors)
    found, slots = optimizer.variables.to_numpy(), optimizer.slots.to_numpy()
    for name in SHAPES:
        np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(slots[f"{name}/adam_m"], m[name], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(slots[f"{name}/adam_v"], v[name], rtol=1e-5, atol=1e-10)
    if "encoder/bias" in factors:
        np.testing.assert_array_equal(found["encoder/bias"], draw(0)["encoder/bias"])


def test_the_reference_decays_what_it_says():
    """The names matter to the result: without the exclusions it would be another one."""
    with_decay, _, _ = reference(AdamWSettings(weight_decay_rate=0.3), {})
    without, _, _ = reference(AdamWSettings(weight_decay_rate=0.0), {})
    changed = {name for name in SHAPES if np.abs(with_decay[name] - without[name]).max() > 1e-3}
    assert changed == DECAYED


def test_global_norm():
    arrays = draw(3)
    norm = global_norm([tf.constant(array) for array in arrays.values()])
    assert float(norm) == pytest.approx(norm_of(arrays), rel=1e-6)


def test_slots_are_named_after_variables():
    optimizer = updated(AdamWSettings(), {})
    assert set(optimizer.slots.names) == {f"{n}/{s}" for n in SHAPES for s in ("adam_m", "adam_v")}
    saved = optimizer.slots.to_numpy()
    optimizer.slots.assign({name: array + 1 for name, array in saved.items()})
    for name, array in optimizer.slots.to_numpy().items():
        np.testing.assert_array_equal(array, saved[name] + 1)
