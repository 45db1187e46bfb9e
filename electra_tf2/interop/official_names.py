"""The table from our variable paths to the names in official TF1 ELECTRA checkpoints.

Both sides are the full names: ours the Keras variable paths of the models in
`electra_tf2.modeling`, theirs without the ":0". `{i}` stands for a layer's number.
"""

from __future__ import annotations

import re

# A transformer: embeddings (where it has its own) and layers, below one of these scopes.
_TRANSFORMER_SCOPES = ("electra", "generator", "generator_ltr", "generator_rtl")
_TRANSFORMER = {
    "embeddings/word_embeddings": "embeddings/word_embeddings",
    "embeddings/position_embeddings": "embeddings/position_embeddings",
    "embeddings/token_type_embeddings": "embeddings/token_type_embeddings",
    "embeddings/layer_norm/gamma": "embeddings/LayerNorm/gamma",
    "embeddings/layer_norm/beta": "embeddings/LayerNorm/beta",
    "embeddings_project/kernel": "embeddings_project/kernel",
    "embeddings_project/bias": "embeddings_project/bias",
    "layer_{i}/attention/query/kernel": "encoder/layer_{i}/attention/self/query/kernel",
    "layer_{i}/attention/query/bias": "encoder/layer_{i}/attention/self/query/bias",
    "layer_{i}/attention/key/kernel": "encoder/layer_{i}/attention/self/key/kernel",
    "layer_{i}/attention/key/bias": "encoder/layer_{i}/attention/self/key/bias",
    "layer_{i}/attention/value/kernel": "encoder/layer_{i}/attention/self/value/kernel",
    "layer_{i}/attention/value/bias": "encoder/layer_{i}/attention/self/value/bias",
    "layer_{i}/attention/output/kernel": "encoder/layer_{i}/attention/output/dense/kernel",
    "layer_{i}/attention/output/bias": "encoder/layer_{i}/attention/output/dense/bias",
    "layer_{i}/attention/layer_norm/gamma": "encoder/layer_{i}/attention/output/LayerNorm/gamma",
    "layer_{i}/attention/layer_norm/beta": "encoder/layer_{i}/attention/output/LayerNorm/beta",
    "layer_{i}/intermediate/kernel": "encoder/layer_{i}/intermediate/dense/kernel",
    "layer_{i}/intermediate/bias": "encoder/layer_{i}/intermediate/dense/bias",
    "layer_{i}/output/kernel": "encoder/layer_{i}/output/dense/kernel",
    "layer_{i}/output/bias": "encoder/layer_{i}/output/dense/bias",
    "layer_{i}/layer_norm/gamma": "encoder/layer_{i}/output/LayerNorm/gamma",
    "layer_{i}/layer_norm/beta": "encoder/layer_{i}/output/LayerNorm/beta",
}
# The masked-LM heads: of the ordinary generator, and of the two-tower one.
_MASKED_LM_SCOPES = ("generator_predictions", "cloze_predictions")
_MASKED_LM = {
    "dense/kernel": "dense/kernel",
    "dense/bias": "dense/bias",
    "layer_norm/gamma": "LayerNorm/gamma",
    "layer_norm/beta": "LayerNorm/beta",
    "output_bias": "output_bias",
}
_DISCRIMINATOR_SCOPES = ("discriminator_predictions",)
_DISCRIMINATOR = {
    "dense/kernel": "dense/kernel",
    "dense/bias": "dense/bias",
    "logit/kernel": "dense_1/kernel",
    "logit/bias": "dense_1/bias",
}

OFFICIAL_NAMES: dict[str, str] = {
    f"{scope}/{ours}": f"{scope}/{theirs}"
    for scopes, table in (
        (_TRANSFORMER_SCOPES, _TRANSFORMER),
        (_MASKED_LM_SCOPES, _MASKED_LM),
        (_DISCRIMINATOR_SCOPES, _DISCRIMINATOR),
    )
    for scope in scopes
    for ours, theirs in table.items()
}
"""Our path to the official name, with `{i}` for a layer's number on both sides."""

_OUR_PATHS = {theirs: ours for ours, theirs in OFFICIAL_NAMES.items()}
_LAYER = re.compile(r"(?<=/layer_)\d+(?=/)")


def official_name(path: str) -> str | None:
    """The official name of one of our variables; None for a variable the table doesn't have."""
    return _translate(path, OFFICIAL_NAMES)


def our_path(name: str) -> str | None:
    """Our path of an official variable; None for a name the table doesn't have."""
    return _translate(name, _OUR_PATHS)


def _translate(name: str, table: dict[str, str]) -> str | None:
    layer = _LAYER.search(name)
    if layer is None:
        return table.get(name)
    translated = table.get(_LAYER.sub("{i}", name))
    return None if translated is None else translated.replace("{i}", layer.group())
