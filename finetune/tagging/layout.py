"""How a file of words and tags is laid out: its columns, its comments, and what a line holds.

What a task's definition leaves open is recognized from all lines of a file together.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from electra_tf2.errors import UserError
from finetune.tagging.words import ADDITIONS

COMMENT = "#"
DOCUMENT_START = "-DOCSTART-"
END_OF_SENTENCE = "EOS"  # of MeCab and its relatives
TAB = "\t"
MARKS_OF_TAGS: tuple[Literal["/", "_", "|"], ...] = ("/", "_", "|")
# White space between columns. A no-break space, or another one that has a width of its own, is part
# of a word such as "10 000".
_SPACES = re.compile(r"[^\S\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
_HASHES = re.compile(r"#+(?:\s|$)")
# Comments without a space after `#`: of CoNLL-2012, and such as "#sent_id = 3".
_DOCUMENT = re.compile(r"#+(?:begin|end)\s+document\b")
_FIELD = re.compile(r"#+[\w.:-]+\s*=")
SPAN_TAG = re.compile(r"O|[BIESLUMW][-_].+|.+[-_][BIESLUMW]")
"""Tags that mark spans, in most notations."""
_WORD_ID = re.compile(r"\d+")
OTHER_ID = re.compile(r"\d+[-.]\d+")
"""Number of a range of words or of an empty node in CoNLL-U."""
# Characters without a width: byte order marks and the like.
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
# The share of a file's lines that have to have tabs, or of its words to look like "Anna/B-PER":
# the others are then mistakes.
MOST = 0.9


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a line.

    Attributes:
        word: column of the word from 0, or from the end where negative.
        tag: column of the tag, counted likewise.
        separator: the text between columns; None: tabs if all lines have them, else white space.
    """

    word: int = 0
    tag: int = -1
    separator: str | None = None

    def are_same(self, num_columns: int) -> bool:
        """Whether word and tag are one column of a line with so many."""
        return self.word % num_columns == self.tag % num_columns


def cell(cells: Sequence[str], column: int) -> str | None:
    """Returns a column of a line; None where the line lacks it."""
    return cells[column] if -len(cells) <= column < len(cells) else None


def bare_tag(text: str) -> str:
    """Returns a tag without what can't be seen around it, its letters composed (NFC)."""
    return unicodedata.normalize("NFC", text.strip().strip(_INVISIBLE))


def is_invisible(text: str) -> bool:
    """Whether a text is of characters without a width, and perhaps spaces."""
    return bool(text.strip()) and not text.strip().strip(_INVISIBLE)


