"""How fast a run trains and how well it uses its devices: the figures that a clock gives."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from electra_tf2.training.devices import is_deterministic

# The names of the figures here: they differ from run to run, even where all others agree.
MEASURED = ("examples_per_second", "tokens_per_second", "input_wait", "mfu", "peak_memory_gib")

# TFLOP/s of dense matrix products as NVIDIA lists them, by words of the device's name; the first
# that fits counts. 16 bits means bfloat16 or float16 with sums in float32.
_TFLOPS: tuple[tuple[str, Mapping[str, float]], ...] = (
    ("H100 PCIe", {"16 bits": 756, "tf32": 378, "float32": 51}),
    ("H100 NVL", {"16 bits": 835, "tf32": 418, "float32": 60}),
    ("H100", {"16 bits": 989, "tf32": 495, "float32": 67}),
    ("H200", {"16 bits": 989, "tf32": 495, "float32": 67}),
    ("A100", {"16 bits": 312, "tf32": 156, "float32": 19.5}),
    ("A10G", {"16 bits": 70, "tf32": 35, "float32": 31.2}),
    ("A10", {"16 bits": 125, "tf32": 62.5, "float32": 31.2}),
    ("L40S", {"16 bits": 362, "tf32": 183, "float32": 91.6}),
    ("L4", {"16 bits": 121, "tf32": 60, "float32": 30.3}),
    ("V100", {"16 bits": 125, "float32": 15.7}),
    ("T4", {"16 bits": 65, "float32": 8.1}),
    ("RTX 4090", {"16 bits": 165, "tf32": 82.6, "float32": 82.6}),
    ("RTX 3090", {"16 bits": 71, "tf32": 35.6, "float32": 35.6}),
)

# A share of waiting that is worth a warning, and the seconds of training that it is measured over.
_LONG_WAIT, _WATCHED_SECONDS = 0.05, 30.0


class Throughput:
    """Turns the clock's readings of a run into figures.

    Args:
        tokens_per_example: padding included.
        flops_per_example: operations in matrix products, forward and backward; 0 if not known.
        precision: what the networks compute in.
    """

    def __init__(
        self,
        *,
        replicas: int,
        tokens_per_example: float,
        flops_per_example: float,
        precision: str,
    ):
        self._tokens = tokens_per_example
        self._flops = flops_per_example
        self._peak = peak_of_devices(replicas, precision)
        self._reports = 0
        self._seconds = self._waited = 0.0
        self._has_warned = False
        self._all = np.zeros(3)  # examples, seconds, seconds waited

    def figures(self, examples: int, seconds: float, waited: float) -> dict[str, float]:
        """Returns the figures of some steps, by the names in `MEASURED`.

        `mfu`, model FLOP utilization, is the share of the devices' listed rate that the model's
        matrix products took (arXiv:2204.02311, appendix B); what `recompute` computes twice counts
        once. It is left out where the rate or the operations aren't known.

        Args:
            examples: trained on since the last call.
            seconds: that they took.
            waited: seconds of these in which the devices waited for data.
        """
        self._reports += 1
        if self._reports > 1:  # the first steps compile, and wait until the data's buffers are full
            self._seconds += seconds
            self._waited += waited
            self._all += examples, seconds, waited
        return self._figures(examples, seconds, waited)

    def overall(self) -> dict[str, float]:
        """Returns the figures of all steps so far but those of the first report, if there are any.

        Their names are those of `figures`.
        """
        return self._figures(*self._all.tolist()) if self._all[0] else {}

    def _figures(self, examples: float, seconds: float, waited: float) -> dict[str, float]:
        rate = examples / seconds
        found = {
            "examples_per_second": rate,
            "tokens_per_second": rate * self._tokens,
        }
        if not is_deterministic():  # there TensorFlow refuses to read the clock within a step
            found["input_wait"] = waited / seconds
        if self._peak and self._flops:
            found["mfu"] = rate * self._flops / self._peak
        memory = peak_memory_gib()
        if memory is not None:
            found["peak_memory_gib"] = memory
        return found

    def warning(self) -> str | None:
        """Says once that the data comes too late, if over half a minute it did."""
        if self._seconds < _WATCHED_SECONDS:
            return None
        share, self._seconds, self._waited = self._waited / self._seconds, 0.0, 0.0
        if share <= _LONG_WAIT or self._has_warned:
            return None
        self._has_warned = True
        return (
            f"Warning: {share:.0%} of the time is spent waiting for data (input_wait). Keep the "
            "data on a disk of this machine, and give the program more processor cores."
        )


def listed_peak(device_name: str, precision: str) -> float | None:
    """Returns the FLOP/s that a device is listed with, or None if it isn't known here.

    Args:
        device_name: as TensorFlow gives it, such as "NVIDIA H100 80GB HBM3".
        precision: a value of the hparam, resolved.
    """
    kind = "16 bits" if precision in ("bfloat16", "float16") else precision
    for name, peaks in _TFLOPS:
        if re.search(rf"\b{name}\b", device_name):
            return peaks[kind] * 1e12 if kind in peaks else None
    return None


def peak_of_devices(replicas: int, precision: str) -> float | None:
    """Returns the listed FLOP/s of a run's devices together; None if one is unknown.

    Args:
        replicas: of the run, each on a device like those of this process.
        precision: see `listed_peak`.
    """
    details = tf.config.experimental.get_device_details
    names = {details(gpu).get("device_name", "") for gpu in tf.config.list_physical_devices("GPU")}
    peaks = {listed_peak(name, precision) for name in names}
    peak = peaks.pop() if len(peaks) == 1 else None
    return None if peak is None else replicas * peak


def peak_memory_gib() -> float | None:
    """Returns the most memory that was in use so far, in GiB.

    That of the fullest GPU of this process; without a GPU, of the process, where the system tells.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        info = tf.config.experimental.get_memory_info
        try:
            return max(info(gpu.name.removeprefix("/device:"))["peak"] for gpu in gpus) / 2**30
        except ValueError:  # an allocator that doesn't count
            return None
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
