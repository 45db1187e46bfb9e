"""How long training stands still for a checkpoint of ELECTRA-base.

    python benchmarks/saving.py [--saves 3] [--folder DIR]

Trains both networks on random batches with a checkpoint every 20 steps, as `run_pretraining.py`
does: the arrays are taken, and written while training goes on. Prints how long the loop waited for
each save, how long the writing took, and what a save would take that is waited for.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import make_parser

SAVE_EVERY = 20


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--saves", type=int, default=3, help="(default 3)")
    parser.add_argument("--batch-size", type=int, default=2, help="rows of a step (default 2)")
    parser.add_argument("--length", type=int, default=64, help="tokens of a row (default 64)")
    parser.add_argument("--folder", help="on the disk to measure (default: the temporary one)")
    flags = parser.parse_args(argv)

    from electra_tf2.training.background_saving import BackgroundSaver
    from electra_tf2.training.checkpoints import CheckpointStore

    waited = timed(BackgroundSaver, "begin")
    written = timed(CheckpointStore, "save")
    with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
        trainer, batches = make_trainer(folder, flags.saves, flags.batch_size, flags.length)
        start = time.perf_counter()
        trainer.train(lambda position, context: batches)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(trainer.run.store.latest()).iterdir())
        start = time.perf_counter()
        trainer.save()
        alone = time.perf_counter() - start
    print(f"{trainer.step} steps in {seconds:.0f} s; a checkpoint of {size / 1e9:.2f} GB")
    for number in range(flags.saves):
        print(
            f"save {number + 1}: training waited {waited[number]:.2f} s (target: under 2 s); "
            f"written in {written[number]:.1f} s"
        )
    print(f"a save that is waited for: {alone:.1f} s")


def timed(owner: type, name: str) -> list[float]:
    """Makes a method note the seconds of its calls in the list that is returned."""
    method: Callable = getattr(owner, name)
    seconds: list[float] = []

    def wrapper(*arguments):
        start = time.perf_counter()
        result = method(*arguments)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(owner, name, wrapper)
    return seconds


def make_trainer(folder: str, saves: int, batch_size: int, length: int):
    """The trainer of a pre-training run, and its batches."""
    from pretraining_step_ours import make_objective, random_batches

    from configure_pretraining import PretrainingConfig
    from electra_tf2.training.checkpoints import CheckpointStore
    from electra_tf2.training.devices import make_strategy
    from electra_tf2.training.loop import LoopSettings
    from electra_tf2.training.optimizers import AdamW, OptimizerSettings
    from electra_tf2.training.reports import RunLog
    from electra_tf2.training.schedule import PolynomialDecay
    from electra_tf2.training.trainer import Trainer, TrainingRun

    config = PretrainingConfig("benchmark", "unused", model_size="base", max_seq_length=length)
    strategy = make_strategy("one_device")
    objective = make_objective(strategy, config, "float32")
    steps = saves * SAVE_EVERY
    run = TrainingRun(
        objective=objective,
        strategy=strategy,
        optimizer=AdamW(strategy, objective.named_variables(), OptimizerSettings()),
        schedule=PolynomialDecay(config.learning_rate, steps, 0),
        settings=LoopSettings(steps, batch_size, length, save_every=SAVE_EVERY),
        store=CheckpointStore(folder, 1),
        log=RunLog(folder),
    )
    return Trainer(run), random_batches(batch_size, length, config.vocab_size)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
