"""The compiled chains against plain formulas, in values and gradients."""

import functools

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from electra_tf2.modeling.fused import (
    attention_probs,
    bias_gelu,
    bias_gelu_of_product,
    plain_product,
    plain_softmax,
    residual_layer_norm,
    residual_layer_norm_of_product,
)
from electra_tf2.modeling.layers import EPSILON, DropoutMask, LayerNorm

ROWS, WIDTH = 6, 16
HEADS, LENGTH = 2, 6
FLOAT32 = 1e-6
BFLOAT16 = 2.0**-7
RATE = 0.25


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(11)


@pytest.fixture(params=[False, True], ids=["plain", "dropout"])
def drop(request):
    return request.param


def assert_close(actual, expected, relative):
    """Largest difference within `relative` of the largest expected value."""
    actual = np.asarray(tf.cast(actual, tf.float64))
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= relative * np.abs(expected).max()


def make_mask(rng, shape, drop):
    """A dropout mask, and the factors it stands for."""
    if not drop:
        return None, np.ones(shape)
    keep = rng.integers(0, 256, shape).astype(np.uint8)
    threshold = int(RATE * 256)
    mask = DropoutMask(
        tf.constant(keep), tf.constant(threshold, tf.uint8), tf.constant(1 / (1 - RATE))
    )
    return mask, np.where(keep >= threshold, 1 / (1 - RATE), 0.0)


def compare(function, reference, arguments, upstream, dtype=np.float32, relative=FLOAT32):
    """Compares values and gradients with float64 TensorFlow and its own differentiation.

    float32 vectors stay float32; matrices take `dtype`.
    """
    narrow = [tf.constant(a, tf.float32 if a.ndim == 1 else dtype) for a in arguments]
    wide = [tf.cast(a, tf.float64) for a in narrow]
    upstream = tf.cast(upstream, dtype)
    results = []
    for chain, values, outer in (
        (function, narrow, upstream),
        (reference, wide, tf.cast(upstream, tf.float64)),
    ):
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = chain(*values)
        results.append((result, tape.gradient(result, values, output_gradients=outer)))
    (value, gradients), (expected, expected_gradients) = results
    assert value.dtype == narrow[0].dtype
    assert_close(value, expected, relative)
    for argument, gradient, expected_gradient in zip(
        narrow, gradients, expected_gradients, strict=True
    ):
        assert gradient.dtype == argument.dtype
        assert_close(gradient, expected_gradient, 4 * relative)


def plain_gelu(x, bias):
    z = x + bias
    return z * 0.5 * (1.0 + tf.math.erf(z / np.sqrt(2.0)))


def plain_layer_norm(z, gamma, beta):
    mean, variance = tf.nn.moments(z, [-1], keepdims=True)
    return (z - mean) / tf.sqrt(variance + EPSILON) * gamma + beta


@pytest.mark.parametrize("dtype, relative", [(tf.float32, FLOAT32), (tf.bfloat16, BFLOAT16)])
def test_bias_gelu(rng, dtype, relative):
    x, bias = rng.normal(size=(ROWS, WIDTH)) * 2, rng.normal(size=WIDTH)
    upstream = rng.normal(size=(ROWS, WIDTH))
    compare(bias_gelu, plain_gelu, (x, bias), upstream, dtype, relative)


def test_gelu_is_the_exact_one(rng):
    z = np.linspace(-6, 6, 4 * WIDTH).reshape(4, WIDTH)
    exact = z * scipy.special.ndtr(z)
    value = bias_gelu(tf.constant(z, tf.float32), tf.zeros([WIDTH]))
    np.testing.assert_allclose(value, exact, rtol=0, atol=1e-6)
    tanh = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    assert np.abs(tanh - exact).max() > 1e-4  # the approximation would not pass


