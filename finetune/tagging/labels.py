"""From the tags in a file to the labels that a tagging task learns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain

from electra_tf2.errors import UserError, nearest_name_hint
from finetune.tagging.conll import Sentence
from finetune.tagging.spans import OUTSIDE, Span, bioes_tags, marks_spans, split_tag


def learned_tags(
    sentences: Sequence[Sentence],
    path: str,
    find_spans: Callable[[Sequence[str]], list[Span]],
    prefixes: str,
) -> list[tuple[str, ...]]:
    """Returns the tags of sentences in the scheme BIOES, in which spans are learned.

    Args:
        sentences: the sentences of a file.
        path: the file, for messages.
        find_spans: a sentence's tags -> the spans that they mark.
        prefixes: the letters that tags other than O may begin with.

    Raises:
        UserError: a tag does not mark a span; names its line.
    """
    tags = [sentence.tags for sentence in sentences]
    wrong = {tag for tag in set(chain.from_iterable(tags)) if not marks_spans(tag, prefixes)}
    if wrong:
        line, tag = _first_line(sentences, tags, wrong)
        begins = ", ".join(f"{prefix}-" for prefix in prefixes)
        raise UserError(
            "A tag does not mark a span.",
            where=f"{path}, line {line}",
            received=repr(tag),
            remedy=f"Tags of spans are O or begin with one of {begins}. Where tags stand for "
            "themselves, define the task with the scheme token.",
        )
    return [tuple(bioes_tags(find_spans(row), len(row))) for row in tags]


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

        Args:
            sentences: the sentences of a file.
            tags: their tags, as they are learned.
            path: the file, for messages.

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
