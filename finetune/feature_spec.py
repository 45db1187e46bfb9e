"""Which features a task's examples have."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """One feature of an example.

    Attributes:
        name: its name within the task; tasks trained together may use the same one.
        per_token: a row of values, at most as many as the example has tokens, padded with 0 to the
            length of the batch (True), or a single value (False).
        is_int_feature: int32 (True) or float32 (False).
    """

    name: str
    per_token: bool = False
    is_int_feature: bool = True

    @property
    def dtype(self) -> type[np.generic]:
        """NumPy type of the values."""
        return np.int32 if self.is_int_feature else np.float32


SHARED_SPECS = (
    FeatureSpec("input_ids", per_token=True),
    FeatureSpec("segment_ids", per_token=True),
    FeatureSpec("eid"),
)
"""What every example has: token ids, as many segment ids, and its number, which tells it apart from
the other examples of its task and split. The mask of tokens follows from how many there are.
"""
