"""Compiling element-wise functions where it pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Elements of the first argument from which on a compiled function is faster on a CPU, measured on
# two cores: handing a function to XLA and waiting for it takes longer than passing over a small
# tensor a few times. TensorFlow's own operations are slow in 16 bits: it pays earlier there.
MIN_ELEMENTS = {tf.float32: 1 << 21, tf.bfloat16: 1 << 18, tf.float16: 1 << 18}


def compiled_if_large(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets XLA compile calls of `function` whose first argument is large, see `MIN_ELEMENTS`.

    Args:
        function: takes tensors (and constants); the first one's size decides. Its result must not
            depend on whether it is compiled, but for rounding.

    Returns:
        The function; calls with few elements, or with a number of them that is not known when the
        graph is built, become operations of the surrounding graph.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(first: tf.Tensor, *args: Any) -> Any:
        elements = first.shape.num_elements()
        # A size that varies is not compiled: XLA would compile anew for every size.
        large = elements is not None and elements >= MIN_ELEMENTS.get(first.dtype, 0)
        return (compiled if large else function)(first, *args)

    return call
