"""Layer-wise learning-rate decay: the nearer to the input, the smaller the learning rate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

_EMBEDDINGS = re.compile(r"electra/(embeddings|embeddings_project)/")
_LAYER = re.compile(r"electra/layer_(\d+)/")
_LAST_LAYER = re.compile(r"electra/(shared_layer|final_layer_norm)/")
_HEAD = re.compile(r"task_specific/")


def learning_rate_factors(
    names: Iterable[str],
    *,
    num_hidden_layers: int,
    decay: float | None,
    scheme: Literal["official", "paper"] = "official",
) -> dict[str, float]:
    """Returns the factor of the learning rate for each variable.

    The factor is decay^(top - depth): embeddings have depth 0, layer i (from 0) has depth i + 1,
    and the task's head has depth `top`. In the paper (arXiv:2003.10555, appendix) the head is one
    step above the last layer, whose factor is then decay; in the official program it is two steps
    above, and the last layer's factor is decay squared. The shared layer of an ALBERT-style encoder
    has the depth of the last layer: no pass then learns faster than in a stack. A LayerNorm that
    follows the last layer has its depth too.

    Args:
        names: of the variables.
        num_hidden_layers: layers of the encoder.
        decay: factor from one layer to the one below; None, 0 or less: no decay.
        scheme: "official" or "paper".

    Returns:
        Variable name -> factor.

    Raises:
        ValueError: a variable belongs to none of these parts.
    """
    names = list(names)
    top = num_hidden_layers + (2 if scheme == "official" else 1)
    depths = {name: _depth(name, num_hidden_layers, top) for name in names}
    if decay is None or decay <= 0:
        return dict.fromkeys(names, 1.0)
    return {name: decay ** (top - depth) for name, depth in depths.items()}


def _depth(name: str, last_layer: int, top: int) -> int:
    if _EMBEDDINGS.match(name):
        return 0
    if layer := _LAYER.match(name):
        return int(layer[1]) + 1
    if _LAST_LAYER.match(name):
        return last_layer
    if _HEAD.match(name):
        return top
    raise ValueError(f"This variable has no place in the decay. Received: {name!r}")
