"""Where a run computes: devices, number types, and variables with a copy on each device."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.console import say, silent_stderr
from electra_tf2.errors import UserError
from electra_tf2.randomness import MAX_STREAMS
from electra_tf2.training.cluster import VARIABLE, Cluster, meet, read_cluster, time_limit
from electra_tf2.training.compile_cache import open_compile_cache
from electra_tf2.training.environment import describe_machine
from electra_tf2.training.workers import Workers

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig
    from configure_pretraining import PretrainingConfig

Precision = Literal["float32", "tf32", "bfloat16", "float16"]

# The Keras dtype policy of each: variables are float32 in all. See `set_arithmetic` for tf32.
DTYPE_POLICIES = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

_DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"

# Compute capability of the first NVIDIA GPUs with matrix units for bfloat16: Ampere.
_BFLOAT16_CAPABILITY = (8, 0)

Config = TypeVar("Config", "PretrainingConfig", "FinetuningConfig")


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
        return _mirrored(tuple(device.name for device in devices))
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


# A second one would number its exchanges from the start again, and TensorFlow would take them for
# those of the first, whose tensors may have had other shapes.
@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


def allow_memory_growth() -> None:
    """Lets TensorFlow allocate GPU memory as needed, if no GPU is in use yet."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # too late, as the GPU is initialized already; harmless
            return


def set_arithmetic(precision: Literal["auto"] | Precision, *, deterministic: bool = False) -> None:
    """Chooses how this process's GPUs compute; on the CPU it makes no difference.

    NVIDIA's GPUs since Ampere can round the factors of float32 products to 10 bits, which they call
    TensorFloat-32, and TensorFlow lets them unless told otherwise.

    Args:
        precision: only "tf32" allows it.
        deterministic: whether the same numbers are added in the same order each time, so that two
            runs, or a run and its resumption, agree to the last bit. It can't be taken back.
    """
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
    if deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        if _DETERMINISTIC_FLAG not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC_FLAG}".strip()
        tf.config.experimental.enable_op_determinism()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets XLA compile a function of tensors into one program."""
    return tf.function(function, jit_compile=True, autograph=False)


def traced(function: Callable) -> Callable:
    """Returns a function as a graph, one of many in a process.

    TensorFlow takes the graphs that one place makes, for several models or runs, for a function
    that is traced too often, and warns.
    """
    graph = tf.function(function, autograph=False)
    setattr(graph, "_omit_frequent_tracing_warning", True)  # noqa: B010 # not typed
    return graph


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
    """Returns a line on devices, replicas and batch sizes for the start of a run.

    Args:
        global_batch_size: examples a step.
        workers: of the run; None for a single process.
    """
    replicas = strategy.num_replicas_in_sync
    devices = ", ".join(strategy.extended.worker_devices)
    place = ""
    if workers is not None and workers.count > 1:
        place = f"Worker {workers.index} of {workers.count}{' (chief)' * workers.is_chief}. "
    return (
        f"{place}Devices: {devices} ({replicas} replica{'s' if replicas > 1 else ''}); "
        f"batch: {global_batch_size} ({global_batch_size // replicas} a replica){_order_of_sums()}"
    )


def _order_of_sums() -> str:
    """What a GPU's threads do to exact resuming, if nothing is said against it."""
    if not tf.config.list_physical_devices("GPU") or is_deterministic():
        return ""
    return (
        "; a GPU adds in any order, so runs differ in their last digits, resumed ones too "
        "(deterministic: true is exact, and slower)"
    )


def is_deterministic() -> bool:
    """Whether TensorFlow adds in a fixed order in this process, whoever has asked for it."""
    from tensorflow.python.framework import config  # has no public name

    by_variable = os.environ.get("TF_DETERMINISTIC_OPS", "").lower() in ("1", "true")
    return by_variable or config.is_op_determinism_enabled()


def check_batch_size(
    name: str, global_batch_size: int, replicas: int, micro_batches: int = 1
) -> None:
    """Refuses a batch that can't be divided evenly.

    Args:
        global_batch_size: its value, in examples.

    Raises:
        UserError: the batch is not a multiple of replicas x micro-batches, or there are more of
            them than have dropout of their own.
    """
    if replicas * micro_batches > MAX_STREAMS:
        raise UserError(
            "There are too many micro-batches: their dropout would be that of other steps.",
            where="hparam gradient_accumulation_steps",
            received=f"{micro_batches} for {replicas} replica{'s' * (replicas > 1)}",
            remedy=f"Choose at most {MAX_STREAMS // replicas}.",
        )
    if global_batch_size % (replicas * micro_batches):
        raise UserError(
            "The batch can't be divided evenly.",
            where=f"hparam {name}",
            received=f"{global_batch_size} examples for {replicas} replicas x "
            f"{micro_batches} micro-batches",
            remedy=f"Choose a multiple of {replicas * micro_batches}.",
        )


