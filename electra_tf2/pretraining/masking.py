"""Chooses the tokens to hide."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import get_args

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.batch import Inputs, MaskedInputs
from electra_tf2.pretraining.word_masking import Unit, draw_words, find_words
from electra_tf2.randomness import StepRandomness

# Writes values at some positions of each row.


def scatter_positions(
    sequence: tf.Tensor, updates: tf.Tensor, positions: tf.Tensor, chosen: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replaces the tokens at `positions` by `updates`.

    A position that occurs several times gets the floor of the mean of its updates, which is what
    the official program does.

    Args:
        sequence: int32 [batch, length].
        updates: int32 [batch, n].
        positions: int32 [batch, n].
        chosen: bool [batch, n]; what is False is not written.

    Returns:
        The changed sequence, int32 [batch, length], and int32 [batch, length] with 1 where
        something was written.
    """
    batch, length = tf.shape(sequence)[0], tf.shape(sequence)[1]
    rows = tf.broadcast_to(tf.range(batch)[:, tf.newaxis], tf.shape(positions))
    indices = tf.stack([rows, positions], axis=-1)
    written = tf.cast(chosen, tf.int32)
    shape = tf.stack([batch, length])
    count = tf.scatter_nd(indices, written, shape)
    total = tf.scatter_nd(indices, written * updates, shape)
    mean = tf.math.floordiv(total, tf.maximum(count, 1))
    changed = tf.ensure_shape(tf.where(count > 0, mean, sequence), sequence.shape)
    return changed, tf.ensure_shape(tf.minimum(count, 1), sequence.shape)


# Share of the chosen positions that show [MASK] (official value); the others keep their token.
MASK_TOKEN_RATE = 0.85


