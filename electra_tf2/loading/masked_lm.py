"""The masked language model of a checkpoint, under the names of a generator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError, first_of
from electra_tf2.loading.networks import has_generator, is_two_tower
from electra_tf2.loading.pretrained import (
    Pretrained,
    check_finite,
    embeddings_scope,
    generator_network,
    generator_scope,
)
from electra_tf2.modeling.config import TransformerConfig

HEAD = "generator_predictions/"
TOWER = "generator/"
EMBEDDINGS = "embeddings/"


class MaskedLMWeights(NamedTuple):
    """A masked language model.

    Attributes:
        network: its sizes.
        arrays: its weights by the names of a generator with embeddings of its own, below
            "generator/" and "generator_predictions/".
    """

    network: TransformerConfig
    arrays: dict[str, np.ndarray]


def masked_lm_of(pretrained: Pretrained) -> MaskedLMWeights:
    """Takes a checkpoint's generator, or the network itself where it is a masked LM.

    Args:
        pretrained: any checkpoint.

    Raises:
        UserError: it holds no masked LM of one tower, parts of it are missing, or weights are not
            finite.
    """
    main = pretrained.encoder_config()
    if main is None or not has_generator(pretrained) or is_two_tower(pretrained):
        scopes = sorted({name.partition("/")[0] for name in pretrained.arrays})
        raise UserError(
            "The model holds no masked LM that can be a generator.",
            where=pretrained.path,
            received="weights of " + first_of(scopes, separator=", "),
            remedy="Give one that was trained as a masked LM (electra_objective false), or with a "
            "generator of one tower.",
        )
    scope = generator_scope(pretrained) + "/"
    network = generator_network(pretrained, main)
    owner = embeddings_scope(pretrained, generator_scope(pretrained)) + "/"
    sources = {}
    for name in pretrained.arrays:
        if name.startswith(HEAD):
            sources[name] = name
        elif name.startswith(owner + EMBEDDINGS):
            sources[TOWER + name.removeprefix(owner)] = name
        elif name.startswith(scope) and not name.startswith(scope + EMBEDDINGS):
            sources[TOWER + name.removeprefix(scope)] = name
    check_finite(pretrained, sources.values())
    arrays = {ours: pretrained.arrays[theirs] for ours, theirs in sources.items()}
    return MaskedLMWeights(network, arrays)
