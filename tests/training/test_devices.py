"""Devices, number types, what the hparam `distribution` opens, and variables on several devices."""

import types

import numpy as np
import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import randomness
from electra_tf2.errors import UserError
from electra_tf2.training import devices
from electra_tf2.training.devices import ReplicaVariables, resolve_precision, resolve_xla
from electra_tf2.training.workers import Workers


def pretend(monkeypatch, *kinds):
    """Lets TensorFlow list these physical devices."""

    def listed(kind=None):
        found = [tf.config.PhysicalDevice(f"/physical_device:{d}:0", d) for d in kinds]
        return [device for device in found if kind in (None, device.device_type)]

    monkeypatch.setattr(tf.config, "list_physical_devices", listed)


def test_required_gpu(monkeypatch):
    pretend(monkeypatch, "CPU")
    devices.check_gpu(False)
    with pytest.raises(UserError) as info:
        devices.check_gpu(True)
    assert info.value.where == "hparam require_gpu"
    assert info.value.received == "devices: CPU"
    assert "nvidia-smi" in info.value.remedy
    pretend(monkeypatch, "CPU", "GPU")
    devices.check_gpu(True)


@pytest.mark.parametrize("size, replicas, micro", [(8, 1, 1), (8, 2, 4), (6, 3, 2)])
def test_batches_that_can_be_shared(size, replicas, micro):
    devices.check_batch_size("train_batch_size", size, replicas, micro)


@pytest.mark.parametrize("size, replicas, micro, multiple", [(8, 3, 1, 3), (8, 2, 8, 16)])
def test_batches_that_can_not(size, replicas, micro, multiple):
    with pytest.raises(UserError) as info:
        devices.check_batch_size("train_batch_size", size, replicas, micro)
    assert info.value.where == "hparam train_batch_size"
    assert f"{size} examples for {replicas} replicas x {micro}" in info.value.received
    assert f"multiple of {multiple}" in info.value.remedy


def test_micro_batches_with_dropout_of_their_own():
    most = randomness.MAX_STREAMS // 2
    devices.check_batch_size("train_batch_size", 2 * most, 2, most)
    with pytest.raises(UserError) as info:
        devices.check_batch_size("train_batch_size", 4 * most, 2, 2 * most)
    assert info.value.where == "hparam gradient_accumulation_steps"
    assert info.value.remedy == f"Choose at most {most}."


PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


@pytest.fixture
def gpus(monkeypatch):
    """Lets TensorFlow find GPUs of these compute capabilities; None is another maker's."""

    def pretend(*capabilities):
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind=None: list(range(len(capabilities)))
        )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {"compute_capability": capabilities[gpu]} if capabilities[gpu] else {},
        )

    return pretend


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ([], "float32"),
        ([(7, 5)], "float32"),
        ([(8, 0)], "bfloat16"),
        ([(9, 0), (9, 0)], "bfloat16"),
        ([(9, 0), (7, 0)], "float32"),
        ([None], "float32"),
    ],
)
def test_automatic_precision(gpus, capabilities, expected):
    gpus(*capabilities)
    assert resolve_precision("auto") == expected
    for asked in PRECISIONS:
        assert resolve_precision(asked) == asked


@pytest.mark.parametrize("capabilities, expected", [([], False), ([(8, 0)], True)])
def test_automatic_xla(gpus, capabilities, expected):
    gpus(*capabilities)
    assert resolve_xla("auto") is expected
    assert resolve_xla(True) is True
    assert resolve_xla(False) is False


def configure(**hparams):
    return PretrainingConfig("model", "data", **hparams)


def test_one_device(capsys):
    strategy, workers = devices.open_devices(configure(distribution="one_device"))
    assert capsys.readouterr() == ("", "")
    assert (workers.count, workers.index, workers.is_chief) == (1, 0, True)
    assert strategy.num_replicas_in_sync == 1
    shown = devices.describe(strategy, 24)
    assert "(1 replica); batch: 24 (24 a replica)" in shown


