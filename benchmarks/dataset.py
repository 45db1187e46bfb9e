"""Speed of building pre-training data: against plain Python, of two processes, of kinds of files.

    python benchmarks/dataset.py [--copies 16] [--repeats 1]
    python benchmarks/dataset.py --kinds [--copies 1] [--repeats 3]

What is compared, in one run on one machine:

  * the plain-Python path, one process: the reference tokenizer, examples made of lists, a
    `tf.train.Example` each, written with `tf.io.TFRecordWriter`. It does what the official program
    does; it runs on a sample.
  * `build_pretraining_dataset.py` with one process and with two, on many files and on a single
    file with the same text.

With `--kinds`, examples are made of the same documents as plain text, packed, as JSON lines, CSV,
Parquet and Arrow, in one process and in turns, without start-up and writing: the processor time of
each beside that of plain text (target: at most 1.2).

The text is that of ../shared/data/corpus where it lies beside the repository (vocabulary
vocab.txt), else docstrings of the standard library. It is repeated `--copies` times. Figures
"without start-up" are between a quarter of the copies and all of them, (all - quarter) / (time of
all - time of quarter), so that the loading of TensorFlow drops out. Processor time, of all
processes together, tells what an idle machine would do where this one is busy with other things.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import gzip
import importlib
import json
import lzma
import os
import pkgutil
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from harness import ROOT, SHARED

MAX_SEQ_LENGTH = 128
NUM_SHARDS = 1000
SAMPLE_BYTES = 2_000_000


class Seconds(NamedTuple):
    """What a run took: by the clock, and of the processors."""

    wall: float
    cpu: float


class Rates(NamedTuple):
    """MB/s: of the whole run, without the start-up, and the latter per second of processor time."""

    whole: float
    marginal: float
    per_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--copies", type=int, default=16, help="times the text is repeated")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each; the best counts")
    parser.add_argument("--kinds", action="store_true", help="compare kinds of files, no more")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts, vocab = corpus_texts(Path(folder))
        if flags.kinds:
            compare_kinds(Path(folder), texts * flags.copies, vocab, flags.repeats)
            return
        size = sum(len(text.encode()) for text in texts) / 1e6
        print(f"{len(texts)} files, {size:.1f} MB; {flags.copies} copies; {os.cpu_count()} CPUs")
        plain = plain_python_rates(texts, vocab, Path(folder))
        print(f"plain Python: {plain.marginal:.2f} MB/s, {plain.per_cpu:.2f} MB per CPU second")
        rates = {}
        for layout in ("many files", "one file"):
            for processes in (1, 2):
                times = builder_times(Path(folder), texts, vocab, layout, processes, flags)
                rates[layout, processes] = report(layout, processes, size, times, flags.copies)
        for layout in ("many files", "one file"):
            report_ratios(layout, plain, rates[layout, 1], rates[layout, 2])


def compare_kinds(folder: Path, texts: list[str], vocab: str, repeats: int) -> None:
    """Prints what each kind of file takes, and how often as much as plain text."""
    from electra_tf2.data.building.builders import RecordBuilder
    from electra_tf2.data.building.corpus import TextCorpus
    from electra_tf2.data.sources.found import find_files
    from electra_tf2.text.tokenizer import make_tokenizer
    from electra_tf2.text.vocabulary import load_vocabulary

    documents = [document for text in texts for document in text.split("\n\n")]
    size = sum(len(document.encode()) + 2 for document in documents) / 1e6
    names = write_kinds(folder / "kinds", documents)
    builder = RecordBuilder(make_tokenizer(load_vocabulary(vocab)), MAX_SEQ_LENGTH)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats + 1):  # the first round warms up
        for name in names:
            started = time.process_time()
            found, _ = find_files(str(folder / "kinds" / name), "--corpus-dir")
            corpus = TextCorpus(found, MAX_SEQ_LENGTH)
            corpus.check()
            passages = (passage for task in corpus.tasks() for passage in corpus.passages(task))
            for _ in builder.parts(passages):
                pass
            seconds[name].append(time.process_time() - started)
    print(f"{len(documents):,} documents, {size:.1f} MB of text")
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, time_ in best.items():
        ratio = time_ / best["a.txt"]
        print(f"{name:<14} {size / time_:6.2f} MB per CPU second, {ratio:.2f} x the time of text")


def write_kinds(folder: Path, documents: list[str]) -> list[str]:
    """Writes the documents as files of every kind; returns their names, plain text first."""
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet
    import zstandard

    folder.mkdir()
    packers = {
        "": bytes,
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    rows = [[str(number), document] for number, document in enumerate(documents)]
    lines = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in rows).encode()
    for ending, pack in packers.items():
        (folder / f"a.txt{ending}").write_bytes(pack("\n\n".join(documents).encode()))
        (folder / f"a.jsonl{ending}").write_bytes(pack(lines))
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file, delimiter=separator).writerows([["id", "text"], *rows])
    table = pyarrow.table({"id": [row[0] for row in rows], "text": documents})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=1000)
    pyarrow.feather.write_feather(table, str(folder / "a.feather"), chunksize=1000)
    with pyarrow.ipc.new_stream(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    names = sorted(path.name for path in folder.iterdir())
    return ["a.txt", *(name for name in names if name != "a.txt")]


def report(
    layout: str, processes: int, size: float, times: dict[int, Seconds], copies: int
) -> Rates:
    """Prints and returns the rates of one way to run the builder."""
    few, all_ = times[min(times)], times[copies]
    more = size * (copies - min(times))
    rates = Rates(
        size * copies / all_.wall, more / (all_.wall - few.wall), more / (all_.cpu - few.cpu)
    )
    print(
        f"{layout}, {processes} process{'es' if processes > 1 else ''}: {all_.wall:.1f} s for "
        f"{size * copies:.0f} MB: {rates.whole:.2f} MB/s with start-up, {rates.marginal:.2f} "
        f"without; {rates.per_cpu:.2f} MB per CPU second",
        flush=True,
    )
    return rates


def report_ratios(layout: str, plain: Rates, one: Rates, two: Rates) -> None:
    """Prints what the targets are about."""
    print(
        f"{layout}: one process is {one.marginal / plain.marginal:.1f} x plain Python "
        f"({one.per_cpu / plain.per_cpu:.1f} x by processor time; target 12);\n"
        f"  two processes are {two.marginal / one.marginal:.2f} x one without start-up, "
        f"{two.whole / one.whole:.2f} x with it (target 1.8); by processor time two idle CPUs "
        f"would give {2 * two.per_cpu / one.per_cpu:.2f} x"
    )


def builder_times(
    folder: Path,
    texts: list[str],
    vocab: str,
    layout: str,
    processes: int,
    flags: argparse.Namespace,
) -> dict[int, Seconds]:
    """What whole runs of the program take, by number of copies."""
    times = {}
    for copies in (max(1, flags.copies // 4), flags.copies):
        corpus, output = folder / "corpus", folder / "output"
        shutil.rmtree(corpus, ignore_errors=True)
        corpus.mkdir()
        if layout == "many files":
            for number in range(copies):
                for index, text in enumerate(texts):
                    (corpus / f"{number}-{index}.txt").write_text(text)
        else:
            with open(corpus / "all.txt", "w") as file:
                for text in texts * copies:
                    file.write(text + "\n")
        command = [
            *[sys.executable, str(ROOT / "build_pretraining_dataset.py"), "--overwrite"],
            *["--corpus-dir", str(corpus), "--vocab-file", vocab, "--output-dir", str(output)],
            *["--num-processes", str(processes), "--num-out-files", str(NUM_SHARDS)],
        ]
        runs = [run_timed(command) for _ in range(flags.repeats)]
        times[copies] = Seconds(min(run.wall for run in runs), min(run.cpu for run in runs))
    return times


def run_timed(command: list[str]) -> Seconds:
    """Runs a program and returns what it and its processes took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def plain_python_rates(texts: list[str], vocab: str, folder: Path) -> Rates:
    """The rates of the plain-Python path on a sample."""
    import tensorflow as tf

    from electra_tf2.text.tokenizer import make_tokenizer
    from electra_tf2.text.vocabulary import load_vocabulary

    vocabulary = load_vocabulary(vocab)
    tokenizer = make_tokenizer(vocabulary, implementation="reference")
    share = SAMPLE_BYTES / sum(map(len, texts))
    lines = [line for text in texts for line in text[: int(len(text) * share)].split("\n")]
    (folder / "plain").mkdir()
    started, cpu_started = time.perf_counter(), time.process_time()
    writers = [
        tf.io.TFRecordWriter(str(folder / "plain" / f"{index}")) for index in range(NUM_SHARDS)
    ]
    written = 0
    for first, second in plain_python_examples(lines, tokenizer):
        record = plain_python_record(first, second, vocabulary.cls_id, vocabulary.sep_id)
        writers[written % NUM_SHARDS].write(record)
        written += 1
    for writer in writers:
        writer.close()
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    size = sum(len(line.encode()) + 1 for line in lines) / 1e6
    return Rates(size / wall, size / wall, size / cpu)


