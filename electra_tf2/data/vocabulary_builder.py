"""A folder of text files to a vocabulary file."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence

from electra_tf2 import files
from electra_tf2.console import Progress, say
from electra_tf2.data.corpus import Chunk, CorpusFile, find_files, plan_chunks, read_chunk
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from electra_tf2.text.vocabulary_training import (
    TrainedVocabulary,
    WordCounter,
    train_vocabulary,
)
from electra_tf2.text.wordpiece import MAX_WORD_CHARACTERS


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """What to build.

    Attributes:
        corpus_dir: folder of text files (those in subfolders too).
        output_file: where the vocabulary goes.
        vocab_size: number of pieces, special tokens included.
        do_lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed (only when lower-casing).
        max_word_characters: characters of the longest word that pieces are learned from.
        min_frequency: characters and pairs that occur less often make no piece.
        limit_alphabet: largest number of characters; None: an eighth of the vocabulary, 64 to 1000.
        max_bytes: bytes of the corpus to read; a larger corpus is sampled evenly.
        as_plain_text: whether JSON lines, HTML and XML are taken for the text that they are.
        overwrite: whether an existing file is replaced.
    """

    corpus_dir: str
    output_file: str
    vocab_size: int = 30522
    do_lower_case: bool = True
    strip_accents: bool = True
    max_word_characters: int = MAX_WORD_CHARACTERS
    min_frequency: int = 2
    limit_alphabet: int | None = None
    max_bytes: int = 1_000_000_000
    as_plain_text: bool = False
    overwrite: bool = False


def build_vocabulary(config: VocabularyConfig) -> Vocabulary:
    """Learns a vocabulary from a corpus and writes it; the same corpus gives the same bytes.

    Args:
        config: what to build.

    Returns:
        The vocabulary.

    Raises:
        UserError: a value is out of range, the output file already exists, the corpus is empty or
            not UTF-8, or it doesn't give a vocabulary of this size. Nothing is written then.
    """
    _check(config)
    corpus, hidden = find_files(config.corpus_dir, "--corpus-dir")
    total = sum(file.size for file in corpus)
    skipped = f" ({hidden} hidden entries left out)" if hidden else ""
    say(f"Corpus: {len(corpus)} files, {total / 1e6:.1f} MB{skipped}")
    words = _count_words(config, corpus, total)
    say(f"Learning {config.vocab_size} pieces from {len(words)} different words")
    trained = train_vocabulary(
        words,
        config.vocab_size,
        min_frequency=config.min_frequency,
        limit_alphabet=config.limit_alphabet,
        max_word_characters=config.max_word_characters,
        show_progress=sys.stderr.isatty(),
    )
    with files.output_errors_explained(config.output_file):
        files.make_dirs(os.path.dirname(config.output_file))
        content = "".join(f"{token}\n" for token in trained.vocabulary.tokens)
        files.replace_file(config.output_file, content.encode("utf-8"))
    _print_summary(config, trained, sum(words.values()))
    return trained.vocabulary


def sample_chunks(corpus: Sequence[CorpusFile], max_bytes: int) -> Iterator[Chunk]:
    """Yields chunks of all files, or every so many chunks if the files are larger than `max_bytes`.

    Args:
        corpus: the files.
        max_bytes: about how many bytes to take; one chunk at least.
    """
    share = min(1.0, max_bytes / max(1, sum(file.size for file in corpus)))
    due = 1.0
    for file in corpus:
        for chunk in plan_chunks(file, at_blank_lines=False):
            if due >= 1.0:
                due -= 1.0
                yield chunk
            due += share


def _check(config: VocabularyConfig) -> None:
    bounds = {
        "vocab_size": len(SPECIAL_TOKENS) + 1,
        "min_frequency": 1,
        "limit_alphabet": 1,
        "max_word_characters": 1,
        "max_bytes": 1,
    }
    for name, least in bounds.items():
        value = getattr(config, name)
        if value is not None and value < least:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                "The value is too small.",
                where=flag,
                received=value,
                remedy=f"Give at least {least}.",
            )
    folder = os.path.dirname(config.output_file) or "."
    while folder and not files.exists(folder):
        folder = os.path.dirname(folder)
    writable = not files.is_local(folder) or os.access(folder or ".", os.W_OK)
    if not config.output_file or (folder and not files.is_dir(folder)) or not writable:
        raise UserError(
            "The vocabulary can't be written there.",
            where="--output-file",
            received=f"{config.output_file!r}"
            + ("" if writable else f": the folder {folder} is not writable"),
            remedy="Give the path of a file in a folder that you can write to.",
        )
    if files.is_dir(config.output_file):
        raise UserError(
            "The output file is a folder.",
            where="--output-file",
            received=config.output_file,
            remedy="Give the name of a file, such as vocab.txt in that folder.",
        )
    if files.exists(config.output_file) and not config.overwrite:
        raise UserError(
            "The output file already exists.",
            where="--output-file",
            received=config.output_file,
            remedy="Choose another name, or replace the file with --overwrite.",
        )


def _count_words(
    config: VocabularyConfig, corpus: Sequence[CorpusFile], total: int
) -> dict[str, int]:
    if total > config.max_bytes:
        say(f"Reading an even sample of {config.max_bytes / 1e6:.1f} MB")
    counter = WordCounter(Casing.from_hparams(config))
    done = 0
    with Progress(
        min(total, config.max_bytes), description="Counting words", unit="byte"
    ) as progress:
        for chunk in sample_chunks(corpus, config.max_bytes):
            counter.add(read_chunk(chunk, as_plain_text=config.as_plain_text))
            done += chunk.end - chunk.start
            progress.update(done)
    words = counter.words()
    if not words:
        raise UserError(
            "The corpus holds no words.",
            where=config.corpus_dir,
            received=f"{len(corpus)} files with {total} bytes",
            remedy="Give a folder of UTF-8 text files.",
        )
    return words


def _print_summary(config: VocabularyConfig, trained: TrainedVocabulary, num_words: int) -> None:
    print(
        f"Wrote {config.output_file}: {len(trained.vocabulary)} pieces, "
        f"{trained.alphabet_size} different characters. "
        f"{trained.unknown_words / num_words:.3%} of the words can't be spelled with them."
    )
    lower = "--do-lower-case" if config.do_lower_case else "--no-lower-case"
    accents = "--do-strip-accents" if config.strip_accents else "--no-strip-accents"
    if config.max_word_characters != MAX_WORD_CHARACTERS:
        accents += f" --max-word-characters {config.max_word_characters}"
    print(
        f"Use it with build_pretraining_dataset.py {lower} {accents} and the hparam "
        f"vocab_size = {len(trained.vocabulary)}."
    )
