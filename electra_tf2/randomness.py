"""Stateless random numbers that belong to an example, not to a device.

Every draw of a training step is a function of (run seed, purpose, step, position): the Philox
generator is addressed by an explicit counter, so a replica that owns rows 8..15 of the global
batch reads exactly the words that one device would have drawn for those rows.

    counter = [ element offset (64 bits) | step and stream (64 bits) ]      key = mix(seed, purpose)

Nothing here keeps state: resuming at step n draws what an undisturbed run draws at step n.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

_PHILOX = 1  # tf.random.Algorithm.PHILOX; the default algorithm differs with and without XLA
_WORDS_PER_COUNTER = 4  # one Philox block holds four 32-bit words
_MASK64 = (1 << 64) - 1

# The upper counter word is step * 2**24 + stream * 2**12 + site.
_STREAM_BITS = 12
_SITE_BITS = 12
MAX_STREAMS = 1 << _STREAM_BITS
MAX_SITES = 1 << _SITE_BITS

# Dropout sites: where in a step's networks noise is drawn, each place a number of its own. What
# `site_seed` is given:
#
#        0  embeddings of the generator, or of the one encoder; then SITES_PER_BLOCK for each block
#      512  embeddings and blocks of a two-tower generator's right-to-left tower
#     2048  embeddings and blocks of the discriminator; in fine-tuning, one for each task's head
SITES_PER_BLOCK = 3
RIGHT_TO_LEFT_SITES = 512
DISCRIMINATOR_SITES = HEAD_SITES = 2048

PURPOSES = {
    "mask_positions": 1,
    "mask_replacement": 2,
    "sample": 3,
    "dropout": 4,
    "random_tokens": 5,
}

# Of numbers that belong to a position in a stream and to no step.
_CORPORA = 100


def _mix(seed: int, purpose: int) -> int:
    """Returns a 64-bit Philox key for (seed, purpose), by the SplitMix64 finalizer."""
    z = (seed * 0x9E3779B97F4A7C15 + purpose * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def seed_keys(seed: int) -> tf.Tensor:
    """Returns what `StepRandomness` needs of a run's seed, as a tensor.

    A compiled program that takes it serves every seed.

    Returns:
        int64 [purposes], a Philox key for each of `PURPOSES`.
    """
    keys = [_as_int64(_mix(seed, purpose)) for purpose in PURPOSES.values()]
    return tf.constant(keys, tf.int64)


def _as_int64(value: int) -> int:
    """Reinterprets an unsigned 64-bit Python integer as the signed one with the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def random_words(key: tf.Tensor, counter: tf.Tensor, n_words) -> tf.Tensor:
    """Draws `n_words` 32-bit words from Philox.

    Args:
        key: int64 scalar, which generator.
        counter: int64 [2], (offset in blocks of four words, upper counter word).
        n_words: how many words, an int or an int32 scalar.

    Returns:
        uint32 [n_words].
    """
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.reshape(n_words, [1]),
        key=tf.bitcast(tf.reshape(key, [1]), tf.uint64),
        counter=tf.bitcast(counter, tf.uint64),
        alg=_PHILOX,
        dtype=tf.uint32,
    )


def corpus_words(seed: int, first, count) -> tf.Tensor:
    """Draws what decides which corpus of a mixture the example at a position comes from.

    Args:
        first: the first position, an int or an int64 scalar.
        count: how many positions, an int or an int64 scalar.

    Returns:
        uint32 [count].
    """
    key = tf.constant(_as_int64(_mix(seed, _CORPORA)), tf.int64)
    first = tf.cast(first, tf.int64)
    passed = first % 4  # Philox is counted in blocks of four words
    return random_words(key, tf.stack([first // 4, 0]), passed + count)[passed:]


def words_to_uniform(words: tf.Tensor) -> tf.Tensor:
    """Maps uint32 words to float32 in [0, 1) with 24 random bits."""
    return tf.cast(tf.bitwise.right_shift(words, tf.constant(8, tf.uint32)), tf.float32) * (
        2.0**-24
    )


@dataclasses.dataclass(frozen=True)
class StepRandomness:
    """The random numbers of one training step on one replica's rows.

    Attributes:
        seed: the run's seed, or its `seed_keys`.
        step: int64 scalar, the global step (updates made so far).
        first_row: int64 scalar, index in the global batch of the first row at hand.
        stream: int64 scalar below `MAX_STREAMS`; tells replicas (and micro-batches) apart where
            draws cannot belong to a row, that is, in dropout.
    """

    seed: int | tf.Tensor
    step: tf.Tensor
    first_row: tf.Tensor
    stream: tf.Tensor

    def uniform(self, purpose: str, rows, per_row: int) -> tf.Tensor:
        """Draws uniform numbers that depend on (seed, purpose, step, global row) only.

        Args:
            purpose: a key of `PURPOSES`; different purposes give independent numbers.
            rows: number of rows at hand, an int or an int32 scalar.
            per_row: numbers a row.

        Returns:
            float32 [rows, per_row] in [0, 1).
        """
        blocks = math.ceil(per_row / _WORDS_PER_COUNTER)
        counter = tf.stack([self.first_row * blocks, self._upper(0)])
        words = random_words(self._key(purpose), counter, rows * (blocks * _WORDS_PER_COUNTER))
        words = tf.reshape(words, [rows, blocks * _WORDS_PER_COUNTER])
        return words_to_uniform(words[:, :per_row])

    def dropout_seed(self) -> tf.Tensor:
        """Returns the int64 [2] seed that is passed to a model's `seed` argument.

        Its parts are a Philox key and an upper counter word with the site bits at zero; see
        `site_seed`.
        """
        return tf.stack([self._key("dropout"), self._upper(self.stream)])

    def _key(self, purpose: str) -> tf.Tensor:
        keys = seed_keys(self.seed) if isinstance(self.seed, int) else self.seed
        return keys[list(PURPOSES).index(purpose)]

    def _upper(self, stream) -> tf.Tensor:
        step = tf.cast(self.step, tf.int64)
        return step * (MAX_STREAMS * MAX_SITES) + tf.cast(stream, tf.int64) * MAX_SITES


def site_seed(seed: tf.Tensor | None, site: int) -> tf.Tensor | None:
    """Returns the seed of one place in a model that draws random numbers.

    Args:
        seed: int64 [2], or None (no randomness).
        site: index of the place, counted from the place that `seed` belongs to. A model passes
            `site_seed(seed, first_site_of_part)` to its parts; the sum stays below `MAX_SITES`.

    Returns:
        int64 [2], or None where `seed` is None.
    """
    return None if seed is None else seed + tf.constant([0, site], tf.int64)
