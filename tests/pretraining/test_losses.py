"""Cross-entropies against float64."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from electra_tf2.pretraining.logits import discriminator_losses, softmax_cross_entropy

RNG = np.random.default_rng(6)
VOCAB = 300


def nll_of(logits, labels):
    return -np.take_along_axis(
        scipy.special.log_softmax(logits.astype(np.float64), axis=-1), labels[..., None], axis=-1
    )[..., 0]


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0, 1000.0])
def test_softmax_cross_entropy(scale):
    logits = (RNG.normal(size=(2, 5, VOCAB)) * scale).astype(np.float32)
    labels = RNG.integers(0, VOCAB, (2, 5)).astype(np.int32)
    labels[0, 0], labels[1, 1] = 0, VOCAB - 1
    nll, best = softmax_cross_entropy(tf.constant(logits), tf.constant(labels))
    np.testing.assert_allclose(nll, nll_of(logits, labels), rtol=2e-6, atol=1e-6 * scale)
    np.testing.assert_array_equal(best, logits.argmax(-1))
    assert best.dtype == tf.int32


def test_the_gradient_is_probability_minus_label():
    logits = tf.constant(RNG.normal(size=(2, 3, VOCAB)) * 3, tf.float32)
    labels = RNG.integers(0, VOCAB, (2, 3)).astype(np.int32)
    upstream = RNG.normal(size=(2, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nll, _ = softmax_cross_entropy(logits, tf.constant(labels))
    gradient = tape.gradient(nll, logits, output_gradients=tf.constant(upstream))
    probs = scipy.special.softmax(logits.numpy().astype(np.float64), axis=-1)
    expected = (probs - np.eye(VOCAB)[labels]) * upstream[..., None]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_the_first_of_equal_logits_is_the_likeliest():
    logits = np.zeros((1, 3, 7), np.float32)
    logits[0, 1, [2, 5]] = 1.0
    logits[0, 2, [0, 6]] = -1.0
    _, best = softmax_cross_entropy(tf.constant(logits), tf.zeros([1, 3], tf.int32))
    assert best.numpy().tolist() == [[0, 2, 1]]


def test_uniform_logits_cost_ln_v():
    nll, _ = softmax_cross_entropy(tf.zeros([1, 2, 1000]), tf.constant([[3, 999]]))
    np.testing.assert_allclose(nll, np.log(1000.0), rtol=1e-6)


def test_no_slots():
    nll, best = softmax_cross_entropy(tf.zeros([2, 0, 7]), tf.zeros([2, 0], tf.int32))
    assert nll.shape == best.shape == [2, 0]


def test_discriminator_losses():
    logits = np.array([-80.0, -9.0, -1.0, -1e-3, 0.0, 1e-3, 2.0, 15.0, 80.0], np.float32)
    wide = logits.astype(np.float64)
    for labels, expected in (
        (np.ones(9, np.int32), -scipy.special.log_expit(wide)),
        (np.zeros(9, np.float32), -scipy.special.log_expit(-wide)),
    ):
        losses = discriminator_losses(
            tf.constant(logits), tf.constant(labels), tf.ones_like(labels)
        )
        np.testing.assert_allclose(losses, expected, rtol=2e-6)
    assert float(discriminator_losses(tf.zeros([]), 1, 1)) == pytest.approx(np.log(2), rel=1e-6)


def test_the_gradient_of_the_discriminator_s_losses():
    logits = tf.constant([-80.0, -2.0, 0.0, 3.0, 80.0])
    labels = tf.constant([1, 0, 1, 0, 1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = discriminator_losses(logits, labels, tf.ones_like(labels))
    expected = scipy.special.expit(logits.numpy().astype(np.float64)) - labels.numpy()
    np.testing.assert_allclose(tape.gradient(losses, logits), expected, rtol=1e-5, atol=1e-30)
