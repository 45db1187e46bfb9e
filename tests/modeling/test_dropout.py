"""Dropout with eight bits a decision: the rate, the scale, and what the mask depends on."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.layers import dropout, dropout_mask
from electra_tf2.randomness import StepRandomness, site_seed

SIZE = 10_000
STEPS = 256


def seed(step=0, stream=0, site=0, run_seed=1):
    wide = lambda value: tf.constant(value, tf.int64)  # noqa: E731
    randomness = StepRandomness(run_seed, wide(step), wide(0), wide(stream))
    return site_seed(randomness.dropout_seed(), site)


def kept(mask):
    return mask.keep.numpy() >= mask.threshold.numpy()


@pytest.mark.parametrize("rate", [0.1, 0.15, 0.5])
def test_the_expected_rate_is_exact(rate):
    draw = tf.function(lambda seed: dropout_mask(tf.constant([SIZE]), rate, seed))
    masks = [draw(seed(step, site=5)) for step in range(STEPS)]
    thresholds = np.array([int(mask.threshold) for mask in masks])
    assert thresholds.mean() / 256 == pytest.approx(rate, abs=2.0**-16)
    assert set(thresholds) <= {int(rate * 256), int(rate * 256) + 1}
    dropped = 1.0 - np.mean([kept(mask) for mask in masks])
    standard_error = np.sqrt(rate * (1 - rate) / (SIZE * STEPS))
    assert abs(dropped - rate) < 4 * standard_error


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_kept_elements_are_scaled(rate):
    x = tf.random.stateless_normal([30, 41], [1, 2])
    y = dropout(x, rate, seed()).numpy()
    keep = kept(dropout_mask(tf.shape(x), rate, seed()))
    assert 0 < keep.sum() < keep.size
    np.testing.assert_allclose(y, np.where(keep, x / np.float32(1 - rate), 0.0), rtol=1e-6)


def test_the_mean_of_what_is_left_is_unchanged():
    draw = tf.function(lambda seed: tf.reduce_mean(dropout(tf.ones([SIZE]), 0.1, seed)))
    means = [float(draw(seed(step))) for step in range(STEPS)]
    # One element has the variance rate / (1 - rate).
    assert np.mean(means) == pytest.approx(1.0, abs=4 * np.sqrt(0.1 / 0.9 / (SIZE * STEPS)))


def test_the_mask_follows_from_the_seed():
    shape = tf.constant([50, 40])
    first = kept(dropout_mask(shape, 0.5, seed(3, 1, 2)))
    np.testing.assert_array_equal(first, kept(dropout_mask(shape, 0.5, seed(3, 1, 2))))
    others = [seed(4, 1, 2), seed(3, 2, 2), seed(3, 1, 3), seed(3, 1, 2, run_seed=2)]
    for other in others:
        agreement = np.mean(first == kept(dropout_mask(shape, 0.5, other)))
        assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(first.size)


def test_neighbouring_elements_are_independent():
    keep = kept(dropout_mask(tf.constant([100_003]), 0.5, seed())).astype(np.float64)
    for distance in (1, 2, 3, 4, 128):
        correlation = np.corrcoef(keep[:-distance], keep[distance:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(keep.size)


@pytest.mark.parametrize("shape", [[1], [3], [7, 11, 13], [257, 1021], [2, 4, 33, 33]])
def test_sizes_that_are_no_multiple_of_four(shape):
    mask = dropout_mask(tf.constant(shape), 0.5, seed(7))
    assert mask.keep.shape == shape
    # A larger tensor starts with the same decisions: no element is left out or drawn twice.
    larger = dropout_mask(tf.constant([int(np.prod(shape)) + 5]), 0.5, seed(7))
    np.testing.assert_array_equal(mask.keep.numpy().ravel(), larger.keep.numpy()[:-5])


def test_nothing_is_dropped_without_a_seed_or_a_rate():
    x = tf.ones([4, 5])
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, seed()) is x
    assert dropout_mask(tf.shape(x), 0.5, None) is None
    assert dropout_mask(tf.shape(x), 0.0, seed()) is None


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_gradient_is_the_mask(dtype):
    x = tf.cast(tf.random.stateless_normal([17, 9], [3, 4]), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.25, seed())
    assert y.dtype == dtype
    keep = kept(dropout_mask(tf.shape(x), 0.25, seed()))
    scale = tf.cast(1 / 0.75, dtype).numpy()
    gradient = tape.gradient(y, x, output_gradients=tf.ones_like(y))
    np.testing.assert_array_equal(gradient, np.where(keep, scale, 0))


def test_the_same_mask_inside_a_compiled_function():
    shape = tf.constant([33, 7])
    compiled = tf.function(lambda seed: dropout_mask([33, 7], 0.1, seed), jit_compile=True)
    for step in range(4):
        ours, theirs = dropout_mask(shape, 0.1, seed(step)), compiled(seed(step))
        np.testing.assert_array_equal(ours.keep, theirs.keep)
        assert int(ours.threshold) == int(theirs.threshold)


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
@pytest.mark.parametrize("rate", [-0.1, 0.999, 1.0, 1.5])
def test_rates_that_eight_bits_can_not_say_are_refused(name, rate):
    with pytest.raises(UserError, match=name):
        TransformerConfig(vocab_size=10, **{name: rate})
