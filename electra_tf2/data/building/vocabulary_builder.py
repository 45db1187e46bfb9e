"""A corpus to a vocabulary file."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from electra_tf2 import files, patterns
from electra_tf2.console import Progress, say, show
from electra_tf2.data.building.builders import Counts
from electra_tf2.data.sources.chunks import check_head
from electra_tf2.data.sources.found import CorpusFile, find_files, unreadable
from electra_tf2.data.sources.packed import PLAIN_TEXT
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.data.sources.records import Batch
from electra_tf2.errors import UserError
from electra_tf2.outputs import check_output_paths, output_errors_explained
from electra_tf2.text.casing_files import ENDING, as_flag, casing_file_content, settle_casing
from electra_tf2.text.casing_fit import inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.plain_text import HEAD_BYTES, check_plain_text
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary, load_vocabulary
from electra_tf2.text.vocabulary_extension import check_room, extend_vocabulary
from electra_tf2.text.vocabulary_training import (
    MANY_UNKNOWN,
    TrainedVocabulary,
    WordCounter,
    train_vocabulary,
)
from electra_tf2.text.wordpiece import LARGEST_WORD_LIMIT, MAX_WORD_CHARACTERS


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """What to build.

    Attributes:
        corpus_dir: the corpus: a folder, a file, a pattern or the name of a data set (see
            `find_files`).
        output_file: where the vocabulary goes.
        vocab_size: number of pieces, special tokens and those of `extend` included.
        extend: path of a vocabulary whose pieces are kept, in front; None: all are learned.
        do_lower_case: whether text is lower-cased; None, as for the next two: as the files of
            `extend` say, or else as `UNCASED`.
        strip_accents: whether accents are removed (only when lower-casing).
        max_word_characters: characters of the longest word that pieces are learned from.
        min_frequency: characters and pairs that occur less often make no piece.
        limit_alphabet: largest number of characters; None: see `train_vocabulary`.
        max_bytes: bytes of the corpus to read; a larger corpus is sampled evenly.
        as_plain_text: whether JSON lines, tables, HTML and XML are taken for the text that they
            are.
        overwrite: whether an existing file is replaced.
        text_field: the field of records (JSON lines, tables, Parquet, Arrow) that holds the text.
    """

    corpus_dir: str
    output_file: str
    vocab_size: int = 30522
    extend: str | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    max_word_characters: int | None = None
    min_frequency: int = 2
    limit_alphabet: int | None = None
    max_bytes: int = 1_000_000_000
    as_plain_text: bool = False
    overwrite: bool = False
    text_field: str = "text"


def build_vocabulary(config: VocabularyConfig) -> Vocabulary:
    """Learns a vocabulary from a corpus and writes it; the same corpus gives the same bytes.

    The casing is written beside it (`electra_tf2.text.casing_files`), for the programs that follow.

    Returns:
        The vocabulary.

    Raises:
        UserError: a value is out of range, the output file already exists, the corpus is empty or
            not UTF-8, it doesn't give a vocabulary of this size, or the one to extend can't be
            read. Nothing is written then.
    """
    check_bounds(config, _BOUNDS)
    _check_output(config)
    old = load_vocabulary(config.extend) if config.extend else None
    if old is not None:
        check_room(len(old), config.vocab_size)
    casing = _casing(config, old)
    check_word_limit(casing)
    corpus, hidden = find_files(config.corpus_dir, "--corpus-dir")
    total = sum(file.size for file in corpus)
    skipped = f" ({hidden} hidden entries left out)" if hidden else ""
    say(f"Corpus: {len(corpus)} files, {total / 1e6:.1f} MB{skipped}")
    reader = CorpusReader(config.text_field, config.as_plain_text)
    reader.check_names(corpus, config.corpus_dir)
    sample = inspect_text(sample_text(corpus, reader))
    for advice in text_advice(sample, casing, as_flag):
        say(f"warning: {advice}")
    words = _count_words(config, casing, corpus, reader, total)
    vocabulary, summary, warnings = _learn(config, casing, words, old)
    _write(config.output_file, vocabulary, casing)
    _print_summary(config, casing, vocabulary, summary)
    say(*warnings)
    return vocabulary


def _casing(config: VocabularyConfig, old: Vocabulary | None) -> Casing:
    given = given_casing(config)
    if old is not None and config.extend:
        return settle_casing(given, config.extend, old, as_flag).casing
    return Casing.from_settings(UNCASED.settings() | given)


def _learn(
    config: VocabularyConfig, casing: Casing, words: Mapping[str, int], old: Vocabulary | None
) -> tuple[Vocabulary, list[str], list[str]]:
    """Returns a new or an extended vocabulary, lines that say what it is like, and warnings."""
    size, limit = config.vocab_size, casing.max_word_characters
    options = {
        "min_frequency": config.min_frequency,
        "limit_alphabet": config.limit_alphabet,
        "max_word_characters": limit,
        "show_progress": sys.stderr.isatty(),
    }
    if old is None:
        say(f"Learning {size} pieces from {len(words)} different words")
        trained = train_vocabulary(words, size, **options)
        unknown = trained.unknown_words / sum(words.values())
        characters = f"{trained.alphabet_size} different characters"
        return (
            trained.vocabulary,
            [f"{characters}. {unknown:.3%} of the words can't be spelled with them."],
            _warnings(trained, limit),
        )
    say(f"Learning {size - len(old)} new pieces from {len(words)} different words")
    extended = extend_vocabulary(words, old, size, **options)
    return (
        extended.vocabulary,
        [
            f"the {len(old)} of {config.extend} and {size - len(old)} new ones "
            f"({extended.new_characters} new characters).",
            f"A word of the text has {extended.pieces_after:.2f} pieces on average, before it had "
            f"{extended.pieces_before:.2f}; {extended.unknown_after:.3%} of the words can't be "
            f"spelled, before {extended.unknown_before:.3%}.",
        ],
        [],
    )


def _write(path: str, vocabulary: Vocabulary, casing: Casing) -> None:
    """Writes a vocabulary, and before it its casing, without which it would be misread."""
    with output_errors_explained(path):
        files.make_dirs(os.path.dirname(path))
        if not files.is_stream(path):
            files.replace_file(path + ENDING, casing_file_content(vocabulary, casing))
        files.replace_file(path, vocabulary.text.encode("utf-8"))


def check_word_limit(casing: Casing) -> None:
    """Refuses a --max-word-characters that no tokenizer could have.

    Raises:
        UserError: it is out of range.
    """
    if not 1 <= casing.max_word_characters <= LARGEST_WORD_LIMIT:
        raise UserError(
            "The limit for long words is out of range.",
            where="--max-word-characters",
            received=casing.max_word_characters,
            remedy=f"Give a number of 1 to {LARGEST_WORD_LIMIT}.",
        )


def sample_batches(
    corpus: Sequence[CorpusFile], reader: CorpusReader, max_bytes: int
) -> Iterator[tuple[CorpusFile, Batch]]:
    """Yields the text of all files, or an even share of it if they are larger than `max_bytes`.

    Of a file that is not divided all is read, and a share of what is read is yielded.

    Args:
        reader: reads them.
        max_bytes: about how many bytes of the files to take; one batch at least.

    Yields:
        Files, each with a batch of its text.

    Raises:
        UserError: what is taken can't be read, is not UTF-8, or is of a file of something else.
    """
    share = min(1.0, max_bytes / max(1, sum(file.size for file in corpus)))
    due = 1.0

    def is_due() -> bool:
        nonlocal due
        taken = due >= 1.0
        due = due - taken + share
        return taken

    for file in corpus:
        unchecked = reader.kind(file) == PLAIN_TEXT
        for chunk in reader.plan(file):
            if reader.is_divided(file):
                if is_due():
                    if unchecked and chunk.start:  # its beginning, which tells, is not taken
                        check_head(file, as_plain_text=reader.as_plain_text)
                    unchecked = False
                    yield from ((file, batch) for batch in reader.batches(chunk))
            else:
                yield from ((file, batch) for batch in reader.batches(chunk) if is_due())


# Of so many files, evenly spread, as many bytes in all are looked at before the work begins.
_SAMPLED_FILES = 32
_SAMPLED_BYTES = 1 << 19
# What a window that begins within a word leaves out; what is longer stays, as text without spaces.
_PART_OF_A_WORD = re.compile(rf"\A\S{{0,{MAX_WORD_CHARACTERS}}}\s")


def sample_text(corpus: Sequence[CorpusFile], reader: CorpusReader) -> Iterator[str]:
    """Yields a little text from all over a corpus, for a quick look at its language.

    Args:
        corpus: the files; what is not UTF-8 in plain text is left out.
        reader: reads them.

    Raises:
        UserError: a file can't be read, or is something else than its name says.
    """
    files_of_it = corpus[:: -(-len(corpus) // _SAMPLED_FILES)]
    places = -(-_SAMPLED_FILES // len(files_of_it))
    size = _SAMPLED_BYTES // (len(files_of_it) * places)
    for file in files_of_it:
        if reader.kind(file) == PLAIN_TEXT:
            yield from _windows(file, places, size, reader.as_plain_text)
            continue
        batches = (batch for chunk in reader.plan(file) for batch in reader.batches(chunk))
        if beginning := next(batches, None):
            text = "\n".join(beginning.texts)
            yield from (text[start : start + size] for start in range(0, places * size, size))


def _windows(file: CorpusFile, places: int, size: int, as_plain_text: bool) -> Iterator[str]:
    """Yields windows of plain text, evenly spread."""
    last = max(0, file.size - size)
    try:
        with files.reported_as_os_errors(file.path), files.open_binary(file.path) as reader:
            check_plain_text(file.path, reader.read(HEAD_BYTES), as_plain_text=as_plain_text)
            for start in sorted({last * i // max(1, places - 1) for i in range(places)}):
                reader.seek(start)
                text = reader.read(size).decode("utf-8", "ignore")
                yield _PART_OF_A_WORD.sub("", text) if start else text
    except OSError as error:
        raise unreadable(file.path, error) from error


_BOUNDS = {
    "vocab_size": (len(SPECIAL_TOKENS) + 1, 10**8),
    "min_frequency": (1, 10**15),
    "limit_alphabet": (1, sys.maxunicode + 1),
    "max_bytes": (1, 10**18),
}


def check_bounds(config: object, bounds: Mapping[str, tuple[int, int]]) -> None:
    """Refuses flags, the fields of a configuration, that are out of their bounds; None passes."""
    for name, (least, most) in bounds.items():
        value = getattr(config, name)
        if value is not None and not least <= value <= most:
            large = value > most
            raise UserError(
                f"{name} is too {'large' if large else 'small'}.",
                where=f"--{name.replace('_', '-')}",
                received=value,
                remedy=f"Give a number of at {f'most {most}' if large else f'least {least}'}.",
            )


def given_casing(config: object) -> dict[str, Any]:
    """Returns the settings of the casing that flags, the fields of a configuration, give."""
    flags = {name: getattr(config, name) for name in UNCASED.settings()}
    return {name: value for name, value in flags.items() if value is not None}


def _check_output(config: VocabularyConfig) -> None:
    path = config.output_file
    check_output_paths({"--output-file": path})
    if files.is_stream(path):
        return
    check_output_paths({"--output-file (the casing beside it)": path + ENDING})
    if path.endswith(".json"):
        raise UserError(
            "The vocabulary is plain text, which no program would look for in a file of this name.",
            where="--output-file",
            received=path,
            remedy="Choose a name that does not end in .json, such as vocab.txt.",
        )
    _check_apart(config)
    if files.is_file(config.output_file) and not config.overwrite:
        raise UserError(
            "The output file already exists.",
            where="--output-file",
            received=config.output_file,
            remedy="Choose another name, or replace the file with --overwrite.",
        )


def _check_apart(config: VocabularyConfig) -> None:
    """The output must not become a part of the corpus."""
    if not files.is_local(config.output_file):
        return
    written = (config.output_file, config.output_file + ENDING)
    if any(patterns.covers(config.corpus_dir, path) for path in written):
        raise UserError(
            "The vocabulary would lie in the corpus folder, or match a pattern of the corpus, and "
            "be taken for text by the next program.",
            where="--output-file",
            received=config.output_file,
            remedy=f"Choose a file outside of what --corpus-dir names: {config.corpus_dir}",
        )


def _count_words(
    config: VocabularyConfig,
    casing: Casing,
    corpus: Sequence[CorpusFile],
    reader: CorpusReader,
    total: int,
) -> dict[str, int]:
    is_sampled = total > config.max_bytes
    if is_sampled:
        say(f"Reading an even sample of {config.max_bytes / 1e6:.1f} MB")
    counter = WordCounter(casing)
    counts, done = Counts(), 0
    for file in corpus:
        kind, is_local = reader.kind(file), files.is_local(file.path)
        if kind.has_records or (kind.packing and is_local):
            reader.check(file)
        elif is_sampled and is_local:  # all of it is checked as it is read
            check_head(file, as_plain_text=config.as_plain_text)
    read = min(total, config.max_bytes)
    with Progress(read, description="Counting words", unit="byte") as progress:
        for file, batch in sample_batches(corpus, reader, config.max_bytes):
            counter.add("\n".join(batch.texts))
            if reader.kind(file).has_records:
                counts.documents += len(batch.texts)
                counts.add_bad(batch.bad_places(file.path))
            done += batch.source_bytes
            progress.update(min(done, read))  # a sample is one batch at least, of whole lines
    if counts.bad_records:
        say(f"warning: {counts.left_out}")
    words = counter.words()
    if not words:
        raise UserError(
            "The corpus holds no words.",
            where=config.corpus_dir,
            received=f"{len(corpus)} files with {total} bytes",
            remedy="Give a folder of UTF-8 text files.",
        )
    return words


def _print_summary(
    config: VocabularyConfig, casing: Casing, vocabulary: Vocabulary, lines: list[str]
) -> None:
    flags = " ".join(as_flag(name, value) for name, value in casing.to_dict().items())
    if files.is_stream(config.output_file):  # which may be stdout, and has no file beside it
        tell, taken = say, f"Give build_pretraining_dataset.py {flags}"
    else:
        tell = show
        taken = f"build_pretraining_dataset.py takes {flags} from {config.output_file}{ENDING}"
    first, *more = lines
    size = len(vocabulary)
    tell(
        f"Wrote {config.output_file}: {size} pieces, {first}",
        *more,
        f"{taken}; give run_pretraining.py the hparam vocab_size = {size}.",
    )


def _warnings(trained: TrainedVocabulary, limit: int) -> list[str]:
    found = []
    if trained.unknown_characters - trained.overlong_characters > MANY_UNKNOWN:
        found.append(
            f"warning: {trained.unknown_characters:.1%} of the characters lie in words that can't "
            f"be spelled and become [UNK]. With {trained.advice} at most {MANY_UNKNOWN:.0%} do."
        )
    if trained.overlong_characters > MANY_UNKNOWN:
        found.append(
            f"warning: {trained.overlong_characters:.1%} of the characters lie in words of more "
            f"than {limit:,} characters, which become [UNK]: put spaces into them, or raise "
            "--max-word-characters (docs/languages.md)."
        )
    return found
