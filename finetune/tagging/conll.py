"""Reading CoNLL files (a word and its tag per line), and tokenizing their words.

An empty line separates sentences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from electra_tf2.errors import UserError
from electra_tf2.text.normalization import clean, is_ideograph, split_at_punctuation
from electra_tf2.text.tokenizer import Tokenizer
from finetune.data_files import read_text

DOCUMENT_START = "-DOCSTART-"


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a line.

    Attributes:
        word: column of the word from 0, or from the end where negative.
        tag: column of the tag, counted likewise.
        separator: the text between columns; None for any white space.
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
        words: the words, at least one.
        tags: one tag per word; empty where tags were not read.
        lines: the line of each word in the file, from 1.
        num_columns: number of columns of the first word's line.
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
        columns: the columns of words and tags.
        with_tags: whether to read tags; if not, their column may be missing.

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
            "A data file has no sentence.",
            where=path,
            received=f"only empty lines and {DOCUMENT_START}",
            remedy="Write a word and its tag on each line, and an empty line between sentences.",
        )
    return sentences


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
        remedy=f"Fix the line, or the columns that the task expects ({wanted}; counted from 0, "
        f"or from the end where negative; separated by {separator}).",
    )


def word_ids(tokenizer: Tokenizer, words: Iterable[str]) -> dict[str, list[int]]:
    """Tokenizes words that are already separated.

    They become what the tokenizer makes of text, except that words are not split at ideographs (as
    in the official program). Every word is ordinary text: `[CLS]` is `[`, `cls`, `]`. A word of
    which normalization leaves nothing becomes [UNK], so that each word has a first piece to be
    tagged at.

    Args:
        tokenizer: vocabulary and casing.
        words: words, each of which may occur many times.

    Returns:
        Word -> ids of its pieces, at least one.
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
    word = tokenizer.casing.apply(clean(word))
    vocabulary = tokenizer.vocabulary
    ids: list[int] = []
    for part in word.split():
        for run in split_at_punctuation(part):
            pieces = tokenizer.split_word(run)
            known = [vocabulary.unk_id] if pieces is None else [vocabulary.ids[p] for p in pieces]
            ids.extend(known)
    return ids
