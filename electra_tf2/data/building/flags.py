"""The command-line flags of the programs that build data sets and vocabularies."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from electra_tf2 import cli
from electra_tf2.errors import UserError

CORPUS_FORMAT = """\
The corpus is a folder of files, in any mixture. The ending of its name says what a file is:

    .jsonl .ndjson .json    a JSON object per line; --text-field names the field with the text
    .csv .tsv               tables whose first row names the columns; cells in quotes may hold
                            line breaks
    .parquet                tables of Parquet
    .arrow .feather         tables of Arrow, also as the datasets library saves them to disk
    anything else           plain text: UTF-8 with a sentence or paragraph per line

  * Text, JSON lines, CSV and TSV may be packed: .gz, .bz2, .xz or .zst is added to the name.
    (.zst, Parquet and Arrow: pip install 'electra-tf2[corpora]')
  * In plain text, an empty line ends a document (--blanks-separate-docs false: each file is one
    document). Books with an empty line after every paragraph need the latter.
    The end of a file always ends a document. Lines end only at \\n.
  * A record is one document, empty lines or not (--blanks-separate-docs true: empty lines in it
    end documents, too). Its lines are those of its text. Records without a text in the field are
    left out, counted and named; it is an error if a file has no other.
  * Anything but UTF-8 is an error that names the file, the line and the byte. So is what isn't
    text (HTML, PDF, TFRecords): it says what it is.
  * Files in subfolders are read too. Files and folders whose name begins with a dot are left out.
  * hf:NAME[,CONFIG][:SPLIT] is a data set of the Hugging Face Hub (pip install datasets), such as
    hf:wikimedia/wikipedia,20231101.en:train.

For example, a file of plain text with two documents:

    The harbour was built in 1871. It has two basins.
    Ships of up to 90 metres can enter.

    Bread is made of flour, water and salt.
    The dough rests overnight.
"""

RESULT_FORMAT = """\
Lines gather until an example is full; then they are dealt to two segments,
[CLS] a [SEP] b [SEP]. What doesn't fit is dropped and counted, as in the official
program; --split-long-lines keeps it. The summary counts what else is lost (words that are [UNK])
and how much of the examples is padding; metadata.json keeps the counts.

The shards are written to a temporary folder beside the output folder, which takes its place when
everything is done: a failed or interrupted run leaves nothing behind. metadata.json in it says how
the data were built; training checks it.

The corpus is cut into chunks of about half a megabyte of whole documents, each with a random
stream of its own, so the result does not depend on --num-processes. (A document of more than 4 MB,
or of more than half a megabyte where blank lines do not separate documents, is cut at the end of a
line. Parquet is cut between row groups, Arrow between record batches. A packed file, CSV or TSV is
not cut: one process reads all of it.) --sampling official draws from one stream, as the official
program does: the same examples in the same shards as its single process with Python's random
seeded with --seed.

--segmentation dynamic writes tokenized documents instead of examples. Training with the hparam
segmentation "dynamic" cuts new examples from them every epoch, at its own length. (A document of
more than 16,384 tokens continues in another record.)

Corpora beyond one machine: --runner builds with Apache Beam (pip install 'electra-tf2[beam]') and
writes the same bytes. Beam's own options come after --:

    --runner DirectRunner -- --direct_num_workers=8 --direct_running_mode=multi_processing
    --runner FlinkRunner -- --flink_master=flink.example.org:8081 --environment_type=DOCKER

docs/large_corpora.md has the rest: other runners, time and disk space.
"""


def boolean(text: str) -> bool:
    """Parses true or false, yes or no, 1 or 0, in any case.

    Raises:
        argparse.ArgumentTypeError: it is none of them.
    """
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in values:
        raise argparse.ArgumentTypeError(
            f"received {text!r}; give true or false (or yes, no, 1, 0)"
        )
    return values[text.strip().lower()]


def add_corpus_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where the corpus is and how its records are read."""
    parser.add_argument(
        "--corpus-dir",
        required=True,
        metavar="CORPUS",
        help="folder of the corpus, a file of it, a pattern in quotes ('data/**/*.jsonl.zst'; "
        "several are joined by commas), or hf:NAME[,CONFIG][:SPLIT] (see above)",
    )
    parser.add_argument(
        "--text-field",
        default="text",
        metavar="NAME",
        help="the field or column of records that holds the text (default: text); in JSON, a.b is "
        "the field b of an object a",
    )


