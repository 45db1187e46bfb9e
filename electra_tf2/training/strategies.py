"""On which devices a run computes."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.workers import Workers


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
