"""How long a classifier takes to answer a request, beside transformers and onnxruntime.

    python benchmarks/latency.py [--requests 60] [--rounds 3]

ELECTRA-small with random weights, float32, on the CPU: from texts to labels with probabilities, in
requests of 1, 8 and 32 texts, in milliseconds (median and 95th percentile). Short texts are of
CoLA's lengths; long ones fill 128 tokens. Every request has other texts, so lengths vary as in
service. All contenders have the same weights and answer the first texts; float32 ones have to agree
with ours. The contenders are

    FineTuned.predict               this program's Python API
    SavedModel                      its export, called with texts
    transformers, sdpa              the export for Hugging Face, tokenizer and model, PyTorch
    onnxruntime                     docs/saved_model.md's recipe, Hugging Face's tokenizer
    onnxruntime, int8               the same, weights quantized with `quantize_dynamic`
    TFLite, int8                    the export `tflite-int8`, Hugging Face's tokenizer

each in a process of its own, one after the other and around again, so that whatever else the
machine does falls on all of them. Needs `pip install .[interop]`.

Prints a Markdown table, the sizes on disk, and how far probabilities in int8 are from float32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from encode import SPECIAL, VOCAB_SIZE, write_made_up_vocabulary
from finetuning import COLA_LENGTHS
from harness import make_parser, measured, run_python, write_model

Classify = Callable[[list[str]], np.ndarray]

LENGTH = 128
SIZES = (1, 8, 32)
COMPARED = 32  # texts
TOLERANCE = 1e-4
# Requests that don't count: ours builds graphs for the first shapes.
_WARM_UP = 8
_TASK = "texts"


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, or, as its own child process, one contender."""
    parser = make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=60, help="of each kind (default 60)")
    parser.add_argument("--rounds", type=int, default=3, help="times around (default 3)")
    parser.add_argument("--only", nargs="*", help="names of contenders (default: all)")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.contender:
        measure(arguments.contender, arguments.work, arguments.requests)
        return
    if unknown := set(arguments.only or ()) - CONTENDERS.keys():
        parser.error(f"There is no contender {', '.join(unknown)}: {', '.join(CONTENDERS)}.")
    # Float32 first: the first one is what the others are compared with.
    names = [name for name in CONTENDERS if name in (arguments.only or CONTENDERS)]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run_python("-c", "import latency, sys; latency.write_models(sys.argv[1])", folder)
        milliseconds: dict[str, dict[str, list[float]]] = {name: {} for name in names}
        for turn in range(arguments.rounds):
            for name in names:
                flags = ("--contender", name, "--work", folder, "--requests", arguments.requests)
                output = measured(__file__, *flags, TOKENIZERS_PARALLELISM="true")
                for kind, found in output.items():
                    milliseconds[name].setdefault(kind, []).extend(found)
                print(f"  round {turn + 1}: {name}", flush=True)
        report(milliseconds, work)


def texts_of(kind: str, count: int, seed: int = 0) -> list[str]:
    """Draws texts.

    Args:
        kind: "short" or "long".
        count: how many.
        seed: of the words and lengths.
    """
    draw = np.random.default_rng(seed)
    lengths, weights = np.array([*COLA_LENGTHS.items()]).T
    sizes = draw.choice(lengths, count, p=weights / weights.sum()) if kind == "short" else [LENGTH]
    words = draw.integers(0, VOCAB_SIZE - len(SPECIAL), (count, LENGTH))
    sizes = np.broadcast_to(sizes, count) - 2  # [CLS] and [SEP]
    return [" ".join(f"w{i}" for i in row[:n]) for row, n in zip(words, sizes, strict=True)]


