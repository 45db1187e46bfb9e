"""What benchmarks share: flags, processes of their own, rates, and models with random weights."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that they measure this checkout, whether or not it is installed
SHARED = ROOT.parent / "shared" / "data"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser of flags that shows a docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def environment(**more: str) -> dict[str, str]:
    """Returns this process's variables, with this checkout and the benchmarks on Python's path."""
    path = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]
    found = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | more


def run_python(*arguments: object, **variables: str) -> str:
    """Runs Python in a process of its own; returns what it printed, or ends with its error."""
    command = [sys.executable, *map(str, arguments)]
    finished = subprocess.run(command, env=environment(**variables), capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"error: {' '.join(command[1:7])} failed.\n{finished.stderr[-2000:]}")
    return finished.stdout


def measured(*arguments: object, **variables: str) -> Any:
    """The same, for a process whose last line is what it measured, as JSON."""
    return json.loads(run_python(*arguments, **variables).splitlines()[-1])


def rate(work: Callable[[], int], seconds: float) -> float:
    """Returns how much is done in a second by whole calls, which take at least so many seconds.

    Args:
        work: does some of it; returns how much.
        seconds: how long to call it.
    """
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work()
    return done / (time.perf_counter() - start)


def report_rates(
    rates: Mapping[str, Sequence[float]], unit: str, *, before: str = "", digits: int = 1
) -> dict[str, float]:
    """Prints each contender's median, and the ratio of ours, which is the first, to it.

    Returns:
        The medians.
    """
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ours = next(iter(medians))
    for name, median in medians.items():
        ratio = "" if name == ours else f"; ours is {medians[ours] / median:.2f} x as fast"
        span = f"({min(rates[name]):.{digits}f} to {max(rates[name]):.{digits}f})"
        print(f"  {before}{name:36s} {median:8.{digits}f} {unit} {span}{ratio}")
    return medians


def write_model(
    folder: str,
    weights: Mapping[str, Any],
    *,
    hparams: dict[str, Any],
    network: Any,
    vocab_file: str,
    slots: Mapping[str, Any] | None = None,
    examples_seen: int = 0,
) -> None:
    """Writes a model's folder with a checkpoint.

    Args:
        folder: where to.
        weights: name -> array.
        hparams: of its config.json.
        network: its `TransformerConfig`.
        vocab_file: its vocabulary.
        slots: the optimizer's arrays.
        examples_seen: how many, and the step of the checkpoint.
    """
    from electra_tf2.loading.folder import make_model_folder, write_model_folder
    from electra_tf2.text.normalization import UNCASED
    from electra_tf2.training.checkpoints import CheckpointStore

    make_model_folder(folder)
    write_model_folder(
        folder, hparams=hparams, network=network, vocab_file=vocab_file, casing=UNCASED
    )
    state = {"examples_seen": examples_seen} if slots else {}
    CheckpointStore(folder).save(examples_seen, weights, slots or {}, state)
