"""Builds a pre-training data set: a corpus to sharded TFRecords with metadata."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

import electra_tf2
from electra_tf2 import files
from electra_tf2.console import silent_stderr
from electra_tf2.data.beam_files import JobFolder
from electra_tf2.data.builders import (
    COUNTS,
    RECORD_KINDS,
    Counts,
    DocumentBuilder,
    Part,
    RecordBuilder,
)
from electra_tf2.data.corpus import TextCorpus, find_files
from electra_tf2.data.openwebtext import TarCorpus
from electra_tf2.data.segments import MIN_SEQ_LENGTH
from electra_tf2.data.shards import (
    FORMAT_VERSIONS,
    DatasetMetadata,
    Shard,
    ShardWriter,
    write_metadata,
)
from electra_tf2.data.staging import StagedFolder
from electra_tf2.data.workers import PartMaker, WorkerPool
from electra_tf2.errors import UserError
from electra_tf2.files import output_errors_explained
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary, parse_vocabulary

# Checks of what is asked of a dataset builder.


def check_flags(config: BuildConfig) -> None:
    """Checks the settings of a build, before any file is looked at.

    Raises:
        UserError: A number is too small, or two settings don't go together.
    """
    smallest = {"max_seq_length": MIN_SEQ_LENGTH, "num_processes": 1, "num_out_files": 1}
    for name, least in smallest.items():
        if getattr(config, name) < least:
            raise UserError(
                f"{name} is too small.",
                where=f"--{name.replace('_', '-')}",
                received=getattr(config, name),
                remedy=f"Give a number of at least {least}.",
            )
    if config.sampling not in ("chunked", "official"):
        raise UserError(
            "There is no such way of sampling.",
            where="--sampling",
            received=config.sampling,
            remedy='Give "chunked" or "official".',
        )
    _check_segmentation(config)
    if config.sampling == "official" and config.num_processes > 1:
        raise _needs_one_process(
            "--num-processes", config.num_processes, "Leave --num-processes at 1"
        )
    if config.sampling == "official" and config.runner is not None:
        raise _needs_one_process("--runner", config.runner, "Leave --runner out")
    _check_beam_flags(config)


def _check_segmentation(config: BuildConfig) -> None:
    if config.segmentation not in ("static", "dynamic"):
        raise UserError(
            "There is no such segmentation.",
            where="--segmentation",
            received=config.segmentation,
            remedy='Give "static" or "dynamic".',
        )
    if config.segmentation == "dynamic" and config.sampling == "official":
        raise UserError(
            "The official random stream cuts examples, and documents are cut in training.",
            where="--sampling",
            received="official, with --segmentation dynamic",
            remedy="Leave one of the two out.",
        )


def _check_beam_flags(config: BuildConfig) -> None:
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


def _needs_one_process(flag: str, received: object, remedy: str) -> UserError:
    return UserError(
        "The official random stream runs through the whole corpus: it needs one process.",
        where=flag,
        received=received,
        remedy=f"{remedy}, or use --sampling chunked.",
    )


if TYPE_CHECKING:
    from electra_tf2.data.beam import BeamJob

DROPPED_WARNING = 0.05  # share of the tokens from which on their loss is a warning


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """What to build. The fields are the flags of `build_pretraining_dataset.py`.

    Attributes:
        corpus_dir: Folder of the corpus.
        vocab_file: WordPiece vocabulary, one piece a line.
        output_dir: Folder to write; must be empty or missing unless `overwrite`.
        max_seq_length: Length of an example in tokens, at least 5; documents have none.
        num_processes: Processes that tokenize. The result doesn't depend on it.
        blanks_separate_docs: Whether an empty line ends a document.
        do_lower_case: Whether text is lower-cased.
        strip_accents: Whether accents are removed (only when lower-casing).
        seed: Seed of the random streams.
        num_out_files: Number of shards.
        sampling: "chunked": every chunk of the corpus has a random stream of its own. "official":
            one stream over everything, as in the official program; needs one process.
        split_long_lines: Carry what finds no room in an example into the next one (of documents:
            tell the training to do so).
        segmentation: "static" to write examples; "dynamic" to write documents, from which training
            cuts new examples every epoch.
        overwrite: Replace a data set that is in `output_dir`.
        archives: The corpus is a folder of tar archives, each of whose files is a document.
        runner: Apache Beam's runner that builds instead of this program. The result doesn't depend
            on it.
        beam_options: Beam's pipeline options, as on a command line.
    """

    corpus_dir: str
    vocab_file: str
    output_dir: str
    max_seq_length: int = 128
    num_processes: int = 1
    blanks_separate_docs: bool = True
    do_lower_case: bool = True
    strip_accents: bool = True
    seed: int = 0
    num_out_files: int = 1000
    sampling: Literal["chunked", "official"] = "chunked"
    split_long_lines: bool = False
    segmentation: Literal["static", "dynamic"] = "static"
    overwrite: bool = False
    archives: bool = False
    runner: str | None = None
    beam_options: tuple[str, ...] = ()


def build_dataset(config: BuildConfig) -> DatasetMetadata:
    """Builds a data set and prints what it does and a summary.

    All checks come before anything is written, and the output folder appears, complete, at the
    very end: an error, Ctrl-C or a full disk leaves everything as it was.

    With `num_processes` > 1 new Python processes are started ("spawn"): a program that calls this
    must do so under `if __name__ == "__main__":`.

    Args:
        config: What to build.

    Returns:
        The metadata that was written beside the shards.

    Raises:
        UserError: Something about the flags, the vocabulary, the corpus or the output folder is
            wrong, a worker was killed, or the disk is full.
    """
    started = time.monotonic()
    check_flags(config)
    job = _open_job(config)
    vocabulary = _read_vocabulary(config.vocab_file)
    output = StagedFolder(config.output_dir, overwrite=config.overwrite)
    output.check()
    corpus = _open_corpus(config)
    # The workers are handed their files with each task; the list of all would only be copied.
    without_files = dataclasses.replace(corpus, files=())
    make_maker = functools.partial(_make_maker, config, without_files, vocabulary)
    with output, output_errors_explained(config.output_dir):
        if job:
            counts, shards = _build_with_beam(job, config, corpus, make_maker, output.path)
        else:
            parts = _parts(config, corpus, vocabulary, make_maker)
            counts, shards = _build_here(config, corpus, parts, output.path)
        if not counts.examples:
            raise _no_text(config, counts)
        metadata = _describe(config, vocabulary, counts, len(corpus.files), shards)
        write_metadata(output.path, metadata)
        output.publish()
    _print_summary(config, metadata, time.monotonic() - started)
    return metadata


def _open_job(config: BuildConfig) -> BeamJob | None:
    if config.runner is None:
        return None
    from electra_tf2.data.beam import BeamJob  # Beam is an extra, and takes seconds to import

    return BeamJob(config.runner, config.beam_options)


def _read_vocabulary(path: str) -> Vocabulary:
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise UserError(
            "The vocabulary file can't be read.",
            where=path,
            received=error.strerror or str(error),
            remedy="Give a file with one word piece per line; build_vocabulary.py makes one from "
            "your text.",
        ) from error
    return parse_vocabulary(content, path)


def _open_corpus(config: BuildConfig) -> TextCorpus | TarCorpus:
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
    print(
        f"Corpus: {len(found):,} {'archives' if config.archives else 'files'}, "
        f"{size / 1e6:,.1f} MB in {config.corpus_dir}{skipped}",
        flush=True,
    )
    length, split, seed = config.max_seq_length, config.split_long_lines, config.seed
    if config.archives:
        return TarCorpus(found, length, split, seed)
    return TextCorpus(found, length, config.blanks_separate_docs, split, seed)


def _check_apart(config: BuildConfig, flag: str) -> None:
    """The output must not become a part of the corpus."""
    if not files.is_local(config.output_dir) or not files.is_local(config.corpus_dir):
        return
    corpus, output = os.path.realpath(config.corpus_dir), os.path.realpath(config.output_dir)
    if os.path.commonpath([corpus, output]) == corpus:
        raise UserError(
            "The output folder lies in the corpus folder.",
            where="--output-dir",
            received=config.output_dir,
            remedy=f"Choose an output folder outside of {config.corpus_dir} ({flag}).",
        )


def _build_with_beam(
    job: BeamJob,
    config: BuildConfig,
    corpus: TextCorpus | TarCorpus,
    make_maker: Callable[[], PartMaker],
    directory: str,
) -> tuple[Counts, tuple[Shard, ...]]:
    print(
        f"{RECORD_KINDS[config.segmentation].doing.format(config.max_seq_length)} "
        f"(Beam's {job.runner}, {config.sampling} sampling)",
        flush=True,
    )
    folder = JobFolder(directory, config.output_dir)
    return job.build_shards(corpus, make_maker, config.num_out_files, folder)


def _build_here(
    config: BuildConfig, corpus: TextCorpus | TarCorpus, parts: Iterator[Part], directory: str
) -> tuple[Counts, tuple[Shard, ...]]:
    counts = Counts()
    writer = ShardWriter(directory, config.num_out_files)
    with contextlib.closing(parts):
        progress = BuildProgress(corpus.source_bytes, RECORD_KINDS[config.segmentation].noun)
        with contextlib.closing(progress):
            for part in parts:
                writer.write(part.records)
                counts.add(part.counts)
                progress.update(part.counts, counts)
    return counts, writer.finish()


def _parts(
    config: BuildConfig,
    corpus: TextCorpus | TarCorpus,
    vocabulary: Vocabulary,
    make_maker: Callable[[], PartMaker],
) -> Iterator[Part]:
    """Yields the examples, made in this process or in workers."""
    workers = _useful_workers(config, corpus)
    print(
        f"{RECORD_KINDS[config.segmentation].doing.format(config.max_seq_length)} "
        f"({workers} {'process' if workers == 1 else 'processes'}, {config.sampling} sampling)",
        flush=True,
    )
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


def _useful_workers(config: BuildConfig, corpus: TextCorpus | TarCorpus) -> int:
    """The number of processes, but no more than there are tasks."""
    if config.num_processes == 1:
        return 1
    tasks = 0
    for _ in corpus.tasks():
        tasks += 1
        if tasks == config.num_processes:
            break
    return tasks


def _make_maker(
    config: BuildConfig, corpus: TextCorpus | TarCorpus, vocabulary: Vocabulary
) -> PartMaker:
    """Loads the tokenizer and returns what makes the parts of a task."""
    builder = _record_builder(config, vocabulary)
    return lambda task: builder.parts(corpus.passages(task))


def _record_builder(config: BuildConfig, vocabulary: Vocabulary) -> RecordBuilder | DocumentBuilder:
    with silent_stderr():
        tokenizer = make_tokenizer(
            vocabulary, lower_case=config.do_lower_case, strip_accents=config.strip_accents
        )
    return RECORD_KINDS[config.segmentation].make_builder(tokenizer, config.max_seq_length)


def _no_text(config: BuildConfig, counts: Counts) -> UserError:
    return UserError(
        "The corpus has no usable text.",
        where=config.corpus_dir,
        received=f"{counts.lines} lines that are not blank, {counts.tokens} tokens in them",
        remedy="Give text files with a sentence or paragraph per line.",
    )


def _describe(
    config: BuildConfig,
    vocabulary: Vocabulary,
    counts: Counts,
    num_files: int,
    shards: tuple[Shard, ...],
) -> DatasetMetadata:
    kind = RECORD_KINDS[config.segmentation]
    return DatasetMetadata(
        vocab_sha256=vocabulary.sha256,
        vocab_size=len(vocabulary),
        max_seq_length=config.max_seq_length if kind.has_length else 0,
        do_lower_case=config.do_lower_case,
        strip_accents=config.strip_accents,
        blanks_separate_docs=config.blanks_separate_docs,
        sampling=config.sampling,
        seed=config.seed,
        num_examples=counts.examples,
        shards=shards,
        counts={"files": num_files} | {name: getattr(counts, name) for name in kind.counts},
        electra_tf2_version=electra_tf2.__version__,
        split_long_lines=config.split_long_lines,
        segmentation=config.segmentation,
        format_version=FORMAT_VERSIONS[config.segmentation],
    )


def _print_summary(config: BuildConfig, metadata: DatasetMetadata, seconds: float) -> None:
    counts = metadata.counts
    noun = RECORD_KINDS[config.segmentation].noun
    share = counts.get("dropped_tokens", 0) / max(1, counts["tokens"])
    size = sum(shard.bytes for shard in metadata.shards)
    lines = [
        f"Done in {seconds:.1f} s ({metadata.num_examples / seconds:,.0f} {noun}/s).",
        *(f"  {name:<15} {counts[name]:>14,}" for name in COUNTS),
        f"  {noun:<15} {metadata.num_examples:>14,}",
        f"  output          {config.output_dir}: {len(metadata.shards)} shards, "
        f"{size / 1e6:,.1f} MB, metadata.json",
    ]
    if "dropped_tokens" in counts:
        dropped = f"{counts['dropped_tokens']:>14,}  ({share:.1%}: no room in an example)"
        lines.insert(-2, f"  {'tokens dropped':<15} {dropped}")
    print("\n".join(lines), flush=True)
    if share > DROPPED_WARNING:
        print(
            f"warning: {share:.1%} of the tokens are in no example, because a line that overruns "
            "its example loses the rest (as in the official program). --split-long-lines carries "
            "it into the next example.",
            flush=True,
        )


_SECONDS_BETWEEN_LINES = 10.0


class BuildProgress:
    """Progress through the corpus, in bytes.

    Args:
        total_bytes: Size of the corpus.
        noun: What is built.
    """

    def __init__(self, total_bytes: int, noun: str = "examples"):
        self._total, self._noun = total_bytes, noun
        self._started = self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total_bytes, unit="B", unit_scale=True, desc="Building", dynamic_ncols=True
            )

    def update(self, new: Counts, total: Counts) -> None:
        """Shows progress.

        Args:
            new: Figures of the part just written.
            total: Figures of all parts so far.
        """
        if self._bar is not None:
            self._bar.set_postfix_str(f"{total.examples:,} {self._noun}", refresh=False)
            self._bar.update(new.source_bytes)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES and total.source_bytes:
            self._said = now
            elapsed = now - self._started
            left = elapsed * (self._total / total.source_bytes - 1)
            print(
                f"{total.source_bytes / self._total:6.1%}  {total.examples:,} {self._noun}  "
                f"{total.source_bytes / elapsed / 1e6:.1f} MB/s  "
                f"elapsed {_clock(elapsed)}  left {_clock(left)}",
                flush=True,
            )

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
