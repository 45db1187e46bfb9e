"""Floating-point operations, and what the element-wise ones count for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from electra_tf2.modeling.config import TransformerConfig

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig

# Operations for an element. A function such as exp, erf or a random number is one, as in the
# official flops_computation.py; all of these together are a few percent of a network's.
DROPOUT = 4  # draw, compare, multiply by the mask, scale
LAYER_NORM = 5  # sum, square and sum, shift, scale
GELU = 5  # erf of the scaled input, plus 1, times half the input
SOFTMAX = 5  # maximum, subtract, exp, sum, divide
CROSS_ENTROPY = 2  # a product with the one-hot target, and its sum

# A petaflop/s-day: 10^15 operations a second for a day (Amodei and Hernandez 2018).
PFS_DAY = 1e15 * 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class Flops:
    """The operations of a forward pass, told apart by what the backward pass makes of them.

    Attributes:
        products: in matrix products, a multiplication and an addition each: m x k times k x n
            takes 2 m k n.
        elementwise: in everything else.
        constant_products: products that no backward pass follows, as the weights stay.
        constant_elementwise: everything else that none follows.
    """

    products: float = 0.0
    elementwise: float = 0.0
    constant_products: float = 0.0
    constant_elementwise: float = 0.0

    @property
    def forward(self) -> float:
        """Operations of the forward pass."""
        trained = self.products + self.elementwise
        return trained + self.constant_products + self.constant_elementwise

    @property
    def backward(self) -> float:
        """Operations of the backward pass.

        A product y = x w needs two of its size there, for the gradients of x and of w; what is done
        element by element takes about as much again.
        """
        return 2 * self.products + self.elementwise

    @property
    def training_products(self) -> float:
        """Operations in matrix products of both passes."""
        return 3 * self.products + self.constant_products

    @property
    def training(self) -> float:
        """Operations of both passes."""
        return self.forward + self.backward

    def __add__(self, other: Flops) -> Flops:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Flops(*(one + another for one, another in pairs))

    def __mul__(self, times: float) -> Flops:
        return Flops(*(count * times for count in dataclasses.astuple(self)))

    def without_backward(self) -> Flops:
        """Returns the same operations in a network that is not trained."""
        products = self.products + self.constant_products
        return Flops(0.0, 0.0, products, self.elementwise + self.constant_elementwise)


def total(parts: Iterable[Flops]) -> Flops:
    """Returns the sum of some parts."""
    return sum(parts, Flops())


def dense(inputs: int, outputs: int, has_bias: bool = True) -> Flops:
    """Returns the operations of a dense layer for one position."""
    return Flops(2 * inputs * outputs, outputs if has_bias else 0)


# Operations of an encoder and of the heads on it, part by part.
#
# For an example of `length` positions, padding included: the networks compute all of them.


# What ends each half of a block, for an element: dropout, the residual's addition, LayerNorm.
_HALF_BLOCK_END = DROPOUT + 1 + LAYER_NORM
# For a pair of positions and a head: scale, add the mask, softmax, dropout.
_ATTENTION_WEIGHT = 2 + SOFTMAX + DROPOUT
# Rotary positions, for an element of a query or a key: two products and their sum.
_ROTATION = 3


def encoder_flops(config: TransformerConfig, length: int) -> dict[str, Flops]:
    """Returns the operations of an encoder for one example.

    Whether the layers share their weights makes no difference: each pass is computed. Local
    attention takes less than global attention where it is computed in blocks.

    Returns:
        "embeddings", "attention_projections" (query, key, value and output), "attention_scores"
        (scores, softmax and the mean of the values) and "feed_forward" -> operations.
    """
    hidden, intermediate = config.hidden_size, config.intermediate_size
    rows = config.num_hidden_layers * length  # positions, over all layers
    has_bias = config.has_biases
    projections = dense(hidden, hidden, has_bias) * 4 + Flops(0, _HALF_BLOCK_END * hidden)
    feed_forward = (
        dense(hidden, intermediate, has_bias)
        + Flops(0, GELU * intermediate)
        + dense(intermediate, hidden, has_bias)
        + Flops(0, _HALF_BLOCK_END * hidden)
    )
    if config.is_modern:
        projections += Flops(0, 2 * _ROTATION * hidden)
        feed_forward += dense(hidden, intermediate, has_bias) + Flops(0, intermediate)  # the gate
    return {
        "embeddings": _embedding_flops(config) * length,
        "attention_projections": projections * rows,
        "attention_scores": _score_flops(config, length),
        "feed_forward": feed_forward * rows,
    }


def _score_flops(config: TransformerConfig, length: int) -> Flops:
    """Of all layers. In blocks each sees three of them, and the last one is filled up."""
    pair = Flops(4 * config.hidden_size, _ATTENTION_WEIGHT * config.num_attention_heads)
    layers, reach = config.num_hidden_layers, config.reach
    if not config.attends_in_blocks(length):
        return pair * (length * length * layers)
    everywhere = sum(map(config.is_global, range(layers)))
    filled = math.ceil(length / reach) * reach
    return pair * (length * length * everywhere + filled * 3 * reach * (layers - everywhere))


def _embedding_flops(config: TransformerConfig) -> Flops:
    """For one position. Words and positions are looked up, which computes nothing."""
    size = config.embedding_size
    if config.is_modern:  # the words' alone; as many LayerNorms as elsewhere, one at the end
        post = Flops(0, (LAYER_NORM + DROPOUT) * size)
        return post + _projection(config)
    segments = Flops(2 * config.type_vocab_size * size, 0)  # a product with one-hot rows
    post = Flops(0, (2 + LAYER_NORM + DROPOUT) * size)
    return segments + post + _projection(config)


def _projection(config: TransformerConfig) -> Flops:
    if config.embedding_size == config.hidden_size:
        return Flops()
    return dense(config.embedding_size, config.hidden_size, config.has_biases)


def masked_lm_head_flops(config: TransformerConfig, positions: int, width: int) -> Flops:
    """Returns the operations of the vocabulary head, its loss included, for one example.

    Args:
        config: the generator's sizes.
        positions: at which it predicts.
        width: of the states that it sees.
    """
    size, vocabulary = config.embedding_size, config.vocab_size
    hidden = dense(width, size, config.has_biases) + Flops(0, (GELU + LAYER_NORM) * size)
    loss = Flops(0, (SOFTMAX + CROSS_ENTROPY) * vocabulary)
    return (hidden + dense(size, vocabulary) + loss) * positions


def replaced_token_head_flops(config: TransformerConfig, length: int) -> Flops:
    """Returns the operations of the discriminator's head for one example."""
    hidden = config.hidden_size
    elementwise = Flops(0, (GELU + LAYER_NORM * config.is_modern) * hidden)
    return (dense(hidden, hidden, config.has_biases) + elementwise + dense(hidden, 1)) * length