def plain_python_examples(lines, tokenizer):
    """Yields pairs of segments, line by line as the official program reads them."""
    stream = random.Random(0)
    gathered, target = [], MAX_SEQ_LENGTH
    for line in [*lines, ""]:
        line = line.strip()
        length = sum(map(len, gathered))
        if line:
            gathered.append(tokenizer.encode(line))
            length += len(gathered[-1])
        if length < target and (line or not length):
            continue
        limit = 100_000 if stream.random() < 0.1 else (target - 3) // 2
        first, second = [], []
        for ids in gathered:
            if (
                not first
                or len(first) + len(ids) < limit
                or (not second and len(first) < limit and stream.random() < 0.5)
            ):
                first += ids
            else:
                second += ids
        first = first[: MAX_SEQ_LENGTH - 2]
        yield first, second[: max(0, MAX_SEQ_LENGTH - len(first) - 3)]
        gathered = []
        short = stream.random() < 0.05
        target = stream.randint(5, MAX_SEQ_LENGTH) if short else MAX_SEQ_LENGTH


def plain_python_record(first: list[int], second: list[int], cls_id: int, sep_id: int) -> bytes:
    """Serializes an example with TensorFlow's message classes."""
    import tensorflow as tf

    ids = [cls_id, *first, sep_id]
    segments = [0] * len(ids)
    if second:
        ids += [*second, sep_id]
        segments += [1] * (len(second) + 1)
    padding = [0] * (MAX_SEQ_LENGTH - len(ids))
    values = {
        "input_ids": ids + padding,
        "input_mask": [1] * len(ids) + padding,
        "segment_ids": segments + padding,
    }
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def corpus_texts(folder: Path) -> tuple[list[str], str]:
    """The texts of the corpus, and the path of a vocabulary."""
    if SHARED.is_dir():
        paths = sorted((SHARED / "corpus" / "train").iterdir())
        return [path.read_text() for path in paths], str(SHARED / "vocab.txt")
    texts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules():
            if module.name in sys.stdlib_module_names and not module.name.startswith("_"):
                try:
                    texts.append(docstrings(importlib.import_module(module.name)))
                except Exception:  # modules of other systems
                    continue
    text = "\n\n".join(texts)
    pieces = {piece for word in text.lower().split() for piece in (word, *word, "##" + word[-1])}
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join([*special, *sorted(pieces)[:30000]]) + "\n")
    return [text] * max(1, 4_000_000 // len(text)), str(vocab)


def docstrings(module) -> str:
    """The docstrings of a module, blank lines between."""
    owners = [module, *vars(module).values()]
    return "\n\n".join(
        doc for doc in (getattr(owner, "__doc__", None) for owner in owners) if isinstance(doc, str)
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
