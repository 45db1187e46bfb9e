"""Gives a trained model more word pieces, or positions for longer texts; nothing is trained.

Takes a model of run_pretraining.py, an official checkpoint or a Hugging Face folder, and writes a
new model's folder, with all of its networks: run_pretraining.py goes on from it (init_checkpoint),
run_finetuning.py fine-tunes it, export_model.py exports it. The model itself stays as it is.

Examples:
  python grow_model.py --data-dir data --model-name small --new-pieces law_vocab.txt \\
      --output data/models/law
  python grow_model.py --data-dir data --model-name small --max-positions 2048 \\
      --output data/models/long
  python grow_model.py --model-dir google-electra-small-discriminator --new-pieces terms.txt \\
      --max-positions 1024 --positions interpolate --output data/models/grown
"""

from __future__ import annotations

import argparse
from typing import Any

from electra_tf2 import cli
from electra_tf2.console import quiet_libraries

EPILOG = """\
New pieces get the ids after the old ones, which keep theirs. --new-pieces is a file of one piece a
line, such as "foobar", or "##bar" for the rest of a word, or a vocabulary that begins with the
model's own, as build_vocabulary.py --extend learns it from text. The embedding of a new piece, and
its bias in the generator's output layer, are the mean of those of the old pieces that spelled it;
where a word was [UNK], the mean of all.

Positions: a table that was trained on examples of 128 tokens has 512 rows, of which the last 384
are still random. --trained-positions says how many were trained; of a model that
run_pretraining.py trained from random weights it is known. --positions copy repeats the trained
rows, so that the outputs for shorter texts stay as they are. --positions interpolate stretches
them over all rows, which changes all outputs until the model is trained further.

docs/beyond_electra.md says when to use which.
"""


def add_grow_flags(parser: argparse.ArgumentParser) -> None:
    """Adds all flags; but for the model's and --output, their names are the fields of `Growth`."""
    model = parser.add_argument_group("the model")
    cli.add_model_flags(
        model,
        "instead of the two: a model's folder, a checkpoint in it, an official checkpoint, or a "
        "Hugging Face folder (two, joined by a comma, for discriminator and generator)",
    )
    cli.add_text_flags(model)
    result = parser.add_argument_group("the result")
    result.add_argument(
        "--output", required=True, help="where to: a path that is free; nothing is overwritten"
    )
    pieces = parser.add_argument_group("word pieces")
    pieces.add_argument("--new-pieces", metavar="FILE", help="the pieces to add (see below)")
    pieces.add_argument(
        "--reuse-unused",
        action="store_true",
        help="give new pieces the places of the pieces [unused0], [unused1], … first, which no "
        "text has: the table grows less, or not at all; default: all are added at the end",
    )
    positions = parser.add_argument_group("positions")
    positions.add_argument(
        "--max-positions", type=int, help="tokens of the longest text, such as 2048"
    )
    positions.add_argument(
        "--positions",
        choices=("copy", "interpolate"),
        help="how the trained positions become more (default: copy)",
    )
    positions.add_argument(
        "--trained-positions",
        type=int,
        help="how many of the model's positions were trained, from the first; default: the length "
        "of its examples where it is known, or else all",
    )


def main(argv: list[str] | None = None) -> None:
    """Grows the model that the flags name."""
    parser = cli.make_parser(__doc__, epilog=EPILOG)
    add_grow_flags(parser)
    flags = parser.parse_args(argv)
    source = cli.named_model(flags, "to grow")
    with quiet_libraries():
        import tensorflow as tf

        from electra_tf2.growing.grow import Growth, grow_model

        tf.config.list_physical_devices()
    given: dict[str, Any] = {n: cli.TRUTH.get(value, value) for n, value in vars(flags).items()}
    output = given.pop("output")
    for name in ("data_dir", "model_name", "model_dir"):
        given.pop(name)
    grow_model(source, output, Growth(**given))


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