# Operations of a pre-training configuration: its networks, its parts, forward and backward.


Parts = dict[str, Flops]


def pretraining_flops(config: PretrainingConfig, network: TransformerConfig) -> dict[str, Parts]:
    """Returns the operations of one example by network and part.

    Not counted: sampling the replacements, clipping, the optimizer's update (which do not grow with
    the batch, or hardly), and what `recompute` computes twice.

    Args:
        config: the run's hparams, or a phase's.
        network: the discriminator's sizes (those of the one network of a masked LM).

    Returns:
        "generator" and "discriminator", those that exist -> the parts of `encoder_flops` and
        "head" -> operations.
    """
    length = config.max_seq_length
    networks: dict[str, Parts] = {}
    detection = config.electra_objective or config.electric_objective
    if not config.uniform_generator:
        networks["generator"] = _generator(config, network, detection)
    if detection:
        head = replaced_token_head_flops(network, length)
        networks["discriminator"] = {**encoder_flops(network, length), "head": head}
        if config.embedding_sharing == "gdes":  # words and positions are sums of two tables'
            tables = 1 if network.is_modern else 2
            sums = Flops(0, tables * network.embedding_size) * length
            networks["discriminator"]["embeddings"] += sums
    return networks


def _generator(config: PretrainingConfig, network: TransformerConfig, detection: bool) -> Parts:
    length = config.max_seq_length
    if detection and config.untied_generator:
        network = config.generator_network(network)
    towers = 2 if config.two_tower_generator else 1
    # Two towers see no [MASK], so they are trained on every token.
    positions = length if config.two_tower_generator else config.max_predictions_per_seq
    parts = {name: flops * towers for name, flops in encoder_flops(network, length).items()}
    parts["head"] = masked_lm_head_flops(network, positions, towers * network.hidden_size)
    if not config.train_generator:
        return {name: flops.without_backward() for name, flops in parts.items()}
    return parts


def example_flops(networks: dict[str, Parts]) -> Flops:
    """Returns the operations of one example, over all networks of `pretraining_flops`."""
    return total(part for parts in networks.values() for part in parts.values())
