"""In which number type a run computes."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

Precision = Literal["float32", "bfloat16"]

# The Keras dtype policy of each: variables are float32 in both.
DTYPE_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

# NVIDIA GPUs from Ampere on have bfloat16 units.
_BFLOAT16_CAPABILITY = (8, 0)


def resolve_precision(precision: Literal["auto", "float32", "bfloat16"]) -> Precision:
    """Resolves "auto": bfloat16 if all GPUs have it, float32 otherwise and on the CPU.

    Args:
        precision: the hparam.

    Returns:
        "float32" or "bfloat16".
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in gpus
    ]
    able = bool(gpus) and all(c >= _BFLOAT16_CAPABILITY for c in capabilities)
    return "bfloat16" if able else "float32"


def resolve_xla(xla: bool | Literal["auto"]) -> bool:
    """Resolves "auto": compile forward and backward with XLA on GPUs, not on the CPU."""
    return bool(tf.config.list_physical_devices("GPU")) if xla == "auto" else xla
