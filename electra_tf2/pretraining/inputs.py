"""The records that pre-training passes around."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Inputs(NamedTuple):
    """A batch of token sequences.

    Attributes:
        input_ids: int32 [batch, length].
        input_mask: int32 [batch, length], 1 for tokens and 0 for padding.
        segment_ids: int32 [batch, length].
    """

    input_ids: tf.Tensor
    input_mask: tf.Tensor
    segment_ids: tf.Tensor


class MaskedInputs(NamedTuple):
    """Which tokens of a batch are hidden.

    Attributes:
        input_ids: int32 [batch, length], with [MASK] at (85 % of) the chosen positions.
        positions: int32 [batch, n], the chosen positions; 0 in unused slots.
        ids: int32 [batch, n], the original tokens there; 0 in unused slots.
        weights: float32 [batch, n], 1 for used slots and 0 for others.
    """

    input_ids: tf.Tensor
    positions: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor
