import pytest
import tensorflow as tf

from electra_tf2.training.precision import resolve_precision, resolve_xla


@pytest.fixture
def gpus(monkeypatch):
    """Lets TensorFlow find GPUs of these compute capabilities."""

    def pretend(*capabilities):
        monkeypatch.setattr(
            tf.config, "list_physical_devices", lambda kind=None: list(range(len(capabilities)))
        )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda gpu: {"compute_capability": capabilities[gpu]},
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
    ],
)
def test_automatic_precision(gpus, capabilities, expected):
    gpus(*capabilities)
    assert resolve_precision("auto") == expected
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"


@pytest.mark.parametrize("capabilities, expected", [([], False), ([(8, 0)], True)])
def test_automatic_xla(gpus, capabilities, expected):
    gpus(*capabilities)
    assert resolve_xla("auto") is expected
    assert resolve_xla(True) is True
    assert resolve_xla(False) is False
