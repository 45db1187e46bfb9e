"""Whether token ids, special tokens and the generator's logits are of one vocabulary."""

from __future__ import annotations

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.inputs import Inputs
from electra_tf2.pretraining.masking import Masking


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
            remedy=f"Return logits whose last axis is {expected}, or correct "
            "Masking.vocab_size.",
        )
    masking.check_vocabulary(found)


def check_ids(inputs: Inputs, vocab_size: int | None) -> None:
    """Refuses a batch with ids that the generator does not have; reads the batch's values.

    Args:
        inputs: the batch.
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


def outside_vocabulary(received: str, vocab_size: int) -> UserError:
    """Returns the error for ids that are not in the generator's vocabulary."""
    return UserError(
        "A token id is not in the generator's vocabulary.",
        where="batch['input_ids']",
        received=f"{received}; the last axis of the generator's logits is {vocab_size}",
        remedy="Build both models for the vocabulary that made the ids.",
    )