@dataclasses.dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Attributes:
        mask_id: id of [MASK].
        never_masked: ids that are never chosen ([CLS], [SEP], [MASK]).
        mask_prob: share of the tokens of a row to choose, special tokens counted; over 0.
        max_predictions: slots a row; None: as many as `mask_prob` asks for in a row without
            padding.
        with_replacement: draw positions with replacement, as the official program does (one
            position in fourteen is drawn twice); without it every slot has a position of its own.
        replace_prob: share of the chosen tokens that show [MASK].
        random_token_prob: share of the chosen tokens that show a token drawn uniformly from the
            vocabulary, without `mask_id`, `pad_id` and `never_masked`. What is left of the chosen
            tokens is seen as it is. BERT's values are .8 and .1.
        pad_id: id of the padding, for batches that come without `input_mask`.
        vocab_size: number of token ids; needed for random tokens. If given, batches and the
            generator's logits are checked against it.
        unit: what is hidden at a time: "token"; "whole_word", all pieces of a word; or "span", runs
            of whole words as in SpanBERT, whose tokens show [MASK] together or not at all.
        continuations: ids of the pieces that continue a word (`Vocabulary.continuation_ids`);
            needed for whole words. Without them each token is a word of a span.

    Raises:
        TypeError: an id is not an integer.
        ValueError: a share is not in 0..1, both together are over 1, random tokens are asked for
            without `vocab_size` or with `with_replacement` (where two slots may share a position),
            there is no such unit, whole words are to be hidden without `continuations`, or another
            unit than tokens `with_replacement`.
        UserError: an id is not in the vocabulary.
    """

    mask_id: int
    never_masked: tuple[int, ...] = ()
    mask_prob: float = 0.15
    max_predictions: int | None = None
    with_replacement: bool = False
    replace_prob: float = MASK_TOKEN_RATE
    random_token_prob: float = 0.0
    pad_id: int = 0
    vocab_size: int | None = None
    unit: Unit = "token"
    continuations: tuple[int, ...] = ()

    def __post_init__(self):
        self._make_ids_plain()
        shown = self.replace_prob + self.random_token_prob
        wrong = {
            "mask_prob": not 0.0 < self.mask_prob <= 1.0,
            "max_predictions": self.max_predictions is not None and self.max_predictions < 1,
            "replace_prob": not 0.0 <= self.replace_prob <= 1.0,
            "random_token_prob": not 0.0 <= self.random_token_prob <= 1.0 or shown > 1.0 + 1e-9,
            "unit": self.unit not in get_args(Unit),
        }
        for name in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ValueError(f"Masking.{name} is out of range. Received: {getattr(self, name)!r}")
        if self.random_token_prob > 0 and (self.vocab_size is None or self.with_replacement):
            raise ValueError("random_token_prob needs a vocab_size, and no with_replacement")
        if self.unit != "token" and self.with_replacement:
            raise ValueError(f"with_replacement draws single tokens. Received: unit={self.unit!r}")
        if self.unit == "whole_word" and not self.continuations:
            raise ValueError("unit 'whole_word' needs continuations")
        if self.vocab_size is not None:
            self.check_vocabulary(self.vocab_size)

    def _make_ids_plain(self) -> None:
        """Turns ids of any integer type (NumPy's) into Python's, for the hash of the record."""
        for name in ("mask_id", "pad_id"):
            object.__setattr__(self, name, operator.index(getattr(self, name)))
        for name in ("max_predictions", "vocab_size"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else operator.index(value))
        for name in ("never_masked", "continuations"):
            object.__setattr__(self, name, tuple(map(operator.index, getattr(self, name))))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuses special ids that a vocabulary does not have.

        Raises:
            UserError: `mask_id` or one of `never_masked` is not in 0..vocab_size - 1.
        """
        outside = [i for i in (self.mask_id, *self.never_masked) if not 0 <= i < vocab_size]
        if outside:
            raise UserError(
                "A special token is not in the vocabulary.",
                where="Masking.mask_id, Masking.never_masked",
                received=f"id {outside[0]}, for a vocabulary of {vocab_size}",
                remedy="Give the vocabulary's ids, and models as large as the vocabulary.",
            )

    def slots(self, length: int) -> int:
        """Number of slots of rows of `length` tokens."""
        wanted = self.max_predictions
        if wanted is None:
            wanted = math.ceil(self.mask_prob * length)
        return min(wanted, length)

    def candidates(self, inputs: Inputs) -> tf.Tensor:
        """Returns bool [batch, length]: the positions that may be hidden."""
        allowed = tf.cast(inputs.input_mask, tf.bool)
        for token_id in self.never_masked:
            allowed &= inputs.input_ids != token_id
        return allowed

    def mask(
        self, inputs: Inputs, randomness: StepRandomness, mask_prob: tf.Tensor | None = None
    ) -> MaskedInputs:
        """Draws positions and hides them.

        k = max(1, min(max_predictions, round(mask_prob x tokens))) positions are drawn uniformly
        among the candidates, `round` to even at a half; rows with fewer candidates hide fewer.

        Words and spans of words come in a random order too. A word that has more tokens than are
        left of the k is left out and the next one tried, so that nearly every row hides k tokens. A
        row whose shortest word has more than k hides it alone, if it fits into the slots.

        Args:
            inputs: the batch.
            randomness: purposes "mask_positions" and "mask_replacement" are drawn, and
                "random_tokens" where some are shown.
            mask_prob: float32 scalar, the share in place of the attribute's; the slots stay.

        Returns:
            The masked batch.
        """
        batch, length = inputs.input_ids.shape[0], inputs.input_ids.shape[1]
        if batch is None:
            batch = tf.shape(inputs.input_ids)[0]
        assert length is not None  # see `as_inputs`
        candidates = self.candidates(inputs)
        slots = self.slots(length)
        n_tokens = tf.cast(tf.reduce_sum(inputs.input_mask, axis=-1), tf.float32)
        share = tf.constant(self.mask_prob) if mask_prob is None else mask_prob
        wanted = tf.cast(tf.round(n_tokens * share), tf.int32)
        wanted = tf.maximum(1, tf.minimum(slots, wanted))
        if self.unit == "token":
            draw = _draw_with_replacement if self.with_replacement else _draw_without_replacement
            positions, usable = draw(candidates, slots, batch, randomness)
            used = usable & tf.sequence_mask(wanted, slots)
            draws = randomness.uniform("mask_replacement", batch, slots)
        else:
            words = find_words(candidates, self._continues(inputs.input_ids))
            positions, used, draws = draw_words(words, self.unit, slots, wanted, batch, randomness)
        positions = tf.where(used, positions, 0)
        ids = tf.where(used, tf.gather(inputs.input_ids, positions, batch_dims=1), 0)
        shown_ids, changed = self._shown(positions, draws, batch, slots, randomness)
        input_ids, _ = scatter_positions(inputs.input_ids, shown_ids, positions, used & changed)
        return MaskedInputs(input_ids, positions, ids, tf.cast(used, tf.float32))

    def _continues(self, ids: tf.Tensor) -> tf.Tensor:
        """Bool [batch, length]: whether a token continues a word."""
        table = self._continuation_table
        return tf.gather(table, tf.clip_by_value(ids, 0, len(table) - 1))

    @functools.cached_property
    def _continuation_table(self) -> np.ndarray:
        """Whether an id is a continuation; the last entry stands for all larger ids."""
        table = np.zeros(max(self.continuations, default=-1) + 2, bool)
        table[list(self.continuations)] = True
        return table

    def _shown(self, positions, draws, batch, slots, randomness):
        """Which ids chosen positions show, and whether they show another than their own."""
        masks = tf.fill(tf.shape(positions), self.mask_id)
        if not self.random_token_prob:
            return masks, draws < self.replace_prob
        assert self.vocab_size is not None
        special = {self.mask_id, self.pad_id, *self.never_masked}
        ordinary = np.setdiff1d(np.arange(self.vocab_size), list(special)).astype(np.int32)
        chosen = randomness.uniform("random_tokens", batch, slots) * len(ordinary)
        chosen = tf.minimum(tf.cast(chosen, tf.int32), len(ordinary) - 1)
        shown = tf.where(draws < self.replace_prob, masks, tf.gather(ordinary, chosen))
        return shown, draws < self.replace_prob + self.random_token_prob


def _draw_without_replacement(candidates, slots, batch, randomness):
    """The `slots` candidates with the highest random scores, in random order."""
    scores = randomness.uniform("mask_positions", batch, candidates.shape[1])
    scores = tf.where(candidates, scores, -1.0)
    best, positions = tf.math.top_k(scores, k=slots)
    return positions, best >= 0.0


def _draw_with_replacement(candidates, slots, batch, randomness):
    """Each slot draws the j-th candidate, j uniform."""
    rank = tf.cumsum(tf.cast(candidates, tf.int32), axis=1)
    count = rank[:, -1:]
    draws = randomness.uniform("mask_positions", batch, slots)
    wanted = 1 + tf.cast(draws * tf.cast(count, tf.float32), tf.int32)
    wanted = tf.minimum(wanted, tf.maximum(count, 1))
    positions = tf.searchsorted(rank, wanted, side="left")
    usable = tf.broadcast_to(count > 0, tf.shape(positions))
    return tf.where(usable, positions, 0), usable


def check_logits(logits: tf.Tensor, masking: Masking, where: str) -> None:
    """Refuses a generator's logits over another vocabulary than that of the ids.

    Args:
        logits: [batch, n, vocab_size].
        masking: has the special tokens, and perhaps the vocabulary's size.
        where: the generator, for the message.

    Raises:
        UserError: they don't fit.
    """
    expected, found = masking.vocab_size, logits.shape[-1]
    if expected not in (None, found):
        raise UserError(
            "The generator's vocabulary has another size than that of the token ids.",
            where=where,
            received=f"shape {tuple(logits.shape)} for a vocabulary of {expected}",
            remedy=f"Return logits whose last axis is {expected}, or correct Masking.vocab_size.",
        )
    assert found is not None  # see `protocol.check_output`
    masking.check_vocabulary(found)


def check_ids(inputs: Inputs, vocab_size: int | None) -> None:
    """Refuses a batch with ids that the generator does not have; reads the batch's values.

    Args:
        vocab_size: number of ids; None checks nothing.

    Raises:
        UserError: an id is not in 0..vocab_size - 1.
    """
    ids = inputs.input_ids
    if vocab_size is None or not tf.size(ids):
        return
    lowest, highest = int(tf.reduce_min(ids)), int(tf.reduce_max(ids))
    if lowest < 0 or highest >= vocab_size:
        raise outside_vocabulary(str(lowest if lowest < 0 else highest), vocab_size)


def outside_vocabulary(received: str, vocab_size: int | None) -> UserError:
    """Returns the error for ids that are not in the generator's vocabulary."""
    return UserError(
        "A token id is not in the generator's vocabulary.",
        where="batch['input_ids']",
        received=f"{received}; the last axis of the generator's logits is {vocab_size}",
        remedy="Build both models for the vocabulary that made the ids.",
    )
