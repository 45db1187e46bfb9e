"""How the tags of a file mark spans: the letters, where they stand, and what separates them.

    scheme    first  inner  last  only word
    iob       B      I      I     B          IOB2; in IOB1 B only separates spans of one type
    bioes     B      I      E     S
    bilou     B      I      L     U
    bmes      B      M      E     S
    bmewo     B      M      E     W
    bare      PER    PER    PER   PER        runs of a type

Inside this program tags are BIOES: B-PER, I-PER, E-PER, S-PER and O.

OntoNotes, CoNLL-2005 and CoNLL-2012 have brackets instead, which become tags of single words first:

    (PERSON*  *)  *  (GPE)    ->    B-PERSON  I-PERSON  O  B-GPE
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import product

from electra_tf2.errors import UserError
from finetune.tagging.conll import Sentence
from finetune.tagging.spans import OUTSIDE, PREFIXES, bioes_tags, seqeval_spans, split_tag

MARKS = {"bioes": "BIES", "bilou": "BILU", "bmes": "BMES", "bmewo": "BMEW"}
"""Scheme -> its letters for the first, an inner, the last and the only word of a span."""
BARE = "bare"

_OPENING = re.compile(r"\(([^()*]+)(?:\*|\*?\))")
_SEPARATORS = "-_/:|."
_MISTYPED = {"o", "0", "-", "_"}
_OTHER_OUTSIDE = _MISTYPED | {"OUT", "OTHER", "NONE"}


@dataclasses.dataclass(frozen=True)
class Notation:
    """The form of tags that mark spans.

    Attributes:
        marks: the letters for the first, an inner, the last and the only word of a span; "" where
            tags are types without a letter.
        separator: stands between letter and type.
        is_suffix: whether the letter comes last.
        outside: the tag of words outside of spans.
    """

    marks: str = MARKS["bioes"]
    separator: str = "-"
    is_suffix: bool = False
    outside: str = OUTSIDE

    def __post_init__(self):
        texts = (self.marks, self.separator, self.outside)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError(f"A notation consists of texts. Received: {self}")
        known = ("", *MARKS.values(), *map(str.lower, MARKS.values()))
        if self.marks not in known or len(self.separator) != 1:
            raise ValueError(f"There is no such notation. Received: {self}")

    def canonical(self, tag: str) -> str | None:
        """Returns a tag of a file as BIOES has it; None where it marks no span."""
        if tag == self.outside:
            return OUTSIDE
        if not self.marks:
            return None if tag in _MISTYPED or tag == OUTSIDE else f"I-{tag}"
        if self.is_suffix:
            kind, separator, mark = tag.rpartition(self.separator)
        else:
            mark, separator, kind = tag.partition(self.separator)
        place = self.marks.find(mark) if len(mark) == 1 else -1
        if place < 0:
            return None
        return "BIES"[place] + ("-" + kind if separator else "")

    def written(self, tag: str) -> str:
        """Returns a BIOES tag with this notation's letters; types alone stay BIOES."""
        if tag == OUTSIDE:
            return self.outside
        mark, kind = split_tag(tag)
        if not self.marks or mark not in PREFIXES:
            return tag
        letter = self.marks["BIES".index(mark)]
        if not kind:
            return letter
        parts = (kind, letter) if self.is_suffix else (letter, kind)
        return self.separator.join(parts)

    def learned(self, label: str) -> str:
        """The inverse of `written`; a label that is none of its results stays as it is."""
        return (self.canonical(label) if self.marks else None) or label

    def describe(self, prefixes: str) -> str:
        """Says which tags there are, for a message.

        Args:
            prefixes: those of the letters BIES that are allowed.
        """
        if not self.marks:
            return f"{self.outside} or the type of a span"
        letters = [self.marks["BIES".index(prefix)] for prefix in prefixes]
        if self.is_suffix:
            return f"{self.outside} or end with one of " + ", ".join(
                self.separator + letter for letter in letters
            )
        return f"{self.outside} or begin with one of " + ", ".join(
            letter + self.separator for letter in letters
        )

    def scheme(self, rows: Sequence[Sequence[str]]) -> str:
        """Returns the name of the scheme of some sentences' tags, as BIOES has them."""
        if not self.marks:
            return "bare types"
        used = {tag[0] for row in rows for tag in row if tag != OUTSIDE}
        names = {marks: name for name, marks in MARKS.items()}
        name = names[self.marks.upper()]
        if name == "bioes" and used <= {"B", "I"}:
            name = "iob1" if used and _is_iob1(rows) else "iob2"
        return name.upper()


