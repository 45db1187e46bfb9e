"""Operations of a pre-training configuration: its networks, its parts, forward and backward."""

from __future__ import annotations

import dataclasses
from typing import Any

from electra_tf2.compute.flops import Flops, total
from electra_tf2.compute.networks import (
    encoder_flops,
    masked_lm_head_flops,
    replaced_token_head_flops,
)
from electra_tf2.modeling.config import TransformerConfig, generator_config

Parts = dict[str, Flops]


def pretraining_flops(config: Any, network: TransformerConfig) -> dict[str, Parts]:
    """Returns the operations of one example by network and part.

    Not counted: sampling the replacements, clipping, the optimizer's update (which do not grow with
    the batch, or hardly), and what `recompute` computes twice.

    Args:
        config: a `PretrainingConfig`, or that of a phase.
        network: the discriminator's sizes (those of the one network of a masked LM).

    Returns:
        "generator" and "discriminator", those that there are -> the parts of `encoder_flops` and
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
    return networks


def _generator(config: Any, network: TransformerConfig, detection: bool) -> Parts:
    length = config.max_seq_length
    if detection and config.untied_generator:
        network = generator_config(
            network,
            hidden_fraction=config.generator_hidden_size,
            layers_fraction=config.generator_layers,
        )
        if config.untied_generator_embeddings:
            network = dataclasses.replace(network, embedding_size=network.hidden_size)
    towers = 2 if config.two_tower_generator else 1
    # Two towers see no [MASK], so they are trained on every token.
    positions = length if config.two_tower_generator else config.max_predictions_per_seq
    parts = {name: flops * towers for name, flops in encoder_flops(network, length).items()}
    parts["head"] = masked_lm_head_flops(network, positions, towers * network.hidden_size)
    return parts


def example_flops(networks: dict[str, Parts]) -> Flops:
    """Returns the operations of one example, over all networks.

    Args:
        networks: from `pretraining_flops`.
    """
    return total(part for parts in networks.values() for part in parts.values())
