"""What the hparam `distribution` opens, with fakes for devices that are not here."""

import types

import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.training import devices
from electra_tf2.training.workers import Workers


def configure(**hparams):
    return PretrainingConfig("model", "data", **hparams)


def test_one_device(capsys):
    strategy, workers = devices.open_devices(configure(distribution="one_device"), print)
    assert strategy.num_replicas_in_sync == 1
    assert (workers.count, workers.index, workers.is_chief) == (1, 0, True)
    assert capsys.readouterr().out == ""


def test_a_cluster_that_is_not_used(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:2"]}}')
    devices.open_devices(configure(), print)
    assert 'Set distribution to "multi_worker"' in capsys.readouterr().out


def test_several_workers_need_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match="environment variable TF_CONFIG"):
        devices.open_devices(configure(distribution="multi_worker"), print)


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
    strategy, workers = devices.open_devices(config, print)
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
        devices.open_devices(configure(distribution="tpu"), print)
    assert info.value.what == "The TPU can't be reached."
    assert info.value.received.endswith("Please provide a TPU Name to connect to.")


def test_devices_given_twice():
    with pytest.raises(UserError, match="given twice, and differently"):
        configure(use_tpu=True, distribution="mirrored")


def test_unknown_strategy():
    with pytest.raises(UserError) as info:
        configure(distribution="multiworker")
    assert "multi_worker" in str(info.value)
