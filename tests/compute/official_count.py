"""The count of the official flops_computation.py, which the published figures are by.

docs/compute.md shows it beside the count of `electra_tf2.compute`, and says where it is off.
"""

from electra_tf2.modeling.config import TransformerConfig

# Its share of positions with a vocabulary softmax: 20 of 128.
MASKED_SHARE = 0.15625


def _block(config: TransformerConfig, length: int) -> float:
    """One block, forward, for one position. The first LayerNorm counts as a single element."""
    hidden, intermediate, heads = (
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
    )
    products = 8 * hidden**2 + 4 * hidden * length + 4 * hidden * intermediate
    elementwise = 20 * hidden + 5 + 9 * intermediate + 10 * heads * length
    return products + elementwise


def _embeddings(config: TransformerConfig, length: int) -> float:
    """For one position; all tables are multiplied by one-hot vectors."""
    size, hidden = config.embedding_size, config.hidden_size
    lookups = 2 * size * config.vocab_size + 2 * size * (length + 2)
    projection = 0 if size == hidden else 2 * size * hidden + hidden
    return lookups + 11 * size + projection


def _masked_lm_head(config: TransformerConfig, share: float) -> float:
    """For one position; the logits' bias is left out."""
    size, vocabulary = config.embedding_size, config.vocab_size
    dense = 2 * size * config.hidden_size + 14 * size
    return share * (dense + 2 * size * vocabulary + 7 * vocabulary)


def _binary_head(config: TransformerConfig) -> float:
    return 2 * config.hidden_size**2 + 11 * config.hidden_size


def forward_flops(
    config: TransformerConfig,
    length: int,
    *,
    discriminator: bool,
    masked_share: float = MASKED_SHARE,
) -> float:
    """Returns the operations of a forward pass over one example by the official count.

    Args:
        config: the network's sizes.
        length: positions.
        discriminator: whether its head is the replaced-token classifier, else a vocabulary head.
        masked_share: share of the positions that the vocabulary head predicts.
    """
    head = _binary_head(config) if discriminator else _masked_lm_head(config, masked_share)
    blocks = config.num_hidden_layers * _block(config, length)
    return length * (blocks + _embeddings(config, length) + head)


def training_flops(*networks: float, batch_size: int, steps: int) -> float:
    """Returns the operations of a training run by the official count: twice the forward passes.

    Args:
        *networks: forward operations of an example in each network, `forward_flops`.
        batch_size: examples a step.
        steps: of the run.
    """
    return 2 * sum(networks) * batch_size * steps
