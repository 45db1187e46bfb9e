"""What `gpu.py` runs, each in a process of its own.

Nothing is imported that a measurement doesn't use: a GPU is only asked for by the process that
measures on it, and the one with PyTorch needs nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configure_pretraining import PretrainingConfig
    from electra_tf2.data.input import TrainingFiles

ROOT = Path(__file__).resolve().parents[1]

# What a compiled step in float32 may differ by from the CPU's, see `compare_with_cpu`.
TOLERANCES = {"losses": 1e-4, "gradient norm": 1e-3, "weights": 0.02}
# Two layers, to check with, and to try the benchmark on a CPU; PyTorch's are in
# pretraining_step_torch.py.
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def configure(size: str, length: int, **hparams: Any) -> PretrainingConfig:
    """Returns the published networks of a size ("tiny", "small" or "base") at a length."""
    from configure_pretraining import PretrainingConfig

    sizes = {
        "tiny": {"embedding_size": 16, "generator_hidden_size": 0.5},
        "small": {},
        "base": {"model_size": "base", "generator_hidden_size": 1 / 3},
    }[size]
    overrides = hparams.pop("model_hparam_overrides", {}) | (TINY if size == "tiny" else {})
    return PretrainingConfig(
        "benchmark",
        "unused",
        max_seq_length=length,
        model_hparam_overrides=overrides,
        **sizes,
        **hparams,
    )


def flops_of_example(size: str, length: int) -> float:
    """Returns the operations of an example in matrix products, forward and backward."""
    from electra_tf2.compute import example_flops, pretraining_flops

    config = configure(size, length)
    return example_flops(pretraining_flops(config, config.network())).training_products


def look_at_machine() -> dict[str, Any]:
    """Says what TensorFlow computes on, and how fast it multiplies matrices in bfloat16.

    Returns:
        "gpu": its name or None; "versions"; "peak": FLOP/s of large matrices.
    """
    import tensorflow as tf
    from pretraining_step import best_time

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus[:1]]
    name = details[0].get("device_name", "a GPU") if details else None
    size = 8192 if gpus else 512
    matrix = tf.cast(tf.random.normal([size, size], stddev=size**-0.5), tf.bfloat16)
    repeats = 20

    @tf.function(autograph=False)
    def products():
        result = matrix
        for _ in range(repeats):
            result = matrix @ result
        return tf.reduce_sum(tf.cast(result[:1], tf.float32))

    peak = 2 * size**3 * repeats / best_time(lambda: products().numpy())
    return {"gpu": name, "versions": f"TensorFlow {tf.__version__}", "peak": peak}


def compare_with_cpu(size: str, length: int, batch_size: int) -> dict[str, Any]:
    """Makes two steps in float32 without dropout, compiled on the device and plain on the CPU.

    Args:
        size: of the networks.
        length: tokens per row.
        batch_size: rows per step.

    Returns:
        "differences": for each of the two steps, by the names in `TOLERANCES`: of the losses (the
        largest) and of the gradient norm, relative; of the weights, the largest difference over
        the largest change since the start. "right": whether all are within their tolerances.
    """
    import keras
    import numpy as np
    import tensorflow as tf
    from pretraining_step_ours import make_training

    from electra_tf2.training.devices import make_strategy

    tf.config.experimental.enable_tensor_float_32_execution(False)
    config = configure(size, length, model_hparam_overrides=_NO_DROPOUT)
    shared = {"precision": "float32", "batch_size": batch_size}
    keras.utils.set_random_seed(0)
    device = make_training(make_strategy("one_device"), config, jit_compile=True, **shared)
    cpu = make_training(
        tf.distribute.OneDeviceStrategy("/cpu:0"), config, jit_compile=False, **shared
    )
    start = cpu.optimizer.variables.to_numpy()
    device.optimizer.variables.assign(start)
    differences = []
    for step in range(2):
        sums, expected = (side.loop(side.iterator, step, 1) for side in (device, cpu))
        ours, theirs = (side.optimizer.variables.to_numpy() for side in (device, cpu))
        apart = max(float(np.max(np.abs(ours[n] - theirs[n]))) for n in start)
        moved = max(float(np.max(np.abs(theirs[n] - start[n]))) for n in start)
        losses = [_relative(sums.losses[n], expected.losses[n]) for n in expected.losses]
        norms = (sums.last.gradient_norm, expected.last.gradient_norm)
        found = (max(losses), _relative(*norms), apart / moved)
        differences.append(dict(zip(TOLERANCES, found, strict=True)))
    right = all(found[name] <= TOLERANCES[name] for found in differences for name in found)
    return {"differences": differences, "right": right}


def _relative(value, expected) -> float:
    return abs(float(value) / float(expected) - 1)


def run_conformance() -> dict[str, Any]:
    """Runs the conformance tests; returns pytest's summary and whether all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return {"summary": done.stdout.strip().splitlines()[-1], "right": done.returncode == 0}


