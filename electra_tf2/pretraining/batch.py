"""The records that pre-training passes around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining import metrics

_REMEDY = (
    "Give token ids, integers [batch, length], or a dict of input_ids and, if you like, "
    "input_mask and segment_ids of the same shape."
)


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


class DetectionResult(NamedTuple):
    """Losses, accuracies and samples of a batch.

    Attributes:
        loss: float32 scalar, gen_weight x generator_loss + disc_weight x discriminator_loss: what
            is minimized.
        generator_loss: float32 scalar, mean negative log-likelihood of the hidden tokens, in nats.
        discriminator_loss: float32 scalar, mean binary cross-entropy over all tokens, in nats.
        masked_lm_accuracy: float32 scalar, share of the hidden tokens that are the generator's
            likeliest.
        disc_accuracy: float32 scalar, share of all tokens that the discriminator judges rightly.
        masked_ids: int32 [batch, length], what the generator saw.
        positions: int32 [batch, n], where tokens were hidden.
        weights: float32 [batch, n], 1 for slots in use and 0 for others.
        sampled_ids: int32 [batch, n], the generator's samples there.
        corrupted_ids: int32 [batch, length], what the discriminator saw.
        labels: int32 [batch, length], 1 for replaced tokens.
        predictions: int32 [batch, length], 1 where the discriminator's logit is over 0.
        generator_logits: float32 [batch, n, vocab_size].
        discriminator_logits: float32 [batch, length].
        input_mask: int32 [batch, length], 1 for tokens and 0 for padding.
        sums: name -> sums of the metrics that the training log has, see `metrics`. They can be
            added over batches; `figures` turns them into numbers.
    """

    loss: tf.Tensor
    generator_loss: tf.Tensor
    discriminator_loss: tf.Tensor
    masked_lm_accuracy: tf.Tensor
    disc_accuracy: tf.Tensor
    masked_ids: tf.Tensor
    positions: tf.Tensor
    weights: tf.Tensor
    sampled_ids: tf.Tensor
    corrupted_ids: tf.Tensor
    labels: tf.Tensor
    predictions: tf.Tensor
    generator_logits: tf.Tensor
    discriminator_logits: tf.Tensor
    input_mask: tf.Tensor
    sums: dict[str, tf.Tensor]

    def figures(self) -> dict[str, float]:
        """Returns metric name -> figure of this batch, the discriminator's AUC among them."""
        return metrics.summarize({name: value.numpy() for name, value in self.sums.items()})


def as_inputs(batch: Any, pad_id: int) -> Inputs:
    """Makes a batch of what a user has.

    Args:
        batch: token ids, any integer type, [batch, length]; or a mapping of `input_ids` and
            perhaps `input_mask` and `segment_ids`. Without a mask the tokens are all ids but
            `pad_id`; without segments all tokens are in segment 0.
        pad_id: id of the padding.

    Raises:
        UserError: it is something else.
    """
    given = dict(batch) if isinstance(batch, Mapping) else {"input_ids": batch}
    if "input_ids" not in given or set(given) - set(Inputs._fields):
        raise UserError(
            "The batch has other parts than the objective takes.",
            where="batch",
            received=", ".join(map(str, given)) or "an empty dict",
            remedy=_REMEDY,
        )
    tensors = {name: _as_ids(value, name) for name, value in given.items()}
    ids = tensors["input_ids"]
    for name, tensor in tensors.items():
        if not tensor.shape.is_compatible_with(ids.shape):
            raise UserError(
                "The parts of the batch have different shapes.",
                where=f"batch[{name!r}]",
                received=f"shape {tuple(tensor.shape)} beside {tuple(ids.shape)} of input_ids",
                remedy=_REMEDY,
            )
    if "input_mask" not in tensors:
        tensors["input_mask"] = tf.cast(ids != pad_id, tf.int32)
    if "segment_ids" not in tensors:
        tensors["segment_ids"] = tf.zeros_like(ids)
    return Inputs(**tensors)


def _as_ids(value: Any, name: str) -> tf.Tensor:
    """Returns int32 [batch, length]; the length is known."""
    try:
        tensor = tf.convert_to_tensor(value)
        received = f"{tensor.dtype.name}, shape {tensor.shape}"
        fits = (tensor.dtype.is_integer or tensor.dtype.is_bool) and tensor.shape.rank == 2
    except (TypeError, ValueError):
        fits, received = False, type(value).__name__
    if not fits:
        raise UserError(
            "The batch is not made of rows of token ids.",
            where=f"batch[{name!r}]",
            received=received,
            remedy=_REMEDY,
        )
    if tensor.shape[1] is None:
        raise UserError(
            "The length of the rows isn't known when the graph is built.",
            where=f"batch[{name!r}]",
            received=received,
            remedy="Pad all rows to one length, for instance by padded_batch(…, "
            "padded_shapes=[128]), or say it by tf.ensure_shape.",
        )
    return tf.cast(tensor, tf.int32)
