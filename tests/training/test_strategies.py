import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training import devices as strategies


def pretend(monkeypatch, *devices):
    """Lets TensorFlow list these physical devices."""

    def listed(kind=None):
        found = [tf.config.PhysicalDevice(f"/physical_device:{d}:0", d) for d in devices]
        return [device for device in found if kind in (None, device.device_type)]

    monkeypatch.setattr(tf.config, "list_physical_devices", listed)


def test_required_gpu(monkeypatch):
    pretend(monkeypatch, "CPU")
    strategies.check_gpu(False)
    with pytest.raises(UserError) as info:
        strategies.check_gpu(True)
    assert info.value.where == "hparam require_gpu"
    assert info.value.received == "devices: CPU"
    assert "nvidia-smi" in info.value.remedy
    pretend(monkeypatch, "CPU", "GPU")
    strategies.check_gpu(True)


@pytest.mark.parametrize("size, replicas, micro", [(8, 1, 1), (8, 2, 4), (6, 3, 2)])
def test_batches_that_can_be_shared(size, replicas, micro):
    strategies.check_batch_size("train_batch_size", size, replicas, micro)


@pytest.mark.parametrize("size, replicas, micro, multiple", [(8, 3, 1, 3), (8, 2, 8, 16)])
def test_batches_that_can_not(size, replicas, micro, multiple):
    with pytest.raises(UserError) as info:
        strategies.check_batch_size("train_batch_size", size, replicas, micro)
    assert info.value.where == "hparam train_batch_size"
    assert f"{size} examples for {replicas} replicas x {micro}" in info.value.received
    assert f"multiple of {multiple}" in info.value.remedy


def test_one_device():
    strategy = strategies.make_strategy("one_device")
    assert strategy.num_replicas_in_sync == 1
    shown = strategies.describe(strategy, 24)
    assert "(1 replica); batch: 24 (24 a replica)" in shown
