"""Arranges a downloaded GLUE folder for fine-tuning, and checks it.

The folder holds CoLA, MNLI, MRPC, QNLI, QQP, RTE, SST-2, STS-B, WNLI and diagnostic, or some of
them. Their files go to <data-dir>/finetuning_data/cola, mnli and so on; existing files are never
overwritten. A table of the files and their rows is printed, which shows what is missing.
"""

from __future__ import annotations

from electra_tf2 import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and arranges the files.

    Raises:
        UserError: see `finetune.classification.prepare_glue`.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    parser = cli.make_parser(__doc__)
    parser.add_argument("--glue-dir", required=True, help="the downloaded folder (see above)")
    parser.add_argument("--data-dir", required=True, help="the --data-dir of run_finetuning.py")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the files (the default)")
    how.add_argument("--link", action="store_true", help="make symbolic links to the files")
    flags = parser.parse_args(argv)
    # Here, because TensorFlow takes seconds to load and --help doesn't need it.
    from finetune.classification.prepare_glue import prepare_glue

    prepare_glue(flags.glue_dir, flags.data_dir, link=flags.link)


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
