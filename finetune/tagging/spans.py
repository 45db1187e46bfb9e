"""Tags, and the spans of words that they mark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
PREFIXES = frozenset("BIOES")


class Span(NamedTuple):
    """A marked part of a sentence.

    Attributes:
        start: number of its first word, from 0.
        end: number of its last word.
        type: its type, such as NP; empty where the tags have no types.
    """

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """Returns a tag's prefix and type.

    The type is everything after the first hyphen: `B-NP-SBJ` has the type `NP-SBJ`. A tag whose
    part before the hyphen is not B, I, O, E or S is all type and has no prefix.
    """
    prefix, _, kind = tag.partition("-")
    return (prefix, kind) if prefix in PREFIXES else ("", tag)


def marks_spans(tag: str, prefixes: str = "BIES") -> bool:
    """Whether a tag is O, or one of the prefixes with or without a type."""
    prefix = split_tag(tag)[0]
    return tag == OUTSIDE or prefix != "" and prefix in prefixes


def official_spans(tags: Sequence[str]) -> list[Span]:
    """Returns the spans by the rule of the official program.

    A span opens at B, at S, and at any tag but O that follows an O or begins the sentence. It ends
    before the next O, B or S. Its type is that of its last tag.

    Args:
        tags: a sentence's tags, in any of the IOB and BIOES schemes; may be empty.
    """
    return _spans(tags, lambda before, tag: tag[0] in ("B", "S"))


def seqeval_spans(tags: Sequence[str]) -> list[Span]:
    """Returns the spans as the package seqeval (in its default mode) defines them.

    A span is a run of tags other than O that is cut before each B and S, after each E and S, and
    wherever the type changes. For well-formed tags the result is that of `official_spans`; for
    others (an I of another type, an I after an E) that rule joins what this one separates. As spans
    are cut where the type changes, those in the scheme IOB1 are read correctly too.
    """

    def is_cut(before: tuple[str, str], tag: tuple[str, str]) -> bool:
        return tag[0] in ("B", "S") or before[0] in ("E", "S") or tag[1] != before[1]

    return _spans(tags, is_cut)


def _spans(
    tags: Sequence[str], is_cut: Callable[[tuple[str, str], tuple[str, str]], bool]
) -> list[Span]:
    """Returns the runs of tags other than O, cut between two tags where `is_cut` says so."""
    spans = []
    start, before = None, ("", "")
    for i, tag in enumerate([*tags, OUTSIDE]):
        parts = split_tag(tag)
        if start is not None and (tag == OUTSIDE or is_cut(before, parts)):
            spans.append(Span(start, i - 1, before[1]))
            start = None
        if start is None and tag != OUTSIDE:
            start = i
        before = parts
    return spans


def bioes_tags(spans: Sequence[Span], length: int) -> list[str]:
    """Writes spans that don't overlap as tags in the scheme BIOES.

    Returns:
        For each word: S in a span of one word; B, I and E for the first, inner and last words of a
        longer span; each with a hyphen and the type, if there is one; O elsewhere.
    """
    tags = [OUTSIDE] * length
    for start, end, kind in spans:
        suffix = f"-{kind}" if kind else ""
        if start == end:
            tags[start] = f"S{suffix}"
            continue
        tags[start] = f"B{suffix}"
        tags[start + 1 : end] = [f"I{suffix}"] * (end - start - 1)
        tags[end] = f"E{suffix}"
    return tags
