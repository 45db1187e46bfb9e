"""Builds a pre-training data set: a corpus to sharded TFRecords with metadata."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Literal

import electra_tf2
from electra_tf2 import files, outputs, patterns
from electra_tf2.console import Progress, say, show, silent_stderr
from electra_tf2.data.building.beam_files import JobFolder
from electra_tf2.data.building.builders import Counts, DocumentBuilder, Part, RecordBuilder
from electra_tf2.data.building.corpus import Corpus, TextCorpus
from electra_tf2.data.building.openwebtext import TarCorpus
from electra_tf2.data.building.staging import StagedFolder
from electra_tf2.data.building.vocabulary_builder import (
    check_bounds,
    check_word_limit,
    given_casing,
    sample_text,
)
from electra_tf2.data.building.worker_pool import PartMaker, WorkerPool
from electra_tf2.data.quality import check_known, figures, warnings
from electra_tf2.data.segments import MIN_SEQ_LENGTH
from electra_tf2.data.shards import (
    RECORD_KINDS,
    TEXT_COUNTS,
    DatasetMetadata,
    Shard,
    ShardWriter,
    write_metadata,
)
from electra_tf2.data.sources.found import CorpusFile, find_files, real_path
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.errors import UserError
from electra_tf2.text.casing_files import as_flag, settle_casing
from electra_tf2.text.casing_fit import inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from electra_tf2.data.building.beam import BeamJob

# Flag -> smallest and largest value. What lies above is a slip, and would fill memory or disk.
_BOUNDS = {
    "max_seq_length": (MIN_SEQ_LENGTH, 1 << 20),
    "num_processes": (1, 4096),
    "num_out_files": (1, 10**6),
    "seed": (-(1 << 63), (1 << 63) - 1),
}
_SAMPLED_ARCHIVES = 8  # whose beginnings are looked at before the work
# After so many characters a corpus that is nearly all unknown ends the build, not only at its end.
_EARLY_CHARACTERS = 1 << 24
_ALLOW_UNKNOWN = "Or build it anyway with --allow-unknown."


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """What to build. The fields are the flags of `build_pretraining_dataset.py`.

    Attributes:
        corpus_dir: the corpus: a folder, a file, a pattern or the name of a data set (see
            `find_files`).
        vocab_file: WordPiece vocabulary: see `load_vocabulary`.
        output_dir: folder to write; must be empty or missing unless `overwrite`.
        max_seq_length: length of an example in tokens, at least 5; documents have none.
        num_processes: processes that tokenize. The result doesn't depend on it.
        blanks_separate_docs: whether an empty line ends a document; None: in plain text it does,
            and a record is one document.
        do_lower_case: whether text is lower-cased; None: as the vocabulary's files say (see
            `electra_tf2.text.casing_files`), or else it is.
        strip_accents: whether accents are removed (only when lower-casing); None: likewise.
        max_word_characters: characters of the longest word that is split into pieces; a longer one
            is [UNK]. None: likewise, or else as in BERT.
        seed: seed of the random streams.
        num_out_files: number of shards.
        sampling: "chunked": every chunk of the corpus has a random stream of its own. "official":
            one stream over everything, as in the official program; needs one process.
        split_long_lines: carry what doesn't fit into an example into the next one (of documents:
            tell the training to do so).
        segmentation: "static" to write examples; "dynamic" to write documents, from which training
            cuts new examples every epoch.
        allow_unknown: build from text that is nearly all [UNK], too.
        as_plain_text: take JSON lines, tables, HTML and XML for the text that they are.
        overwrite: replace an existing data set in `output_dir`.
        archives: the corpus is a folder of tar archives, each of whose files is a document.
        runner: Apache Beam's runner that builds instead of this program. The result doesn't depend
            on it.
        beam_options: Beam's pipeline options, as on a command line.
        text_field: the field of records (JSON lines, tables, Parquet, Arrow) that holds the text.
    """

    corpus_dir: str
    vocab_file: str
    output_dir: str
    max_seq_length: int = 128
    num_processes: int = 1
    blanks_separate_docs: bool | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    max_word_characters: int | None = None
    seed: int = 0
    num_out_files: int = 1000
    sampling: Literal["chunked", "official"] = "chunked"
    split_long_lines: bool = False
    segmentation: Literal["static", "dynamic"] = "static"
    allow_unknown: bool = False
    as_plain_text: bool = False
    overwrite: bool = False
    archives: bool = False
    runner: str | None = None
    beam_options: tuple[str, ...] = ()
    text_field: str = "text"

    @property
    def casing(self) -> Casing:
        """What becomes of capitals, accents and long words; where nothing is said, as in BERT."""
        return Casing.from_settings(UNCASED.settings() | given_casing(self))


def build_dataset(config: BuildConfig) -> DatasetMetadata:
    """Builds a data set; says what it does and prints a summary.

    All checks come before anything is written, and the output folder appears, complete, at the
    very end: an error, Ctrl-C or a full disk leaves everything as it was.

    With `num_processes` > 1 new Python processes are started ("spawn"): a program that calls this
    must do so under `if __name__ == "__main__":`.

    Returns:
        The metadata that was written beside the shards.

    Raises:
        UserError: something about the flags, the vocabulary, the corpus or the output folder is
            wrong, a worker was killed, or the disk is full.
    """
    started = time.monotonic()
    _check_flags(config)
    job = _open_job(config)
    vocabulary = load_vocabulary(config.vocab_file)
    casing, _ = settle_casing(given_casing(config), config.vocab_file, vocabulary, as_flag)
    config = dataclasses.replace(config, **casing.settings())
    output = StagedFolder(config.output_dir, overwrite=config.overwrite)
    output.check()
    corpus = _open_corpus(config)
    _say_what_is_lost(config, corpus)
    # The workers are handed their files with each task; the list of all would only be copied.
    without_files = dataclasses.replace(corpus, files=())
    make_maker = functools.partial(_make_maker, config, without_files, vocabulary)
    with output, outputs.output_errors_explained(config.output_dir):
        if job:
            _say_start(config, f"Beam's {job.runner}")
            folder = JobFolder(output.path, config.output_dir)
            counts, shards = job.build_shards(corpus, make_maker, config.num_out_files, folder)
        else:
            counts, shards = _build_here(config, corpus, vocabulary, make_maker, output.path)
        _check_text(config, counts)
        metadata = _describe(config, vocabulary, counts, corpus, shards)
        if not config.allow_unknown:
            check_known(metadata, config.corpus_dir, _ALLOW_UNKNOWN)
        write_metadata(output.path, metadata)
        output.publish()
    _print_summary(config, metadata, time.monotonic() - started)
    if counts.bad_records:
        say(f"warning: {counts.left_out}")
    return metadata


def _check_text(config: BuildConfig, counts: Counts) -> None:
    """Refuses a corpus of which no example could be made."""
    if not counts.examples:
        received = f"{counts.lines} lines that are not blank, {counts.tokens} tokens in them"
        if counts.bad_records:
            received += f"; {counts.left_out}"
        raise UserError(
            "The corpus has no usable text.",
            where=config.corpus_dir,
            received=received,
            remedy="Give text files with a sentence or paragraph per line.",
        )


def _check_flags(config: BuildConfig) -> None:
    """Checks the settings of a build, before any file is looked at."""
    check_bounds(config, _BOUNDS)
    check_word_limit(config.casing)
    known = {"sampling": ("chunked", "official"), "segmentation": tuple(RECORD_KINDS)}
    for name, values in known.items():
        if getattr(config, name) not in values:
            raise UserError(
                f"There is no such {name}.",
                where=f"--{name}",
                received=getattr(config, name),
                remedy="Give {!r} or {!r}.".format(*values),
            )
    if config.sampling == "official":
        _check_official_sampling(config)
    if config.runner is None and config.beam_options:
        raise UserError(
            "Options after -- are for Apache Beam, which runs only with --runner.",
            where="--",
            received=" ".join(config.beam_options),
            remedy="Give --runner before --, or leave both out.",
        )
    if config.runner is not None and config.num_processes > 1:
        raise UserError(
            "The workers of Apache Beam are set by its own options.",
            where="--num-processes",
            received=config.num_processes,
            remedy="Leave --num-processes out. On one machine: --runner DirectRunner -- "
            f"--direct_num_workers={config.num_processes} "
            "--direct_running_mode=multi_processing",
        )


def _check_official_sampling(config: BuildConfig) -> None:
    if config.segmentation == "dynamic":
        raise UserError(
            "The official random stream cuts examples, and documents are cut in training.",
            where="--sampling",
            received="official, with --segmentation dynamic",
            remedy="Leave one of the two out.",
        )
    what = "The official random stream runs through the whole corpus: it needs one process."
    if config.num_processes > 1:
        raise UserError(
            what,
            where="--num-processes",
            received=config.num_processes,
            remedy="Leave --num-processes at 1, or use --sampling chunked.",
        )
    if config.runner is not None:
        raise UserError(
            what,
            where="--runner",
            received=config.runner,
            remedy="Leave --runner out, or use --sampling chunked.",
        )


def _open_job(config: BuildConfig) -> BeamJob | None:
    if config.runner is None:
        return None
    try:
        # Beam is an extra, and takes seconds to import.
        from electra_tf2.data.building.beam import BeamJob
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise UserError(
            "Apache Beam is not installed.",
            where=f"--runner {config.runner}",
            received=str(error),
            remedy="pip install 'electra-tf2[beam]'",
        ) from error
    return BeamJob(config.runner, config.beam_options)


def _say_what_is_lost(config: BuildConfig, corpus: Corpus) -> None:
    """Warns where the casing takes away what the corpus's language needs."""
    if config.archives:
        few = corpus.files[:: -(-len(corpus.files) // _SAMPLED_ARCHIVES)]
        passages = (p for file in few for p in itertools.islice(corpus.passages(file), 8))
        texts = ("\n".join(passage.lines) for passage in passages)
    else:
        texts = sample_text(corpus.files, CorpusReader(config.text_field, config.as_plain_text))
    for advice in text_advice(inspect_text(texts), config.casing, as_flag):
        say(f"warning: {advice}")


def _open_corpus(config: BuildConfig) -> Corpus:
    """Lists the corpus; says what was found."""
    flag = "--data-dir" if config.archives else "--corpus-dir"
    found, hidden = find_files(config.corpus_dir, flag)
    _check_apart(config, flag)
    size = sum(file.size for file in found)
    if not size:
        raise UserError(
            "The corpus is empty.",
            where=config.corpus_dir,
            received=f"{len(found)} files of 0 bytes",
            remedy="Put text into the files: a sentence or paragraph per line.",
        )
    skipped = f", {hidden} hidden left out" if hidden else ""
    say(
        f"Corpus: {len(found):,} {'archives' if config.archives else 'files'}, "
        f"{size / 1e6:,.1f} MB in {config.corpus_dir}{skipped}"
    )
    _warn_of_vocabulary(config, found)
    length, split, seed = config.max_seq_length, config.split_long_lines, config.seed
    if config.archives:
        return TarCorpus(found, length, split, seed, config.as_plain_text)
    corpus = TextCorpus(
        found,
        length,
        split,
        seed,
        config.as_plain_text,
        config.blanks_separate_docs,
        config.text_field,
    )
    corpus.reader.check_names(found, config.corpus_dir)
    return corpus


def _warn_of_vocabulary(config: BuildConfig, found: Sequence[CorpusFile]) -> None:
    """Says so where the vocabulary is one of the corpus's files."""
    vocabulary = real_path(config.vocab_file)
    if any(real_path(file.path) == vocabulary for file in found):
        say(
            f"warning: the vocabulary, {config.vocab_file}, lies in the corpus and is taken for "
            "text: move it elsewhere."
        )


def _check_apart(config: BuildConfig, flag: str) -> None:
    """The output must not become a part of the corpus."""
    if files.is_local(config.output_dir) and patterns.covers(config.corpus_dir, config.output_dir):
        raise UserError(
            "The output folder lies in the corpus folder, or a pattern of the corpus matches it.",
            where="--output-dir",
            received=config.output_dir,
            remedy=f"Choose an output folder outside of what {flag} names: {config.corpus_dir}",
        )


def _build_here(
    config: BuildConfig,
    corpus: Corpus,
    vocabulary: Vocabulary,
    make_maker: Callable[[], PartMaker],
    directory: str,
) -> tuple[Counts, tuple[Shard, ...]]:
    workers = _useful_workers(config, corpus)
    _say_start(config, f"{workers} {'process' if workers == 1 else 'processes'}")
    noun = RECORD_KINDS[config.segmentation].noun
    counts, checked = Counts(), config.allow_unknown
    writer = ShardWriter(directory, config.num_out_files)
    with (
        contextlib.closing(_parts(config, corpus, vocabulary, make_maker, workers)) as parts,
        Progress(corpus.source_bytes, description="Building", unit="byte") as progress,
    ):
        for part in parts:
            writer.write(part.records)
            counts.add(part.counts)
            progress.update(counts.source_bytes, note=f"{counts.examples:,} {noun}")
            if not checked and counts.characters >= _EARLY_CHARACTERS:
                checked = True
                so_far = _describe(config, vocabulary, counts, corpus, ())
                check_known(so_far, config.corpus_dir, _ALLOW_UNKNOWN)
    return counts, writer.finish()


def _say_start(config: BuildConfig, who: str) -> None:
    title = RECORD_KINDS[config.segmentation].title.format(config.max_seq_length)
    say(f"Building {title} ({who}, {config.sampling} sampling)")


def _parts(
    config: BuildConfig,
    corpus: Corpus,
    vocabulary: Vocabulary,
    make_maker: Callable[[], PartMaker],
    workers: int,
) -> Generator[Part]:
    """Yields the records, made in this process or in workers."""
    if workers > 1:
        with WorkerPool(make_maker, workers) as pool:
            corpus.check()  # while the workers are loading TensorFlow
            yield from pool.parts(corpus.tasks())
        return
    corpus.check()
    if config.sampling == "official":
        yield from _record_builder(config, vocabulary).parts(corpus.official_passages())
        return
    make_parts = make_maker()
    for task in corpus.tasks():
        yield from make_parts(task)


def _useful_workers(config: BuildConfig, corpus: Corpus) -> int:
    """The number of processes, but no more than there are tasks."""
    if config.num_processes == 1:
        return 1
    return sum(1 for _ in itertools.islice(corpus.tasks(), config.num_processes))


def _make_maker(config: BuildConfig, corpus: Corpus, vocabulary: Vocabulary) -> PartMaker:
    """Loads the tokenizer and returns what makes the parts of a task."""
    builder = _record_builder(config, vocabulary)
    return lambda task: builder.parts(corpus.passages(task))


def _record_builder(config: BuildConfig, vocabulary: Vocabulary) -> RecordBuilder | DocumentBuilder:
    with silent_stderr():
        tokenizer = make_tokenizer(vocabulary, config.casing)
    if config.segmentation == "dynamic":
        return DocumentBuilder(tokenizer)
    return RecordBuilder(tokenizer, config.max_seq_length)


def _describe(
    config: BuildConfig,
    vocabulary: Vocabulary,
    counts: Counts,
    corpus: Corpus,
    shards: tuple[Shard, ...],
) -> DatasetMetadata:
    kind = RECORD_KINDS[config.segmentation]
    return DatasetMetadata(
        vocab_sha256=vocabulary.sha256,
        vocab_size=len(vocabulary),
        max_seq_length=config.max_seq_length if kind.has_length else 0,
        **config.casing.settings(),
        blanks_separate_docs=corpus.ends_documents_at_blanks,
        sampling=config.sampling,
        seed=config.seed,
        num_examples=counts.examples,
        shards=shards,
        counts={"files": len(corpus.files)}
        | {name: getattr(counts, name) for name in kind.counts}
        | ({"bad_records": counts.bad_records} if counts.bad_records else {}),
        electra_tf2_version=electra_tf2.__version__,
        split_long_lines=config.split_long_lines,
        segmentation=config.segmentation,
        format_version=kind.format_version,
    )


def _print_summary(config: BuildConfig, metadata: DatasetMetadata, seconds: float) -> None:
    counts, noun = metadata.counts, metadata.kind.noun
    size = sum(shard.bytes for shard in metadata.shards)
    lines = [
        f"Done in {seconds:.1f} s ({metadata.num_examples / seconds:,.0f} {noun}/s).",
        *(f"  {name:<15} {counts[name]:>14,}" for name in TEXT_COUNTS),
        *(f"  {name:<15} {count:>14,}  ({meaning})" for name, count, meaning in figures(metadata)),
        f"  {noun:<15} {metadata.num_examples:>14,}",
        f"  output          {config.output_dir}: {len(metadata.shards)} shards, "
        f"{size / 1e6:,.1f} MB, metadata.json",
    ]
    show(*lines)
    for warning in warnings(metadata):
        say(f"warning: {warning}")
