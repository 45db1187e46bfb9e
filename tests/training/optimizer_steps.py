"""Some variables, and gradients to update them with for a few steps."""

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.training.optimizers import global_norm

SHAPES = {
    "encoder/kernel": (3, 4),
    "encoder/bias": (4,),
    "encoder/layer_norm/gamma": (4,),
    "old/LayerNorm/beta": (4,),
    "head/output_bias": (5,),
    "embeddings/word_embeddings": (5, 4),
}
# What is neither LayerNorm nor bias.
DECAYED = {"encoder/kernel", "embeddings/word_embeddings"}
N_STEPS = 5
RATES = [1e-2, 2e-2, 5e-3, 1e-2, 3e-2]


def draw(seed):
    """Arrays of the variables' shapes, normally distributed."""
    generator = np.random.default_rng(seed)
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}


def gradients(step):
    """Of a norm over 1 in some steps and under 1 in others."""
    scale = 0.02 if step % 2 else 1.0
    return {name: scale * array for name, array in draw(100 + step).items()}


def norm_of(arrays):
    """Their global norm, in float64."""
    return float(np.sqrt(sum(np.square(np.float64(a)).sum() for a in arrays.values())))


def updated(optimizer_class, settings, factors, initial=None):
    """The optimizer after the steps, from `initial` or `draw(0)` on."""
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    initial = initial or draw(0)
    variables = {name: keras.Variable(array, name="v") for name, array in initial.items()}
    optimizer = optimizer_class(strategy, variables, settings, factors)
    for step in range(N_STEPS):
        tensors = [tf.constant(array) for array in gradients(step).values()]
        optimizer.apply(
            0,
            tensors,
            global_norm(tensors),
            tf.constant(RATES[step]),
        )
    return optimizer


def reference(settings, factors, change, initial=None):
    """Weights, m and v after the steps, in float64.

    Args:
        settings: the constants.
        factors: of the learning rate, by name.
        change: (name, weight, m / (√v + epsilon)) -> what the learning rate multiplies.
        initial: the weights at first; `draw(0)` if None.
    """
    weights = {name: np.float64(array) for name, array in (initial or draw(0)).items()}
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
            update = (m[name] / first) / (np.sqrt(v[name] / second) + settings.epsilon)
            rate = RATES[step] * factors.get(name, 1.0)
            weights[name] = weights[name] - rate * change(name, weights[name], update)
    return weights, m, v


def assert_close(optimizer, expected):
    """Compares weights and moments with a reference."""
    weights, m, v = expected
    found, slots = optimizer.variables.to_numpy(), optimizer.slots.to_numpy()
    for name in SHAPES:
        np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(slots[f"{name}/adam_m"], m[name], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(slots[f"{name}/adam_v"], v[name], rtol=1e-5, atol=1e-10)
