"""Files of words and tags in columns, one word a line, an empty line between sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import clean, is_ideograph, remove_accents, split_at_punctuation
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.wordpiece import split_word
from finetune.data_files import read_text

DOCUMENT_START = "-DOCSTART-"


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where a line's word and tag stand.

    Attributes:
        word: column of the word from 0, or from the end where negative.
        tag: column of the tag, likewise.
        separator: what separates columns; None for any white space.
    """

    word: int = 0
    tag: int = -1
    separator: str | None = None

    def split(self, line: str) -> list[str]:
        """Returns a line's columns; none for an empty line."""
        if self.separator is None:
            return line.split()
        if not line.strip():
            return []
        return [cell.strip() for cell in line.rstrip("\r").split(self.separator)]


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The words of a sentence.

    Attributes:
        words: at least one.
        tags: one a word, or empty where the tags were not asked for.
        lines: the line in the file of each word, from 1.
        num_columns: of the first word's line.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]
    num_columns: int


def read_sentences(path: str, columns: Columns, *, with_tags: bool) -> list[Sentence]:
    """Reads the sentences of a file.

    Lines that begin with `-DOCSTART-` are skipped. The last sentence needs no empty line after it.

    Args:
        path: a UTF-8 file.
        columns: where words and tags stand.
        with_tags: whether tags are read. A file without them need not have their column.

    Returns:
        The sentences in the file's order, at least one.

    Raises:
        UserError: the file is missing, empty, not UTF-8 or without a sentence, or a line lacks a
            column; names the file and the line.
    """
    sentences: list[Sentence] = []
    rows: list[tuple[str, str, int]] = []
    num_columns = 0

    def finish() -> None:
        words, tags, lines = zip(*rows, strict=True)
        sentences.append(Sentence(words, tags if with_tags else (), lines, num_columns))
        rows.clear()

    for number, line in enumerate(read_text(path).split("\n"), 1):
        cells = columns.split(line)
        if not cells:
            if rows:
                finish()
        elif not line.lstrip().startswith(DOCUMENT_START):
            if not rows:
                num_columns = len(cells)
            word = _cell(cells, columns.word)
            tag = _cell(cells, columns.tag) if with_tags else ""
            if not word or with_tags and (not tag or _same_column(cells, columns)):
                raise _lacks_column(path, number, line, columns, with_tags)
            rows.append((word, tag, number))
    if rows:
        finish()
    if not sentences:
        raise UserError(
            "A data file holds no sentence.",
            where=path,
            received=f"only empty lines and {DOCUMENT_START}",
            remedy="Write a word and its tag on each line, and an empty line between sentences.",
        )
    return sentences


def first_line(
    sentences: Sequence[Sentence], tags: Sequence[Sequence[str]], wanted: set[str]
) -> tuple[int, str]:
    """Returns the first line with one of the tags, and the tag."""
    return next(
        (line, tag)
        for sentence, row in zip(sentences, tags, strict=True)
        for line, tag in zip(sentence.lines, row, strict=True)
        if tag in wanted
    )


def _cell(cells: list[str], column: int) -> str:
    return cells[column] if -len(cells) <= column < len(cells) else ""


def _same_column(cells: list[str], columns: Columns) -> bool:
    return columns.word % len(cells) == columns.tag % len(cells)


def _lacks_column(
    path: str, number: int, line: str, columns: Columns, with_tags: bool
) -> UserError:
    wanted = f"word in column {columns.word}"
    if with_tags:
        wanted += f", tag in column {columns.tag}"
    separator = "white space" if columns.separator is None else repr(columns.separator)
    return UserError(
        f"A line lacks its {'word or its tag' if with_tags else 'word'}.",
        where=f"{path}, line {number}",
        received=repr(line.strip()),
        remedy=f"Mend the line, or the columns that the task expects ({wanted}; counted from 0, "
        f"or from the end where negative; separated by {separator}).",
    )


# Words that are already separated, to word pieces.


def word_ids(tokenizer: Tokenizer, words: Iterable[str]) -> dict[str, list[int]]:
    """Returns the ids of each distinct word's pieces.

    As the tokenizer treats text, but that ideographs don't stand alone: the official program leaves
    words whole there. Every word is ordinary text: `[CLS]` is `[`, `cls`, `]`. A word of which
    nothing is left (control characters only) becomes [UNK], so that each word has a first piece to
    be tagged at.

    Args:
        tokenizer: vocabulary, and whether to lower-case and to strip accents.
        words: words, each of which may occur many times.

    Returns:
        Word -> ids, at least one.
    """
    distinct = list(dict.fromkeys(words))
    unknown = [tokenizer.vocabulary.unk_id]
    plain = [word for word in distinct if word.isascii() or not any(map(is_ideograph, word))]
    encoded = tokenizer.encode_lines(plain)
    values, splits = encoded.values.tolist(), encoded.row_splits.tolist()
    ids = {
        word: values[start:end] or unknown
        for word, start, end in zip(plain, splits[:-1], splits[1:], strict=True)
    }
    for word in distinct:
        if word not in ids:
            ids[word] = _ids_with_ideographs(tokenizer, word) or unknown
    return ids


def _ids_with_ideographs(tokenizer: Tokenizer, word: str) -> list[int]:
    word = clean(word)
    if tokenizer.lower_case:
        word = word.lower()
        if tokenizer.strip_accents:
            word = remove_accents(word)
    vocabulary = tokenizer.vocabulary
    ids: list[int] = []
    for part in word.split():
        for run in split_at_punctuation(part):
            pieces = split_word(run, vocabulary.ids)
            ids.extend([vocabulary.unk_id] if pieces is None else map(vocabulary.ids.get, pieces))
    return ids
