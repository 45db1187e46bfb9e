"""benchmarks/gpu.py: its tables, and what it does without a GPU, PyTorch, memory or time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
OURS, AGAIN = "electra-tf2", "electra-tf2, started again"
RIGHT = {"differences": [{"losses": 1e-7}], "right": True}


@pytest.fixture
def gpu(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu

    return gpu


@pytest.fixture
def jobs(gpu, monkeypatch):
    """What the script's jobs find, by kind of job or by (kind, size); a test may change it."""
    from pretraining_step import flops_per_example

    # 1000 examples/s of ELECTRA-small are a tenth of this rate.
    machine = {"gpu": "A GPU", "versions": "TensorFlow 2", "peak": 10_000 * flops_per_example(128)}
    ours = {"rate": 1000.0, "first": 50.0, "memory": 2.6, "programs": 1, "operations": 10}
    found = {
        "machine": machine,
        "peer machine": {"gpu": True, "versions": "transformers 5"},
        "correctness": RIGHT,
        "conformance": {"summary": "42 passed", "right": True},
        "ours": ours,
        "peer": {"rate": 400.0, "first": 80.0, "memory": 2.6},
        "input": {"rate": 36_000.0},
        "finetuning": {"seconds": 60.0},
    }

    def run_job(job, flags, seconds, report=True):
        return found.get((job.kind, job.arguments.get("size")), found[job.kind])

    monkeypatch.setattr(gpu, "run_job", run_job)
    return found


def rows(shown):
    """The cells of the tables' rows, by the first cell."""
    lines = [line for line in shown.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells}


def test_a_row_for_every_contender(gpu, jobs, capsys):
    gpu.main(["--conformance"])
    found = rows(capsys.readouterr().out)
    title = "small, 128 tokens, batch 128"
    assert found[f"{title}: electra-tf2"] == [
        "1,000", "128,000", "10.0%", "50 s", "2.6 GiB", "10", "",
    ]  # fmt: skip
    assert found[f"{title}: transformers, compiled"] == [
        "400", "51,200", "4.0%", "80 s", "2.6 GiB", "", "**2.50 ×**",
    ]  # fmt: skip
    assert found[f"{title}: electra-tf2, started again"][-1] == ""
    for size, length, batch_size in gpu.WORKLOADS:
        for who in (OURS, gpu.COMPILED, gpu.EAGER):
            assert f"{size}, {length} tokens, batch {batch_size}: {who}" in found
    assert found["input: dynamic"] == ["36,000.0 examples/s"]
    for name in ("finetuning: small, three epochs", f"finetuning: small, three epochs: {AGAIN}"):
        assert found[name] == ["60.0 s"]
    assert found["conformance: tests/conformance"] == ["right (42 passed)"]


def test_what_fails_is_said_in_its_row_and_the_rest_goes_on(gpu, jobs, capsys):
    jobs["ours", "base"] = {"error": "out of memory"}
    gpu.main([])
    found = rows(capsys.readouterr().out)
    title = "base, 512 tokens, batch 64"
    assert found[f"{title}: electra-tf2"] == ["out of memory", *[""] * 6]
    assert found[f"{title}: transformers, compiled"][0] == "400"
    assert found[f"{title}: transformers, compiled"][-1] == ""  # nothing to compare with


@pytest.mark.parametrize(
    ("result", "row"),
    [
        (
            {"differences": [{"losses": 0.1}], "right": False},
            "WRONG (losses 1.0e-01)",
        ),
        ({"error": "out of memory"}, "out of memory"),
    ],
    ids=["wrong", "not done"],
)
def test_what_is_not_right_is_an_error(gpu, jobs, capsys, result, row):
    jobs["correctness", "small"] = result
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--quick"])
    assert ended.value.code == 1
    found = rows(capsys.readouterr().out)
    assert found["correctness: tiny"][0].startswith("right")
    assert found["correctness: small"] == [row]
    assert found["small, 128 tokens, batch 128: electra-tf2"][0] == "1,000"


def test_without_a_gpu_it_says_what_to_do(gpu, jobs):
    jobs["machine"] |= {"gpu": None}
    with pytest.raises(SystemExit, match="sees no GPU.*--cpu-smoke"):
        gpu.main([])


@pytest.mark.parametrize(
    ("found", "why"),
    [({"error": "No module named 'torch'"}, "torch"), ({"gpu": False, "versions": ""}, "no GPU")],
    ids=["absent", "without a GPU"],
)
def test_without_pytorch_it_measures_the_rest(gpu, jobs, capsys, found, why):
    jobs["peer machine"] = found
    gpu.main(["--batch-size", "16", "--only", "small, 128"])
    shown = capsys.readouterr().out
    assert re.search(f"left out: .*{why}", shown)
    title = "small, 128 tokens, batch 16"
    assert list(rows(shown)) == ["", f"{title}: {OURS}", f"{title}: {AGAIN}"]


def test_jobs_that_fail_hang_or_come_too_late(gpu, monkeypatch):
    flags = gpu.parse_flags(["--cpu-smoke", "--peer-python", "sh -c 'sleep 60'"])
    failed = gpu.run_job(gpu.Job("ours", "", {"size": "huge"}), flags, 60)
    assert "measure_ours" in failed["error"]  # the arguments are wrong
    assert "not started" in gpu.run_job(gpu.Job("peer", ""), flags, 1)["error"]
    nowhere = gpu.parse_flags(["--peer-python", "no-such-python"])
    assert "no-such-python" in gpu.run_job(gpu.Job("peer", ""), nowhere, 60)["error"]
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0)
    assert "out of time" in gpu.run_job(gpu.Job("peer", ""), flags, 0.3)["error"]
    assert gpu.reason(1, "2 warnings\nRESOURCE_EXHAUSTED: no room\nlast") == "out of memory"
    assert gpu.reason(-9, "") == "ended by signal 9"


def first_step(row):
    return int(row[3].removesuffix(" s"))


def smoke(*flags):
    """Runs the script on the CPU, really; returns its rows."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    command = [sys.executable, str(SCRIPT), "--cpu-smoke", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return rows(done.stdout)


@pytest.mark.slow
def test_everything_of_ours_runs_on_the_cpu():
    found = smoke("--no-peer")
    ours, again = (found[f"tiny, 32 tokens, batch 4: {who}"] for who in (OURS, AGAIN))
    assert first_step(again) < first_step(ours)  # it finds what was compiled
    rate, _, utilization, *_, operations, _ = ours
    assert float(rate.replace(",", "")) > 0 and 0 < float(utilization.rstrip("%")) < 100
    assert 0 < int(operations) <= 40
    assert re.fullmatch(r"right \(.*\)", found["correctness: tiny"][0])
    for segmentation in ("static", "dynamic"):
        assert re.fullmatch(r"[\d,.]+ examples/s", found[f"input: {segmentation}"][0])
    assert re.fullmatch(r"[\d.]+ s", found["finetuning: tiny, three epochs"][0])


@pytest.mark.slow
@pytest.mark.interop
def test_the_peer_runs_on_the_cpu():
    rate, *_ = smoke("--only", "eager")["tiny, 32 tokens, batch 4: transformers, eager"]
    assert float(rate.replace(",", "")) > 0