def recognize_notation(
    counts: Counter[str], marks: Sequence[str] = tuple(MARKS.values())
) -> Notation | None:
    """Recognizes how tags mark spans.

    The notation is the one that most words agree with. A few tags that don't are mistakes, for
    whoever reads the tags to report. Types without letters are recognized by O being the most
    frequent tag.

    Args:
        counts: tag -> number of words that have it.
        marks: the letters that may be used, see `MARKS`.

    Returns:
        The notation; None if tags stand for themselves.
    """
    best, most = Notation(marks[0]), 0
    for letters, separator, is_suffix in product(
        [*marks, *map(str.lower, marks)], _SEPARATORS, (False, True)
    ):
        notation = Notation(letters, separator, is_suffix)
        marked = _marked(counts, notation)
        number = sum(counts[tag] for tag in marked)
        if number > most:
            best, most = notation, number
    marked = _marked(counts, best)
    others = counts.keys() - marked
    if most:
        others_counted = Counter({tag: counts[tag] for tag in others})
        best = dataclasses.replace(best, outside=outside_tag(others_counted))
    odd = sum(counts[tag] for tag in others - {best.outside})
    if not odd:
        return best
    if not most:
        is_bare = all(n < counts[OUTSIDE] for tag, n in counts.items() if tag != OUTSIDE)
        return Notation(marks="") if is_bare else None
    # Of single letters alone, such as S for subjects, others are not mistakes.
    has_types = any(len(tag) > 1 for tag in marked)
    return best if odd < most and (has_types or best.marks[0] in marked) else None


def outside_tag(counts: Counter[str]) -> str:
    """Returns which of the usual names, O or OTHER for example, words outside of spans have.

    Args:
        counts: tag -> number of words that have it, of those that may be meant.
    """
    names = sorted(counts.keys() & {OUTSIDE, *_OTHER_OUTSIDE}, key=lambda tag: tag != OUTSIDE)
    return max(names, key=counts.__getitem__, default=OUTSIDE)


def _marked(counts: Counter[str], notation: Notation) -> set[str]:
    return {tag for tag in counts if tag != OUTSIDE and notation.canonical(tag) is not None}


def out_of_order(rows: Sequence[Sequence[str]], scheme: str) -> list[tuple[int, int]]:
    """Finds tags that don't follow the ones before as their scheme has it.

    Args:
        rows: the tags of sentences, as BIOES has them.
        scheme: from `Notation.scheme`.

    Returns:
        (sentence, word) of each; none where types are bare.
    """
    found = []
    for i, row in enumerate(rows):
        spans = seqeval_spans(row)
        expected = bioes_tags(spans, len(row))
        if scheme in ("IOB1", "IOB2"):
            expected = [tag.replace("E", "I", 1) if tag[0] == "E" else tag for tag in expected]
            expected = ["B" + tag[1:] if tag[0] == "S" else tag for tag in expected]
        if scheme == "IOB1":
            ends = {span.end: span.type for span in spans}
            for span in spans:
                touching = ends.get(span.start - 1) == span.type
                expected[span.start] = ("B" if touching else "I") + expected[span.start][1:]
        if scheme != "bare types":
            found += [(i, j) for j, tag in enumerate(row) if tag != expected[j]]
    return found


def _is_iob1(rows: Sequence[Sequence[str]]) -> bool:
    """Whether more spans are opened by I than by B, of those that B need not separate."""
    opened: Counter[str] = Counter()
    for row in rows:
        ends: dict[int, str] = {}
        for span in seqeval_spans(row):
            if ends.get(span.start - 1) != span.type:
                opened[row[span.start][0]] += 1
            ends[span.end] = span.type
    return opened["I"] > opened["B"]


def has_brackets(tags: Collection[str]) -> bool:
    """Whether tags mark spans by brackets around a star for each word."""
    return "*" in tags and any(map(_OPENING.fullmatch, tags))


def without_brackets(sentences: Sequence[Sentence], path: str) -> list[Sentence]:
    """Returns sentences with tags in the scheme IOB2 in place of brackets.

    Raises:
        UserError: brackets are nested, or one lacks its partner; names the line.
    """
    return [dataclasses.replace(each, tags=_iob_tags(each, path)) for each in sentences]


def _iob_tags(sentence: Sentence, path: str) -> tuple[str, ...]:
    tags, kind = [], None
    for line, tag in zip(sentence.lines, sentence.tags, strict=True):
        opening = _OPENING.fullmatch(tag)
        if tag != "*" and not (opening if kind is None else tag == "*)"):
            raise _unpaired(path, line, repr(tag) + (f" within {kind}" if kind else ""))
        kind = opening[1] if opening else kind
        tags.append(OUTSIDE if kind is None else f"{'B' if opening else 'I'}-{kind}")
        kind = None if tag.endswith(")") else kind
    if kind is not None:
        raise _unpaired(path, sentence.lines[-1], f"({kind}* without *) to the sentence's end")
    return tuple(tags)


def _unpaired(path: str, line: int, received: str) -> UserError:
    return UserError(
        "Brackets do not mark spans one after the other.",
        where=f"{path}, line {line}",
        received=received,
        remedy="Spans in brackets are (LOC*, * and *), or (LOC) of one word, and * elsewhere. Fix "
        "the tag, name another tag_column, or write the spans that are to be learned as B-LOC, "
        'I-LOC and O. If the tags stand for themselves, set "scheme": "token".',
    )
