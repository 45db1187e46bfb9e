"""What the last bits of a training depend on besides its data and hparams.

The order in which a processor adds numbers follows from its vector units, its caches, the number of
threads, the kind of device and the versions of the libraries. Checkpoints store these, and a run
that resumes under others says so: it resumes from the same numbers, but rounds them differently
from then on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from electra_tf2 import __version__, files
from electra_tf2.training.compile_cache import without_cache_flags

_CPU_INFO = "/proc/cpuinfo"
# Of the processor's flags, those that TensorFlow, oneDNN and XLA choose their kernels by.
_VECTOR_FLAGS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
# Environment variables that choose other kernels.
_VARIABLES = (
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "TF_DETERMINISTIC_OPS",
    "NVIDIA_TF32_OVERRIDE",
)
_XLA = ("XLA_FLAGS", "TF_XLA_FLAGS")

Environment = Mapping[str, Any]


def describe_environment(strategy: tf.distribute.Strategy, *, jit_compile: bool) -> Environment:
    """Describes where this process computes.

    Returns:
        Name -> JSON value; the names are what users are told.
    """
    threading = tf.config.threading
    return {
        "device": _device(),
        "Keras": keras.__version__,
        "electra-tf2": __version__,
        "replicas": strategy.num_replicas_in_sync,
        "XLA": jit_compile,
        "cores": _cores(),
        "intra-op threads": _threads(
            threading.get_intra_op_parallelism_threads(), "TF_NUM_INTRAOP_THREADS"
        ),
        "inter-op threads": _threads(
            threading.get_inter_op_parallelism_threads(), "TF_NUM_INTEROP_THREADS"
        ),
        **describe_machine(),
    }


def describe_machine() -> Environment:
    """Describes what can be known without asking TensorFlow for its devices; names as above."""
    cpu = _cpu_info()
    return {
        "TensorFlow": tf.__version__,
        "processor": cpu.get("model name", platform.machine()),
        "instruction set": _instruction_set(cpu.get("flags") or cpu.get("Features", "")),
        **{name: os.environ.get(name, "not set") for name in _VARIABLES},
        **{name: without_cache_flags(os.environ.get(name, "")) or "not set" for name in _XLA},
    }


def environment_changes(before: object, now: Environment) -> list[str]:
    """Says how an environment differs from an earlier one.

    Args:
        before: what a checkpoint stored; what it lacks is not compared.
        now: the present one.

    Returns:
        The differences, for a message.
    """
    known = before if isinstance(before, dict) else {}
    changes = []
    for name, value in now.items():
        old = known.get(name, value)
        if old == value:
            continue
        if isinstance(value, list) and isinstance(old, list):
            changes.append(f"{name}: {_difference(old, value)}")
        else:
            changes.append(f"{name}: {old} before, {value} now")
    return changes


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """Says which flags came and went."""
    gone = [str(flag) for flag in before if flag not in now]
    new = [flag for flag in now if flag not in before]
    parts = [f"without {' '.join(gone)}"] if gone else []
    return ", ".join(parts + ([f"with {' '.join(new)}"] if new else []))


def _cpu_info() -> dict[str, str]:
    """What Linux says of the first processor; {} elsewhere."""
    try:
        text = files.read_bytes(_CPU_INFO).decode("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _instruction_set(flags: str) -> list[str]:
    return sorted(flag for flag in flags.split() if flag.startswith(_VECTOR_FLAGS))


def _device() -> str:
    """The GPUs' kinds, or "CPU"."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return ", ".join(sorted({d.get("device_name", "GPU") for d in details})) or "CPU"


def _cores() -> int:
    """The processors that this process may run on, which TensorFlow's number of threads follows."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads(configured: int | None, variable: str) -> int:
    """The number of threads in a pool: TensorFlow's setting, the environment's, or one a core."""
    text = os.environ.get(variable, "")
    return configured or (int(text) if text.isdecimal() else 0) or _cores()