def tag_form(text: str) -> str:
    """Returns the form of Unicode of a tag as it is written; "" where all forms are the same."""
    written, bare = text.strip(), bare_tag(text)
    forms = {form: unicodedata.normalize(form, bare) for form in ("NFC", "NFD")}
    if written == forms["NFC"] == forms["NFD"]:
        return ""
    return next((form for form, own in forms.items() if own == written), "another")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the lines of a file are read.

    Attributes:
        separator: the text between columns; None for white space.
        per_line: "word": a word and its tag; "sentence": the words of a sentence in one column and
            as many tags in another; "/", "_" or "|": the words of a sentence, each followed by this
            character and its tag.
        num_columns: number of columns that nearly all lines of the training file have; None if
            they vary, or if it isn't known.
        has_spaces: whether words of the training file are spaces: a line of spaces is then a word.
        has_invisible: the same of characters without a width, such as zero-width spaces.
        has_eos: whether `EOS` alone on a line ends a sentence, rather than being a word.
        has_characters: whether words of the training file are single characters, as often in
            Chinese: a longer word is then likely to be a sentence.
        added: which of `ADDITIONS` every word of the training file has; it is left out.
    """

    separator: str | None = None
    per_line: Literal["word", "sentence", "/", "_", "|"] = "word"
    num_columns: int | None = None
    has_spaces: bool = False
    has_invisible: bool = False
    has_eos: bool = True
    has_characters: bool = False
    added: Literal["", "language", "digit"] = ""

    def __post_init__(self):
        is_separator = self.separator is None or isinstance(self.separator, str) and self.separator
        is_known = self.num_columns is None or isinstance(self.num_columns, int)
        flags = (self.has_spaces, self.has_invisible, self.has_eos, self.has_characters)
        is_known &= all(isinstance(flag, bool) for flag in flags)
        is_known &= self.per_line in ("word", "sentence", *MARKS_OF_TAGS)
        is_known &= self.added in ("", *ADDITIONS)
        if not is_separator or not is_known:
            raise ValueError(f"There is no such layout. Received: {self}")

    def split(self, line: str) -> list[str]:
        """Returns a line's columns; none for an empty line.

        What tabs separate is kept as it is: a word may be a space, or empty.
        """
        if not line.strip():
            return [line] if self._is_space(line) else []
        if self.separator is None:
            return [part for part in _SPACES.split(line) if part]
        cells = line.split(self.separator)
        if self.separator != TAB:
            cells = [part.strip(" \t") or part for part in cells]
        return cells if any(map(str.strip, cells)) else []

    def ends_sentence(self, line: str) -> bool:
        """Whether a line is empty or says that a sentence ends or a document begins."""
        bare = line.strip().strip(_INVISIBLE)
        if bare == END_OF_SENTENCE:
            return self.has_eos
        if not bare:
            return not self._is_space(line) and not (self.has_invisible and is_invisible(line))
        return bare.startswith(DOCUMENT_START)

    def _is_space(self, line: str) -> bool:
        return self.has_spaces and line.isspace() and TAB not in line

    def describe(self) -> str:
        """Says how the file is read, for a message; "" for a word a line and white space."""
        if self.per_line == "sentence":
            return "each line is a sentence, its words in one column and its tags in another"
        if self.per_line != "word":
            return f"each line is a sentence, its words followed by {self.per_line!r} and the tag"
        return "tabs separate the columns" if self.separator == TAB else ""


def plain_lines(lines: Sequence[str]) -> list[str]:
    """Returns the lines that hold words for certain: without `#` in front, and not between
    sentences."""
    return [
        line
        for line in lines
        if not line.lstrip().startswith(COMMENT) and not Layout().ends_sentence(line)
    ]


def begins_or_ends_document(line: str) -> bool:
    """Whether a line, if it is a comment, says where a document begins or ends."""
    return _DOCUMENT.match(line) is not None


def recognize_layout(
    lines: Sequence[str], columns: Columns, trained: Layout | None = None
) -> Layout:
    """Recognizes the layout of a file.

    Args:
        columns: what the task's definition says.
        trained: what a training file's `TagFile.trained` was, for a file that may lack tags: lines
            without any separator don't tell how they are meant.
    """
    plain, given = plain_lines(lines), Layout(columns.separator)
    if columns.separator is not None:
        table = given
    else:
        has_tabs = plain and sum(TAB in line for line in plain) >= MOST * len(plain)
        table = Layout(TAB) if has_tabs else None
    if table and _holds_sentences(plain, table, columns):
        return dataclasses.replace(table, per_line="sentence")
    if columns.separator is None:
        if table and _holds_columns(plain, table, columns):
            return table
        for mark in MARKS_OF_TAGS:
            if _holds_marked_words(plain, mark):
                return Layout(None, mark)
    if trained is not None and trained.per_line != "word":
        return Layout(TAB, "sentence")  # of the words alone
    if trained is not None and (not plain or any(len(given.split(line)) == 1 for line in plain)):
        return dataclasses.replace(trained, separator=columns.separator or trained.separator)
    return given


def _holds_sentences(plain: Sequence[str], table: Layout, columns: Columns) -> bool:
    """Whether most lines have as many words in one column as tags in another, and several."""
    several = alike = 0
    for cells in map(table.split, plain):
        words, tags = cell(cells, columns.word), cell(cells, columns.tag)
        if words is not None and tags is not None and not columns.are_same(len(cells)):
            count = len(tags.split())
            several += count > 1
            alike += count > 1 and count == len(words.split())
    return several > len(plain) / 2 and alike > several / 2


def _holds_columns(plain: Sequence[str], table: Layout, columns: Columns) -> bool:
    """Whether tabs separate columns, rather than being one of several kinds of white space."""
    rows, parts = ([kind.split(line) for line in plain] for kind in (table, Layout()))
    unfit = 0
    for row, part in zip(rows, parts, strict=True):
        tag = cell(row, columns.tag)
        unfit += len(tag.split()) > 1 if tag is not None else cell(part, columns.tag) is not None
    return unfit <= len(rows) / 2 and (
        len(set(map(len, rows))) == 1 or len(set(map(len, parts))) > 1
    )


def _holds_marked_words(plain: Sequence[str], mark: str) -> bool:
    """Whether lines are sentences of words such as "Anna/B-PER"."""
    lines = [line.split() for line in plain]
    words = [word for line in lines for word in line]
    marked = sum(all(word.rpartition(mark)[::2]) for word in words)
    return marked >= MOST * len(words) and sum(len(line) > 1 for line in lines) > len(lines) / 2


class Lines:
    """Tells the lines that hold words from comments and from what CoNLL-U adds to the words.

    A line that begins with `#` is a comment, unless it looks like the lines of words: it has as
    many columns as some of them, and one of their tags or one that marks a span. (`#` is a word of
    the Wall Street Journal's, whose tag in the Penn Treebank is `#`, and begins words of tweets.)
    Without a space after `#` it has to look like a comment, too: `#text = …`, `#end document`.

    Args:
        plain: see `plain_lines`.
        layout: of the file.
        columns: of the task.

    Attributes:
        counts: number of columns -> number of plain lines with so many.
        usual_count: number of columns that most plain lines have; 0 without such lines.
    """

    def __init__(self, plain: Sequence[str], layout: Layout, columns: Columns):
        rows = [layout.split(line) for line in plain]
        self.counts = Counter(map(len, rows))
        self.usual_count = max(self.counts, key=self.counts.__getitem__, default=0)
        self._layout = layout
        self._tag = columns.tag
        self._tags = {(cell(row, columns.tag) or "").strip() for row in rows}
        self._has_ids = (
            layout.per_line == "word"
            and all(columns.word % count for count in self.counts)
            and any(_WORD_ID.fullmatch(row[0]) for row in rows)
            and all(_WORD_ID.fullmatch(row[0]) or OTHER_ID.fullmatch(row[0]) for row in rows)
        )

    def is_comment(self, line: str, cells: Sequence[str], in_sentence: bool) -> bool:
        """Whether a line is a comment.

        Args:
            cells: its columns.
            in_sentence: whether the line before holds a word: comments stand between sentences, so
                that here `#` and a letter begin a word.
        """
        if not line.startswith(COMMENT):
            return False
        spaced = _HASHES.match(line) is not None
        named = begins_or_ends_document(line) or (not in_sentence and _FIELD.match(line))
        if self._layout.per_line == "sentence":
            return spaced or bool(named) and len(cells) not in self.counts
        if self._layout.per_line != "word":
            mark = self._layout.per_line
            return spaced or bool(named) and not all(all(c.rpartition(mark)[::2]) for c in cells)
        if len(cells) not in self.counts:
            return spaced or not in_sentence or bool(named)
        tag = (cell(cells, self._tag) or "").strip()
        is_tag = tag in self._tags or SPAN_TAG.fullmatch(tag) is not None
        if tag == COMMENT and (in_sentence or len(cells) == self.usual_count):
            is_tag = True
        if named and not spaced:
            # The last word of a remark may be a tag as well, such as a full stop.
            is_apart = cells[1:2] in (["="], ["document"])
            return not is_tag or self._layout.separator is None and is_apart
        # A remark has no tabs, but may well have as many spaces as the lines of words.
        is_row = in_sentence and self._layout.separator is not None
        return spaced and len(cells) > 1 and not is_tag and not is_row

    def is_no_word(self, cells: Sequence[str]) -> bool:
        """Whether a line of CoNLL-U is a range of words (1-2) or an empty node (1.1)."""
        return self._has_ids and OTHER_ID.fullmatch(cells[0]) is not None


def check_word_column(
    where: str, columns: Columns, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]
) -> None:
    """Checks that the words of sentences are words.

    They are not if they number themselves, as the first column of CoNLL-U does; nor, where tags are
    read, if they are the same throughout each sentence, as a document's name is, or look like tags
    while the tags don't.

    Args:
        where: the place of the first sentence.
        columns: what the task's definition says.
        words: the words of each sentence.
        tags: their tags; empty where tags are not read.

    Raises:
        UserError: they are not words.
    """
    rows = [[word for word in row if not OTHER_ID.fullmatch(word)] for row in words]
    if max(map(len, rows)) < 3:
        return
    numbers = [
        all(row == list(map(str, range(start, start + len(row)))) for row in rows)
        for start in (0, 1)
    ]
    if any(numbers):
        problem = "numbers them"
    elif tags and all(len(set(row)) <= 1 for row in rows):
        problem = "is the same throughout each sentence"
    elif tags and _look_like_tags(words) and not _look_like_tags(tags):
        problem = "holds tags"
    else:
        return
    raise UserError(
        f"The column of the words {problem}.",
        where=where,
        received=f"column {columns.word}: " + ", ".join(words[0][:5]),
        remedy='Name the columns in the task\'s definition: for CoNLL-U "word_column": 1, '
        '"tag_column": 3 (parts of speech), otherwise as they stand, from 0.',
    )


def _look_like_tags(rows: Sequence[Sequence[str]]) -> bool:
    return all(SPAN_TAG.fullmatch(item) for row in rows for item in row)