def add_build_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that both programs have; their names are the fields of `BuildConfig`."""
    parser.add_argument(
        "--segmentation",
        choices=("static", "dynamic"),
        default="static",
        help="static (default): write examples; dynamic: write tokenized documents, from which "
        "training cuts new examples every epoch",
    )
    parser.add_argument("--max-seq-length", type=int, help="tokens per example (default: 128)")
    parser.add_argument(
        "--num-processes",
        type=int,
        default=1,
        help="processes that tokenize (default: 1); the result is the same for any number",
    )
    _add_casing_flags(parser, where="of the vocabulary")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: 0)")
    parser.add_argument(
        "--num-out-files", type=int, default=1000, help="number of shards (default: 1000)"
    )
    parser.add_argument(
        "--sampling",
        choices=("chunked", "official"),
        default="chunked",
        help="chunked (default): a random stream per chunk of the corpus; official: the official "
        "program's one stream, with one process",
    )
    parser.add_argument(
        "--split-long-lines",
        action="store_true",
        help="carry what doesn't fit into an example into the next one of the document",
    )
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="build even where nearly all of the text is [UNK], which is an error otherwise",
    )
    _add_as_plain_text(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing data set in the output folder (once the new one is complete)",
    )
    parser.add_argument(
        "--runner",
        help="build with this runner of Apache Beam: DirectRunner, FlinkRunner, SparkRunner, "
        "DataflowRunner, ...; its options come after --",
    )


def parse_build_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> dict[str, Any]:
    """Parses the flags of a builder.

    Returns:
        The flags by name (`max_seq_length` only if it is given), with what comes after "--" as
        `beam_options`.

    Raises:
        UserError: a length is given for documents.
        SystemExit: a flag is unknown or missing, or after `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags, unknown = parser.parse_known_args(arguments[:end])
    if unknown:
        # Not handed to Beam, which takes any option: a misspelled flag would go unnoticed.
        hint = " (options of Apache Beam come after --)" if flags.runner else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if flags.max_seq_length is None:
        delattr(flags, "max_seq_length")
    elif flags.segmentation == "dynamic":
        raise UserError(
            "Documents have no example length.",
            where="--max-seq-length",
            received=f"{flags.max_seq_length}, with --segmentation dynamic",
            remedy="Leave it out: training cuts them at its own max_seq_length.",
        )
    return vars(flags) | {"beam_options": tuple(arguments[end + 1 :])}


def run_builder(main: Callable[[list[str] | None], None]) -> None:
    """Runs a builder's `main` as a program: see `cli.run`.

    The process tokenizes, so it is kept from taking a GPU's memory; and it cleans up after itself
    on SIGTERM.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    signal.signal(signal.SIGTERM, _end)
    cli.run(main)


def _end(signal_number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signal_number)


VOCABULARY_CORPUS_FORMAT = """\
The corpus is the one that build_pretraining_dataset.py takes (its --help has the kinds of files):
a folder of plain text in UTF-8, JSON lines, CSV, TSV, Parquet and Arrow files, also in subfolders;
names that begin with a dot are left out. Where lines and documents end doesn't matter here.
"""

VOCABULARY_RESULT_FORMAT = """\
The file has one piece per line; a piece's id is its line's number, from 0. First come [PAD] [UNK]
[CLS] [SEP] [MASK], then single characters (## before those that continue a word), then longer
pieces. The same text and flags give the same file, byte for byte.

Text is normalized as the tokenizer will do it. <output-file>.casing.json keeps the casing and
--max-word-characters, which build_pretraining_dataset.py takes from there; set the hparam
vocab_size to --vocab-size. Which languages need --no-lower-case or --no-strip-accents says
docs/languages.md.

For example:

    build_vocabulary.py --corpus-dir text --output-file data/vocab.txt --vocab-size 8000

--extend adds pieces to a vocabulary that a model has: the old ones keep their lines, and so their
ids, and the new ones, learned from the words that the old ones cut up, follow. The casing is the
old vocabulary's, and --vocab-size the number of all pieces. grow_model.py then gives the model the
new pieces:

    build_vocabulary.py --extend bert/vocab.txt --corpus-dir law --output-file law_vocab.txt \\
        --vocab-size 34000
    grow_model.py --model-dir electra_small --new-pieces law_vocab.txt --output law_model
"""


def add_vocabulary_flags(parser: argparse.ArgumentParser) -> None:
    """Adds all flags; their names are the fields of `VocabularyConfig`."""
    add_corpus_flags(parser)
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
        help="number of pieces, special tokens and those of --extend included (default: 30522, the "
        "size of BERT's)",
    )
    parser.add_argument(
        "--extend",
        metavar="OLD_VOCAB",
        help="keep the pieces of this vocabulary and learn others in addition (default: none)",
    )
    _add_casing_flags(parser, where="of --extend")
    parser.add_argument(
        "--min-frequency",
        type=int,
        default=2,
        help="characters and pairs that occur less often make no piece (default: 2)",
    )
    parser.add_argument(
        "--limit-alphabet",
        type=int,
        default=None,
        help="keep at most this many different characters, the most frequent ones; a word with "
        "another one becomes [UNK] (default: as many as cover 99.98 %% of the text, at least an "
        "eighth of --vocab-size, 64 to 1000, as far as they fit). With --extend: only these become "
        "new pieces",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        default=1_000_000_000,
        help="bytes of the corpus to read, about, as they are on the disk, evenly spread (default: "
        "1000000000, 1 GB)",
    )
    _add_as_plain_text(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")


def _add_as_plain_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as-plain-text",
        action="store_true",
        help="take JSON, CSV and TSV as they are, not for records; and HTML, XML and text without "
        "line feeds, markup and all, which are an error otherwise",
    )


def _add_casing_flags(parser: argparse.ArgumentParser, *, where: str) -> None:
    """Adds the settings of a `Casing`, None by default; the help says which files state them."""
    unless = f", unless a file {where} says otherwise"
    for name, field, what in (
        ("lower-case", "do_lower_case", "lower-case the text"),
        ("strip-accents", "strip_accents", "remove accents where text is lower-cased"),
    ):
        parser.add_argument(
            f"--do-{name}",
            dest=field,
            action="store_true",
            default=None,
            help=f"{what} (default{unless})",
        )
        parser.add_argument(
            f"--no-{name}", dest=field, action="store_false", default=None, help=f"do not {what}"
        )
    parser.add_argument(
        "--max-word-characters",
        type=int,
        help="longest word that is split into pieces; a longer one is one [UNK] (default: 200, as "
        f"BERT has it{unless}; 1000000 for DNA, proteins and scripts without spaces). Training, "
        "fine-tuning and exports take it from the data",
    )
