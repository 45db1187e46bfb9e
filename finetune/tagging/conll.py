"""Reading files of words and tags (CoNLL): a word a line, and an empty line between sentences.

Files of other layouts are recognized, see `finetune.tagging.layout`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

from absl import logging

from electra_tf2.console import say
from electra_tf2.errors import UserError
from finetune.data_files import read_text
from finetune.tagging.layout import (
    DOCUMENT_START,
    END_OF_SENTENCE,
    MOST,
    TAB,
    Columns,
    Layout,
    Lines,
    bare_tag,
    begins_or_ends_document,
    cell,
    check_word_column,
    is_invisible,
    plain_lines,
    recognize_layout,
    tag_form,
)
from finetune.tagging.words import (
    ADDITIONS,
    are_mostly_characters,
    has_addition,
    has_ideographs,
    unsplit_text,
    without_addition,
)

_JSON = re.compile(r'\s*\[?\s*\{\s*"[^"\n]*"\s*:')
# What the first line of a table says of its columns.
_NAMES = "word words token tokens form text tag tags label labels pos upos ner ner_tag ner_tags"
# A file of one sentence with more words than this has hardly been meant so.
_LONG_SENTENCE = 256
# Lines that are not sentences if all have as many words.
_ENOUGH_LINES = 20
# What version 0.1.0 had no eye for: comments, ranges of CoNLL-U, spaces within words (with a given
# separator those at their ends), and returns as ends of lines.
_NEW = r"^#|^\d+[-.]\d+\s|\r(?!\n)|"
_READ_OTHERWISE = re.compile(
    _NEW + r"[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]|\t.* |\t\t| .*\t", re.MULTILINE
)
_SEPARATED_OTHERWISE = re.compile(_NEW + r"^[^\S\n]|[^\S\t\n]\t|\t[^\S\t\n]", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The words of a sentence.

    Attributes:
        words: the words, at least one.
        tags: one tag per word; empty where tags were not read.
        lines: the line of each word in the file, from 1.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TagFile:
    """What a file holds.

    Attributes:
        sentences: in the file's order, at least one.
        layout: how it was read.
        trained: `layout` with what it tells of files without tags, if this is the training file.
        num_columns: number of columns that most of its lines have.
        tag_forms: the forms of Unicode that its tags are written in, of those that have two: "NFC",
            "NFD" or others. They are read as NFC.
        notes: what to tell the user of how it was read.
        warnings: what may be wrong with it.
    """

    sentences: list[Sentence]
    layout: Layout
    trained: Layout
    num_columns: int
    tag_forms: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_sentences(
    path: str, columns: Columns, *, with_tags: bool, trained: Layout | None = None
) -> TagFile:
    """Reads the sentences of a file.

    Comments, and in CoNLL-U ranges of words and empty nodes, are skipped. So are lines that begin
    with `-DOCSTART-`; they end a sentence, as `#begin document` does. The last sentence needs no
    empty line after it.

    Args:
        path: a UTF-8 file.
        columns: the columns of words and tags.
        with_tags: whether to read tags; if not, their column may be missing.
        trained: see `recognize_layout`; with tags it only tells what was added to the words.

    Returns:
        The sentences, and how they were read.

    Raises:
        UserError: the file is missing, empty, not UTF-8, JSON, or without a sentence, its column of
            words numbers them, or a line lacks a column; names the file and the line.
    """
    lines = _lines(path)
    layout = recognize_layout(lines, columns, None if with_tags else trained)
    reader = _Reader(path, lines, layout, columns, with_tags)
    for number, line in enumerate(lines, 1):
        reader.take(number, line)
    reader.end_sentence()
    if not reader.sentences:
        raise UserError(
            "A data file has no sentence.",
            where=path,
            received=f"only empty lines, comments and {DOCUMENT_START}",
            remedy="Write a word and its tag on each line, and an empty line between sentences.",
        )
    first_line = f"{path}, line {reader.sentences[0].lines[0]}"
    words, tags = zip(*((each.words, each.tags) for each in reader.sentences), strict=True)
    if with_tags or reader.num_columns > 1:
        check_word_column(first_line, columns, words, tags if with_tags else ())
    reader.leave_out_additions(trained)
    if not with_tags:
        reader.check_not_sentences(trained)
        if trained and trained.has_characters:
            reader.check_characters()
    return reader.result()


class TagReader:
    """Reads the files of a task, and says once of each what there is to say.

    Attributes:
        trained: what the training file's `TagFile.trained` is, once that is known.
    """

    def __init__(self):
        self.trained: Layout | None = None
        self._noted: set[str] = set()
        self.say_once = functools.cache(say)  # files are read again and again

    def read(self, path: str, columns: Columns, *, with_tags: bool) -> TagFile:
        """Reads a file; arguments and errors as for `read_sentences`."""
        found = read_sentences(path, columns, with_tags=with_tags, trained=self.trained)
        if path not in self._noted:
            self._noted.add(path)
            for note in found.notes:
                say(f"{path}: {note}.")
            for warning in found.warnings:
                logging.warning("%s: %s.", path, warning)
        return found

    @staticmethod
    def differences(paths: Iterable[str], columns: Columns) -> tuple[bool, bool]:
        """Compares with what version 0.1.0 made of files.

        Args:
            paths: the files; one that can't be read is like an empty one.
            columns: of the task.

        Returns:
            Whether that version may have read one of them otherwise, and whether one has
            ideographs.
        """
        texts = []
        for path in paths:
            with contextlib.suppress(UserError):
                texts.append(read_text(path))
        pattern = _READ_OTHERWISE if columns.separator is None else _SEPARATED_OTHERWISE
        return any(map(pattern.search, texts)), any(map(has_ideographs, texts))


def _lines(path: str) -> list[str]:
    """Returns a file's lines; only line feeds end them, or returns where there are no others."""
    text = read_text(path)
    if "\n" not in text:
        text = text.replace("\r", "\n")
    if _JSON.match(text):
        raise _other_form("JSON", path, text)
    # A byte order mark within is of files that were joined.
    return [line.rstrip("\r").removeprefix("\ufeff") for line in text.split("\n")]


