"""This program on your GPU: whether it computes what the CPU does, and how fast.

    python benchmarks/gpu.py [--quick] [--conformance]

First two training steps in float32 (without TF32) are compared with the CPU's. Then it measures,
in bfloat16, with dropout, on one GPU: training steps of ELECTRA-small and -base at 128 and 512
tokens, beside transformers + PyTorch (sdpa, fused AdamW, only masked positions projected to the
vocabulary; compiled, and as it is); the input pipeline alone; and fine-tuning ELECTRA-small by
run_finetuning.py for three epochs of a table of CoLA's size. Everything runs in a process of its
own. Results are printed as they come, and at the end as tables for docs/results.md. What fails or
isn't reached in time is said in its row. The exit code is 1 unless all comparisons are right.

The peer needs transformers and PyTorch (`pip install .[interop]`); without them it is left out.

MFU is the share of the rate of large matrix products, measured at the start, that the model's own
matrix products take. First step: tracing and compiling, after TensorFlow is loaded and the networks
are built; what is started again finds the programs that were compiled before. Beside compiled
programs: operations of a step that TensorFlow starts one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import harness

OURS, AGAIN = "electra-tf2", "electra-tf2, started again"
COMPILED, EAGER = "transformers, compiled", "transformers, eager"
SENTENCES = 8551  # CoLA's training set
CHECKS = ("correctness", "conformance")
LEAST_SECONDS = 5  # with less time left, no process is started
Result = dict[str, Any]


class Workload(NamedTuple):
    """What is trained: the batch fits a GPU of 80 GB, with room to spare."""

    size: str
    length: int
    batch_size: int

    @property
    def title(self) -> str:
        return f"{self.size}, {self.length} tokens, batch {self.batch_size}"


WORKLOADS = [
    Workload("small", 128, 128),
    Workload("base", 128, 128),
    Workload("base", 512, 64),
    Workload("small", 512, 128),
]
TOY = Workload("tiny", 32, 4)


class Job(NamedTuple):
    """What one process does: a function of gpu_contenders.py, and its arguments."""

    kind: str
    title: str
    arguments: Result = {}
    who: str = OURS

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.title}: {self.who}".removesuffix(f": {OURS}")


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one job."""
    flags = parse_flags(argv)
    if flags.child:
        from gpu_contenders import MEASURED

        with contextlib.redirect_stdout(sys.stderr):
            found = MEASURED[flags.child[0]](**json.loads(flags.child[1]))
        print(json.dumps(found))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no child is left behind
    deadline = time.monotonic() + 60 * flags.minutes
    machine = run_job(Job("machine", ""), flags, 60 * flags.minutes)
    if "error" in machine:
        sys.exit(f"error: TensorFlow does not run here: {machine['error']}")
    if not machine["gpu"] and not flags.cpu_smoke:
        sys.exit(
            "error: TensorFlow sees no GPU. Install its CUDA libraries (pip install "
            "'electra-tf2[cuda]') and look at nvidia-smi; --cpu-smoke tries this script on the CPU."
        )
    peer = find_peer(flags)
    machine["versions"] = ", ".join(filter(None, (machine["versions"], peer)))
    print(headline(machine), flush=True)
    with tempfile.TemporaryDirectory() as cache:
        found = [job for job in plan(flags, cache) if peer or job.kind != "peer"]
        done = do_jobs([job for job in found if flags.only in job.name], flags, machine, deadline)
    if not all(result.get("right") for job, result in done if job.kind in CHECKS):
        sys.exit(1)


def do_jobs(
    jobs: list[Job], flags: argparse.Namespace, machine: Result, deadline: float
) -> list[tuple[Job, Result]]:
    """Does the jobs, prints each one's result, and the tables even if it is stopped."""
    done: list[tuple[Job, Result]] = []
    try:
        for job in jobs:
            done.append((job, run_job(job, flags, deadline - time.monotonic())))
            print(f"[{len(done)}/{len(jobs)}] {job.name}: {shown(done[-1][1])}", flush=True)
    finally:
        print_tables(done, machine)
    return done


