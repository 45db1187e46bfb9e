"""In which number type a run computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

Precision = Literal["float32", "bfloat16", "float16"]

# The Keras dtype policy of each: variables are float32 in all.
DTYPE_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

# The compute capability from which on NVIDIA GPUs have matrix units for a type: Volta, Ampere.
_CAPABILITIES = {"float32": (0, 0), "float16": (7, 0), "bfloat16": (8, 0)}

# Of the instructions in /proc/cpuinfo, one of these computes in a type; x86 first, then Arm.
_INSTRUCTIONS = {
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
}
_CPU_INFO = "/proc/cpuinfo"


def resolve_precision(precision: Literal["auto"] | Precision) -> Precision:
    """Resolves "auto": bfloat16 if all GPUs have it, float32 otherwise and on the CPU.

    Args:
        precision: the hparam.

    Returns:
        "float32" or "bfloat16", or what was asked for.
    """
    if precision != "auto":
        return precision
    capabilities = _capabilities()
    able = all(c is not None and c >= _CAPABILITIES["bfloat16"] for c in capabilities)
    return "bfloat16" if capabilities and able else "float32"


def say_if_emulated(
    precision: Precision, strategy: tf.distribute.Strategy, say: Callable[[str], None]
) -> None:
    """Says what happens where devices have no arithmetic of their own for a type.

    Args:
        precision: in which the run computes.
        strategy: its devices.
        say: prints a line; not called if they have it, or if that can't be found out.
    """
    kind = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type
    if not _HAVE[kind](precision):
        say(
            f"Precision: this {kind} has no units for {precision}. TensorFlow computes in it all "
            f"the same, by way of float32: the numbers are rounded as {precision} has it, but "
            "don't expect a step to be faster than in float32; it is often slower."
        )


def _capabilities() -> list[tuple[int, int] | None]:
    """Compute capability of each GPU; None if it is none of NVIDIA's."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [detail.get("compute_capability") for detail in details]


def _gpus_have(precision: Precision) -> bool:
    return all(c is None or c >= _CAPABILITIES[precision] for c in _capabilities())


def _cpu_has(precision: Precision) -> bool:
    """Whether the CPU has an instruction for the type; true where there is nothing to read."""
    try:
        with open(_CPU_INFO) as file:
            flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return True
    wanted = _INSTRUCTIONS.get(precision)
    return wanted is None or not flags or bool(wanted & set(flags[0].split()))


def _tpu_has(precision: Precision) -> bool:
    return precision != "float16"


_HAVE = {"GPU": _gpus_have, "CPU": _cpu_has, "TPU": _tpu_has}


def resolve_xla(xla: bool | Literal["auto"]) -> bool:
    """Resolves "auto": compile forward and backward with XLA on GPUs, not on the CPU."""
    return bool(tf.config.list_physical_devices("GPU")) if xla == "auto" else xla
