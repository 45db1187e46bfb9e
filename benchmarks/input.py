"""Speed of the input of training: ready examples, and documents that are cut every epoch.

    python benchmarks/input.py [--cores 1 16] [--tokens-per-second 1.5e6] [--copies 12]
                               [--examples 200000] [--repeats 3]

The text is that of benchmarks/dataset.py, repeated `--copies` times and built into documents and,
for each length, into examples. Then batches of 128 from windows of 10,000 are drawn in turns with
nothing behind them: from the data set alone, and as training draws them, on the first GPU or else
the CPU. For each of `--cores`, a process of its own does so that may use only so many.

It prints examples/s by the clock, the best of `--repeats`; per second of processor time, for a
machine that is busy with other things; and the seconds until the first batch. With
`--tokens-per-second`, the figure in the log of a training run, also how many times faster than that
run the input is. At last the time to find a position is taken, as on resuming: it reads sentence
lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dataset import corpus_texts
from harness import ROOT, measured, run_python

LENGTHS = (128, 512)
BATCH, WINDOW = 128, 10_000


class Rates(NamedTuple):
    """Examples per second, by the clock and of processor time; seconds until the first batch."""

    wall: float
    cpu: float
    first_batch: float


def main() -> None:
    """Runs the benchmark, or, as its own child process, the turns of one length."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cores",
        type=int,
        nargs="+",
        default=sorted({1, len(usable_cores())}),
        help="numbers of CPU cores to read with; by default 1 and all",
    )
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        help="what training takes, padding included, as its log says: the input is compared to it",
    )
    parser.add_argument("--copies", type=int, default=12, help="times the text is repeated")
    parser.add_argument("--examples", type=int, default=200_000, help="read in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--child", metavar="JSON", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        print(json.dumps(measure(**json.loads(flags.child))))
        return
    if max(flags.cores) > len(usable_cores()):
        parser.error(f"--cores: there are {len(usable_cores())}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, vocab = corpus_texts(folder)
        (folder / "corpus").mkdir()
        for number, text in enumerate(texts * flags.copies):
            (folder / "corpus" / f"{number}.txt").write_text(text)
        size = flags.copies * sum(len(text.encode()) for text in texts) / 1e6
        print(f"{size:.0f} MB of text; {len(usable_cores())} CPU cores", flush=True)
        documents = build(folder, vocab, "documents", "--segmentation", "dynamic")
        for length in LENGTHS:
            examples = build(folder, vocab, f"{length}", "--max-seq-length", str(length))
            folders = {"static": examples, "dynamic": documents}
            for cores in flags.cores:
                report(length, cores, in_child(folders, vocab, length, cores, flags), flags)
        report_finding(open_files("dynamic", documents, LENGTHS[0], vocab), LENGTHS[0])


def usable_cores() -> list[int]:
    """The CPU cores that this process may use; without numbers of their own on some systems."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def build(folder: Path, vocab: str, name: str, *flags: str) -> str:
    """Builds a data set; returns its folder."""
    output = str(folder / name)
    flags += ("--corpus-dir", str(folder / "corpus"), "--vocab-file", vocab)
    flags += ("--output-dir", output, "--num-out-files", "100")
    run_python(ROOT / "build_pretraining_dataset.py", *flags)
    size = sum(path.stat().st_size for path in Path(output).iterdir())
    print(f"{name}: {size / 1e6:.1f} MB", flush=True)
    return output


def in_child(
    folders: dict[str, str], vocab: str, length: int, cores: int, flags: argparse.Namespace
) -> dict[str, dict[str, Rates]]:
    """Calls `measure` in a process that may use only so many cores."""
    arguments = {"folders": folders, "vocab": vocab, "length": length, "cores": cores}
    arguments |= {"examples": flags.examples, "repeats": flags.repeats}
    found = measured(__file__, "--child", json.dumps(arguments))
    return {
        kind: {place: Rates(*rates) for place, rates in own.items()} for kind, own in found.items()
    }


def measure(
    folders: dict[str, str], vocab: str, length: int, cores: int, examples: int, repeats: int
) -> dict[str, dict[str, Rates]]:
    """Reads in turns; returns the best rates of each kind of data, at each place."""
    if sys.platform == "linux":  # before TensorFlow makes its threads
        os.sched_setaffinity(0, usable_cores()[:cores])
    turns: dict[tuple[str, str], list[Rates]] = {}
    for kind, folder in folders.items():
        files = open_files(kind, folder, length, vocab)
        for _ in range(repeats):
            for place, open_batches in (("alone", batches), ("device", batches_on_device)):
                # A new one each turn: it would read ahead while it is the other's.
                iterator = open_batches(files, length)
                started = time.perf_counter()
                next(iterator)
                first_batch = time.perf_counter() - started
                read(iterator, max(WINDOW, examples // 4))  # tf.data tunes itself meanwhile
                rates = Rates(*read(iterator, examples), first_batch)
                turns.setdefault((kind, place), []).append(rates)
                del iterator
                files.close()
    best: dict[str, dict[str, Rates]] = {kind: {} for kind in folders}
    for (kind, place), own in turns.items():
        walls, cpus, firsts = zip(*own, strict=True)
        best[kind][place] = Rates(max(walls), max(cpus), min(firsts))
    return best


def open_files(segmentation: str, folder: str, length: int, vocab: str) -> Any:
    """Opens a data set as training does."""
    from electra_tf2.data.input import open_training_files
    from electra_tf2.text.normalization import UNCASED
    from electra_tf2.text.vocabulary import load_vocabulary

    return open_training_files(
        f"{folder}/pretrain_data.tfrecord*",
        segmentation=segmentation,
        max_seq_length=length,
        vocabulary=load_vocabulary(vocab),
        casing=UNCASED,
        taken=("strip_accents",),
    )


def batches(files: Any, length: int, input_context: Any = None) -> Any:
    """The input of training from position 0 on."""
    from electra_tf2.data.order import Reading

    dataset = files.training_dataset(Reading(0, length, WINDOW), 0, BATCH, input_context)
    return iter(dataset) if input_context is None else dataset


def batches_on_device(files: Any, length: int) -> Iterator:
    """The same on the device of a run."""
    from electra_tf2.training.devices import make_strategy
    from electra_tf2.training.loop import distributed_iterator

    strategy = make_strategy("one_device")
    return distributed_iterator(strategy, lambda context: batches(files, length, context))


def read(iterator: Iterator, count: int) -> tuple[float, float]:
    """Reads so many examples, inside a graph as training does; returns the two rates."""
    import tensorflow as tf

    number = count // BATCH

    @tf.function(autograph=False)
    def read_all(iterator: Iterator) -> tf.Tensor:
        def one(index: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies(tf.nest.flatten(next(iterator))):
                return index + 1

        return tf.while_loop(lambda index: index < number, one, [tf.constant(0)])

    run = read_all.get_concrete_function(iterator)
    started, cpu_started = time.perf_counter(), time.process_time()
    run(iterator)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return number * BATCH / seconds, number * BATCH / cpu_seconds


def report(
    length: int, cores: int, found: dict[str, dict[str, Rates]], flags: argparse.Namespace
) -> None:
    """Prints the rates of one length, and what they are relative to."""
    print(f"length {length}, {cores} core{'s' if cores > 1 else ''}, examples/s (per CPU second)")
    for kind, places in found.items():
        alone, device = places["alone"], places["device"]
        compared = ""
        if flags.tokens_per_second:
            times = device.wall * length / flags.tokens_per_second
            compared = f"; {times:.1f} x what training takes (target 3)"
        print(
            f"  {kind:8}{alone.wall:9,.0f} ({alone.cpu:,.0f}) alone,"
            f"{device.wall:9,.0f} ({device.cpu:,.0f}) on the device, "
            f"the first batch after {device.first_batch:.2f} s{compared}"
        )
    static, dynamic = (found[kind]["alone"] for kind in ("static", "dynamic"))
    print(
        f"  dynamic is {dynamic.wall / static.wall:.2f} x as fast as static, "
        f"{dynamic.cpu / static.cpu:.2f} x by processor time (target 1)",
        flush=True,
    )


def report_finding(files: Any, length: int) -> None:
    """Prints what it takes to find a position, a few epochs ahead."""
    from electra_tf2.data.position import EpochIndex

    position = 5 * EpochIndex(files, files.rule(0, length)).num_examples(0)
    started, cpu_started = time.perf_counter(), time.process_time()
    index = EpochIndex(files, files.rule(0, length))
    epoch, offset = index.find(position)
    index.place(epoch, offset)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    print(
        f"length {length}: position {position:,} found in {wall:.2f} s ({cpu:.2f} s of processor "
        f"time, {cpu / position * 1e6:.2f} microseconds per example)"
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
