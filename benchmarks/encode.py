"""The speed of `Encoder.encode`, beside feature extraction with transformers and PyTorch.

    python benchmarks/encode.py [--texts FILE --vocab-file FILE]

ELECTRA-small with random weights, float32, on the CPU: from sentences to the last states of all
their tokens, batch 32, in sentences/s. Both sides load the same weights (the peers from an export
for Hugging Face), tokenize and compute; their states are compared first. FILE holds a sentence a
line; without it, sentences of CoLA's training file are taken where ../shared/data is present, and
else made-up ones of the same distribution of lengths (short, as SST's are). The contenders are

    electra-tf2                     encode(sentences)
    transformers, sdpa / eager      batches in the order of the file, padded by the tokenizer
    transformers, sdpa, sorted      batches of sentences sorted by length, as ours are

each in a process of its own, one after the other and around again, so that whatever else the
machine does falls on all of them. Passes over the sentences that build graphs or warm caches don't
count. Needs `pip install .[interop]`.

Prints the median sentences/s of every contender and the ratios of ours to them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from finetuning import COLA_LENGTHS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it measures this checkout, whether or not it is installed
SHARED = ROOT.parent / "shared" / "data"
OURS = "electra-tf2"
PLAIN = ("transformers, sdpa", "transformers, eager")
SORTED = "transformers, sdpa, sorted"
CONTENDERS = (OURS, *PLAIN, SORTED)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB_SIZE = 30522
COMPARED = 64  # sentences
TOLERANCE = 1e-4


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, help="a sentence a line")
    parser.add_argument("--vocab-file", type=Path, help="needed with --texts")
    parser.add_argument("--sentences", type=int, default=2048, help="how many (default 2048)")
    parser.add_argument("--rounds", type=int, default=3, help="times around (default 3)")
    parser.add_argument("--seconds", type=float, default=12, help="each measurement (default 12)")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.contender:
        measure(arguments.contender, arguments.work, arguments.seconds)
        return
    if bool(arguments.texts) != bool(arguments.vocab_file):
        parser.error("--texts and --vocab-file go together.")
    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder)
        prepare(arguments)
        report(run_rounds(arguments))


def prepare(arguments: argparse.Namespace) -> None:
    """Writes sentences and both models to the work folder, in a process of its own."""
    work = arguments.work
    source, sentences = choose_sentences(arguments, work / "vocab.txt")
    sentences = random.Random(0).sample(sentences, min(arguments.sentences, len(sentences)))
    (work / "sentences.json").write_text(json.dumps(sentences), encoding="utf-8")
    words = np.mean([len(sentence.split()) for sentence in sentences])
    print(f"{len(sentences)} sentences, {words:.1f} words on average ({source})", flush=True)
    run_python("-c", "from encode_ours import write_models; import sys; write_models(sys.argv[1])",
               str(work))  # fmt: skip


def choose_sentences(arguments: argparse.Namespace, vocab_file: Path) -> tuple[str, list[str]]:
    """Puts the vocabulary in its place; returns where the sentences are from, and them."""
    if arguments.texts:
        vocab_file.write_bytes(arguments.vocab_file.read_bytes())
        lines = arguments.texts.read_text(encoding="utf-8").splitlines()
        return str(arguments.texts), [line for line in lines if line.strip()]
    path = SHARED / "finetuning_data/cola/train.tsv"
    if path.is_file():
        vocab_file.write_bytes((SHARED / "vocab.txt").read_bytes())
        rows = path.read_text(encoding="utf-8").splitlines()
        return str(path), [row.split("\t")[3] for row in rows]
    words = [f"w{i}" for i in range(VOCAB_SIZE - len(SPECIAL))]
    vocab_file.write_text("\n".join([*SPECIAL, *words]) + "\n")
    draw, lengths = random.Random(1), np.repeat(list(COLA_LENGTHS), list(COLA_LENGTHS.values()))
    made = [" ".join(draw.choices(words, k=int(length) - 2)) for length in lengths]
    return "made up, of CoLA's lengths", made


def run_rounds(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Runs each contender once per round; returns its rates in sentences/s."""
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.rounds):
        for name in CONTENDERS:
            output = run_python(__file__, "--contender", name, "--work", str(arguments.work),
                                "--seconds", str(arguments.seconds))  # fmt: skip
            rates[name].append(json.loads(output.splitlines()[-1]))
            print(f"  round {turn + 1}: {name:28s} {rates[name][-1]:8.1f} sentences/s", flush=True)
        compare(arguments.work)
    return rates


def run_python(*arguments: str) -> str:
    """Runs Python with the benchmarks and this checkout on its path; returns what it printed."""
    path = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "true",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True
    )
    if finished.returncode:
        sys.exit(f"error: {' '.join(arguments[:3])} failed.\n{finished.stderr[-2000:]}")
    return finished.stdout


def measure(name: str, work: Path, seconds: float) -> None:
    """Measures one contender in this process, prints its rate and saves some of its states."""
    sentences = json.loads((work / "sentences.json").read_text(encoding="utf-8"))
    if name == OURS:
        from encode_ours import open_ours

        encode = open_ours(work / "ours")
    else:
        from encode_torch import open_peer

        _, attention, *rest = name.split(", ")
        encode = open_peer(work / "huggingface", attention=attention, sort=bool(rest))
    np.save(work / f"{CONTENDERS.index(name)}.npy", np.concatenate(encode(sentences[:COMPARED])))
    print(json.dumps(encode.rate(sentences, seconds)))


def compare(work: Path) -> None:
    """Stops where the contenders don't compute the same states."""
    states = [np.load(work / f"{i}.npy") for i in range(len(CONTENDERS))]
    for name, found in zip(CONTENDERS[1:], states[1:], strict=True):
        if found.shape != states[0].shape:
            sys.exit(f"error: {name} has states {found.shape}, ours are {states[0].shape}.")
        difference = np.abs(found - states[0]).max()
        if not difference < TOLERANCE:
            sys.exit(f"error: the states of {name} differ from ours by {difference}.")


def report(rates: dict[str, list[float]]) -> None:
    """Prints the medians and the ratios."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print("\nfloat32: ELECTRA-small, states of all tokens, batch 32")
    for name, median in medians.items():
        ratio = "" if name == OURS else f"; ours is {medians[OURS] / median:.2f} x as fast"
        span = f"({min(rates[name]):.1f} to {max(rates[name]):.1f})"
        print(f"  {name:28s} {median:8.1f} sentences/s {span}{ratio}")
    best = max(medians[name] for name in PLAIN)
    print(f"  ours to the faster transformers in the file's order: {medians[OURS] / best:.2f}")
    print(f"  ours to transformers, sorted by length:              "
          f"{medians[OURS] / medians[SORTED]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
