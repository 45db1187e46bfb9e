"""Small batches and random numbers for the tests of the objectives."""

import numpy as np
import tensorflow as tf

from electra_tf2.pretraining.batch import Inputs
from electra_tf2.pretraining.masking import Masking
from electra_tf2.randomness import StepRandomness

PAD, CLS, SEP, MASK = 0, 2, 3, 4
FIRST_TOKEN = 5


def randomness(seed=0, step=0, first_row=0):
    """The random numbers of a step."""
    wide = lambda value: tf.constant(value, tf.int64)  # noqa: E731
    return StepRandomness(seed, wide(step), wide(first_row), wide(0))


def masking(max_predictions, *, mask_prob=0.15, with_replacement=False):
    """Masking with the special tokens of this file."""
    return Masking(MASK, (CLS, SEP, MASK), mask_prob, max_predictions, with_replacement)


def sequences(tokens, length, *, vocab_size=100, seed=0):
    """Rows [CLS] … [SEP] and padding.

    Args:
        tokens: tokens of each row, [CLS] and [SEP] counted.
        length: length with padding.
        vocab_size: one more than the largest id.
        seed: of the ids.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(FIRST_TOKEN, vocab_size, (len(tokens), length)).astype(np.int32)
    tokens = np.asarray(tokens)[:, None]
    column = np.arange(length)
    ids[:, 0] = CLS
    ids[column == tokens - 1] = SEP
    ids[column >= tokens] = PAD
    mask = (column < tokens).astype(np.int32)
    segments = ((column >= tokens // 2) & (column < tokens)).astype(np.int32)
    return Inputs(*(tf.constant(a) for a in (ids, mask, segments)))
