"""Builds pre-training data for ELECTRA from OpenWebText: tar archives to sharded TFRecords.

Reads <data-dir>/vocab.txt and every file in <data-dir>/openwebtext/ as a tar archive, compressed in
any way that Python's tarfile knows. Every regular file in an archive is one document of UTF-8 text
with a sentence or paragraph per line; blank lines have no meaning. Archives are read in memory,
never extracted. Files whose name begins with a dot are left out; subfolders are read too. Each
archive has a random stream of its own.

The result goes to <data-dir>/pretrain_tfrecords, which must be empty or missing.
"""

from __future__ import annotations

import os

from electra_tf2 import cli
from electra_tf2.data.building import flags as build_flags
from electra_tf2.data.building.build import BuildConfig, build_dataset


def main(argv: list[str] | None = None) -> None:
    """Parses the flags and builds the data set.

    Raises:
        UserError: see `build_dataset`.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    parser = cli.make_parser(__doc__, epilog="A failed or interrupted run leaves nothing behind.")
    parser.add_argument("--data-dir", required=True, help="folder with vocab.txt and openwebtext/")
    build_flags.add_build_flags(parser)
    flags = build_flags.parse_build_flags(parser, argv)
    data_dir = flags.pop("data_dir")
    config = BuildConfig(
        corpus_dir=os.path.join(data_dir, "openwebtext"),
        vocab_file=os.path.join(data_dir, "vocab.txt"),
        output_dir=os.path.join(data_dir, "pretrain_tfrecords"),
        blanks_separate_docs=False,
        archives=True,
        **flags,
    )
    build_dataset(config)


def script_main() -> None:
    """The console command."""
    build_flags.run_builder(main)


if __name__ == "__main__":
    script_main()
