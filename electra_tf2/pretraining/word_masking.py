"""Chooses whole words, or spans of them, to hide."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from electra_tf2.randomness import StepRandomness

Unit = Literal["token", "whole_word", "span"]


# SpanBERT's spans (Joshi et al. 2020, section 3.1): a length in words of n has a probability
# proportional to .2 x .8^(n - 1), up to 10 words; 3.8 on average.
_SPAN_END_PROB, LONGEST_SPAN = 0.2, 10
# The order of words is an integer: 24 random bits, then four for the place in a span.
_KEYS, _PLACES = 1 << 24, 16
_LAST = _KEYS * _PLACES
# How often words are looked for that still fit. What is left each time is less than the size of the
# word that didn't fit, so that hardly ever anything is left in the end.
_FILLS = 4


class Words(NamedTuple):
    """The words of a batch, those of a row numbered from 0.

    Attributes:
        candidates: bool [batch, length], the positions that may be hidden.
        numbers: int32 [batch, length], which word a candidate belongs to.
        sizes: int32 [batch, length], by number: tokens of a word; 0 where there is none.
        texts: int32 [batch, length], by number: which stretch of candidates, between tokens that
            are never hidden, a word is in.
    """

    candidates: tf.Tensor
    numbers: tf.Tensor
    sizes: tf.Tensor
    texts: tf.Tensor


def find_words(candidates: tf.Tensor, continues: tf.Tensor) -> Words:
    """Finds the words: one begins at a candidate that doesn't continue another candidate's.

    Args:
        candidates: bool [batch, length], the positions that may be hidden.
        continues: bool [batch, length], whether a token is a piece that continues a word.
    """
    is_candidate = tf.cast(candidates, tf.int32)
    continued = tf.cast(continues, tf.int32) * _shifted(is_candidate, 1, 0)
    starts = is_candidate * (1 - continued)
    numbers = tf.maximum(tf.cumsum(starts, axis=1) - 1, 0)
    text = tf.cumsum(1 - is_candidate, axis=1)
    by_number = functools.partial(_scattered, numbers)
    return Words(candidates, numbers, by_number(is_candidate), by_number(starts * text))


def draw_words(
    words: Words,
    unit: Unit,
    slots: int,
    wanted: tf.Tensor,
    batch: int | tf.Tensor,
    randomness: StepRandomness,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Takes words, or spans of them, in a random order as long as they fit.

    A word with more tokens than there is room for is left out and the next one tried.

    Args:
        words: those of the batch.
        unit: "whole_word" or "span".
        slots: number of slots a row, and the most tokens to take.
        wanted: int32 [batch], tokens to take at most, unless the shortest word has more.
        batch: number of rows.
        randomness: see `Masking.mask`.

    Returns:
        Positions, int32; whether a slot is used, bool; and uniform numbers that decide what it
        shows, float32, one for all tokens of a span. Each is [batch, slots].
    """
    length = words.sizes.shape[1]
    assert length is not None  # see `as_inputs`
    draws = randomness.uniform("mask_positions", batch, 2 * length)
    order = tf.cast(draws[:, :length] * _KEYS, tf.int32)
    if unit == "span":
        order = _span_order(order, draws[:, length:], words.texts)
    by_order = tf.argsort(order, axis=1, stable=True)
    smallest = tf.reduce_min(tf.where(words.sizes > 0, words.sizes, length), axis=1)
    room = tf.minimum(tf.maximum(wanted, smallest), slots)
    taken = _fill(tf.gather(words.sizes, by_order, batch_dims=1), room)
    is_taken = tf.gather(_scattered(by_order, taken), words.numbers, batch_dims=1) > 0
    backwards = tf.range(length, 0, -1)
    best, positions = tf.math.top_k(tf.where(words.candidates & is_taken, backwards, 0), k=slots)
    if unit == "whole_word":  # each token for itself, as in BERT's
        return positions, best > 0, randomness.uniform("mask_replacement", batch, slots)
    first_words = tf.range(length) - tf.math.floormod(order, _PLACES)
    spans = tf.gather(first_words, tf.gather(words.numbers, positions, batch_dims=1), batch_dims=1)
    decisions = randomness.uniform("mask_replacement", batch, length)
    return positions, best > 0, tf.gather(decisions, spans, batch_dims=1)


def _span_order(keys, draws, texts):
    """Orders words by the first span they are in; each word begins one, of a length of its own.

    All int32 or float32 [batch, length], by word: the `keys` that order spans, the `draws` that
    decide their lengths, the `texts` that no span leaves; the span's key, and the place in it.
    """
    shares = (1.0 - _SPAN_END_PROB) ** np.arange(LONGEST_SPAN)
    ends = (np.cumsum(shares) / np.sum(shares))[:-1].astype(np.float32)
    longer = tf.reduce_sum(tf.cast(draws[:, :, tf.newaxis] >= ends, tf.int32), axis=-1)
    order = keys * _PLACES
    for place in range(1, min(LONGEST_SPAN, keys.shape[1])):
        reaching = tf.where(longer >= place, keys * _PLACES + place, _LAST)
        same_text = _shifted(texts, place, -1) == texts
        order = tf.where(same_text, tf.minimum(order, _shifted(reaching, place, _LAST)), order)
    return order


def _fill(sizes, room):
    """Takes words in order but for those that there is no room for: 1 for each taken, int32.

    Args:
        sizes: int32 [batch, length], tokens of the words in their order.
        room: int32 [batch], tokens to take at most.
    """
    taken = tf.zeros_like(sizes)
    for _ in range(_FILLS):
        left = (room - tf.reduce_sum(taken * sizes, axis=1))[:, tf.newaxis]
        fitting = tf.where((taken == 0) & (sizes <= left), sizes, 0)
        fits = (fitting > 0) & (tf.cumsum(fitting, axis=1) <= left)
        taken += tf.cast(fits, tf.int32)
    return taken


def _shifted(values, places, filler):
    """Moves columns to the right, and fills those on the left."""
    return tf.pad(values[:, :-places], [[0, 0], [places, 0]], constant_values=filler)


def _scattered(columns, values):
    """Adds up values at columns of each row; all are int32 [batch, length]."""
    shape = tf.shape(columns)
    rows = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis], shape)
    added = tf.scatter_nd(tf.stack([rows, columns], axis=-1), values, shape)
    return tf.ensure_shape(added, columns.shape)
