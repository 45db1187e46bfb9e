import types

import pytest
import tensorflow as tf

from electra_tf2.training import devices as precision
from electra_tf2.training.devices import resolve_precision, resolve_xla, say_if_emulated

PRECISIONS = ("float32", "bfloat16", "float16")


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


def emulated(kind):
    """In which precisions a line is said, for a strategy over two such devices."""
    devices = tuple(f"/replica:0/task:0/device:{kind}:{i}" for i in range(2))
    strategy = types.SimpleNamespace(extended=types.SimpleNamespace(worker_devices=devices))
    said = {}
    for asked in PRECISIONS:
        lines = []
        say_if_emulated(asked, strategy, lines.append)
        said[asked] = lines
    for asked, lines in said.items():
        for line in lines:
            assert line.startswith(f"Precision: this {kind} has no units for {asked}.")
            assert "don't expect a step to be faster than in float32" in line
    assert all(len(lines) <= 1 for lines in said.values())
    return {asked for asked, lines in said.items() if lines}


@pytest.mark.parametrize(
    "capabilities, expected",
    [
        ([(6, 1)], {"bfloat16", "float16"}),
        ([(7, 5)], {"bfloat16"}),
        ([(9, 0), (8, 0)], set()),
        ([(9, 0), (7, 0)], {"bfloat16"}),
        ([None], set()),  # not known
    ],
)
def test_gpus_without_the_type(gpus, capabilities, expected):
    gpus(*capabilities)
    assert emulated("GPU") == expected


@pytest.mark.parametrize(
    "cpu_info, expected",
    [
        ("flags\t\t: fpu sse2 avx2 f16c", {"bfloat16", "float16"}),
        ("flags\t\t: fpu avx512f avx512_bf16", {"float16"}),
        ("flags\t\t: fpu avx512_bf16 avx512_fp16 amx_bf16", set()),
        ("Features\t: fp asimd asimdhp bf16", set()),
        ("Features\t: fp asimd", {"bfloat16", "float16"}),
        ("nothing of the kind", set()),
        (None, set()),  # no such file
    ],
    ids=["AVX2", "bfloat16", "both", "Arm", "old Arm", "unknown", "no file"],
)
def test_cpu_without_the_type(monkeypatch, tmp_path, cpu_info, expected):
    path = tmp_path / "cpuinfo"
    if cpu_info is not None:
        path.write_text(f"processor\t: 0\n{cpu_info}\nbugs\t\t: none\n" * 2)
    monkeypatch.setattr(precision, "_CPU_INFO", str(path))
    assert emulated("CPU") == expected


def test_tpus_have_no_float16():
    assert emulated("TPU") == {"float16"}
