"""The devices of a run, and the other processes that compute with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.errors import UserError
from electra_tf2.training.workers import (
    VARIABLE,
    Cluster,
    Workers,
    check_same,
    meet,
    read_cluster,
    time_limit,
)

# On which devices a run computes.


def make_strategy(
    distribution: Literal["auto", "one_device", "mirrored"] = "auto",
) -> tf.distribute.Strategy:
    """Builds the distribution strategy of a process that runs alone.

    Args:
        distribution: "one_device": the first GPU, else the CPU. "mirrored": all visible GPUs, else
            all logical CPU devices, each a replica of the network. "auto": mirrored if there is
            more than one GPU, else one device.

    Returns:
        A strategy; its `num_replicas_in_sync` divides the global batch.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if distribution == "mirrored" or (distribution == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def allow_memory_growth() -> None:
    """Lets TensorFlow take GPU memory as it needs it, if no GPU is in use yet."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the GPU is initialized: it is too late, and harmless
            return


def check_gpu(require_gpu: bool) -> None:
    """Refuses to run on the CPU where a GPU is required.

    Raises:
        UserError: `require_gpu` is on and TensorFlow sees no GPU.
    """
    if require_gpu and not tf.config.list_physical_devices("GPU"):
        raise UserError(
            "No GPU was found.",
            where="hparam require_gpu",
            received="devices: "
            + ", ".join(d.device_type for d in tf.config.list_physical_devices()),
            remedy="Install the CUDA build (pip install 'electra-tf2[cuda]') and check nvidia-smi, "
            "or leave require_gpu out to train on the CPU.",
        )


def describe(
    strategy: tf.distribute.Strategy, global_batch_size: int, workers: Workers | None = None
) -> str:
    """Returns a line on devices, replicas and batch sizes for the start of a run."""
    replicas = strategy.num_replicas_in_sync
    devices = ", ".join(strategy.extended.worker_devices)
    place = ""
    if workers is not None and workers.count > 1:
        place = f"Worker {workers.index} of {workers.count}{' (chief)' * workers.is_chief}. "
    return (
        f"{place}Devices: {devices} ({replicas} replica{'s' if replicas > 1 else ''}); "
        f"batch: {global_batch_size} ({global_batch_size // replicas} a replica)"
    )


def check_batch_size(
    name: str, global_batch_size: int, replicas: int, micro_batches: int = 1
) -> None:
    """Refuses a batch that cannot be shared out evenly.

    Raises:
        UserError: the batch is not a multiple of replicas x micro-batches.
    """
    if global_batch_size % (replicas * micro_batches):
        raise UserError(
            "The batch can't be divided evenly.",
            where=f"hparam {name}",
            received=f"{global_batch_size} examples for {replicas} replicas x "
            f"{micro_batches} micro-batches",
            remedy=f"Choose a multiple of {replicas * micro_batches}.",
        )


# In which number type a run computes.


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


Say = Callable[[str], None]


class Devices(NamedTuple):
    """Where a run computes.

    Attributes:
        strategy: puts the networks' variables and the steps on the devices.
        workers: the processes of the run.
    """

    strategy: tf.distribute.Strategy
    workers: Workers


def open_devices(config: Any, say: Say) -> Devices:
    """Opens what the hparam `distribution` names; the first thing that a run does with TensorFlow.

    Args:
        config: has `distribution`, `require_gpu`, `worker_timeout`, the TPU's hparams, `to_dict()`
            and `warnings`.
        say: prints a line.

    Returns:
        The devices.

    Raises:
        UserError: they are not there, or TF_CONFIG or the other workers don't fit.
    """
    check_gpu(config.require_gpu)
    allow_memory_growth()
    distribution = "tpu" if config.use_tpu else config.distribution
    return _OPEN[distribution](config, distribution, say)


def _one_process(config: Any, distribution: str, say: Say) -> Devices:
    if os.environ.get(VARIABLE):
        say(
            f"Warning: {VARIABLE} is set, but distribution is {distribution}: this process trains "
            'on its own. Set distribution to "multi_worker" to train on all workers.'
        )
    return Devices(make_strategy(distribution), Workers())


def _multi_worker(config: Any, distribution: str, say: Say) -> Devices:
    cluster = read_cluster()
    cards = meet(cluster, _card(config, cluster), timeout=config.worker_timeout, say=say)
    check_same(cluster, cards)
    too_long = UserError(
        f"The workers have met, but were not connected within {config.worker_timeout} seconds.",
        where=f"worker {cluster.index}, {cluster.addresses[cluster.index]}",
        received="nothing from TensorFlow",
        remedy="Look for a worker that has ended, then start the same command on all hosts again.",
    )
    with time_limit(config.worker_timeout, too_long):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Devices(strategy, Workers(strategy, cluster))


def _card(config: Any, cluster: Cluster) -> dict[str, Any]:
    """What all workers must have in common: all but how long they wait."""
    hparams = {n: v for n, v in config.to_dict().items() if n != "worker_timeout"}
    return hparams | {
        "version": __version__,
        "TensorFlow": tf.__version__,
        "workers": list(cluster.addresses),
        "GPUs": len(tf.config.list_physical_devices("GPU")),
        "precision": resolve_precision(config.precision),
        "xla": resolve_xla(config.xla),
    }


def _tpu(config: Any, distribution: str, say: Say) -> Devices:
    options = {
        "tpu": config.tpu_name,
        "zone": config.tpu_zone,
        "project": config.gcp_project,
        "job_name": config.tpu_job_name or "worker",
    }
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(**options)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise UserError(
            "The TPU can't be reached.",
            where="hparams tpu_name, tpu_zone, gcp_project, tpu_job_name",
            received=f"{options}: {str(error).strip().partition(chr(10))[0]}",
            remedy="Check that the TPU is running and these name it, or set distribution to auto.",
        ) from error
    return Devices(tf.distribute.TPUStrategy(resolver), Workers())


_OPEN: dict[str, Callable[[Any, str, Say], Devices]] = {
    "auto": _one_process,
    "one_device": _one_process,
    "mirrored": _one_process,
    "multi_worker": _multi_worker,
    "tpu": _tpu,
}


class ReplicaVariables:
    """Named variables, and each local replica's copies of them.

    Under MirroredStrategy a variable has one component a device. Inside `strategy.run` the
    optimizer reads and assigns the component of its own replica plainly: all replicas compute the
    same update from the same reduced gradients, so nothing has to be sent.

    Args:
        strategy: the strategy under whose scope the variables were made.
        variables: name -> variable, in an order that all replicas share.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        variables: Mapping[str, keras.Variable | tf.Variable],
    ):
        self.names = list(variables)
        self.variables = [
            v.value if isinstance(v, keras.Variable) else v for v in variables.values()
        ]
        self._components = [strategy.experimental_local_results(v) for v in self.variables]

    def local(self, replica_id: int | tf.Tensor) -> list[tf.Variable]:
        """Returns the copies of the replica with this id (ids of several hosts count on).

        Where one graph serves all replicas the id is a tensor, and the variables themselves stand
        for the copies.
        """
        if not isinstance(replica_id, int):
            return self.variables
        return [parts[replica_id % len(parts)] for parts in self._components]

    def to_numpy(self) -> dict:
        """Returns name -> array, from the first local replica."""
        return {
            name: parts[0].numpy() for name, parts in zip(self.names, self._components, strict=True)
        }

    def snapshot(self) -> dict:
        """Returns name -> read-only array of the present value, from the first local replica.

        On the CPU nothing is copied: TensorFlow gives a variable that is assigned another buffer
        while somebody holds the old one. Values on other devices are copied to the host.
        """
        return {
            name: np.asarray(parts[0].read_value())
            for name, parts in zip(self.names, self._components, strict=True)
        }

    def assign(self, arrays: Mapping) -> None:
        """Sets every copy of every variable from name -> array."""
        for name, parts in zip(self.names, self._components, strict=True):
            for part in parts:
                part.assign(arrays[name])
