"""Random numbers that belong to (seed, purpose, step, row) and to nothing else."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from electra_tf2.randomness import (
    MAX_SITES,
    MAX_STREAMS,
    PURPOSES,
    StepRandomness,
    random_words,
    site_seed,
    words_to_uniform,
)

COUNT = 4000
# |correlation| of independent numbers stays below this in all but 1 of 10 000 pairs.
CORRELATION = 4.0 / np.sqrt(COUNT)


def randomness(seed=0, step=0, first_row=0, stream=0):
    wide = lambda value: tf.constant(value, tf.int64)  # noqa: E731
    return StepRandomness(seed, wide(step), wide(first_row), wide(stream))


def uniform(purpose="sample", rows=COUNT // 40, per_row=40, **kwargs):
    return randomness(**kwargs).uniform(purpose, rows, per_row).numpy()


@pytest.mark.parametrize("per_row", [1, 4, 7, 20])
@pytest.mark.parametrize("purpose", ["mask_positions", "mask_replacement", "sample"])
def test_a_replica_draws_its_rows_of_the_global_batch(purpose, per_row):
    whole = uniform(purpose, 12, per_row, seed=3, step=9)
    assert whole.shape == (12, per_row)
    for first_row, rows in ((0, 5), (5, 4), (9, 3)):
        part = uniform(purpose, rows, per_row, seed=3, step=9, first_row=first_row, stream=2)
        np.testing.assert_array_equal(part, whole[first_row : first_row + rows])


def test_draws_of_other_purposes_steps_seeds_and_rows_are_independent():
    arrays = [
        *(uniform(purpose) for purpose in PURPOSES if purpose != "dropout"),
        *(uniform(step=step) for step in (1, 2, 255, 256, 65536, 10**6)),
        *(uniform(seed=seed) for seed in (1, 2, 2**32, 2**63 + 1)),
        uniform(first_row=COUNT),
    ]
    for one, other in itertools.combinations([a.ravel() for a in arrays], 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < CORRELATION
        # A shifted copy of the same stream would share nearly all numbers.
        assert len(np.intersect1d(one, other)) < 10


def test_rows_do_not_share_numbers():
    draws = uniform(rows=200, per_row=20)
    assert len(np.unique(draws)) >= draws.size - 5
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < CORRELATION


def test_numbers_are_uniform():
    draws = uniform(rows=1000, per_row=100, seed=5).ravel()
    assert draws.dtype == np.float32
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert scipy.stats.kstest(draws, "uniform").pvalue > 1e-3
    bits = (draws * 2**24).astype(np.int64)
    for bit in range(24):
        assert abs(np.mean(bits >> bit & 1) - 0.5) < 4 * 0.5 / np.sqrt(draws.size)


def test_extreme_words_stay_in_the_interval():
    words = tf.constant([0, 255, 256, 2**32 - 1], tf.uint32)
    np.testing.assert_array_equal(
        words_to_uniform(words), np.float32([0, 0, 2.0**-24, 1 - 2.0**-24])
    )


def test_the_same_words_inside_and_outside_a_compiled_function():
    key, counter = tf.constant(-(2**62) + 12345, tf.int64), tf.constant([7, 2**40 + 3], tf.int64)
    compiled = tf.function(random_words, jit_compile=True)
    expected = random_words(key, counter, 1003)
    np.testing.assert_array_equal(compiled(key, counter, 1003), expected)
    np.testing.assert_array_equal(tf.function(random_words)(key, counter, 1003), expected)
    # The counter addresses one stream: block 7 + 2 starts two blocks later.
    later = random_words(key, counter + tf.constant([2, 0], tf.int64), 995)
    np.testing.assert_array_equal(later, expected[8:])


def test_dropout_seeds_differ_by_step_stream_and_site_only():
    seen = {}
    for step, stream, site in itertools.product(
        (0, 1, 2**20), (0, 1, MAX_STREAMS - 1), (0, 1, MAX_SITES - 1)
    ):
        seeds = [
            site_seed(randomness(4, step, row, stream).dropout_seed(), site).numpy()
            for row in (0, 8)
        ]
        np.testing.assert_array_equal(*seeds)
        seen.setdefault(tuple(seeds[0]), []).append((step, stream, site))
    assert all(len(places) == 1 for places in seen.values())
    assert len({key for key, _ in seen}) == 1  # one key a run, told apart by the counter
    other = randomness(5).dropout_seed().numpy()
    assert other[0] != next(iter(seen))[0]


def test_dropout_shares_no_words_with_the_draws_of_rows():
    key, upper = randomness().dropout_seed()
    words = words_to_uniform(random_words(key, tf.stack([0, upper]), COUNT)).numpy()
    for purpose in ("mask_positions", "mask_replacement", "sample"):
        assert len(np.intersect1d(words, uniform(purpose))) < 10


def test_no_seed_has_no_sites():
    assert site_seed(None, 3) is None
