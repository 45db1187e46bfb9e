"""What weights begin with."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

_weights_follow = contextvars.ContextVar("weights_follow", default=False)


def truncated_normal(stddev: float) -> keras.initializers.Initializer:
    """BERT's initializer: normal with `stddev`, redrawn beyond two standard deviations."""
    return _TruncatedNormal(stddev=stddev)


@contextlib.contextmanager
def weights_follow() -> Iterator[None]:
    """Within it, layers are built with zeros: for those that are given other weights at once.

    Drawing the 110 million numbers of ELECTRA-base would take longer than reading its file.
    """
    token = _weights_follow.set(True)
    try:
        yield
    finally:
        _weights_follow.reset(token)


@keras.saving.register_keras_serializable(package="electra_tf2")
class _TruncatedNormal(keras.initializers.TruncatedNormal):
    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        if _weights_follow.get():
            return keras.ops.zeros(shape, dtype)
        return super().__call__(shape, dtype, **kwargs)
