"""Builds a WordPiece vocabulary for ELECTRA from a corpus."""

from __future__ import annotations

from electra_tf2 import cli
from electra_tf2.data.building import flags
from electra_tf2.data.building.vocabulary_builder import VocabularyConfig, build_vocabulary


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and builds the vocabulary.

    Raises:
        UserError: see `build_vocabulary`.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    parser = cli.make_parser(
        f"{__doc__ or ''}\n\n{flags.VOCABULARY_CORPUS_FORMAT}",
        epilog=flags.VOCABULARY_RESULT_FORMAT,
    )
    flags.add_vocabulary_flags(parser)
    build_vocabulary(VocabularyConfig(**vars(parser.parse_args(argv))))


def script_main() -> None:
    """The console command."""
    cli.run(main)


if __name__ == "__main__":
    script_main()
