"""Time and memory of exporting ELECTRA-base, of importing it, and of opening it in Python.

    python benchmarks/interchange.py [--folder DIR]

Writes a model folder of random weights of both networks with the optimizer's slots, as
`run_pretraining.py` leaves it, exports it as Hugging Face folders, reads those, opens both networks
in Python, and exports a SavedModel, each in a process of its own. Memory is the peak above what the
process takes once everything is imported.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import make_parser, write_model


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--folder", help="on the disk to measure (default: the temporary one)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.part:
        measure(flags.part, flags.folder)
        return
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        for part in PARTS:
            command = [sys.executable, __file__, "--part", part, "--folder", folder]
            subprocess.run(command, check=True)


def measure(part: str, folder: str) -> None:
    """Runs one part and prints what it took."""
    # All that the parts import.
    from electra_tf2.export import huggingface, saved_model  # noqa: F401
    from electra_tf2.inference import discriminator, generator  # noqa: F401

    before = resident_bytes()
    start = time.perf_counter()
    weights = PARTS[part](folder)
    seconds = time.perf_counter() - start
    if part == "prepare":
        print(f"base: both networks' weights are {weights / 1e6:.0f} MB", flush=True)
        return
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(
        f"{part}: {seconds:.1f} s (target: under 10 s), {above / 1e6:.0f} MB above the "
        f"{before / 1e6:.0f} MB after imports = {above / weights:.2f} x the weights (target: 2)",
        flush=True,
    )


def resident_bytes() -> int:
    """What the process takes now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def prepare(folder: str) -> int:
    """Writes the model; returns the bytes of its weights."""
    import numpy as np

    from configure_pretraining import PretrainingConfig
    from electra_tf2.formats.huggingface_names import HEAD_SHAPES, encoder_shapes
    from electra_tf2.modeling.config import generator_config
    from electra_tf2.text.vocabulary import SPECIAL_TOKENS

    config = PretrainingConfig("base", folder, model_size="base", generator_hidden_size=1 / 3)
    network = config.network()
    small = generator_config(network, hidden_fraction=1 / 3, layers_fraction=1.0)
    shapes = {f"electra/{name}": shape for name, shape in encoder_shapes(network).items()}
    own = {n: s for n, s in encoder_shapes(small).items() if not n.startswith("embeddings/")}
    shapes |= {f"generator/{name}": shape for name, shape in own.items()}
    shapes |= HEAD_SHAPES["discriminator_predictions"](network)
    shapes |= HEAD_SHAPES["generator_predictions"](small)
    stream = np.random.default_rng(0)
    weights = {n: stream.standard_normal(shape, np.float32) for n, shape in shapes.items()}
    pieces = [*SPECIAL_TOKENS, *(f"piece{i}" for i in range(config.vocab_size - 5))]
    vocab_file = Path(folder) / "vocab.txt"
    vocab_file.write_text("\n".join(pieces) + "\n")
    write_model(
        config.model_dir,
        weights,
        hparams=config.to_dict(),
        network=network,
        vocab_file=str(vocab_file),
        slots={f"{n}/{slot}": a for n, a in weights.items() for slot in ("adam_m", "adam_v")},
        examples_seen=1,
    )
    return sum(array.nbytes for array in weights.values())


def export(folder: str) -> int:
    """Exports the model; returns the bytes of its weights."""
    from electra_tf2.export.huggingface import ExportOptions, export_huggingface

    source = Path(folder) / "models" / "base"
    export_huggingface(str(source), f"{folder}/exported", ExportOptions())
    return sum(path.stat().st_size for path in source.rglob("weights.safetensors"))


def open_exported(folder: str) -> int:
    """Opens both networks; returns the bytes of their files, each with the embeddings."""
    from electra_tf2.loading.pretrained import open_pretrained

    model = open_pretrained(f"{folder}/exported")
    assert model.generator, "both networks"
    return sum(path.stat().st_size for path in Path(folder, "exported").rglob("*.safetensors"))


def open_networks(folder: str) -> int:
    """Opens the exported networks for use in Python; returns the bytes of their files."""
    from electra_tf2.inference.discriminator import Discriminator
    from electra_tf2.inference.generator import Generator

    networks = [
        Discriminator.from_pretrained(f"{folder}/exported/discriminator"),
        Generator.from_pretrained(f"{folder}/exported/generator"),
    ]
    assert all(networks)
    return sum(path.stat().st_size for path in Path(folder, "exported").rglob("*.safetensors"))


def export_saved_model(folder: str) -> int:
    """Exports a SavedModel of both networks; returns the bytes of the weights."""
    from electra_tf2.export.saved_model import export_saved_model

    source = Path(folder) / "models" / "base"
    export_saved_model(str(source), f"{folder}/saved_model")
    return sum(path.stat().st_size for path in source.rglob("weights.safetensors"))


PARTS: dict[str, Callable[[str], int]] = {
    "prepare": prepare,
    "export": export,
    "import": open_exported,
    "open": open_networks,
    "savedmodel": export_saved_model,
}
"""Part -> what it runs, in order."""


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
