"""A model whose training has diverged is not handed on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from electra_tf2.errors import UserError, first_of
from electra_tf2.interop.pretrained import Pretrained


def check_finite(pretrained: Pretrained, names: Iterable[str]) -> None:
    """Checks weights of a checkpoint.

    Args:
        pretrained: the checkpoint.
        names: of those of its arrays that count.

    Raises:
        UserError: some have values that are NaN or infinite; names them.
    """
    found = [name for name in names if not np.isfinite(pretrained.arrays[name]).all()]
    if found:
        raise UserError(
            "The checkpoint has weights that are not finite.",
            where=pretrained.path,
            received=first_of(found, separator=", "),
            remedy="Its training has diverged: take an earlier checkpoint, or train again with a "
            "lower learning rate.",
        )