def resolve_precision(precision: Literal["auto"] | Precision) -> Precision:
    """Resolves "auto": bfloat16 if all GPUs have it, float32 otherwise and on the CPU.

    Returns:
        "float32" or "bfloat16", or what was asked for.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    # A GPU that isn't NVIDIA's has no compute capability.
    able = [d.get("compute_capability", (0, 0)) >= _BFLOAT16_CAPABILITY for d in details]
    return "bfloat16" if able and all(able) else "float32"


def continued_precision(config: Config, began: Any) -> Config:
    """Returns the hparams of a run that trains a model further, which may have begun elsewhere.

    "auto" follows the devices, whereas a model keeps the precision that it began in.

    Args:
        config: its `precision` is "auto".
        began: the stored precision of the model; None if there is none.
    """
    if began not in tuple(DTYPE_POLICIES) or began == resolve_precision("auto"):
        return config
    say(f"The model continues in {began}, as it began.")
    own = copy.copy(config)
    own.precision = began
    set_arithmetic(began, deterministic=own.deterministic)
    return own


def resolve_xla(xla: bool | Literal["auto"]) -> bool:
    """Resolves "auto": compile forward and backward with XLA on GPUs, not on the CPU."""
    return bool(tf.config.list_physical_devices("GPU")) if xla == "auto" else xla


class Devices(NamedTuple):
    """Where a run computes.

    Attributes:
        strategy: puts the networks' variables and the steps on the devices.
        workers: the processes of the run.
    """

    strategy: tf.distribute.Strategy
    workers: Workers


def open_devices(config: PretrainingConfig | FinetuningConfig) -> Devices:
    """Opens what the hparam `distribution` names, before a run does anything else with TensorFlow.

    Args:
        config: gives `distribution`, `require_gpu`, `worker_timeout` and the TPU's hparams; all
            workers must have the same.

    Returns:
        The devices.

    Raises:
        UserError: the devices are missing, TF_CONFIG is malformed, or the other workers are absent
            or differ.
    """
    set_arithmetic(config.precision, deterministic=config.deterministic)
    find_devices(config)
    if config.use_tpu or config.distribution == "tpu":
        return _tpu(config)
    if config.distribution == "multi_worker":
        return _multi_worker(config)
    return _one_process(config.distribution)


def find_devices(config: PretrainingConfig | FinetuningConfig) -> None:
    """Looks for this machine's devices; in a process that trains it has to be the first to do so.

    Args:
        config: gives `xla`, `compile_cache` (see `open_compile_cache`) and `require_gpu`.

    Raises:
        UserError: there is no GPU, but one is required.
    """
    if config.xla:
        open_compile_cache(config.compile_cache, describe_machine())
    with silent_stderr():  # TensorFlow's notes on the devices, which it looks for when first asked
        tf.config.list_physical_devices()
    check_gpu(config.require_gpu)
    allow_memory_growth()


def _one_process(distribution: Literal["auto", "one_device", "mirrored"]) -> Devices:
    if os.environ.get(VARIABLE):
        say(
            f"Warning: {VARIABLE} is set, but distribution is {distribution}: this process trains "
            'alone. Set distribution to "multi_worker" to train on all workers.'
        )
    return Devices(make_strategy(distribution), Workers())


def _multi_worker(config: PretrainingConfig | FinetuningConfig) -> Devices:
    cluster = read_cluster()
    meet(cluster, _card(config, cluster), timeout=config.worker_timeout)
    too_long = UserError(
        f"The workers have met, but were not connected within {config.worker_timeout} seconds.",
        where=f"worker {cluster.index}, {cluster.addresses[cluster.index]}",
        received="nothing from TensorFlow",
        remedy="Look for a worker that has ended, then start the same command on all hosts again.",
    )
    with time_limit(config.worker_timeout, too_long):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    return Devices(strategy, Workers(strategy, cluster))


def _card(config: PretrainingConfig | FinetuningConfig, cluster: Cluster) -> dict[str, Any]:
    """Returns what all workers must have in common: everything but how long they wait."""
    hparams = {n: v for n, v in config.to_dict().items() if n != "worker_timeout"}
    return hparams | {
        "version": __version__,
        "TensorFlow": tf.__version__,
        "workers": list(cluster.addresses),
        "GPUs": len(tf.config.list_physical_devices("GPU")),
        "precision": resolve_precision(config.precision),
        "xla": resolve_xla(config.xla),
    }


def _tpu(config: PretrainingConfig | FinetuningConfig) -> Devices:
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
        """Returns the copies of a replica.

        Args:
            replica_id: the replica's index among those of all hosts. Where one graph serves all
                replicas it is a tensor, and the variables themselves stand for the copies.
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

        On the CPU nothing is copied: an assignment gives the variable a new buffer while somebody
        holds the old one. Values on other devices are copied to the host.
        """
        return {
            name: np.asarray(parts[0].read_value())
            for name, parts in zip(self.names, self._components, strict=True)
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns name -> shape."""
        parts = zip(self.names, self._components, strict=True)
        return {name: tuple(own[0].shape) for name, own in parts}

    def assign(self, arrays: Mapping) -> None:
        """Sets every copy of every variable.

        Args:
            arrays: name -> array, at least for the names of these variables.
        """
        for name, parts in zip(self.names, self._components, strict=True):
            for part in parts:
                part.assign(arrays[name])
