"""Samples follow softmax(logits / temperature)."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from electra_tf2.pretraining.logits import sample_tokens

LAST = np.float32(1 - 2.0**-24)  # the largest uniform number


def sample(logits, uniform, temperature=1.0, disallowed=None):
    """Samples for logits [n, vocab] and uniform [n, 2]."""
    batched = [tf.constant(a, tf.float32)[tf.newaxis] for a in (logits, uniform)]
    if disallowed is not None:
        disallowed = tf.constant(disallowed, tf.int32)[tf.newaxis]
    return sample_tokens(*batched, temperature, disallowed).numpy()[0]


def draw(logits, count, seed, **kwargs):
    """`count` samples from one row of logits."""
    uniform = np.random.default_rng(seed).random((count, 2), np.float32)
    disallowed = kwargs.pop("disallowed", None)
    if disallowed is not None:
        disallowed = np.full(count, disallowed)
    return sample(np.tile(logits, (count, 1)), uniform, disallowed=disallowed, **kwargs)


def p_value(samples, probs):
    """Of a chi-square test, entries that are expected less than five times put together."""
    expected = probs * len(samples)
    observed = np.bincount(samples, minlength=len(probs))
    assert len(observed) == len(probs)
    assert not observed[probs == 0].any()
    expected, observed = expected[probs > 0], observed[probs > 0]
    rare = expected < 5
    if rare.any():
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
    return scipy.stats.chisquare(observed, expected * len(samples) / expected.sum()).pvalue


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("vocab_size", [5, 256, 257, 1000])
def test_the_distribution(vocab_size, temperature):
    logits = np.random.default_rng(vocab_size).normal(size=vocab_size) * 1.5
    samples = draw(logits, 20_000, seed=1, temperature=temperature)
    assert p_value(samples, scipy.special.softmax(logits / temperature)) > 1e-3


@pytest.mark.parametrize("vocab_size", [5, 257])
def test_a_disallowed_token_never_comes(vocab_size):
    """Not even if it is all but certain; the others keep their proportions."""
    logits = np.random.default_rng(9).normal(size=vocab_size)
    favourite = vocab_size - 1
    logits[favourite] = 12.0
    assert np.mean(draw(logits, 2000, seed=2) == favourite) > 0.9
    samples = draw(logits, 20_000, seed=2, disallowed=favourite)
    rest = np.where(np.arange(vocab_size) == favourite, -np.inf, logits)
    assert p_value(samples, scipy.special.softmax(rest)) > 1e-3


def test_disallowing_is_not_scaled_by_the_temperature():
    logits = np.array([200.0, 0.0, 0.0])
    samples = draw(logits, 500, seed=3, disallowed=0, temperature=100.0)
    assert 0 not in samples


def test_nor_is_it_outweighed_at_a_low_one():
    logits = np.array([30.0, 0.0, 1.0])
    assert (draw(logits, 50, seed=3, disallowed=0, temperature=0.01) == 2).all()


@pytest.mark.parametrize("temperature", [1e-30, 2.0**-126])
def test_the_lowest_temperatures_take_the_likeliest(temperature):
    logits = np.random.default_rng(4).normal(size=300) * 9
    assert (draw(logits, 50, seed=3, temperature=temperature) == logits.argmax()).all()


@pytest.mark.parametrize("vocab_size", [5, 256, 257, 1000])
def test_extreme_logits(vocab_size):
    """All weight on one entry, whatever the numbers drawn."""
    corners = [(a, b) for a in (0.0, 0.5, LAST) for b in (0.0, 0.5, LAST)]
    for favourite in {0, 1, vocab_size // 2, vocab_size - 1}:
        for base in (-1e4, 0.0, 1e4):
            logits = np.full(vocab_size, base - 500.0)
            logits[favourite] = base
            samples = sample(np.tile(logits, (len(corners), 1)), np.array(corners))
            assert (samples == favourite).all()


@pytest.mark.parametrize("vocab_size", [5, 256, 257, 1000])
def test_the_first_and_the_last_number(vocab_size):
    """0 gives the first entry that is possible at all, the largest number the last one."""
    flat = np.zeros(vocab_size)
    assert sample([flat, flat], [(0.0, 0.0), (LAST, LAST)]).tolist() == [0, vocab_size - 1]
    ends = flat.copy()
    ends[:2] = ends[-2:] = -500.0  # weight exactly 0 in float32
    assert sample([ends, ends], [(0.0, 0.0), (LAST, LAST)]).tolist() == [2, vocab_size - 3]


def test_an_entry_without_weight_never_comes():
    """Also where uniform numbers meet a step of the cumulative sum exactly."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 300)) * 3
    logits[rng.random(logits.shape) < 0.5] = -500.0
    uniform = rng.integers(0, 17, (4000, 2)).astype(np.float32) / 16
    uniform = np.minimum(uniform, LAST)
    samples = sample(logits, uniform)
    assert (np.take_along_axis(logits, samples[:, None], axis=1) > -500.0).all()


def test_one_number_chooses_the_block_and_one_the_entry():
    flat = np.zeros((4, 512))
    uniform = [(0.2, 0.2), (0.2, 0.7), (0.7, 0.2), (0.7, 0.7)]
    samples = sample(flat, uniform)
    assert samples.tolist() == [51, 179, 307, 435]


def test_no_slots():
    assert sample(np.zeros((0, 7)), np.zeros((0, 2))).shape == (0,)
