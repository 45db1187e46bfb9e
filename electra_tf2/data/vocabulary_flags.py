"""The command-line flags of the program that builds a vocabulary."""

from __future__ import annotations

import argparse

CORPUS_FORMAT = """\
The corpus is the one that build_pretraining_dataset.py takes: UTF-8 text files, also in subfolders;
names that begin with a dot are left out. Where lines and documents end doesn't matter here.
"""

RESULT_FORMAT = """\
The file has one piece per line; a piece's id is its line's number, from 0. First come [PAD] [UNK]
[CLS] [SEP] [MASK], then single characters (## before those that go on with a word), then longer
pieces. The same text and flags give the same file, byte for byte.

Text is normalized as the tokenizer will do it: give build_pretraining_dataset.py the same
--no-lower-case and --no-strip-accents, and set the hparam vocab_size to --vocab-size.

For example:

    build_vocabulary.py --corpus-dir text --output-file data/vocab.txt --vocab-size 8000
"""


def add_vocabulary_flags(parser: argparse.ArgumentParser) -> None:
    """Adds all flags; their names are the fields of `VocabularyConfig`."""
    parser.add_argument("--corpus-dir", required=True, help="folder of text files (see above)")
    parser.add_argument(
        "--output-file",
        "--vocab-file",
        required=True,
        dest="output_file",
        help="the vocabulary file to write (two names for one flag)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=30522,
        help="number of pieces, special tokens included (default: 30522, the size of BERT's)",
    )
    _add_casing_flags(parser)
    parser.add_argument(
        "--min-frequency",
        type=int,
        default=2,
        help="what occurs less often makes no piece (default: 2)",
    )
    parser.add_argument(
        "--limit-alphabet",
        type=int,
        default=None,
        help="keep at most so many different characters, the most frequent ones; a word with "
        "another one will be [UNK] (default: an eighth of --vocab-size, 64 to 1000)",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        default=1_000_000_000,
        help="read about so much of the corpus, evenly spread (default: 1000000000, 1 GB)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output file if it is there"
    )


def _add_casing_flags(parser: argparse.ArgumentParser) -> None:
    for name, field, what in (
        ("lower-case", "do_lower_case", "lower-case the text"),
        ("strip-accents", "strip_accents", "remove accents where text is lower-cased"),
    ):
        parser.add_argument(
            f"--do-{name}", dest=field, action="store_true", default=True, help=f"{what} (default)"
        )
        parser.add_argument(f"--no-{name}", dest=field, action="store_false", help=f"do not {what}")
