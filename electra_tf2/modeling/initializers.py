"""Initial values of the weights."""

from __future__ import annotations

import keras


def truncated_normal(stddev: float) -> keras.initializers.Initializer:
    """BERT's initializer: normal with `stddev`, redrawn beyond two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=stddev)