@pytest.mark.parametrize("dtype, relative", [(tf.float32, 1e-5), (tf.bfloat16, 2.0**-7)])
def test_gelu_of_a_product_is_not_rounded_on_the_way(rng, dtype, relative):
    """At z = -3, where GELU is -.004, an erf in bfloat16 would be off by as much."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, WIDTH], dtype)])
    def layer(rows):
        return bias_gelu_of_product(tf.matmul(rows, tf.cast(kernel, dtype)), bias)

    kernel, bias = tf.eye(WIDTH), tf.fill([WIDTH], 0.5)
    x = np.linspace(-3.75, 3.75, 4 * WIDTH).reshape(4, WIDTH)
    rows = tf.cast(x, dtype)
    z = tf.cast(rows, tf.float64).numpy() + 0.5
    np.testing.assert_allclose(
        tf.cast(layer(rows), tf.float64), z * scipy.special.ndtr(z), rtol=relative, atol=1e-6
    )


@pytest.mark.parametrize("dtype, relative", [(tf.float32, FLOAT32), (tf.bfloat16, BFLOAT16)])
def test_residual_layer_norm(rng, drop, dtype, relative):
    matrix, vector = (ROWS, WIDTH), (WIDTH,)
    arguments = [rng.normal(size=shape) for shape in (matrix, vector, matrix, vector, vector)]
    mask, factors = make_mask(rng, matrix, drop)

    def function(x, bias, residual, gamma, beta):
        return residual_layer_norm(x, bias, residual, gamma, beta, dropout=mask, epsilon=EPSILON)

    def reference(x, bias, residual, gamma, beta):
        return plain_layer_norm((x + bias) * factors + residual, gamma, beta)

    compare(function, reference, arguments, rng.normal(size=matrix), dtype, relative)
    if not drop:
        compare(
            functools.partial(residual_layer_norm_of_product, epsilon=EPSILON),
            reference, arguments, rng.normal(size=matrix), dtype, relative,
        )  # fmt: skip


def test_attention_without_onednn(rng):
    query, key = (rng.normal(size=(1, HEADS, LENGTH, 4)) for _ in range(2))
    product = plain_product(*(tf.constant(x, tf.float32) for x in (query, key)), transpose_b=True)
    assert_close(product, query @ key.swapaxes(-1, -2), FLOAT32)
    scores = rng.normal(size=(1, HEADS, LENGTH, LENGTH)) * 30 - 10000 * (np.arange(LENGTH) > 3)
    expected = scipy.special.softmax(np.float32(scores).astype(np.float64), axis=-1)
    assert_close(plain_softmax(tf.constant(scores, tf.float32)), expected, FLOAT32)


def test_layer_norm_in_float64_numpy(rng):
    x = rng.normal(size=(ROWS, WIDTH)) * 3 + 1
    gamma, beta = rng.normal(size=WIDTH), rng.normal(size=WIDTH)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    expected = expected * gamma + beta
    layer = LayerNorm()
    layer.build((None, WIDTH))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    assert_close(layer(tf.constant(x, tf.float32)), expected, FLOAT32)
    fused = residual_layer_norm(
        tf.constant(x, tf.float32),
        tf.zeros([WIDTH]),
        tf.zeros([ROWS, WIDTH]),
        tf.constant(gamma, tf.float32),
        tf.constant(beta, tf.float32),
        dropout=None,
        epsilon=1e-12,
    )
    assert_close(fused, expected, FLOAT32)


def test_layer_norm_of_small_values_shows_the_epsilon():
    """Values of 1e-3 have variance 1e-6: Keras' default, 1e-3, would shrink them thirtyfold."""
    x = np.tile([1e-3, -1e-3], (1, WIDTH // 2))
    layer = LayerNorm()
    layer.build((None, WIDTH))
    np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), x * 1e3, rtol=1e-5)


@pytest.fixture(scope="module")
def scores(rng):
    """Scores, and a mask that hides some columns from one row of the batch."""
    mask = np.zeros((2, 1, 1, LENGTH), np.float32)
    mask[1, ..., 4:] = -10000.0
    return rng.normal(size=(2, HEADS, LENGTH, LENGTH)) * 3, mask


@pytest.mark.parametrize("dtype, relative", [(tf.float32, FLOAT32), (tf.bfloat16, BFLOAT16)])
def test_attention_probs(rng, scores, drop, dtype, relative):
    values, mask = scores
    dropout, factors = make_mask(rng, values.shape, drop)

    def function(scores):
        return attention_probs(scores, tf.constant(mask), factor=0.5, dropout=dropout)

    def reference(scores):
        return tf.nn.softmax(scores * 0.5 + tf.cast(mask, tf.float64)) * factors

    upstream = rng.normal(size=values.shape)
    compare(function, reference, [values], upstream, dtype, relative)


def test_softmax_in_float64_numpy(scores):
    values, mask = scores
    z = values.astype(np.float32).astype(np.float64) * 0.25 + mask
    e = np.exp(z - z.max(-1, keepdims=True))
    probs = attention_probs(
        tf.constant(values, tf.float32), tf.constant(mask), factor=0.25, dropout=None
    )
    assert_close(probs, e / e.sum(-1, keepdims=True), FLOAT32)
    assert not probs.numpy()[1, ..., 4:].any()