def test_a_cluster_that_is_not_used(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:2"]}}')
    devices.open_devices(configure())
    assert 'Set distribution to "multi_worker"' in capsys.readouterr().err


def test_several_workers_need_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="environment variable TF_CONFIG"):
        devices.open_devices(configure(distribution="multi_worker"))


@pytest.fixture
def tpu(monkeypatch):
    """Fakes for a TPU; what they were called with, in order."""
    calls = []

    def record(name, result=None):
        def call(*arguments, **options):
            calls.append((name, arguments, options))
            return result

        return call

    cluster_resolver = types.SimpleNamespace(TPUClusterResolver=record("resolver", "the TPU"))
    monkeypatch.setattr(tf.distribute, "cluster_resolver", cluster_resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", record("connect"))
    experimental = types.SimpleNamespace(initialize_tpu_system=record("initialize"))
    monkeypatch.setattr(tf.tpu, "experimental", experimental)
    monkeypatch.setattr(tf.distribute, "TPUStrategy", record("strategy", "a TPU strategy"))
    return calls


@pytest.mark.parametrize("config_type", [PretrainingConfig, FinetuningConfig])
@pytest.mark.parametrize("asked", [{"use_tpu": True}, {"distribution": "tpu"}])
def test_tpu(tpu, config_type, asked):
    hparams = {"tpu_name": "t", "tpu_zone": "z", "gcp_project": "p", "tpu_job_name": "j"}
    tasks = {"task_names": ["cola"]} if config_type is FinetuningConfig else {}
    config = config_type("model", "data", **asked, **hparams, **tasks)
    strategy, workers = devices.open_devices(config)
    assert strategy == "a TPU strategy" and isinstance(workers, Workers)
    options = {"tpu": "t", "zone": "z", "project": "p", "job_name": "j"}
    assert tpu == [
        ("resolver", (), options),
        ("connect", ("the TPU",), {}),
        ("initialize", ("the TPU",), {}),
        ("strategy", ("the TPU",), {}),
    ]


def test_a_tpu_that_is_not_there(monkeypatch):
    def refuse(**options):
        raise ValueError("Please provide a TPU Name to connect to.\nMore.")

    cluster_resolver = types.SimpleNamespace(TPUClusterResolver=refuse)
    monkeypatch.setattr(tf.distribute, "cluster_resolver", cluster_resolver)
    with pytest.raises(UserError) as info:
        devices.open_devices(configure(distribution="tpu"))
    assert info.value.where.startswith("hparams tpu_name")
    assert info.value.received.endswith("Please provide a TPU Name to connect to.")


def doubled(variable, jit_compile):
    """Assigns in a graph, as an optimizer does."""
    double = tf.function(lambda value: 2.0 * value, jit_compile=jit_compile)
    tf.function(lambda: variable.assign(double(variable.read_value())))()


CHANGES = {
    "assign": lambda v: v.assign(tf.fill([3], 7.0)),
    "assign_add": lambda v: v.assign_add(tf.ones([3])),
    "graph": lambda v: doubled(v, False),
    "XLA": lambda v: doubled(v, True),
    "XLA in place": lambda v: tf.function(lambda: v.assign_add(v), jit_compile=True)(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_snapshot_stays_as_it_is(change):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0, 3.0])
    variables = ReplicaVariables(strategy, {"v": variable})
    taken = variables.snapshot()
    for _ in range(3):
        change(variable)
    assert variable.numpy().tolist() != [1.0, 2.0, 3.0]
    assert taken["v"].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        taken["v"][0] = 0.0
    variables.assign(taken)
    np.testing.assert_array_equal(variable.numpy(), taken["v"])


def test_determinism_is_known_whoever_asked_for_it(monkeypatch):
    assert not devices.is_deterministic()
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    assert not devices.is_deterministic()  # of XLA alone
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    assert devices.is_deterministic()
