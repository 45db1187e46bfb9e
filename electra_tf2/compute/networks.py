"""Operations of an encoder and of the heads on it, part by part.

For an example of `length` positions, padding included: the networks compute all of them.
"""

from __future__ import annotations

from electra_tf2.compute.flops import (
    CROSS_ENTROPY,
    DROPOUT,
    GELU,
    LAYER_NORM,
    SOFTMAX,
    Flops,
    dense,
)
from electra_tf2.modeling.config import TransformerConfig

# What ends each half of a block, for an element: dropout, the residual's addition, LayerNorm.
_HALF_BLOCK_END = DROPOUT + 1 + LAYER_NORM
# For a pair of positions and a head: scale, add the mask, softmax, dropout.
_ATTENTION_WEIGHT = 2 + SOFTMAX + DROPOUT


def encoder_flops(config: TransformerConfig, length: int) -> dict[str, Flops]:
    """Returns the operations of an encoder for one example.

    Whether the layers share their weights makes no difference: each pass is computed.

    Args:
        config: its sizes.
        length: positions.

    Returns:
        "embeddings", "attention_projections" (query, key, value and output), "attention_scores"
        (scores, softmax and the mean of the values) and "feed_forward" -> operations.
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    rows = config.num_hidden_layers * length  # positions, over all layers
    projections = dense(hidden, hidden) * 4 + Flops(0, _HALF_BLOCK_END * hidden)
    scores = Flops(4 * hidden * length, _ATTENTION_WEIGHT * config.num_attention_heads * length)
    feed_forward = (
        dense(hidden, intermediate)
        + Flops(0, GELU * intermediate)
        + dense(intermediate, hidden)
        + Flops(0, _HALF_BLOCK_END * hidden)
    )
    return {
        "embeddings": _embeddings(config) * length,
        "attention_projections": projections * rows,
        "attention_scores": scores * rows,
        "feed_forward": feed_forward * rows,
    }


def _embeddings(config: TransformerConfig) -> Flops:
    """For one position. Words and positions are looked up, which computes nothing."""
    size = config.embedding_size
    segments = Flops(2 * config.type_vocab_size * size, 0)  # a product with one-hot rows
    post = Flops(0, (2 + LAYER_NORM + DROPOUT) * size)
    same = size == config.hidden_size
    return segments + post + (Flops() if same else dense(size, config.hidden_size))


def masked_lm_head_flops(config: TransformerConfig, positions: int, width: int) -> Flops:
    """Returns the operations of the vocabulary head, its loss included, for one example.

    Args:
        config: the generator's sizes.
        positions: at which it predicts.
        width: of the states that it sees.
    """
    size, vocabulary = config.embedding_size, config.vocab_size
    hidden = dense(width, size) + Flops(0, (GELU + LAYER_NORM) * size)
    loss = Flops(0, (SOFTMAX + CROSS_ENTROPY) * vocabulary)
    return (hidden + dense(size, vocabulary) + loss) * positions


def replaced_token_head_flops(config: TransformerConfig, length: int) -> Flops:
    """Returns the operations of the discriminator's head for one example.

    Args:
        config: the discriminator's sizes.
        length: positions.
    """
    hidden = config.hidden_size
    return (dense(hidden, hidden) + Flops(0, GELU * hidden) + dense(hidden, 1)) * length
