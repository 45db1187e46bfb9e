"""Builds pre-training data for ELECTRA: a corpus to sharded TFRecords."""

from __future__ import annotations

from electra_tf2 import cli
from electra_tf2.data.building import flags
from electra_tf2.data.building.build import BuildConfig, build_dataset


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and builds the data set.

    Raises:
        UserError: see `build_dataset`.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    parser = cli.make_parser(
        f"{__doc__ or ''}\n\n{flags.CORPUS_FORMAT}", epilog=flags.RESULT_FORMAT
    )
    flags.add_corpus_flags(parser)
    parser.add_argument("--vocab-file", required=True, help="vocabulary, one word piece per line")
    parser.add_argument(
        "--output-dir", required=True, help="where the shards go; must be empty or missing"
    )
    parser.add_argument(
        "--blanks-separate-docs",
        type=flags.boolean,
        default=None,
        metavar="{true,false}",
        help="whether an empty line ends a document (default: true in plain text, false in a "
        "record)",
    )
    flags.add_build_flags(parser)
    build_dataset(BuildConfig(**flags.parse_build_flags(parser, argv)))


def script_main() -> None:
    """The console command."""
    flags.run_builder(main)


if __name__ == "__main__":
    script_main()
