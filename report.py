"""Writes a page to look at about a model: one HTML file, for a colleague or for yourself.

It shows what was trained on what (text, steps, compute, time), the learning curves of both
networks, what the discriminator says of held-out sentences, samples of the generator, the scores
of fine-tuning with their spread and the classes that were confused, the warnings that were given,
and the commands that repeat it all. Nothing is trained. What the model's folder does not hold is
left out, so it works for models that are still being trained, too.

The file needs no network and no other file. By default it is <model folder>/report.html. The hparam
"report": true of run_pretraining.py and run_finetuning.py writes it at the end of a run.

Examples:
  python report.py --data-dir data --model-name small
  python report.py --model-dir data/models/small --output small.html
"""

from __future__ import annotations

import argparse
import posixpath

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries, show
from electra_tf2.errors import UserError


def main(argv: list[str] | None = None) -> None:
    """Writes the page about the model that the flags name."""
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("--data-dir", help="with --model-name: <data-dir>/models/<model-name>")
    add("--model-name", help="name of a model below --data-dir")
    add("--model-dir", help="instead of the two: the model's folder")
    add("--output", help="where to write it (default: report.html in the model's folder)")
    flags = parser.parse_args(argv)
    model_dir = model_folder(flags)
    with quiet_libraries():
        import tensorflow as tf

        from finetune.report.write import write_report

        tf.config.list_physical_devices()
    show(f"Page written to {write_report(model_dir, flags.output)}")


def model_folder(flags: argparse.Namespace) -> str:
    """Returns the folder of the model that the flags name.

    Raises:
        UserError: they name none, or two.
    """
    by_name = [flags.data_dir, flags.model_name]
    if flags.model_dir and by_name == [None, None]:
        return flags.model_dir
    if flags.model_dir is None and all(by_name):
        return posixpath.join(flags.data_dir, "models", flags.model_name)
    raise UserError(
        "It is not clear which model the page is about.",
        where="--data-dir, --model-name, --model-dir",
        received=f"{flags.data_dir}, {flags.model_name}, {flags.model_dir}",
        remedy="Give --data-dir and --model-name, or --model-dir alone.",
    )


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
