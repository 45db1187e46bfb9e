"""The speed of one pre-training step, beside what a PyTorch user would run.

    python benchmarks/pretraining_step.py

One step of ELECTRA-small on the CPU (256 x 12, generator 64 x 12, batch 16, length 128, dropout):
masking, generator, sampling, discriminator, backward pass, clipping and optimizer. The contenders
are this project's engine (with a generator that is trained, and one that isn't) and transformers'
ELECTRA classes (`pretraining_step_torch.py` says how they are run), each in a process of its own,
one after the other and around again, so that whatever else the machine does falls on all of them.
Needs `pip install .[interop]`.

Prints the median examples/s of every contender, the ratios of ours to them, and what share of the
machine's matrix-multiply rate (measured in the same run) our step reaches.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import NamedTuple

from harness import make_parser, measured, report_rates

PRECISIONS = ("float32", "bfloat16")
OURS = "electra-tf2"
STAYS = f"{OURS}, a generator that stays"
SHIPPED = ("transformers as shipped, eager", "transformers as shipped, compiled")
BEST = ("transformers at its best, eager", "transformers at its best, compiled")
CONTENDERS = (OURS, STAYS, *SHIPPED, *BEST)
MATMUL = "matrix multiplication"


class Workload(NamedTuple):
    """What every contender computes: rows of `length` tokens, `batch_size` of them per step."""

    batch_size: int
    length: int
    seconds: float


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times around (default 3)")
    parser.add_argument("--seconds", type=float, default=10, help="each measurement (default 10)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--precision", choices=PRECISIONS, help="only this one")
    parser.add_argument("--only", metavar="TEXT", default="", help="contenders with this text")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    workload = Workload(arguments.batch_size, arguments.length, arguments.seconds)
    if arguments.contender:
        rate = measure(arguments.contender, arguments.precision, workload)
        print(json.dumps(rate))
        return
    for precision in [arguments.precision] if arguments.precision else PRECISIONS:
        chosen = [name for name in CONTENDERS if arguments.only in name or name == OURS]
        report(precision, run_rounds(chosen, precision, workload, arguments.rounds), workload)


def run_rounds(
    contenders: list[str], precision: str, workload: Workload, rounds: int
) -> dict[str, list[float]]:
    """Runs each contender once per round; returns its rates (examples/s; FLOP/s of `MATMUL`)."""
    rates: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name in [MATMUL, *contenders]:
            rate = run_in_process(name, precision, workload)
            if rate is None:
                print(f"  {precision}, round {turn + 1}: {name:36s} does not run here", flush=True)
                continue
            rates.setdefault(name, []).append(rate)
            shown = f"{rate / 1e9:8.1f} GFLOP/s" if name == MATMUL else f"{rate:8.2f} examples/s"
            print(f"  {precision}, round {turn + 1}: {name:36s} {shown}", flush=True)
    return rates


def run_in_process(name: str, precision: str, workload: Workload) -> float | None:
    """Measures one contender in a fresh process; None if it is compiled and can't be.

    `torch.compile` needs a C++ compiler, which not every machine has.
    """
    command = [__file__, "--contender", name, "--precision", precision]
    command += ["--batch-size", workload.batch_size, "--length", workload.length]
    try:
        return measured(*command, "--seconds", workload.seconds)
    except SystemExit:
        if name.endswith("compiled"):
            return None
        raise


def measure(name: str, precision: str, workload: Workload) -> float:
    """Measures one contender in this process."""
    if name == MATMUL:
        return measure_matmul(precision)
    if name in (OURS, STAYS):
        from pretraining_step_ours import measure_ours

        # The generator that is named is not read: weights make no difference to the speed.
        hparams = {"init_generator": "unused", "train_generator": False} if name == STAYS else {}
        return measure_ours(precision=precision, **workload._asdict(), **hparams)
    from pretraining_step_torch import measure_peer

    return measure_peer(
        "best" if name in BEST else "shipped",
        compiled=name.endswith("compiled"),
        # The faster implementation of the two, measured on two cores.
        attention="eager" if name in BEST and precision == "bfloat16" else "sdpa",
        precision=precision,
        **workload._asdict(),
    )


def measure_matmul(precision: str) -> float:
    """The best rate of a large matrix product in either library, in FLOP/s."""
    import tensorflow as tf
    import torch

    size = 2048
    torch_matrix = torch.randn(size, size, dtype=getattr(torch, precision))
    tf_matrix = tf.cast(tf.random.normal([size, size]), precision)
    products: list[Callable[[], object]] = [
        lambda: torch_matrix @ torch_matrix,
        lambda: tf.matmul(tf_matrix, tf_matrix).numpy(),
    ]
    return 2 * size**3 / min(best_time(product) for product in products)


def best_time(function: Callable[[], object], repeats: int = 8) -> float:
    """The shortest of several runs, in seconds, after one that doesn't count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def flops_per_example(length: int) -> float:
    """Matrix-multiply operations of one example of a training step.

    A layer of width h takes 24 h² operations per token for its dense layers and 4 L h for its
    attention; the generator also projects the masked positions to the vocabulary. The backward
    pass takes twice the forward pass.
    """
    layers, embedding, vocabulary, masked = 12, 128, 30522, round(0.15 * length)
    forward = 0.0
    for hidden in (256, 64):
        per_token = 24 * hidden**2 + 4 * length * hidden
        forward += length * (layers * per_token + 2 * embedding * hidden)
    forward += masked * 2 * (64 * embedding + embedding * vocabulary) + length * 2 * 256**2
    return 3 * forward


def report(precision: str, rates: dict[str, list[float]], workload: Workload) -> None:
    """Prints the medians and the ratios."""
    print(f"\n{precision}: ELECTRA-small, batch {workload.batch_size}, length {workload.length}")
    contenders = {name: rates[name] for name in CONTENDERS if name in rates}
    medians = report_rates(contenders, "examples/s", digits=2)
    ours = medians[OURS]
    for label, group in (("as shipped", SHIPPED), ("at its best", BEST)):
        fastest = max((medians[name] for name in group if name in medians), default=None)
        if fastest:
            print(f"  ours to transformers {label}, the faster of the two: {ours / fastest:.2f}")
    if STAYS in medians:
        print(f"  a step whose generator stays takes {ours / medians[STAYS]:.2f} of the time")
    rate = max(rates[MATMUL])
    share = ours * flops_per_example(workload.length) / rate
    print(f"  our share of the machine's {rate / 1e9:.0f} GFLOP/s ({MATMUL}): {share:.0%}\n")


if __name__ == "__main__":
    main()