def parse_flags(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = harness.make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter ones: 8 minutes")
    parser.add_argument("--minutes", type=float, help="at most (default 15, with --quick 8)")
    parser.add_argument("--seconds", type=float, help="each rate (default 10, with --quick 5)")
    parser.add_argument("--batch-size", type=int, help="of all training steps")
    parser.add_argument("--only", metavar="TEXT", default="", help="what has this in its name")
    parser.add_argument("--conformance", action="store_true", help="run tests/conformance too")
    parser.add_argument("--no-peer", action="store_true", help="without transformers")
    parser.add_argument(
        "--peer-python",
        metavar="COMMAND",
        default=sys.executable,
        help="the Python that has transformers and PyTorch, if it isn't this one",
    )
    parser.add_argument(
        "--cpu-smoke", action="store_true", help="try the script: everything tiny, on the CPU"
    )
    parser.add_argument("--child", nargs=2, metavar="JSON", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    flags.minutes = flags.minutes or (8 if flags.quick else 15)
    flags.seconds = flags.seconds or (0.2 if flags.cpu_smoke else 5 if flags.quick else 10)
    return flags


def plan(flags: argparse.Namespace, cache: str) -> list[Job]:
    """Returns what is to be done, what matters most first.

    Args:
        flags: of the benchmark.
        cache: an empty folder, for compiled programs.
    """
    toy = flags.cpu_smoke
    workloads = [TOY] if toy else WORKLOADS
    if flags.batch_size:
        workloads = [workload._replace(batch_size=flags.batch_size) for workload in workloads]
    first, *others = workloads
    jobs = [Job("correctness", "tiny", {"size": "tiny", "length": 32, "batch_size": 8})]
    if not toy:
        jobs.append(Job("correctness", "small", {"size": "small", "length": 128, "batch_size": 8}))
    if flags.conformance:
        jobs.append(Job("conformance", "tests/conformance"))
    jobs += [training_job(first, who, flags, cache) for who in (OURS, AGAIN, COMPILED, EAGER)]
    drawn = {"length": first.length, "batch_size": first.batch_size, "seconds": flags.seconds}
    for segmentation in ("static", "dynamic"):
        arguments = drawn | {"segmentation": segmentation, "size": 100_000 if toy else 64_000_000}
        jobs.append(Job("input", segmentation, arguments))
    arguments = {"size": first.size, "sentences": 64 if toy else SENTENCES, "cache": cache}
    title = f"{first.size}, three epochs"
    times = (OURS,) if toy else (OURS, AGAIN)
    jobs += [Job("finetuning", title, arguments, who) for who in times]
    if flags.quick:
        return [*jobs, *(training_job(load, OURS, flags, cache) for load in others[:2])]
    for contenders in ((OURS, COMPILED), (EAGER,)):
        jobs += [training_job(load, who, flags, cache) for load in others for who in contenders]
    return jobs


def training_job(workload: Workload, who: str, flags: argparse.Namespace, cache: str) -> Job:
    """Returns the job of one contender's training steps."""
    toy = flags.cpu_smoke
    arguments = workload._asdict() | {"seconds": flags.seconds, "n_steps": 2 if toy else 20}
    if who in (OURS, AGAIN):
        return Job("ours", workload.title, arguments | {"xla": toy or "auto", "cache": cache}, who)
    arguments |= {"compiled": who == COMPILED, "device": "cpu" if toy else "cuda"}
    return Job("peer", workload.title, arguments, who)


def find_peer(flags: argparse.Namespace) -> str | None:
    """Returns the versions of transformers and PyTorch; None, and says so, if they don't run."""
    if flags.no_peer:
        return None
    found = run_job(Job("peer machine", ""), flags, 60 * flags.minutes, report=False)
    if "error" not in found and not found["gpu"] and not flags.cpu_smoke:
        found = {"error": "PyTorch sees no GPU"}
    if "error" in found:
        print(f"transformers + PyTorch are left out: {found['error']}", flush=True)
        return None
    return found["versions"]


def run_job(job: Job, flags: argparse.Namespace, seconds: float, report: bool = True) -> Result:
    """Does a job in a fresh process.

    Args:
        job: the job.
        flags: of the benchmark.
        seconds: after which it is ended.
        report: whether to print the end of what it said if it fails.

    Returns:
        Its results, or "error" and why there are none.
    """
    if seconds < LEAST_SECONDS:
        return {"error": "not started, out of time"}
    python = shlex.split(flags.peer_python) if job.kind.startswith("peer") else [sys.executable]
    command = [*python, __file__, "--child", job.kind, json.dumps(job.arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # In a session of its own, so that the processes that it starts can be ended with it.
    try:
        process = subprocess.Popen(
            command, env=environment(job, flags), start_new_session=True, **pipes
        )
    except OSError as error:
        return {"error": str(error)}
    try:
        output, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds:.0f} s, out of time"}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode == 0:
        return json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    if report:
        print("\n".join(said.splitlines()[-15:]), file=sys.stderr, flush=True)
    return {"error": reason(process.returncode, said)}


def environment(job: Job, flags: argparse.Namespace) -> dict[str, str]:
    """Returns the variables of a job's process."""
    variables = harness.environment()
    if flags.cpu_smoke:
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    if job.kind in CHECKS:
        variables["NVIDIA_TF32_OVERRIDE"] = "0"
    return variables


def reason(code: int, said: str) -> str:
    """Returns in a few words why a process failed, from its exit code and what it said."""
    if any(sign in said for sign in ("RESOURCE_EXHAUSTED", "ResourceExhausted", "out of memory")):
        return "out of memory"
    if code < 0:
        return f"ended by signal {-code}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:120].replace("|", "/") if lines else f"exit code {code}"


def shown(result: Result) -> str:
    """Returns the figures of a job as they are printed when it is done."""
    if "error" in result:
        return result["error"]
    if "differences" in result:
        steps = [", ".join(f"{n} {v:.1e}" for n, v in d.items()) for d in result["differences"]]
        return f"{verdict(result)} ({'; '.join(steps)})"
    if "summary" in result:
        return f"{verdict(result)} ({result['summary']})"
    if "seconds" in result:
        return f"{result['seconds']:.1f} s"
    more = [f"first step {result['first']:.1f} s"] if "first" in result else []
    more += [in_gib(result.get("memory"))]
    return ", ".join(filter(None, [f"{result['rate']:,.1f} examples/s", *more]))


def headline(machine: Result) -> str:
    """Returns a line on what is measured on."""
    peak = machine["peak"] / 1e12
    return f"{machine['gpu'] or 'CPU'}; {machine['versions']}; {peak:,.2f} TFLOP/s in bfloat16"


def verdict(result: Result) -> str:
    """Returns what a check found."""
    return "right" if result["right"] else "WRONG"


def in_gib(memory: float | None) -> str:
    """Returns memory in GiB as the tables show it; nothing if it wasn't measured."""
    return f"{memory:.1f} GiB" if memory else ""


def print_tables(done: list[tuple[Job, Result]], machine: Result) -> None:
    """Prints the results for docs/results.md."""
    training = [(job, result) for job, result in done if job.kind in ("ours", "peer")]
    checks = [(job, result) for job, result in done if job.kind in CHECKS]
    others = [(job, result) for job, result in done if job.kind in ("input", "finetuning")]
    peak = machine["peak"]
    print(f"\n{headline(machine)}")
    if training:
        print(
            "\n| | examples/s | tokens/s | MFU | first step | memory | beside compiled programs "
            "| ours is |\n|---|---|---|---|---|---|---|---|"
        )
    ours = {job.title: result.get("rate") for job, result in training if job.who == OURS}
    for title in dict.fromkeys(job.title for job, _ in training):
        for job, result in training:
            if job.title == title:
                print(training_row(job, result, ours.get(title), peak))
    if others or checks:
        print("\n| | |\n|---|---|")
    for job, result in [*others, *checks]:
        print(f"| {job.name} | {shown(result)} |")


def training_row(job: Job, result: Result, ours: float | None, peak: float) -> str:
    """Returns a contender's row."""
    from gpu_contenders import flops_of_example

    cells = [f"{job.title}: {job.who}"]
    if "error" in result:
        cells += [result["error"], *[""] * 6]
    else:
        rate, length = result["rate"], job.arguments["length"]
        flops = flops_of_example(job.arguments["size"], length)
        operations = f"{result['operations']:,}" if "operations" in result else ""
        ratio = f"**{ours / rate:.2f} ×**" if ours and job.kind == "peer" else ""
        cells += [f"{rate:,.0f}", f"{rate * length:,.0f}", f"{rate * flops / peak:.1%}"]
        cells += [f"{result['first']:.0f} s", in_gib(result["memory"])]
        cells += [operations, ratio]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
