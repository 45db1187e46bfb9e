"""Spans in brackets, as OntoNotes, CoNLL-2005 and CoNLL-2012 have them, to tags of single words.

(PERSON*  *)  *  (GPE)    ->    B-PERSON  I-PERSON  O  B-GPE
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

from electra_tf2.errors import UserError
from finetune.tagging.conll import Sentence
from finetune.tagging.spans import OUTSIDE

_OPENING = re.compile(r"\(([^()*]+)(?:\*|\*?\))")


def has_brackets(tags: Collection[str]) -> bool:
    """Whether tags mark spans by brackets around a star for each word."""
    return "*" in tags and any(map(_OPENING.fullmatch, tags))


def without_brackets(sentences: Sequence[Sentence], path: str) -> list[Sentence]:
    """Returns sentences with tags in the scheme IOB2 in place of brackets.

    Args:
        sentences: the sentences of a file.
        path: the file, for messages.

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
