"""The speed of fine-tuning and prediction, beside what a PyTorch user would run.

    python benchmarks/finetuning.py [--data-dir DIR]

ELECTRA-small with random weights on CoLA, batch 32, on the CPU: training (forward, backward,
clipping, optimizer, dropout), and prediction of the first 1024 sentences, in examples/s. DIR holds
`vocab.txt` and `finetuning_data/cola/train.tsv` as for run_finetuning.py; without it, sentences of
the same distribution of lengths are generated. The contenders are this project's engine with
batches by length and with `pad_to_max_length`, and transformers' `ElectraForSequenceClassification`
with dynamic padding (every batch padded to its longest sentence), each in a process of its own, one
after the other and around again, so that whatever else the machine does falls on all of them.
Needs `pip install .[interop]`.

Prints the median examples/s of every contender and the ratios of ours to them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it measures this checkout, whether or not it is installed
SHARED = ROOT.parent / "shared" / "data"
PRECISIONS = ("float32", "bfloat16")
OURS, PADDED = "electra-tf2", "electra-tf2, pad_to_max_length"
PEERS = ("transformers, sdpa", "transformers, eager")
CONTENDERS = (OURS, PADDED, *PEERS)
PHASES = ("training", "prediction")

# Tokens of CoLA's training sentences with [CLS] and [SEP], BERT's English vocabulary: how many
# sentences of 8551 have 4, 5, 6, … tokens.
COLA_LENGTHS = {
    4: 7,
    5: 129,
    6: 310,
    7: 649,
    8: 979,
    9: 1154,
    10: 1129,
    11: 916,
    12: 797,
    13: 574,
    14: 452,
    15: 334,
    16: 235,
    17: 182,
    18: 145,
    19: 125,
    20: 96,
    21: 66,
    22: 67,
    23: 66,
    24: 41,
    25: 26,
    26: 21,
    27: 17,
    28: 6,
    29: 8,
    30: 6,
    31: 1,
    32: 8,
    33: 1,
    35: 1,
    37: 1,
    40: 1,
    47: 1,
}


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--rounds", type=int, default=3, help="times around (default 3)")
    parser.add_argument("--seconds", type=float, default=12, help="each measurement (default 12)")
    parser.add_argument("--precision", choices=PRECISIONS, help="only this one")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    lengths = read_lengths(arguments.data_dir)
    if arguments.contender:
        rates = measure(arguments.contender, arguments.precision, lengths, arguments.seconds)
        print(json.dumps(rates))
        return
    source = arguments.data_dir or "generated sentences of CoLA's lengths"
    print(f"{len(lengths)} sentences, {lengths.mean():.1f} tokens on average ({source})")
    for precision in [arguments.precision] if arguments.precision else PRECISIONS:
        report(precision, run_rounds(precision, arguments))


def read_lengths(data_dir: Path | None) -> np.ndarray:
    """Returns the number of tokens of each sentence, int64 [sentences], in the file's order."""
    if data_dir is None:
        values, counts = zip(*COLA_LENGTHS.items(), strict=True)
        return np.random.default_rng(0).permutation(np.repeat(values, counts))
    from electra_tf2.text.tokenizer import make_tokenizer
    from electra_tf2.text.vocabulary import load_vocabulary

    rows = (data_dir / "finetuning_data/cola/train.tsv").read_text(encoding="utf-8").splitlines()
    tokenizer = make_tokenizer(load_vocabulary(str(data_dir / "vocab.txt")))
    encoded = tokenizer.encode_lines([row.split("\t")[3] for row in rows])
    return np.minimum(np.diff(encoded.row_splits) + 2, 128)


def run_rounds(precision: str, arguments: argparse.Namespace) -> dict[str, list[dict]]:
    """Runs each contender once per round; returns its rates in examples/s by phase."""
    rates: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.rounds):
        for name in CONTENDERS:
            found = run_in_process(name, precision, arguments)
            rates[name].append(found)
            shown = ", ".join(f"{phase} {found[phase]:8.1f}" for phase in PHASES)
            print(f"  {precision}, round {turn + 1}: {name:32s} {shown} examples/s", flush=True)
    return rates


def run_in_process(name: str, precision: str, arguments: argparse.Namespace) -> dict:
    """Measures one contender in a fresh process."""
    command = [sys.executable, __file__, "--contender", name, "--precision", precision]
    command += ["--seconds", str(arguments.seconds)]
    if arguments.data_dir:
        command += ["--data-dir", str(arguments.data_dir)]
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"error: {name} ({precision}) failed.\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def measure(name: str, precision: str, lengths: np.ndarray, seconds: float) -> dict[str, float]:
    """Measures one contender in this process."""
    if name in (OURS, PADDED):
        from finetuning_ours import measure_ours

        return measure_ours(
            lengths, precision=precision, seconds=seconds, pad_to_max_length=name == PADDED
        )
    from finetuning_torch import measure_peer

    attention = name.rpartition(" ")[2]
    return measure_peer(lengths, precision=precision, seconds=seconds, attention=attention)


def report(precision: str, rates: dict[str, list[dict]]) -> None:
    """Prints the medians and the ratios."""
    print(f"\n{precision}: ELECTRA-small, CoLA, batch 32")
    for phase in PHASES:
        medians = {
            name: statistics.median(rate[phase] for rate in found) for name, found in rates.items()
        }
        for name, median in medians.items():
            values = [rate[phase] for rate in rates[name]]
            ratio = "" if name == OURS else f"; ours is {medians[OURS] / median:.2f} x as fast"
            print(
                f"  {phase:10s} {name:32s} {median:8.1f} examples/s "
                f"({min(values):.1f} to {max(values):.1f}){ratio}"
            )
        best = max(medians[name] for name in PEERS)
        print(f"  {phase:10s} ours to the faster transformers: {medians[OURS] / best:.2f}")
    print()


if __name__ == "__main__":
    main()