def measure(name: str, work: Path, requests: int) -> None:
    """Measures one contender in this process; prints kind -> milliseconds of each request."""
    classify = CONTENDERS[name](work)
    compared = texts_of("short", COMPARED // 2) + texts_of("long", COMPARED // 2)
    np.save(work / f"{name}.npy", classify(compared))
    milliseconds = {}
    for kind in ("short", "long"):
        for size in SIZES:
            texts = texts_of(kind, size * (requests + _WARM_UP), seed=size)
            found = milliseconds[f"{kind}, {size}"] = []
            for first in range(0, len(texts), size):
                start = time.perf_counter()
                classify(texts[first : first + size])
                found.append(1000 * (time.perf_counter() - start))
            del found[:_WARM_UP]
    print(json.dumps(milliseconds))


def report(milliseconds: dict[str, dict[str, list[float]]], work: Path) -> None:
    """Prints the table and the differences; stops where float32 contenders disagree."""
    kinds = list(next(iter(milliseconds.values())))
    print(f"\n| ms: median (95th percentile) | {' | '.join(kinds)} |")
    print("|---" * (len(kinds) + 1) + "|")
    for name, found in milliseconds.items():
        cells = (f"{np.median(found[k]):.1f} ({np.percentile(found[k], 95):.1f})" for k in kinds)
        print(f"| {name} | {' | '.join(cells)} |")
    first, *others = milliseconds
    ours = np.load(work / f"{first}.npy")
    for name in others:
        found = np.load(work / f"{name}.npy")
        difference = float(np.abs(found - ours).max())
        same = int((found.argmax(-1) == ours.argmax(-1)).sum())
        print(f"{name}: probabilities differ from {first}'s by at most {difference:.2g}; "
              f"{same} of {len(ours)} labels are the same")  # fmt: skip
        if "int8" not in name and not difference < TOLERANCE:
            sys.exit(f"error: {name} computes something else.")
    for name in ("model.onnx", "model.int8.onnx", f"tflite/{_TASK}.tflite"):
        print(f"{name}: {(work / name).stat().st_size / 1e6:.1f} MB")


def write_models(folder: str) -> None:
    """Writes a fine-tuned ELECTRA-small with random weights, and its exports.

    Args:
        folder: gets `ours`, its exports `saved`, `tflite` and `huggingface`, `model.onnx` and
            `model.int8.onnx`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from electra_tf2.export.huggingface import ExportOptions
    from finetune.export.huggingface import export_huggingface
    from finetune.export.saved_model import export_saved_model, export_tflite

    work = Path(folder)
    _write_trial(work)
    export_saved_model(f"{work}/ours", f"{work}/saved")
    export_tflite(f"{work}/ours", f"{work}/tflite", int8=True)
    export_huggingface(f"{work}/ours", f"{work}/huggingface", ExportOptions())
    convert = "import sys, tensorflow_text, tf2onnx.convert; tf2onnx.convert.main()"
    run_python("-c", convert, "--saved-model", f"{work}/saved", "--signature_def",
               f"{_TASK}_ids", "--output", f"{work}/model.onnx")  # fmt: skip
    quantize_dynamic(work / "model.onnx", work / "model.int8.onnx", weight_type=QuantType.QInt8)


def _write_trial(work: Path) -> None:
    import keras

    from configure_finetuning import FinetuningConfig
    from electra_tf2.text.normalization import UNCASED
    from electra_tf2.text.tokenizer import make_tokenizer
    from electra_tf2.text.vocabulary import load_vocabulary
    from finetune.model import FinetuningModel
    from finetune.task_builder import get_tasks
    from finetune.trial_folders import write_states

    vocab_file, folder = f"{work}/vocab.txt", f"{work}/ours"
    write_made_up_vocabulary(Path(vocab_file))
    definition: dict[str, Any] = {"kind": "classification", "text": "text", "label": "label"}
    definition["labels"] = ["no", "yes"]
    config = FinetuningConfig("small", folder, task_names=[_TASK], tasks={_TASK: definition})
    tasks = get_tasks(config, make_tokenizer(load_vocabulary(vocab_file), UNCASED))
    keras.utils.set_random_seed(0)
    model = FinetuningModel(tasks, config.network())
    model.build()
    weights = {name: np.array(v) for name, v in model.named_variables().items()}
    # TensorFlow would leave out biases of 0 and scales of 1, which no trained model has.
    draw = np.random.default_rng(0)
    for value in weights.values():
        if value.ndim == 1:
            value += draw.normal(0, 0.05, value.shape)
    network = config.network()
    write_model(folder, weights, hparams=config.to_dict(), network=network, vocab_file=vocab_file)
    write_states(folder, tasks)


def open_ours(work: Path) -> Classify:
    """Opens the trial with the Python API."""
    from finetune import FineTuned

    model = FineTuned.from_pretrained(f"{work}/ours")
    return lambda texts: np.array([[*p.probabilities.values()] for p in model.predict(texts)])


def open_saved_model(work: Path) -> Classify:
    """Opens the SavedModel, tokenizer included."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401, its operations

    model = tf.saved_model.load(f"{work}/saved")
    signature = model.signatures[_TASK]
    return lambda texts: signature(texts=tf.constant(texts))["probabilities"].numpy()


def open_transformers(work: Path) -> Classify:
    """Opens the export for Hugging Face with PyTorch."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = work / "huggingface"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32
    ).eval()

    @torch.inference_mode()
    def classify(texts: Sequence[str]) -> np.ndarray:
        batch = tokenizer(
            texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        return model(**batch).logits.softmax(-1).numpy()

    return classify


def open_onnx(work: Path, name: str = "model.onnx") -> Classify:
    """Opens an ONNX file as docs/saved_model.md says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(work / name, providers=["CPUExecutionProvider"])
    inputs_of = _tokenizer(work)
    return lambda texts: np.asarray(session.run(["probabilities"], inputs_of(texts))[0])


def open_tflite(work: Path) -> Classify:
    """Opens the TFLite file in 8 bits."""
    import tensorflow as tf

    path = f"{work}/tflite/{_TASK}.tflite"
    threads = len(os.sched_getaffinity(0))
    classify = tf.lite.Interpreter(path, num_threads=threads).get_signature_runner()
    inputs_of = _tokenizer(work)
    return lambda texts: classify(**inputs_of(texts))["probabilities"]


def _tokenizer(work: Path) -> Callable[[list[str]], dict[str, np.ndarray]]:
    """Returns what makes the inputs of a graph with token ids, as docs/saved_model.md says."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer.from_file(f"{work}/vocab.txt", lowercase=True)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LENGTH)

    def inputs_of(texts: list[str]) -> dict[str, np.ndarray]:
        rows = tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": [row.ids for row in rows],
            "input_mask": [row.attention_mask for row in rows],
            "segment_ids": [row.type_ids for row in rows],
        }
        return {name: np.array(value, np.int32) for name, value in inputs.items()}

    return inputs_of


CONTENDERS: dict[str, Callable[[Path], Classify]] = {
    "FineTuned.predict": open_ours,
    "SavedModel": open_saved_model,
    "transformers, sdpa": open_transformers,
    "onnxruntime": open_onnx,
    "onnxruntime, int8": lambda work: open_onnx(work, "model.int8.onnx"),
    "TFLite, int8": open_tflite,
}


if __name__ == "__main__":
    main()