def _is_printed_list(text: str) -> bool:
    return text.strip()[:1] + text.strip()[-1:] == "[]"


def _other_form(form: str, where: str, text: str) -> UserError:
    return UserError(
        f"A data file holds {form}, not columns.",
        where=where,
        received=text.lstrip()[:60],
        remedy="Write it as text: a word and its tag on each line, separated by a tab, and an "
        "empty line between sentences.",
    )


class _Reader:
    """Collects the sentences of a file line by line; arguments as for `read_sentences`."""

    def __init__(
        self, path: str, lines: Sequence[str], layout: Layout, columns: Columns, with_tags: bool
    ):
        self._path, self._layout, self._columns = path, layout, columns
        self._with_tags = with_tags
        self._lines = Lines(plain_lines(lines), layout, columns)
        self._rows: list[tuple[str, str, int]] = []
        self._comments = self._no_words = 0
        self._has_eos = False
        self._widths: list[tuple[int, int]] = []  # line, number of columns
        self._empty_words: list[int] = []
        self._other_columns: list[int] = []
        self._notes: list[str] = []
        self._tags: dict[str, str] = {}  # as written -> as read
        self.sentences: list[Sentence] = []

    def take(self, number: int, line: str) -> None:
        cells = self._layout.split(line)
        if not cells or self._layout.ends_sentence(line):
            self._has_eos |= line.strip() == END_OF_SENTENCE
            self.end_sentence()
        elif self._lines.is_comment(line, cells, bool(self._rows)):
            self._comments += 1
            if begins_or_ends_document(line):
                self.end_sentence()
        elif self._lines.is_no_word(cells):
            self._no_words += 1
        elif self._layout.per_line == "word":
            self._rows.append((*self._word(number, line, cells), number))
        else:
            self._rows += [(*pair, number) for pair in self._sentence(number, line, cells)]
            self.end_sentence()

    def end_sentence(self) -> None:
        if self._rows:
            words, tags, lines = zip(*self._rows, strict=True)
            self.sentences.append(Sentence(words, tags if self._with_tags else (), lines))
            self._rows.clear()
        # Columns for each predicate, as in CoNLL-2012, are as many throughout a sentence.
        if len({width for _, width in self._widths}) > 1 or len(self._widths) == 1:
            others = [line for line, width in self._widths if width != self.num_columns]
            self._other_columns += others
        self._widths.clear()

    def _word(self, number: int, line: str, cells: Sequence[str]) -> tuple[str, str]:
        word, tag = cell(cells, self._columns.word), ""
        if self._with_tags and not self._columns.are_same(len(cells)):
            tag = self._tag(cell(cells, self._columns.tag) or "")
        # Only between tabs is it certain that nothing has been left out.
        lacking = word is None or not word and self._layout.separator != TAB
        if lacking or self._with_tags and not tag:
            raise self._lacks_column(number, line)
        if not word:
            self._empty_words.append(number)
        self._widths.append((number, len(cells)))
        return word or "", tag

    def _tag(self, written: str) -> str:
        if written not in self._tags:
            self._tags[written] = bare_tag(written)
        return self._tags[written]

    def _sentence(self, number: int, line: str, cells: Sequence[str]) -> list[tuple[str, str]]:
        """The words and tags of a line that is a sentence."""
        if self._layout.per_line != "sentence":
            parts = [item.rpartition(self._layout.per_line)[::2] for item in line.split()]
            words, tags = [word for word, _ in parts], [self._tag(tag) for _, tag in parts]
            if not all(words) or not all(tags):
                raise self._lacks_column(number, line)
        else:
            alone = len(cells) == 1 and not self._with_tags
            text = cells[0] if alone else cell(cells, self._columns.word) or ""
            tag_text = cell(cells, self._columns.tag) or ""
            if _is_printed_list(text) and _is_printed_list(tag_text):
                raise _other_form("lists", f"{self._path}, line {number}", line)
            words, tags = text.split(), [*map(self._tag, tag_text.split())]
            if self._with_tags and self._columns.are_same(len(cells)):
                tags = []
        if not self._with_tags:
            tags = [""] * len(words)
        if len(words) != len(tags) or not words:
            raise UserError(
                "A line does not have a tag for each of its words.",
                where=f"{self._path}, line {number}",
                received=f"{len(words)} words and {len(tags)} tags: {line.strip()!r}",
                remedy="Fix the line. (Most lines of the file hold a sentence and as many tags.)",
            )
        return list(zip(words, tags, strict=True))

    @property
    def num_columns(self) -> int:
        """The number of columns that most lines have."""
        if self._layout.per_line not in ("word", "sentence"):
            return 2
        return self._lines.usual_count

    def leave_out_additions(self, trained: Layout | None) -> None:
        """Leaves out what is added to all words, if it was left out in training."""
        words = {word for sentence in self.sentences for word in sentence.words}
        names = ADDITIONS if trained is None else filter(None, [trained.added])
        added = next((name for name in names if has_addition(words, name)), None)
        if added is None:
            return
        self._layout = dataclasses.replace(self._layout, added=added)
        word = self.sentences[0].words[0]
        self.sentences = [
            dataclasses.replace(each, words=tuple(without_addition(w, added) for w in each.words))
            for each in self.sentences
        ]
        self._notes.append(
            f"what is added to all words is left out: {word!r} is read as "
            f"{without_addition(word, added)!r}"
        )

    def check_not_sentences(self, trained: Layout | None) -> None:
        """Refuses lines without tags that are sentences, of which one word each would be read.

        Args:
            trained: as for `read_sentences`.

        Raises:
            UserError: the lines are such sentences.
        """
        counts, usual = self._lines.counts, self.num_columns
        known = trained.num_columns if trained and self._layout.separator is None else None
        # Sentences are hardly ever as long as each other; columns are, though some may be left out.
        are_columns = len(counts) == 1 and counts.total() >= _ENOUGH_LINES
        unlike = known is not None and (
            usual > known or usual not in (0, 1, known - 1, known) and not are_columns
        )
        if unlike or 2 * len(self._other_columns) > counts.total():
            raise UserError(
                "Each line of the file seems to be a sentence, not a word.",
                where=f"{self._path}, line {self.sentences[0].lines[0]}",
                received=f"lines of {min(counts)} to {max(counts)} words",
                remedy="Write one word per line, alone or with all columns of the training file, "
                "and an empty line between sentences.",
            )

    def check_characters(self) -> None:
        """Refuses words that are sentences, where those of the training file are characters.

        Raises:
            UserError: they are.
        """
        words = [word for sentence in self.sentences for word in sentence.words]
        if text := unsplit_text(words):
            line = next(s.lines[s.words.index(text)] for s in self.sentences if text in s.words)
            raise UserError(
                "The file has text where the training file has single characters.",
                where=f"{self._path}, line {line}",
                received=text[:30],
                remedy="Write one character per line, and an empty line between sentences."
                if self._layout.per_line == "word"
                else "Put a space between characters.",
            )

    def _trained(self) -> Layout:
        """See `TagFile.trained`."""
        words = [word for sentence in self.sentences for word in sentence.words]
        layout = dataclasses.replace(self._layout, has_characters=are_mostly_characters(words))
        if layout.per_line != "word":
            return layout
        counts, usual = self._lines.counts, self.num_columns
        return dataclasses.replace(
            layout,
            num_columns=usual if counts[usual] >= MOST * counts.total() else None,
            has_spaces=any(map(str.isspace, words)),
            has_invisible=any(map(is_invisible, words)),
            has_eos=self._has_eos,
        )

    def result(self) -> TagFile:
        """Returns what was read, with what there is to say of it."""
        notes, warnings = self._notes, []
        first = self.sentences[0]
        if first.tags and {first.words[0].lower(), first.tags[0].lower()} <= set(_NAMES.split()):
            warnings.append(
                f"line {first.lines[0]} looks like the names of the columns "
                f"({first.words[0]}, {first.tags[0]}): remove it if it is"
            )
        if (described := self._layout.describe()) and self._columns.separator is None:
            notes.append(described)
        if self._comments:
            notes.append(f"{self._comments} lines are comments (#)")
        if self._no_words:
            notes.append(f"{self._no_words} ranges and empty nodes of CoNLL-U are left out")
        if self._empty_words:
            number, first = len(self._empty_words), self._empty_words[0]
            warnings.append(f"{number} words are empty, the first on line {first}")
        if self._other_columns:
            number, first = len(self._other_columns), self._other_columns[0]
            warnings.append(
                f"{number} lines don't have {self.num_columns} columns as the others do, the "
                f"first is line {first}: check that they were split as they are meant (hparams "
                "separator, word_column and tag_column of the task)"
            )
        if len(self.sentences) == 1 and len(self.sentences[0].words) > _LONG_SENTENCE:
            warnings.append(
                f"there is no empty line, so that all {len(self.sentences[0].words)} words are one "
                "sentence, and those beyond max_seq_length are cut off: put an empty line between "
                "sentences"
            )
        return TagFile(
            self.sentences,
            self._layout,
            self._trained(),
            self.num_columns,
            frozenset(filter(None, map(tag_form, self._tags))),
            tuple(notes),
            tuple(warnings),
        )

    def _lacks_column(self, number: int, line: str) -> UserError:
        columns, with_tags = self._columns, self._with_tags
        wanted = f"word in column {columns.word}"
        if with_tags:
            wanted += f", tag in column {columns.tag}"
        separator = self._layout.separator
        other = [s for s in ("\t", ",", ";", "|", "/") if s in line.strip() and s != separator]
        hint = f' Is it "separator": "{other[0]}"?'.replace("\t", "\\t") if other else ""
        return UserError(
            f"A line lacks its {'word or its tag' if with_tags else 'word'}.",
            where=f"{self._path}, line {number}",
            received=repr(line.strip()),
            remedy=f"Fix the line, or the columns that the task expects ({wanted}; counted from 0, "
            "or from the end where negative; separated by "
            f"{'white space' if separator is None else repr(separator)}).{hint}",
        )
