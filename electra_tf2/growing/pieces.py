"""New word pieces for a model: which they are, their ids, and the embeddings they start with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError, first_of
from electra_tf2.stored_json import shown
from electra_tf2.text.normalization import Casing, normalize
from electra_tf2.text.vocabulary import (
    PAD,
    Vocabulary,
    is_blank,
    read_vocabulary_text,
    vocabulary_difference,
    vocabulary_lines,
)
from electra_tf2.text.wordpiece import CONTINUATION, split_word

_UNUSED = re.compile(r"\[unused\d+\]")
_BEFORE = "x"  # a letter that a piece continues, to see what becomes of the two


class NewPieces(NamedTuple):
    """The pieces that a model gets.

    Attributes:
        vocabulary: all of the model's pieces, old and new.
        spelled: id of each new piece -> ids of the old pieces that spell it; () where none do.
        known: how many of the pieces that were given the model has already.
    """

    vocabulary: Vocabulary
    spelled: dict[int, tuple[int, ...]]
    known: int


class _Line(NamedTuple):
    number: int
    piece: str


def read_new_pieces(
    path: str, old: Vocabulary, casing: Casing, *, reuse_unused: bool = False
) -> NewPieces:
    """Reads the pieces to add to a model's vocabulary.

    Those that it has already are left out. The new ones get the ids after the old ones, in the
    order of the file.

    Args:
        path: a file of one piece a line, or a vocabulary that begins with the model's own.
        old: the model's vocabulary.
        casing: what becomes of its text.
        reuse_unused: whether they take the places of the pieces [unused…] first, which no text has.

    Raises:
        UserError: the file can't be read, holds no new piece, begins with another vocabulary than
            the model's, or has pieces that no text is ever cut into; lists these.
    """
    lines, known = _new_lines(path, old)
    _check_possible(lines, casing, path)
    tokens = list(old.tokens)
    free: Iterator[int] = iter(())
    if reuse_unused:
        free = (i for i, token in enumerate(old.tokens) if _UNUSED.fullmatch(token))
    spelled = {}
    for _, piece in lines:
        place = next(free, len(tokens))
        tokens[place : place + 1] = [piece]
        spelled[place] = tuple(_spelling(piece, old))
    return NewPieces(Vocabulary(tuple(tokens)), spelled, known)


def count_unused(vocabulary: Vocabulary) -> int:
    """Returns the number of the pieces [unused…]."""
    return sum(_UNUSED.fullmatch(token) is not None for token in vocabulary.tokens)


def _new_lines(path: str, old: Vocabulary) -> tuple[list[_Line], int]:
    """Returns the pieces of a file that are new, each once, and how many are not."""
    pieces = vocabulary_lines(read_vocabulary_text(path), path)
    start = 0
    if pieces and pieces[0] == PAD:  # a whole vocabulary
        start = len(old)
        if difference := vocabulary_difference(old, Vocabulary(tuple(pieces[:start]))):
            raise UserError(
                "The vocabulary does not begin with the model's own pieces.",
                where=path,
                received=f"compared with the model's, {difference}",
                remedy="Extend the model's own vocabulary (build_vocabulary.py --extend), or give "
                "a file with the new pieces alone.",
            )
    numbered = enumerate(pieces[start:], start + 1)
    given = [_Line(number, piece) for number, piece in numbered if piece]
    first = {line.piece: line for line in reversed(given)}
    lines = [line for line in given if first[line.piece] is line and line.piece not in old.ids]
    if not lines:
        raise UserError(
            "The file holds no new piece.",
            where=path,
            received=f"{len(given)} pieces, all of which the model has" if given else "no pieces",
            remedy="Give a file with one new piece a line; build_vocabulary.py --extend makes one "
            "from your text.",
        )
    return lines, len(given) - len(lines)


def _check_possible(lines: Iterable[_Line], casing: Casing, path: str) -> None:
    found = [(line, _problem(line.piece, casing)) for line in lines]
    wrong = [(line, problem) for line, problem in found if problem]
    if wrong:
        raise UserError(
            "No text is ever cut into this piece."
            if len(wrong) == 1
            else f"No text is ever cut into {len(wrong)} of the pieces.",
            where=f"{path}, line {wrong[0][0].number}",
            received=first_of([f"{shown(line.piece)}: {problem}" for line, problem in wrong]),
            remedy="Write each piece as the model's tokenizer leaves it, as one word (## before "
            "the rest of a word), or take the line out.",
        )


def _problem(piece: str, casing: Casing) -> str:
    """Says why no text is cut into a piece; "" if some is."""
    body = piece.removeprefix(CONTINUATION)
    if is_blank(piece) or not body:
        return "white space or nothing"
    before = _BEFORE if body != piece else ""
    word, limit = before + body, casing.max_word_characters
    if len(word) > limit:
        return f"{len(body)} characters, and words of more than {limit} are [UNK]"
    found = normalize(word, casing)
    if found == [word]:
        return ""
    if len(found) == 1 and found[0].startswith(before):
        return f"the tokenizer makes {shown(found[0].removeprefix(before))} of it"
    words = ", ".join(map(shown, found)) or "nothing"
    return f"the tokenizer cuts {shown(word)} into {words}"


def _spelling(piece: str, old: Vocabulary) -> list[int]:
    body = piece.removeprefix(CONTINUATION)
    found = split_word(body, old.ids, max_characters=len(body), continues=body != piece)
    return [old.ids[part] for part in found or ()]


def grown_rows(table: np.ndarray, pieces: NewPieces, old_size: int) -> np.ndarray:
    """Returns a table with rows for the new pieces; all other rows are as they were.

    The row of a new piece is the mean of the rows of the old pieces that spell it (Gee et al. 2022,
    "Fast vocabulary transfer", arXiv:2402.09977; Sachidananda et al. 2021, arXiv:2109.07460): what
    its text has been so far. Where none do, it is the mean of all old pieces' rows.

    Args:
        table: [rows, …], with a row for each old piece at least: embeddings, or biases [rows].
        pieces: the new ones.
        old_size: number of the old pieces.

    Returns:
        [max(rows, pieces of the vocabulary), …], of the same type.
    """
    missing = max(0, len(pieces.vocabulary) - len(table))
    grown = np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])
    mean = table[:old_size].mean(axis=0, dtype=np.float64)
    for row, spelled in pieces.spelled.items():
        own = table[list(spelled)].mean(axis=0, dtype=np.float64) if spelled else mean
        grown[row] = own
    return grown