def measure_ours(
    size: str,
    length: int,
    batch_size: int,
    *,
    seconds: float,
    n_steps: int,
    xla: bool | str,
    cache: str,
) -> dict[str, Any]:
    """Trains with this project's engine in bfloat16.

    Args:
        size, length: see `configure`.
        batch_size: rows per step.
        seconds: how long to measure.
        n_steps: of a graph call, at the end of which the device is waited for.
        xla: the hparam.
        cache: folder of compiled programs, kept there for who comes next.

    Returns:
        "rate": examples/s; "first": seconds of the first step; "memory": its peak in GiB, on the
        GPU if there is one; "programs" and "operations": see `count_operations`.
    """
    from pretraining_step_ours import count_operations, make_training, time_calls

    from electra_tf2.training.compile_cache import open_compile_cache, seal_programs
    from electra_tf2.training.devices import make_strategy, resolve_xla
    from electra_tf2.training.environment import describe_machine
    from electra_tf2.training.throughput import peak_memory_gib

    open_compile_cache(cache, describe_machine())  # before TensorFlow looks for devices
    config = configure(size, length, xla=xla)
    training = make_training(
        make_strategy("one_device"),
        config,
        precision="bfloat16",
        batch_size=batch_size,
        jit_compile=resolve_xla(config.xla),
    )
    found = _rate_and_first(time_calls(training, n_steps), n_steps, batch_size, seconds)
    seal_programs()
    found["memory"] = peak_memory_gib()
    programs, operations = count_operations(training)
    return found | {"programs": programs, "operations": operations}


def measure_peer(
    size: str,
    length: int,
    batch_size: int,
    *,
    seconds: float,
    n_steps: int,
    compiled: bool,
    device: str,
) -> dict[str, Any]:
    """Trains with transformers and PyTorch at their best (see pretraining_step_torch.py).

    Arguments and results are those of `measure_ours`, besides: `compiled`, whether through
    `torch.compile`; `device`, "cuda" or "cpu", of which the memory isn't measured.
    """
    import torch
    from pretraining_step_torch import training_calls

    calls = training_calls(
        "best",
        compiled=compiled,
        precision="bfloat16",
        batch_size=batch_size,
        length=length,
        size=size,
        device=device,
        n_steps=n_steps,
    )
    found = _rate_and_first(calls, n_steps, batch_size, seconds)
    if device == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def _rate_and_first(
    calls: Iterator[float], n_steps: int, batch_size: int, seconds: float
) -> dict[str, Any]:
    first = next(calls)
    next(calls)  # some kernels are chosen at the second run
    times: list[float] = []
    while sum(times) < seconds:
        times.append(next(calls))
    call = median(times)
    first -= call * (n_steps - 1) / n_steps
    return {"rate": batch_size * n_steps / call, "first": first, "memory": None}


def look_at_peer() -> dict[str, Any]:
    """Says which versions of the peers there are, and whether PyTorch sees a GPU."""
    import torch
    import transformers

    versions = f"transformers {transformers.__version__} + PyTorch {torch.__version__}"
    return {"versions": versions, "gpu": torch.cuda.is_available()}


