"""What a trained model says of its labels or its range of scores, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finetune.state_errors import other_kind


def saved_labels(name: str, state: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns a state's labels.

    Args:
        name: the task's name, for messages.
        state: from `get_state` of the task when the model was trained.

    Raises:
        UserError: it is no state of a classification task.
    """
    labels = state.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise other_kind(name, "classification", state)
    return tuple(labels)


def saved_range(name: str, state: Mapping[str, Any]) -> tuple[float, float]:
    """Returns a state's lowest and highest score; as `saved_labels`, for a regression task."""
    low, high = state.get("min"), state.get("max")
    for value in (low, high):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise other_kind(name, "regression", state)
    return float(low), float(high)
