"""From the tags in a file to the labels that a tagging task learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import chain

from absl import logging

from electra_tf2.errors import UserError, first_of, nearest_name_hint
from finetune.classification.labels import alike
from finetune.tagging.conll import Sentence
from finetune.tagging.notation import Notation, out_of_order
from finetune.tagging.spans import OUTSIDE, Span, bioes_tags, marks_spans, split_tag

# More tags than this, and than half of the words, are hardly meant as tags.
_MANY_TAGS = 50
# Fewer ends of spans than this share of their beginnings are mistakes.
_RARE = 0.1


def learned_tags(
    sentences: Sequence[Sentence],
    path: str,
    find_spans: Callable[[Sequence[str]], list[Span]],
    prefixes: str,
    notation: Notation,
) -> list[tuple[str, ...]]:
    """Returns the tags of sentences in the scheme BIOES, in which spans are learned.

    Args:
        sentences: the sentences of a file.
        find_spans: a sentence's tags, in the letters of BIOES -> the spans that they mark.
        prefixes: the letters of BIOES that tags other than O may have.
        notation: how the file writes tags.

    Raises:
        UserError: a tag does not mark a span; names its line.
    """
    return [
        tuple(bioes_tags(find_spans(row), len(row)))
        for row in canonical_tags(sentences, path, prefixes, notation)
    ]


def canonical_tags(
    sentences: Sequence[Sentence], path: str, prefixes: str, notation: Notation
) -> list[list[str]]:
    """Returns the tags of sentences in the letters of BIOES; arguments as for `learned_tags`."""
    counts = tag_counts(sentences)
    read = {tag: notation.canonical(tag) for tag in counts}
    known = {tag: t for tag, t in read.items() if t is not None and marks_spans(t, prefixes)}
    wrong = counts.keys() - known.keys()
    if wrong:
        line, tag = _first_line(sentences, [sentence.tags for sentence in sentences], wrong)
        is_header = line == sentences[0].lines[0]
        raise UserError(
            "A tag does not mark a span.",
            where=f"{path}, line {line}",
            received=f"{tag!r} ({sum(counts[t] for t in wrong)} of {counts.total()} tags are such)",
            remedy=f"Tags of spans are {notation.describe(prefixes)} here. Fix the tag"
            + ", or remove the line if it names the columns" * is_header
            + ". If it is right, define the task with the scheme that the tags have: "
            '"scheme": "token" where they stand for themselves.',
        )
    return [[known[tag] for tag in sentence.tags] for sentence in sentences]


def tag_counts(sentences: Sequence[Sentence]) -> Counter[str]:
    """Returns tag -> number of words that have it."""
    return Counter(chain.from_iterable(sentence.tags for sentence in sentences))


def plausible_prefixes(counts: Counter[str], prefixes: str, notation: Notation | None) -> str:
    """Leaves out E and S where they are so rare beside B that they are mistakes in IOB.

    In BIOES there is an E or an S for each span.

    Args:
        counts: tag -> number of words.
        prefixes: see `learned_tags`.
        notation: how tags mark spans; None where they stand for themselves.
    """
    letters: Counter[str] = Counter()
    for tag, number in counts.items():
        canonical = notation.canonical(tag) if notation and notation.marks else None
        letters[(canonical or OUTSIDE)[0]] += number
    ends = letters["E"] + letters["S"]
    return "BI" if 0 < ends < _RARE * letters["B"] else prefixes


def describe_tags(
    sentences: Sequence[Sentence], path: str, prefixes: str, notation: Notation | None
) -> str:
    """Says what the tags of a file are, and warns of what may be wrong with them.

    That is their order, their spelling, too many of them, or one for all words.

    Args:
        sentences: the sentences of the file.
        prefixes: see `learned_tags`.
        notation: how tags mark spans; None where they stand for themselves.

    Raises:
        UserError: a tag does not mark a span; names its line.
    """
    counts = tag_counts(sentences)
    shown = first_of(sorted(counts), separator=", ")
    if notation is None:
        _warn_of_looks(path, counts)
        if len(counts) > max(_MANY_TAGS, counts.total() // 2):
            logging.warning(
                f"{path}: {len(counts)} different tags of {counts.total()} words. Is it the column "
                "of the tags (tag_column in the task's definition)?"
            )
        return f"stand for themselves ({shown}): accuracy is reported"
    rows = canonical_tags(sentences, path, prefixes, notation)
    _warn_of_looks(path, {split_tag(tag)[1] for tag in chain.from_iterable(rows) if tag != OUTSIDE})
    if len(counts) == 1:
        logging.warning(
            f"{path}: all tags are {shown}, so there is nothing to learn. Is it the column of the "
            "tags (tag_column in the task's definition)?"
        )
    scheme = notation.scheme(rows)
    wrong = out_of_order(rows, scheme)
    if wrong:
        i, j = wrong[0]
        logging.warning(
            f"{path}: {len(wrong)} tags do not follow those before them as {scheme} has it, the "
            f"first is {sentences[i].tags[j]} on line {sentences[i].lines[j]}."
        )
    return f"mark spans, in the scheme {scheme} ({shown}): F1 of spans is reported"


def _warn_of_looks(path: str, names: Collection[str]) -> None:
    """Names tags, or types of spans, that differ in capitals and the like only."""
    for group in alike(sorted(names)):
        shown = ", ".join(map(repr, group))
        logging.warning(
            f"{path}: tags that differ in capitals, spaces or what can't be seen: {shown}."
        )


class LabelSet:
    """The labels of a task, each the tag of one output of its head.

    Args:
        labels: the label of each id.
        is_token_level: whether labels stand for themselves (True) or mark spans (False).
    """

    def __init__(self, labels: Sequence[str], is_token_level: bool):
        self._is_token_level = is_token_level
        self._ids = {label: i for i, label in enumerate(labels)}
        # Of the labels of a type the first one counts.
        self._by_type = {self._type(label): i for i, label in reversed([*enumerate(labels)])}

    def ids(self, tags: Collection[str]) -> dict[str, int]:
        """Returns the id to learn for each tag.

        Data scored with a trained model may have a type of span in places where the training data
        did not, such as alone. Its loss is then that of another label of the type. The scorer
        compares tags, not ids, so its metrics are exact.
        """
        return {tag: self._ids.get(tag, self._by_type.get(self._type(tag), 0)) for tag in tags}

    def check_known(
        self, sentences: Sequence[Sentence], tags: Sequence[Sequence[str]], path: str
    ) -> None:
        """Refuses tags of types that no label has: possible where labels came with a model.

        Raises:
            UserError: names the line of the first such tag.
        """
        known = self._by_type.keys() | (set() if self._is_token_level else {OUTSIDE})
        unknown = set(chain.from_iterable(tags)) - self._ids.keys()
        unknown = {tag for tag in unknown if self._type(tag) not in known}
        if not unknown:
            return
        line, tag = _first_line(sentences, tags, unknown)
        raise UserError(
            "A tag is not one of the labels that the model was trained with.",
            where=f"{path}, line {line}",
            received=repr(self._type(tag)) + (f" (of {len(unknown)} such)" * (len(unknown) > 1)),
            remedy=nearest_name_hint(self._type(tag), sorted(known))
            + " Fix the tag, or train a model that knows it.",
        )

    def _type(self, tag: str) -> str:
        """Returns what a label says apart from the place of its word in a span."""
        return tag if self._is_token_level or tag == OUTSIDE else split_tag(tag)[1]


def _first_line(
    sentences: Sequence[Sentence], tags: Sequence[Sequence[str]], wanted: set[str]
) -> tuple[int, str]:
    """Returns the line of the first of the wanted tags, and the tag."""
    return next(
        (line, tag)
        for sentence, row in zip(sentences, tags, strict=True)
        for line, tag in zip(sentence.lines, row, strict=True)
        if tag in wanted
    )
