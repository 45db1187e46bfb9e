"""Chooses the tokens to hide."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from electra_tf2.pretraining.inputs import Inputs, MaskedInputs
from electra_tf2.pretraining.scatter import scatter_positions
from electra_tf2.randomness import StepRandomness

# Share of the chosen positions that show [MASK]; the others keep their token.
MASK_TOKEN_RATE = 0.85


@dataclasses.dataclass(frozen=True)
class Masking:
    """How tokens are hidden.

    Attributes:
        mask_id: id of [MASK].
        never_masked: ids that are never chosen ([CLS], [SEP], [MASK]).
        mask_prob: share of the tokens of a row to choose, special tokens counted.
        max_predictions: slots a row.
        with_replacement: draw positions with replacement, as the official program does (one
            position in fourteen is drawn twice); without it every slot has a position of its own.
    """

    mask_id: int
    never_masked: tuple[int, ...]
    mask_prob: float
    max_predictions: int
    with_replacement: bool = False

    def candidates(self, inputs: Inputs) -> tf.Tensor:
        """Returns bool [batch, length]: the positions that may be hidden."""
        allowed = tf.cast(inputs.input_mask, tf.bool)
        for token_id in self.never_masked:
            allowed &= inputs.input_ids != token_id
        return allowed

    def mask(self, inputs: Inputs, randomness: StepRandomness) -> MaskedInputs:
        """Draws positions and hides them.

        k = max(1, min(max_predictions, round(mask_prob x tokens))) positions are drawn uniformly
        among the candidates, `round` to even at a half; rows with fewer candidates hide fewer.

        Args:
            inputs: the batch.
            randomness: purposes "mask_positions" and "mask_replacement" are drawn.

        Returns:
            The masked batch.
        """
        batch, length = inputs.input_ids.shape[0], inputs.input_ids.shape[1]
        if batch is None:
            batch = tf.shape(inputs.input_ids)[0]
        candidates = self.candidates(inputs)
        slots = min(self.max_predictions, length)
        n_tokens = tf.cast(tf.reduce_sum(inputs.input_mask, axis=-1), tf.float32)
        wanted = tf.cast(tf.round(n_tokens * tf.constant(self.mask_prob)), tf.int32)
        wanted = tf.maximum(1, tf.minimum(slots, wanted))
        draw = _draw_with_replacement if self.with_replacement else _draw_without_replacement
        positions, usable = draw(candidates, slots, batch, randomness)
        used = usable & tf.sequence_mask(wanted, slots)
        positions = tf.where(used, positions, 0)
        ids = tf.where(used, tf.gather(inputs.input_ids, positions, batch_dims=1), 0)
        shown = randomness.uniform("mask_replacement", batch, slots) < MASK_TOKEN_RATE
        input_ids, _ = scatter_positions(
            inputs.input_ids, tf.fill(tf.shape(positions), self.mask_id),
            tf.where(shown, positions, 0),
        )
        return MaskedInputs(input_ids, positions, ids, tf.cast(used, tf.float32))


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
