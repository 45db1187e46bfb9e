"""What is said of a run's speed."""

import math

import pytest

from electra_tf2.training import throughput
from electra_tf2.training.throughput import Throughput, listed_peak, peak_memory_gib


def make(**options):
    settings = {"replicas": 2, "tokens_per_example": 16.0}
    settings |= {"flops_per_example": 0.0, "precision": "bfloat16"}
    return Throughput(**settings | options)


@pytest.mark.parametrize(
    "name, precision, tflops",
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "float16", 756),
        ("NVIDIA H100 80GB HBM3", "float32", 67),
        ("NVIDIA A100-SXM4-40GB", "tf32", 156),
        ("NVIDIA A10G", "bfloat16", 70),
        ("NVIDIA L40S", "bfloat16", 362),
        ("Tesla T4", "float16", 65),
        ("Tesla T4", "tf32", None),
        ("NVIDIA L40", "bfloat16", None),
        ("NVIDIA GeForce GTX 1080", "float32", None),
    ],
)
def test_listed_peaks(name, precision, tflops):
    assert listed_peak(name, precision) == (tflops and tflops * 1e12)


def test_figures():
    figures = make().figures(examples=80, seconds=2.0, waited=0.5)
    assert figures["examples_per_second"] == 40.0
    assert figures["tokens_per_second"] == 640.0
    assert figures["input_wait"] == 0.25
    assert "mfu" not in figures
    assert 0.05 < figures["peak_memory_gib"] < 1000


def test_the_whole_training_without_its_first_report():
    speed = make()
    speed.figures(examples=80, seconds=100.0, waited=90.0)
    assert speed.overall() == {}
    speed.figures(examples=80, seconds=2.0, waited=0.5)
    speed.figures(examples=240, seconds=2.0, waited=0.0)
    assert speed.overall()["examples_per_second"] == 80.0
    assert speed.overall()["input_wait"] == 0.125


def test_model_flop_utilization(monkeypatch):
    monkeypatch.setattr(throughput, "peak_of_devices", lambda replicas, precision: replicas * 1e12)
    figures = make(flops_per_example=1e10).figures(examples=80, seconds=2.0, waited=0.0)
    assert figures["mfu"] == pytest.approx(40 * 1e10 / 2e12)


def test_memory_does_not_shrink():
    before = peak_memory_gib()
    ballast = bytearray(64 << 20)
    assert peak_memory_gib() >= before > 0 and len(ballast)


def warnings(*reports):
    """What is said after each (seconds, share of waiting)."""
    speed = make()
    found = []
    for seconds, share in reports:
        speed.figures(80, seconds, seconds * share)
        found.append(speed.warning())
    return found


def test_late_data_is_said_once():
    first, *later = warnings((60, 0.9), (20, 0.2), (20, 0.1), (40, 0.5))
    assert first is None  # it compiles, and fills buffers
    assert later[0] is None and later[2] is None
    assert later[1].startswith("Warning: 15% of the time") and "input_wait" in later[1]


def test_data_in_time_is_not_said():
    assert set(warnings((60, 0.9), *[(40, 0.04)] * 3)) == {None}
    assert set(warnings((60, 0.9), *[(math.nextafter(30, 0), 0.04)] * 3)) == {None}
