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
from pathlib import Path

import numpy as np
from harness import SHARED, make_parser, measured, report_rates

PRECISIONS = ("float32", "bfloat16")
OURS, PADDED = "electra-tf2", "electra-tf2, pad_to_max_length"
PEERS = ("transformers, sdpa", "transformers, eager")
CONTENDERS = (OURS, PADDED, *PEERS)
PHASES = ("training", "prediction")

# Tokens of CoLA's training sentences with [CLS] and [SEP], BERT's English vocabulary: how many
# sentences of 8551 have 4, 5, 6, … tokens.
_COUNTS = (
    "7 129 310 649 979 1154 1129 916 797 574 452 334 235 182 145 125 96 66 "
    "67 66 41 26 21 17 6 8 6 1 8 1 0 1 0 1 0 0 1 0 0 0 0 0 0 1"
)
COLA_LENGTHS = {n: int(count) for n, count in enumerate(_COUNTS.split(), 4) if count != "0"}


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = make_parser(__doc__)
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
    command = [__file__, "--contender", name, "--precision", precision]
    command += ["--seconds", arguments.seconds]
    if arguments.data_dir:
        command += ["--data-dir", arguments.data_dir]
    return measured(*command)


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
        own = {name: [rate[phase] for rate in found] for name, found in rates.items()}
        medians = report_rates(own, "examples/s", before=f"{phase:10s} ")
        best = max(medians[name] for name in PEERS)
        print(f"  {phase:10s} ours to the faster transformers: {medians[OURS] / best:.2f}")
    print()


if __name__ == "__main__":
    main()
