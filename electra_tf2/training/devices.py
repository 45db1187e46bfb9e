"""The devices of a run, and the other processes that compute with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2 import __version__
from electra_tf2.errors import UserError
from electra_tf2.training import strategies
from electra_tf2.training.cluster import VARIABLE, Cluster, read_cluster
from electra_tf2.training.precision import resolve_precision, resolve_xla
from electra_tf2.training.rendezvous import check_same, meet
from electra_tf2.training.time_limit import time_limit
from electra_tf2.training.workers import Workers

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
    strategies.check_gpu(config.require_gpu)
    strategies.allow_memory_growth()
    distribution = "tpu" if config.use_tpu else config.distribution
    return _OPEN[distribution](config, distribution, say)


def _one_process(config: Any, distribution: str, say: Say) -> Devices:
    if os.environ.get(VARIABLE):
        say(
            f"Warning: {VARIABLE} is set, but distribution is {distribution}: this process trains "
            'on its own. Set distribution to "multi_worker" to train on all workers.'
        )
    return Devices(strategies.make_strategy(distribution), Workers())


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
