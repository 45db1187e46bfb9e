"""Speed of reading training data: documents that are cut every epoch against ready examples.

    python benchmarks/segmentation.py [--copies 12] [--examples 100000] [--repeats 3]

The text is that of benchmarks/dataset.py, repeated `--copies` times and built into documents and,
for each length, into examples. Then the input of training (batches of 128, windows of 10,000) is
read with nothing behind it, in turns, in one process: examples/s by the clock, of the best of
`--repeats`, and examples per second of processor time, for a machine that is busy with other
things. At last the time to find a position is taken, as on resuming: it reads sentence lengths.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dataset import ROOT, corpus_texts

LENGTHS = (128, 512)
BATCH, WINDOW = 128, 10_000


class Rates(NamedTuple):
    """Examples per second: by the clock, and of processor time."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--copies", type=int, default=12, help="times the text is repeated")
    parser.add_argument("--examples", type=int, default=100_000, help="read in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts, vocab = corpus_texts(folder)
        (folder / "corpus").mkdir()
        for number, text in enumerate(texts * flags.copies):
            (folder / "corpus" / f"{number}.txt").write_text(text)
        size = flags.copies * sum(len(text.encode()) for text in texts) / 1e6
        print(f"{size:.0f} MB of text; {os.cpu_count()} CPUs", flush=True)
        documents = build(folder, vocab, "documents", "--segmentation", "dynamic")
        for length in LENGTHS:
            examples = build(folder, vocab, f"{length}", "--max-seq-length", str(length))
            files = {
                "static": open_files("static", examples, length, vocab),
                "dynamic": open_files("dynamic", documents, length, vocab),
            }
            compare(files, length, flags)
        report_finding(files["dynamic"], LENGTHS[0])


def build(folder: Path, vocab: str, name: str, *flags: str) -> str:
    """Builds a data set; returns its folder."""
    output = str(folder / name)
    command = [sys.executable, str(ROOT / "build_pretraining_dataset.py"), *flags]
    command += ["--corpus-dir", str(folder / "corpus"), "--vocab-file", vocab]
    command += ["--output-dir", output, "--num-out-files", "100"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    size = sum(path.stat().st_size for path in Path(output).iterdir())
    print(f"{name}: {size / 1e6:.1f} MB", flush=True)
    return output


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


def batches(files: Any, length: int) -> Iterator:
    """The input of training from position 0 on."""
    dataset = files.training_dataset(
        max_seq_length=length,
        global_batch_size=BATCH,
        seed=0,
        position=0,
        shuffle_buffer_size=WINDOW,
    )
    return iter(dataset)


def compare(files: dict[str, Any], length: int, flags: argparse.Namespace) -> None:
    """Reads in turns and prints the rates."""
    rates: dict[str, list[Rates]] = {name: [] for name in files}
    for _ in range(flags.repeats):
        for name, own in files.items():
            # A new one each turn: it would read ahead while it is the other's.
            iterator = batches(own, length)
            read(iterator, WINDOW)  # the first window has to be filled
            rates[name].append(read(iterator, flags.examples))
            del iterator
    best = {
        name: Rates(max(r.wall for r in own), max(r.cpu for r in own))
        for name, own in rates.items()
    }
    for name, (wall, cpu) in best.items():
        print(f"length {length}, {name}: {wall:,.0f} examples/s, {cpu:,.0f} per CPU second")
    static, dynamic = best["static"], best["dynamic"]
    print(
        f"length {length}: dynamic reads {dynamic.wall / static.wall:.2f} x as fast as static, "
        f"{dynamic.cpu / static.cpu:.2f} x by processor time (target 1)",
        flush=True,
    )


def read(iterator: Iterator, count: int) -> Rates:
    """Reads so many examples, inside a graph as training does."""
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
    return Rates(number * BATCH / seconds, number * BATCH / cpu_seconds)


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
