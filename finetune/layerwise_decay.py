"""Layer-wise learning-rate decay: the nearer to the input, the smaller the steps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

_EMBEDDINGS = re.compile(r"electra/(embeddings|embeddings_project)/")
_LAYER = re.compile(r"electra/layer_(\d+)/")
_SHARED_LAYER = re.compile(r"electra/shared_layer/")
_HEAD = re.compile(r"task_specific/")


def learning_rate_factors(
    names: Iterable[str],
    *,
    num_hidden_layers: int,
    decay: float | None,
    scheme: Literal["official", "paper"] = "official",
) -> dict[str, float]:
    """Returns the factor of the learning rate for each variable.

    The factor is decay^(top - depth): embeddings have depth 0, layer i (from 0) depth i + 1, and
    the task's head the depth `top`. The one layer of an ALBERT-style encoder is the last layer, and
    all others too: it has the last one's depth, so that no pass learns faster than in a stack and
    the output adapts as much. The paper (arXiv:2003.10555, appendix) has the head one step
    above the last layer, whose factor is then decay; the official program has it two steps above,
    so that the last layer's is decay squared.

    Args:
        names: of the variables.
        num_hidden_layers: layers of the encoder.
        decay: factor from one layer to the one below; None, 0 or less for none at all.
        scheme: "official" or "paper".

    Returns:
        Variable name -> factor.

    Raises:
        ValueError: a variable belongs to no part.
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
    if _SHARED_LAYER.match(name):
        return last_layer
    if _HEAD.match(name):
        return top
    raise ValueError(f"No rule says how fast this variable is trained. Received: {name!r}")