def measure_input(
    segmentation: str, length: int, batch_size: int, *, size: int, seconds: float
) -> dict[str, Any]:
    """Draws batches of a generated data set as training does, without training on them.

    Args:
        segmentation: "static" for stored examples, "dynamic" for examples cut anew each epoch.
        length: tokens of an example.
        batch_size: rows of a batch.
        size: bytes of text.
        seconds: how long to measure.

    Returns:
        "rate": examples/s.
    """
    import tensorflow as tf
    from harness import rate

    from electra_tf2.data.order import Reading
    from electra_tf2.training.devices import make_strategy
    from electra_tf2.training.loop import distributed_iterator

    with tempfile.TemporaryDirectory() as folder:
        files = _build_data(Path(folder), segmentation, length, size)
        reading = Reading(0, length, configure("small", length).shuffle_buffer_size)
        iterator = distributed_iterator(
            make_strategy("one_device"),
            lambda context: files.training_dataset(reading, 0, batch_size, context),
        )
        draw = tf.function(lambda: next(iterator)["input_ids"][0, 0], autograph=False)
        draw().numpy()  # once a whole buffer is there to shuffle

        def draw_batch() -> int:
            draw().numpy()
            return batch_size

        found = rate(draw_batch, seconds)
        files.close()
    return {"rate": found}


def _build_data(folder: Path, segmentation: str, length: int, size: int) -> TrainingFiles:
    """Builds the data set of `measure_input` by the program for it."""
    import build_pretraining_dataset
    from electra_tf2.data.input import open_training_files
    from electra_tf2.text.normalization import UNCASED
    from electra_tf2.text.vocabulary import load_vocabulary

    vocab_file, records = _write_corpus(folder, size), str(folder / "records")
    flags = ["--corpus-dir", str(folder / "corpus"), "--output-dir", records]
    flags += ["--vocab-file", vocab_file, "--num-out-files", "16", "--segmentation", segmentation]
    flags += ["--max-seq-length", str(length)] if segmentation == "static" else []
    build_pretraining_dataset.main(flags)
    return open_training_files(
        os.path.join(records, "pretrain_data.tfrecord*"),
        segmentation=segmentation,  # pyright: ignore[reportArgumentType]
        max_seq_length=length,
        vocabulary=load_vocabulary(vocab_file),
        casing=UNCASED,
    )


def _write_corpus(folder: Path, size: int) -> str:
    """Writes text of words that each are in the vocabulary; returns the latter's path."""
    import numpy as np
    from memory import make_words, write_text

    random = np.random.default_rng(0)
    words, share = make_words(random, 20_000)
    (folder / "corpus").mkdir()
    first, *copies = (folder / "corpus" / f"{number}.txt" for number in range(4))
    write_text(first, random, words, share, size // 4)
    for copy in copies:
        shutil.copy(first, copy)
    return _write_vocabulary(folder, words)


def _write_vocabulary(folder: Path, words) -> str:
    from electra_tf2.text.vocabulary import SPECIAL_TOKENS

    path = folder / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in dict.fromkeys([*SPECIAL_TOKENS, *words])))
    return str(path)


def measure_finetuning(size: str, sentences: int, cache: str) -> dict[str, Any]:
    """Fine-tunes random weights for three epochs on sentences of CoLA's lengths, and scores them.

    Args:
        size: "small" or "tiny".
        sentences: to train on; there are an eighth of them beside, to score.
        cache: as in `measure_ours`.

    Returns:
        "seconds": of the whole program.
    """
    import numpy as np
    from finetuning import read_lengths
    from memory import make_words

    random = np.random.default_rng(0)
    words, _ = make_words(random, 20_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "finetuning_data" / "sentences"
        folder.mkdir(parents=True)
        vocab_size = len(Path(_write_vocabulary(Path(name), words)).read_text().splitlines())
        for split, count in (("train", sentences), ("dev", sentences // 8)):
            lengths = read_lengths(None)[:count] - 2  # without [CLS] and [SEP]
            lines = [f"{' '.join(random.choice(words, n))}\t{random.integers(2)}" for n in lengths]
            (folder / f"{split}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
        hparams = {
            "task_names": ["sentences"],
            "tasks": {"sentences": {"kind": "classification", "text": "text", "label": "label"}},
            "init_checkpoint": None,
            "vocab_size": vocab_size,
            "model_hparam_overrides": TINY if size == "tiny" else {},
            "compile_cache": cache,
        }
        command = [sys.executable, str(ROOT / "run_finetuning.py"), "--data-dir", name]
        command += ["--model-name", "benchmark", "--hparams", json.dumps(hparams)]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=sys.stderr)
        return {"seconds": time.perf_counter() - start}


MEASURED: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": look_at_machine,
    "peer machine": look_at_peer,
    "correctness": compare_with_cpu,
    "conformance": run_conformance,
    "ours": measure_ours,
    "peer": measure_peer,
    "input": measure_input,
    "finetuning": measure_finetuning,
}
