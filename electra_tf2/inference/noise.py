"""Electric's noise: where the tokens came from that its discriminator was trained to find."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from electra_tf2.inference.networks import build_generator, is_two_tower
from electra_tf2.inference.source import Source
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.generator import TwoTowerGenerator

_MASK_PROB = 0.15  # where nothing beside the weights says what it was


class Noise(NamedTuple):
    """Where the replacements that Electric was trained to find came from.

    Attributes:
        generator: proposed them.
        mask_prob: share of the tokens that were replaced.
    """

    generator: TwoTowerGenerator
    mask_prob: float


def log_noise(noise: Noise, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """What Electric's logits have in addition: log q(token) + log(p / (1 - p)).

    Args:
        noise: the generator q, and the masking probability p.
        batch: `input_ids`, `input_mask` and `segment_ids`.

    Returns:
        float32 [batch, length].
    """
    return token_log_probs(noise.generator, batch) + math.log(
        noise.mask_prob / (1.0 - noise.mask_prob)
    )


def token_log_probs(
    generator: TwoTowerGenerator, batch: Mapping[str, tf.Tensor]
) -> tf.Tensor:
    """Log-probability of every token by a generator that does not see it, [batch, length]."""
    ids = batch["input_ids"]
    logits = generator(ids, batch["input_mask"], batch["segment_ids"])
    return -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)


def open_noise(source: Source, dtype: str, encoder: Encoder) -> Noise | None:
    """Finds out whether a model was trained with Electric's objective, and loads its generator.

    The hparams say so; a checkpoint without them but with both towers is taken for Electric's.

    Args:
        source: the model.
        dtype: Keras dtype policy.
        encoder: the discriminator's, to share with the generator what the two have in common.

    Returns:
        None if it was trained with another objective.
    """
    hparams = source.hparams()
    if not is_two_tower(source.pretrained) or not hparams.get("electric_objective", True):
        return None
    return Noise(build_generator(source, dtype, encoder), hparams.get("mask_prob", _MASK_PROB))
