"""The sizes of a checkpoint's generator."""

from __future__ import annotations

import dataclasses
import posixpath
import re

from electra_tf2.errors import UserError
from electra_tf2.interop.pretrained import Pretrained
from electra_tf2.model_folder import CONFIG, read_config
from electra_tf2.modeling.config import TransformerConfig

_ENCODER, _GENERATOR = "electra", "generator"
_BLOCKS = r"(layer_\d+|shared_layer)/"
_LAYER = re.compile(f"{_GENERATOR}/{_BLOCKS}")


def generator_scope(pretrained: Pretrained) -> str:
    """Returns the scope of the masked LM's encoder: "generator", or "electra" where that is it."""
    return _GENERATOR if any(map(_LAYER.match, pretrained.arrays)) else _ENCODER


def generator_network(
    pretrained: Pretrained, network: TransformerConfig, scope: str | None = None
) -> TransformerConfig:
    """Returns the sizes of the masked LM's encoder.

    Heads are max(1, hidden size // 64) where nothing states them, as for all generators of the
    official program. Layers that share their weights can't be counted: their number follows from
    the hparam generator_layers.

    Args:
        pretrained: a checkpoint with a masked LM.
        network: the sizes of the encoder that is kept.
        scope: of the encoder; None: see `generator_scope`. Electric's towers have their own.

    Raises:
        UserError: the first layer or the embeddings are missing.
    """
    if pretrained.generator:
        return TransformerConfig(**pretrained.generator)
    scope = scope or generator_scope(pretrained)
    if scope == _ENCODER:
        return network
    arrays = pretrained.arrays
    layer = re.compile(f"{scope}/{_BLOCKS}")
    blocks = {match[1] for name in arrays if (match := layer.match(name))}
    first = f"{scope}/{'shared_layer' if 'shared_layer' in blocks else 'layer_0'}"
    kernel = arrays.get(f"{first}/intermediate/kernel")
    tables = (f"{owner}/embeddings/word_embeddings" for owner in (scope, _ENCODER))
    table = next((arrays[name] for name in tables if name in arrays), None)
    if any(array is None or array.ndim != 2 for array in (kernel, table)):
        raise UserError(
            "The checkpoint lacks parts of the generator.",
            where=pretrained.path,
            received=f"no matrix {first}/intermediate/kernel or none of word embeddings",
            remedy="Check that all of the model's files are there.",
        )
    return dataclasses.replace(
        network,
        hidden_size=kernel.shape[0],
        intermediate_size=kernel.shape[1],
        num_hidden_layers=_depth(pretrained, network, blocks),
        num_attention_heads=max(1, kernel.shape[0] // 64),
        embedding_size=table.shape[1],
    )


def _depth(pretrained: Pretrained, network: TransformerConfig, blocks: set[str]) -> int:
    if "shared_layer" not in blocks:
        return len(blocks)
    stored = read_config(pretrained.folder)
    fraction = stored["hparams"].get("generator_layers", 1.0) if stored else 1.0
    if not isinstance(fraction, int | float) or not fraction > 0:
        raise UserError(
            "The stored configuration does not say how deep the generator is.",
            where=posixpath.join(pretrained.folder, CONFIG),
            received=f"generator_layers {fraction!r}",
            remedy="Restore the file.",
        )
    return int(round(network.num_hidden_layers * fraction))
