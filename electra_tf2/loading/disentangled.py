"""Embeddings that a discriminator adds to its generator's: the tables in a file, and their sums.

A pair that was trained with `DisentangledEmbeddings` has the generator's tables in its checkpoints
and, under names that end in `_delta`, what the discriminator adds to them. Whoever opens the model
gets the sums, as of any two networks with embeddings of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from electra_tf2.formats.match import Shape
from electra_tf2.modeling.embeddings import DELTA

_OWN, _BASE = "electra/embeddings/", "generator/embeddings/"


def folded(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the weights of a checkpoint, with sums for deltas.

    Args:
        arrays: by name; without deltas they are returned as they are. A delta whose table is
            missing or of another shape is kept, and the table with it will be missed.
    """
    found = dict(arrays)
    for name in arrays:
        base = _base_of(name)
        if base in arrays and arrays[base].shape == arrays[name].shape:
            found[name.removesuffix(DELTA)] = arrays[base] + found.pop(name)
    return found


def unfolded(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
    """Returns weights as the variables of a pair that is to be trained need them.

    Args:
        arrays: folded, or those of a pair that shares its embeddings, of which the generator gets a
            copy.
        wanted: name -> shape of the pair's variables; without deltas the arrays are returned as
            they are.
    """
    found = dict(arrays)
    if not any(map(_base_of, wanted)):
        return found
    for name in wanted:
        own = name.replace(_BASE, _OWN, 1)
        if name.startswith(_BASE) and name not in found and own in arrays:
            found[name] = arrays[own]
    for name in wanted:
        base, table = _base_of(name), name.removesuffix(DELTA)
        if base in found and table in found and found[base].shape == found[table].shape:
            found[name] = found.pop(table) - found[base]
    return found


def shared_shapes(wanted: Mapping[str, Shape]) -> dict[str, Shape]:
    """Returns the variables of a pair as they would be if it shared its embeddings.

    Args:
        wanted: name -> shape of the pair's variables; without deltas they are returned as they are.
    """
    if not any(map(_base_of, wanted)):
        return dict(wanted)
    names = {name: name.removesuffix(DELTA) for name in wanted if not name.startswith(_BASE)}
    return {shared: wanted[name] for name, shared in names.items()}


def _base_of(name: str) -> str:
    """The name of the table that a delta is added to; "" for other names."""
    if not (name.startswith(_OWN) and name.endswith(DELTA)):
        return ""
    return name.replace(_OWN, _BASE, 1).removesuffix(DELTA)
