"""Data to fine-tune on that label themselves: the parameter lists of NumPy-style docstrings.

Such a list says by its layout what is a parameter's name, its type and its default value:

    axis : int or None, default=-1
        Axis along which to sort.

Line breaks, colons, quotes and all other punctuation are taken away, which leaves running words.
Tags in columns, as in CoNLL files, say what each word was:

    axis B-NAME · int B-TYPE · or I-TYPE · None I-TYPE · default O · -1 B-DEFAULT · Axis O · along O

The same words are other things elsewhere: "None" a type, a default or neither, "axis" a name or
part of a sentence. Only the context tells. The modules that pre-training does not see either (see
`docstring_corpus.HELD_OUT`) are the dev set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from docstring_corpus import PACKAGES, is_held_out, package_sources, raw_docstrings_of_file

PARAMETERS_A_TEXT, WORDS_A_TEXT = 3, 36  # at most; 36 words are rarely more than 62 word pieces
_WORDS_A_PARAMETER = 3  # at least: less than a name, a type and something else teaches little

_WORD = re.compile(r"[+-]?\d[\d.]*(?:e[+-]?\d+)?\w*|[^\W\d]\w*(?:\.\w+)*")
_PARAMETER = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*) ?: (\S.*)")
_SECTION = re.compile(r"(Other )?Parameters")
_END_OF_SENTENCE = re.compile(r"(?<=\.)\s")
_END_OF_TYPE = re.compile(r"[,;(]?\s*\b(optional|default)", re.IGNORECASE)
# "default=5", "default: 5", "default 5", "Default is 5", "Defaults to 5".
_DEFAULT = re.compile(
    r"[Dd]efaults?(?:\s*[=:]\s*|\s+(?:value\s+)?(?:is|to|:|=)?\s*)"
    r"""(\([^)]*\)|\[[^\]]*\]|['"`]+[^'"`]+['"`]+|[^\s,;()\]}]+)"""
)
# In a sentence the value has to be one: "Default is the identity" names none.
_LITERAL = re.compile(r"""(None|True|False|[+-]?\d[\w.+-]*|['"`(\[].*)\.?""")


class TaggedText(NamedTuple):
    """Words and the tag of each: O, or B- (first) or I- (further) and NAME, TYPE or DEFAULT."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


def build(folder: Path, packages: Sequence[str] = PACKAGES) -> tuple[int, int]:
    """Writes train.txt and dev.txt, if they are not both there.

    A parameter that is described alike in several places is taken once; what the dev set has is
    new to whoever learnt from train.txt.

    Args:
        folder: where to; made if missing.
        packages: whose docstrings. Those without NumPy-style lists give nothing.

    Returns:
        The number of texts for training and in the dev set.
    """
    paths = folder / "train.txt", folder / "dev.txt"
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        for path, texts in zip(paths, collect(packages), strict=True):
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(to_columns(texts), "utf-8")
            os.replace(unfinished, path)
    train, dev = (len(read_columns(path)) for path in paths)
    return train, dev


def collect(packages: Iterable[str]) -> tuple[list[TaggedText], list[TaggedText]]:
    """Returns the texts of the packages' modules: those to train on, and the held-out ones."""
    sources = [source for package in packages for source in package_sources(package)]
    seen: set[TaggedText] = set()
    train = [
        text for name, path in sources if not is_held_out(name) for text in texts_of(path, seen)
    ]
    dev = [text for name, path in sources if is_held_out(name) for text in texts_of(path, seen)]
    return train, dev


def texts_of(path: Path, seen: set[TaggedText]) -> Iterator[TaggedText]:
    """Yields the tagged texts of a Python file.

    Args:
        path: the file.
        seen: parameters to leave out; those of this file are added.
    """
    for docstring in raw_docstrings_of_file(path, containing="Parameters\n"):
        parameters = []
        for parts in parameters_of(docstring):
            parameter = tag(*parts)
            if _WORDS_A_PARAMETER <= len(parameter.words) <= WORDS_A_TEXT and parameter not in seen:
                seen.add(parameter)
                parameters.append(parameter)
        yield from _join(parameters)


def parameters_of(docstring: str) -> Iterator[tuple[str, str, str]]:
    """Yields name (or names), type and description of each parameter that a docstring lists.

    Args:
        docstring: without the indentation that its lines share.
    """
    lines = docstring.splitlines()
    inside, current = False, None
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        is_heading = bool(line.strip() and following and not following.strip("-="))
        if is_heading or inside and line and not line.startswith(" "):
            if current:
                yield current
            match = None if is_heading else _PARAMETER.fullmatch(line.strip())
            current = (match[1], match[2], "") if match else None
            if is_heading:
                inside = bool(_SECTION.fullmatch(line.strip()))
        elif current and line.strip():
            current = (*current[:2], f"{current[2]} {line.strip()}".strip())
    if current:
        yield current


def tag(name: str, kind: str, description: str) -> TaggedText:
    """Returns the words of a parameter, and what each is.

    Args:
        name: as before the colon; several names are separated by commas.
        kind: as after it, such as "int or None, optional".
        description: only its first sentence is taken.
    """
    end = _END_OF_TYPE.search(kind)
    type_end = end.start() if end else len(kind)
    pieces = [(word, "NAME") for word in _WORD.findall(name)]
    pieces.append((kind[:type_end], "TYPE"))
    pieces += _mark_defaults(kind[type_end:], only_literals=False)
    pieces += _mark_defaults(_END_OF_SENTENCE.split(description)[0], only_literals=True)
    words: list[str] = []
    tags: list[str] = []
    for text, label in pieces:
        found = [word.rstrip(".") for word in _WORD.findall(text)]
        words += found
        if label == "O":
            tags += ["O"] * len(found)
        else:
            tags += [f"{'I' if number else 'B'}-{label}" for number in range(len(found))]
    return TaggedText(tuple(words), tuple(tags))


def to_columns(texts: Iterable[TaggedText]) -> str:
    """Returns the content of a file: a word and its tag a line, an empty line after each text."""
    return "".join(
        "".join(f"{word} {label}\n" for word, label in zip(*text, strict=True)) + "\n"
        for text in texts
    )


def read_columns(path: Path) -> list[TaggedText]:
    """Reads a file that `to_columns` made."""
    texts = []
    for block in path.read_text("utf-8").split("\n\n"):
        if block:
            rows = [line.split(" ") for line in block.split("\n")]
            texts.append(TaggedText(*(tuple(column) for column in zip(*rows, strict=True))))
    return texts


def _mark_defaults(text: str, *, only_literals: bool) -> list[tuple[str, str]]:
    pieces, position = [], 0
    for match in _DEFAULT.finditer(text):
        if not only_literals or _LITERAL.fullmatch(match[1]):
            pieces += [(text[position : match.start(1)], "O"), (match[1], "DEFAULT")]
            position = match.end(1)
    return [*pieces, (text[position:], "O")]


def _join(parameters: Sequence[TaggedText]) -> Iterator[TaggedText]:
    """Yields texts of one to three parameters that follow each other."""
    joined: list[TaggedText] = []
    for parameter in parameters:
        words = sum(len(text.words) for text in joined) + len(parameter.words)
        if joined and (len(joined) == PARAMETERS_A_TEXT or words > WORDS_A_TEXT):
            yield _concatenate(joined)
            joined = []
        joined.append(parameter)
    if joined:
        yield _concatenate(joined)


def _concatenate(texts: Sequence[TaggedText]) -> TaggedText:
    words, tags = zip(*texts, strict=True)
    return TaggedText(sum(words, ()), sum(tags, ()))
