"""What it costs to compute on several replicas: the engine's own overhead.

    python benchmarks/distribution.py

ELECTRA-small (256 x 12, generator 64 x 12), length 128, a global batch of 32 rows, on the CPU: on
one device, on two replicas of one process (the CPU split in two), and on two workers that talk over
localhost. All have the same cores, so the ideal is the speed of one device, and what is missing is
overhead: half batches, the sum of the gradients, and an update on every replica. Each contender
runs in processes of its own, one after the other and around again.

Prints the median examples/s of every contender and its ratio to one device, and where a step's time
goes.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from harness import environment, make_parser

ONE, REPLICAS, WORKERS = "one device", "two replicas", "two workers"
PROCESSES = {ONE: 1, REPLICAS: 1, WORKERS: 2}
STEP, REDUCE, UPDATE = "whole step", "sum of gradients", "clip and update"
_STEPS_PER_CALL = 2


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times around (default 3)")
    parser.add_argument("--seconds", type=float, default=20, help="each measurement (default 20)")
    parser.add_argument("--batch-size", type=int, default=32, help="global (default 32)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row (default 128)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--contender", choices=PROCESSES, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.contender:
        print(json.dumps(measure(flags)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PROCESSES}
    for turn in range(flags.rounds):
        for name in PROCESSES:
            found[name].append(run_in_processes(name, flags))
            rate = flags.batch_size / found[name][-1][STEP]
            print(f"  round {turn + 1}: {name:14s} {rate:7.2f} examples/s", flush=True)
    report(found, flags)


def run_in_processes(name: str, flags: argparse.Namespace) -> dict[str, float]:
    """Measures a contender in fresh processes; returns the seconds of a step's parts."""
    command = [sys.executable, __file__, "--contender", name, "--precision", flags.precision]
    command += ["--seconds", str(flags.seconds), "--batch-size", str(flags.batch_size)]
    command += ["--length", str(flags.length)]
    children = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for environment in environments(PROCESSES[name])
    ]
    done = [child.communicate() for child in children]
    for child, (_, message) in zip(children, done, strict=True):
        if child.returncode:
            sys.exit(f"error: {name} failed.\n{message[-2000:]}")
    return json.loads(done[0][0].splitlines()[-1])


def environments(count: int) -> list[dict[str, str]]:
    """Environment variables of each process."""
    if count == 1:
        return [environment()]
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    cluster = {"worker": workers}
    return [environment(TF_CONFIG=json.dumps({"cluster": cluster, "task": t})) for t in tasks]


def measure(flags: argparse.Namespace) -> dict[str, float]:
    """Returns the median seconds of a step and of its parts, in this process."""
    import tensorflow as tf

    from configure_pretraining import PretrainingConfig
    from electra_tf2.training.devices import open_devices

    if flags.contender == REPLICAS:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
        )
    distribution = {ONE: "one_device", REPLICAS: "mirrored", WORKERS: "multi_worker"}
    config = PretrainingConfig(
        "benchmark",
        "unused",
        distribution=distribution[flags.contender],
        max_seq_length=flags.length,
        train_batch_size=flags.batch_size,
    )
    strategy, workers = open_devices(config)
    calls = step_and_parts(strategy, config, flags.precision)
    return {
        name: median_seconds(call, flags.seconds if name == STEP else flags.seconds / 4, workers)
        for name, call in calls.items()
    }


def step_and_parts(strategy, config, precision: str) -> dict[str, Callable[[], None]]:
    """Returns name -> what runs a few whole steps, or the same part of a few steps."""
    import tensorflow as tf
    from pretraining_step_ours import make_objective, random_batches

    from electra_tf2.training.loop import StepLoop, distributed_iterator
    from electra_tf2.training.optimizers import AdamW, OptimizerSettings
    from electra_tf2.training.schedule import PolynomialDecay
    from electra_tf2.training.step import ReplicaStep, all_reduce_sum, replica_id

    objective = make_objective(strategy, config, precision)
    optimizer = AdamW(strategy, objective.named_variables(), OptimizerSettings())
    step = ReplicaStep(objective, optimizer)
    schedule = PolynomialDecay(5e-4, 10**6, 0, 1.0, 0.0)
    loop = StepLoop(strategy, step.train, schedule, stop_at_nonfinite=True)
    rows = config.train_batch_size // strategy.num_replicas_in_sync
    iterator = distributed_iterator(
        strategy, lambda context: random_batches(rows, config.max_seq_length, config.vocab_size)
    )

    def gradients():
        return [tf.ones(v.shape) * 1e-9 for v in optimizer.variables.variables]

    def reduce():
        return tf.add_n([g[(0,) * len(g.shape)] for g in all_reduce_sum(gradients())])

    def update():
        values = gradients()
        norm = step.gradient_norm(values)
        optimizer.apply(replica_id(), values, norm, tf.constant(1e-9))
        return norm

    def repeated(part):
        @tf.function(autograph=False)
        def run():
            for _ in range(_STEPS_PER_CALL):
                result = strategy.run(part)
            return strategy.experimental_local_results(result)[0]

        return lambda: run().numpy()

    return {
        STEP: lambda: loop(iterator, 0, _STEPS_PER_CALL).loss.numpy(),
        REDUCE: repeated(reduce),
        UPDATE: repeated(update),
    }


def median_seconds(call: Callable[[], None], seconds: float, workers) -> float:
    """Returns the median seconds of a step, over as many calls as all workers agree on."""
    call()  # compiles
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    count = int(workers.gather([max(3, int(seconds / once))])[0, 0])
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / _STEPS_PER_CALL


def report(found: dict[str, list[dict[str, float]]], flags: argparse.Namespace) -> None:
    """Prints medians over the rounds, the ratios to one device, and the breakdown."""
    middle = {
        name: {part: statistics.median(r[part] for r in rounds) for part in rounds[0]}
        for name, rounds in found.items()
    }
    print(f"\nELECTRA-small, {flags.batch_size} x {flags.length} tokens, {flags.precision}")
    for name, parts in middle.items():
        rate, ratio = flags.batch_size / parts[STEP], middle[ONE][STEP] / parts[STEP]
        print(f"  {name:14s} {rate:7.2f} examples/s, {ratio:.2f} x one device")
        rest = parts[STEP] - parts[REDUCE] - parts[UPDATE]
        print(
            f"  {'':14s} a step: {parts[STEP] * 1e3:.0f} ms = forward, backward and data "
            f"{rest * 1e3:.0f}, {REDUCE} {parts[REDUCE] * 1e3:.0f}, {UPDATE} "
            f"{parts[UPDATE] * 1e3:.0f}"
        )


if __name__ == "__main__":
    main()
