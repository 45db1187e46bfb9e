"""Speed of the tokenizer beside its pure-Python reference and Hugging Face `tokenizers`.

One process, one thread each, the same lines, timed in turns; the best of several rounds counts.
Prints megabytes of text per second and the ratios, by the clock and by processor time.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

# Read when the libraries are loaded.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import tensorflow as tf
from harness import ROOT, SHARED

from electra_tf2.text.tokenizer import Tokenizer, make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary
from electra_tf2.text.vocabulary_training import WordCounter, train_vocabulary

CARRIED_TEXT = ROOT / "tests" / "conformance" / "cases"
# Lines per call at which the peer was fastest.
PEER_BATCH = 500
TARGETS = {"pure Python": 20.0, "HF tokenizers": 4.0}


class Timing(NamedTuple):
    """Seconds for one pass over `megabytes` of text: by the clock and of the processor."""

    megabytes: float
    wall: float
    cpu: float


def read_lines(corpus: Path | None, megabytes: float) -> list[str]:
    """Returns lines of the corpus up to a size; own text, repeated, where there is none."""
    folder = corpus or CARRIED_TEXT
    text = "".join(
        path.read_bytes().decode("utf-8") + "\n" for path in sorted(folder.rglob("*.txt"))
    )
    lines, size, wanted = [], 0, int(megabytes * 1e6)
    while text and size < wanted:
        for line in text.split("\n"):
            lines.append(line)
            size += len(line.encode("utf-8")) + 1
            if size >= wanted:
                break
        if corpus is not None:
            break
    return lines


def size_in_megabytes(lines: Sequence[str]) -> float:
    """Size of lines as UTF-8, newlines included."""
    return sum(len(line.encode("utf-8")) + 1 for line in lines) / 1e6


def make_peer(vocabulary: Vocabulary) -> Callable[[Sequence[str]], list[list[int]]] | None:
    """Returns Hugging Face's BERT tokenizer as a function from lines to ids, if it is installed."""
    try:
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers
    except ImportError:
        return None
    model = models.WordPiece(dict(vocabulary.ids), unk_token="[UNK]", max_input_chars_per_word=200)
    peer = tokenizers.Tokenizer(model)
    peer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def encode(lines: Sequence[str]) -> list[list[int]]:
        ids = []
        for start in range(0, len(lines), PEER_BATCH):
            batch = peer.encode_batch_fast(lines[start : start + PEER_BATCH])
            ids.extend(encoding.ids for encoding in batch)
        return ids

    return encode


def measure(function: Callable, lines: Sequence[str], best: Timing | None) -> Timing:
    """Times one pass and returns the better of it and the best so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(lines)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if best is None:
        return Timing(size_in_megabytes(lines), wall, cpu)
    return Timing(best.megabytes, min(best.wall, wall), min(best.cpu, cpu))


def report_differences(
    ours: Tokenizer, peer: Callable[[Sequence[str]], list[list[int]]], lines: Sequence[str]
) -> None:
    """Prints for how many lines the peer's ids are others."""
    values, splits = ours.encode_lines(lines)
    rows = [values[a:b].tolist() for a, b in zip(splits[:-1], splits[1:], strict=True)]
    differing = sum(a != b for a, b in zip(rows, peer(lines), strict=True))
    print(f"HF tokenizers gives other ids for {differing} of {len(lines)} lines.")


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder of .txt files")
    parser.add_argument("--vocab-file", help="default: BERT's if there, else one from the text")
    parser.add_argument("--megabytes", type=float, default=8.0, help="text for the fast ones")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    corpus = flags.corpus
    if corpus is None and (SHARED / "corpus" / "train").is_dir():
        corpus = SHARED / "corpus" / "train"
    lines = read_lines(corpus, flags.megabytes)
    if not lines:
        parser.error(f"no text in .txt files under {corpus}")
    some_lines = lines[: max(1, len(lines) // 8)]  # the reference is slow
    vocabulary = _vocabulary(flags.vocab_file, lines)
    print(
        f"{size_in_megabytes(lines):.1f} MB, {len(lines)} lines from {corpus or CARRIED_TEXT}; "
        f"{len(vocabulary)} pieces"
    )

    ours = make_tokenizer(vocabulary, implementation="fast")
    contestants = {
        "electra_tf2": (ours.encode_lines, lines),
        "pure Python": (
            make_tokenizer(vocabulary, implementation="reference").encode_lines,
            some_lines,
        ),
    }
    peer = make_peer(vocabulary)
    if peer is None:
        print("HF tokenizers is not installed: pip install tokenizers")
    else:
        contestants["HF tokenizers"] = (peer, lines)
        report_differences(ours, peer, lines)

    best: dict[str, Timing | None] = dict.fromkeys(contestants)
    for _ in range(flags.rounds):
        for name, (function, text) in contestants.items():
            best[name] = measure(function, text, best[name])
    print_table(best)


def print_table(best: dict[str, Timing]) -> None:
    """Prints speeds, and how many times faster ours is."""
    ours = best["electra_tf2"]
    print(f"{'':16}{'MB/s':>8}{'MB/CPU s':>10}{'ours is':>10}{'by CPU':>9}{'target':>9}")
    for name, timing in best.items():
        row = f"{name:16}{timing.megabytes / timing.wall:8.2f}{timing.megabytes / timing.cpu:10.2f}"
        if name in TARGETS:
            wall = ours.megabytes / ours.wall * timing.wall / timing.megabytes
            cpu = ours.megabytes / ours.cpu * timing.cpu / timing.megabytes
            row += f"{wall:9.1f}x{cpu:8.1f}x{TARGETS[name]:8.0f}x"
        print(row)


def _vocabulary(path: str | None, lines: Sequence[str]) -> Vocabulary:
    if path is None and (SHARED / "vocab.txt").is_file():
        path = str(SHARED / "vocab.txt")
    if path is not None:
        return load_vocabulary(path)
    counter = WordCounter()
    counter.add("\n".join(lines))
    return train_vocabulary(counter.words(), 500, min_frequency=1).vocabulary


if __name__ == "__main__":
    main()
