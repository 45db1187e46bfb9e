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

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries, show


def main(argv: list[str] | None = None) -> None:
    """Writes the page about the model that the flags name."""
    parser = cli.make_parser(__doc__)
    cli.add_model_flags(parser, "instead of the two: the model's folder")
    output_help = "where to write it (default: report.html in the model's folder)"
    parser.add_argument("--output", help=output_help)
    flags = parser.parse_args(argv)
    model_dir = cli.named_model(flags, "the page is about")
    with quiet_libraries():
        import tensorflow as tf

        from finetune.report.write import write_report

        tf.config.list_physical_devices()
    show(f"Page written to {write_report(model_dir, flags.output)}")


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
