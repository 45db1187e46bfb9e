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
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from finetuning import COLA_LENGTHS
from harness import SHARED, make_parser, measured, rate, report_rates, run_python, write_model

OURS = "electra-tf2"
PLAIN = ("transformers, sdpa", "transformers, eager")
SORTED = "transformers, sdpa, sorted"
CONTENDERS = (OURS, *PLAIN, SORTED)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB_SIZE = 30522
BATCH_SIZE = 32
COMPARED = 64  # sentences
TOLERANCE = 1e-4
# Passes that don't count: ours builds its last graph after 300 batches.
_WARM_UP = 5
_MAX_LENGTH = 512  # of the peers, in tokens

# Two functions of sentences: one returns the states of each, [tokens, width]; the other leaves the
# states as they come, and returns the number of sentences.
Encode = tuple[Callable[[list[str]], list[np.ndarray]], Callable[[list[str]], int]]


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = make_parser(__doc__)
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
    run_python("-c", "import encode, sys; encode.write_models(sys.argv[1])", work)


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
    words = write_made_up_vocabulary(vocab_file)
    draw, lengths = random.Random(1), np.repeat(list(COLA_LENGTHS), list(COLA_LENGTHS.values()))
    made = [" ".join(draw.choices(words, k=int(length) - 2)) for length in lengths]
    return "made up, of CoLA's lengths", made


def write_made_up_vocabulary(path: Path) -> list[str]:
    """Writes a vocabulary of words that are one piece each; returns the words."""
    words = [f"w{i}" for i in range(VOCAB_SIZE - len(SPECIAL))]
    path.write_text("\n".join([*SPECIAL, *words]) + "\n")
    return words


def run_rounds(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Runs each contender once per round; returns its rates in sentences/s."""
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.rounds):
        for name in CONTENDERS:
            flags = ("--contender", name, "--work", arguments.work, "--seconds", arguments.seconds)
            rates[name].append(measured(__file__, *flags, TOKENIZERS_PARALLELISM="true"))
            print(f"  round {turn + 1}: {name:28s} {rates[name][-1]:8.1f} sentences/s", flush=True)
        compare(arguments.work)
    return rates


def measure(name: str, work: Path, seconds: float) -> None:
    """Measures one contender in this process, prints its rate and saves some of its states."""
    sentences = json.loads((work / "sentences.json").read_text(encoding="utf-8"))
    if name == OURS:
        encode, encode_all = open_ours(work / "ours")
    else:
        _, attention, *rest = name.split(", ")
        encode, encode_all = open_peer(work / "huggingface", attention=attention, sort=bool(rest))
    np.save(work / f"{CONTENDERS.index(name)}.npy", np.concatenate(encode(sentences[:COMPARED])))
    for _ in range(_WARM_UP):
        encode_all(sentences)
    print(json.dumps(rate(lambda: encode_all(sentences), seconds)))


def write_models(work: str) -> None:
    """Writes ELECTRA-small with random weights, and the same for Hugging Face.

    Args:
        work: a folder with vocab.txt; gets the folders `ours` and `huggingface`.
    """
    import keras

    from electra_tf2.export.huggingface import ExportOptions, export_huggingface
    from electra_tf2.modeling.config import transformer_config
    from electra_tf2.modeling.electra import build_pair
    from electra_tf2.text.vocabulary import load_vocabulary

    vocab_file, folder = f"{work}/vocab.txt", f"{work}/ours"
    network = transformer_config(
        model_size="small",
        vocab_size=len(load_vocabulary(vocab_file)),
        embedding_size=128,
        overrides={},
    )
    keras.utils.set_random_seed(0)
    pair = build_pair(network, uniform_generator=True)
    weights = {v.path: np.asarray(v) for v in pair.discriminator.trainable_variables}
    write_model(folder, weights, hparams={}, network=network, vocab_file=vocab_file)
    export_huggingface(folder, f"{work}/huggingface", ExportOptions(network="discriminator"))


def open_ours(folder: Path) -> Encode:
    """Opens the model with the Python API."""
    from electra_tf2 import Encoder

    encoder = Encoder.from_pretrained(str(folder))

    def encode(sentences: list[str]) -> list[np.ndarray]:
        states, mask, _ = encoder.encode(sentences, batch_size=BATCH_SIZE)
        return [row[there] for row, there in zip(states, mask, strict=True)]

    def encode_all(sentences: list[str]) -> int:
        encoder.encode(sentences, batch_size=BATCH_SIZE)
        return len(sentences)

    return encode, encode_all


def open_peer(folder: Path, *, attention: str, sort: bool) -> Encode:
    """Opens the exported model with PyTorch, as feature extraction is written.

    Args:
        folder: with config, weights and tokenizer.
        attention: transformers' name of the attention implementation, "sdpa" or "eager".
        sort: whether batches are of sentences sorted by their length in characters.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32)
    model.eval()

    @torch.inference_mode()
    def batches(sentences: list[str]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        order = list(range(len(sentences)))
        if sort:
            order.sort(key=lambda i: -len(sentences[i]))
        for first in range(0, len(order), BATCH_SIZE):
            rows = order[first : first + BATCH_SIZE]
            batch = tokenizer(
                [sentences[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=_MAX_LENGTH,
                return_tensors="pt",
            )
            states = model(**batch).last_hidden_state
            yield rows, states.numpy(), batch["attention_mask"].numpy()

    def encode(sentences: list[str]) -> list[np.ndarray]:
        found = {
            i: row[there > 0]
            for rows, states, mask in batches(sentences)
            for i, row, there in zip(rows, states, mask, strict=True)
        }
        return [found[i] for i in range(len(sentences))]

    def encode_all(sentences: list[str]) -> int:
        return sum(len(rows) for rows, _, _ in batches(sentences))

    return encode, encode_all


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
    print("\nfloat32: ELECTRA-small, states of all tokens, batch 32")
    medians = report_rates(rates, "sentences/s")
    best = max(medians[name] for name in PLAIN)
    print(f"  ours to the faster transformers in the file's order: {medians[OURS] / best:.2f}")
    print(f"  ours to transformers, sorted by length:              "
          f"{medians[OURS] / medians[SORTED]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
