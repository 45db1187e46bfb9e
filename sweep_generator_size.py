"""Pre-trains a model for each of several generator sizes, and compares them.

All have the same data, seed, steps and hparams (of run_pretraining.py) except the generator's
width. Each is a model of its own, <model-name>_generator_<size>; --finetune fine-tunes it as well.
<data-dir>/models/<model-name>_sweep gets

  results.md, results.json   losses, accuracy, the discriminator's AUC, parameters, scores
  generator_sizes.png        a plot of them (needs matplotlib)

Run the same command again to resume an interrupted sweep.

Example:
  python sweep_generator_size.py --data-dir data --model-name small --finetune task_names='["mrpc"]'
"""

from __future__ import annotations

import argparse

from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.console import quiet_libraries
from electra_tf2.hparams.record import parse_hparams
from electra_tf2.sweep.sizes import SIZES, sweep_configs


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags beside those of pre-training."""
    add, default = parser.add_argument, " ".join(map(str, SIZES))
    help_text = f"generator's width / discriminator's (default: {default})"
    add("--sizes", type=float, nargs="+", default=SIZES, metavar="SIZE", help=help_text)
    add("--finetune", metavar="HPARAMS", help="fine-tune, with these of run_finetuning.py")


def main(argv: list[str] | None = None) -> None:
    """Runs the sweep that the flags describe."""
    flags, more = cli.parse_run_flags(
        __doc__, argv, hparams_help=PretrainingConfig.describe(), add_flags=add_flags
    )
    configs = sweep_configs(PretrainingConfig, flags, more.sizes)
    with quiet_libraries():
        from electra_tf2.sweep.sweep import run_sweep
        from finetune.sweep_scores import SweepScores

    scores = None
    if more.finetune is not None:
        scores = SweepScores(flags.data_dir, parse_hparams(more.finetune, "--finetune"))
    run_sweep(flags, configs, scores)


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
