"""Peak memory of a training step and of the data builders, on the CPU.

    python benchmarks/memory.py [--data-dir DIR] [--batch-size 4]

Each figure is the largest resident set (`ru_maxrss`) of a process of its own: TensorFlow, the
weights with their slots and the activations. A training step is one of ELECTRA-small and ELECTRA-
base in float32, at 128 and at 512 tokens, with and without `recompute`; the few rows of the batch
are the same for all.

The builders, `build_vocabulary.py` and `build_pretraining_dataset.py`, run in one process on a
corpus and on ten times as much: DIR/corpus and ten copies of it; without --data-dir, text that is
generated, all of it different, of words that were drawn once. They read a corpus in pieces, so that
their peak should not depend on its size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import string
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import make_parser, measured

SIZES = ("small", "base")
LENGTHS = (128, 512)
MORE = 10  # times the corpus
GENERATED_BYTES = 20_000_000
GENERATED_WORDS = 50_000
VOCAB_SIZE = 8192
# ru_maxrss is in KiB, on macOS in bytes.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one measurement."""
    parser = make_parser(__doc__)
    parser.add_argument("--data-dir", type=Path, help="with a folder `corpus` of text files")
    parser.add_argument("--batch-size", type=int, default=4, help="of a step (default 4)")
    parser.add_argument("--only", choices=("steps", "builders"), help="only these")
    parser.add_argument("--child", nargs=2, metavar="JSON", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.child:
        name, arguments = flags.child
        with contextlib.redirect_stdout(sys.stderr):
            MEASURED[name](**json.loads(arguments))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT)
        return
    print(f"TensorFlow and Keras alone: {in_mb(peak('nothing'))}", flush=True)
    if flags.only != "builders":
        report_steps(flags.batch_size)
    if flags.only != "steps":
        with tempfile.TemporaryDirectory() as folder:
            report_builders(Path(folder), flags.data_dir)


def peak(name: str, **arguments: object) -> int:
    """Runs a measurement in a fresh process; returns the process's peak memory in bytes.

    This process stays small: on Linux a child's figure begins with that of its parent.
    """
    flags = ("--child", name, json.dumps(arguments))
    return measured(__file__, *flags, CUDA_VISIBLE_DEVICES="-1")


def report_steps(batch_size: int) -> None:
    """Prints the peaks of training steps."""
    print(f"\nA training step of {batch_size} examples, float32")
    print(f"  {'':6} {'tokens':>6} {'peak':>10} {'recompute':>10} {'ratio':>6}")
    for size in SIZES:
        for length in LENGTHS:
            kept, recomputed = (
                peak("step", size=size, length=length, batch_size=batch_size, recompute=recompute)
                for recompute in (False, True)
            )
            print(
                f"  {size:6} {length:6} {in_mb(kept):>10} {in_mb(recomputed):>10} "
                f"{recomputed / kept:6.2f}",
                flush=True,
            )


def report_builders(folder: Path, data_dir: Path | None) -> None:
    """Prints the peaks of the builders on a corpus and on a larger one."""
    corpora = write_corpora(folder, data_dir)
    sizes = [sum(path.stat().st_size for path in c.rglob("*") if path.is_file()) for c in corpora]
    print(f"\n{'':28} {in_mb(sizes[0]):>10} {in_mb(sizes[1]):>10} {'ratio':>6}")
    vocab_file = folder / "vocab.txt"
    for title, name in (
        ("build_vocabulary.py", "vocabulary"),
        ("build_pretraining_dataset.py", "dataset"),
    ):
        once, more = (
            peak(name, corpus=str(corpus), vocab_file=str(vocab_file), folder=str(folder))
            for corpus in corpora
        )
        print(f"{title:28} {in_mb(once):>10} {in_mb(more):>10} {more / once:6.2f}", flush=True)


def in_mb(count: int) -> str:
    """A number of bytes for the tables."""
    return f"{count / 1e6:,.0f} MB"


def measure_nothing() -> None:
    """Imports what all measurements import."""
    import pretraining_step_ours  # noqa: F401

    import build_pretraining_dataset  # noqa: F401
    import build_vocabulary  # noqa: F401


def measure_step(size: str, length: int, batch_size: int, recompute: bool) -> None:
    """Trains for two steps: the second one no longer compiles."""
    from pretraining_step_ours import training_calls

    from configure_pretraining import PretrainingConfig

    config = PretrainingConfig(
        "benchmark", "unused", model_size=size, max_seq_length=length, recompute=recompute
    )
    calls = training_calls(config, precision="float32", batch_size=batch_size, n_steps=1)
    for _ in range(2):
        next(calls)


def measure_vocabulary(corpus: str, vocab_file: str, folder: str) -> None:
    """Builds a vocabulary; it is used by the data set of the same corpus."""
    import build_vocabulary

    flags = ["--corpus-dir", corpus, "--output-file", vocab_file, "--overwrite"]
    build_vocabulary.main([*flags, "--vocab-size", str(VOCAB_SIZE)])


def measure_dataset(corpus: str, vocab_file: str, folder: str) -> None:
    """Builds a data set."""
    import build_pretraining_dataset

    flags = ["--corpus-dir", corpus, "--vocab-file", vocab_file, "--overwrite"]
    build_pretraining_dataset.main([*flags, "--output-dir", os.path.join(folder, "records")])


MEASURED: dict[str, Callable[..., None]] = {
    "nothing": measure_nothing,
    "step": measure_step,
    "vocabulary": measure_vocabulary,
    "dataset": measure_dataset,
}


def write_corpora(folder: Path, data_dir: Path | None) -> tuple[Path, Path]:
    """Returns the folders of the corpus and of the larger one."""
    if data_dir is not None:
        for copy in range(MORE):
            shutil.copytree(data_dir / "corpus", folder / "more" / str(copy))
        return data_dir / "corpus", folder / "more"
    random = np.random.default_rng(0)
    words, share = make_words(random)
    for number in range(MORE):
        place = folder / "more" / f"{number}.txt"
        place.parent.mkdir(exist_ok=True)
        write_text(place, random, words, share)
    (folder / "once").mkdir()
    shutil.copy(folder / "more" / "0.txt", folder / "once")
    return folder / "once", folder / "more"


def make_words(
    random: np.random.Generator, count: int = GENERATED_WORDS
) -> tuple[np.ndarray, np.ndarray]:
    """Returns words, and how frequent each is: as in English, the r-th word 1/r as the first."""
    letters = np.array(list(string.ascii_lowercase))
    words = ["".join(random.choice(letters, size=n)) for n in random.integers(2, 11, count)]
    share = 1 / np.arange(1, count + 1)
    return np.array(words), share / share.sum()


def write_text(
    path: Path,
    random: np.random.Generator,
    words: np.ndarray,
    share: np.ndarray,
    size: int = GENERATED_BYTES,
) -> None:
    """Writes documents of 20 lines of words to a file, `size` bytes or a little more."""
    with open(path, "w") as file:
        while file.tell() < size:
            lines = random.choice(words, size=(1000, 20), p=share)
            for number, line in enumerate(lines):
                file.write(" ".join(line) + ("\n\n" if number % 20 == 19 else "\n"))


if __name__ == "__main__":
    main()
