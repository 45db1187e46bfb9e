"""Examples as they are read: the discriminator's opinion in colour, the generator's samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.report.judged import Judged
from electra_tf2.report.markup import Markup, element, joined, note, table
from electra_tf2.text.normalization import is_ideograph

_LEFT_OUT = ("[PAD]", "[CLS]", "[SEP]")


class Token(NamedTuple):
    """A token of an example.

    Attributes:
        original: what stands in the text.
        shown: what the discriminator saw.
        is_masked: whether the generator had to guess it.
        p_original, p_shown: the generator's probability of either, if it is masked.
        p_replaced: the discriminator's opinion; 0 without a discriminator.
        is_suspected: whether it is among those that look most like replacements, of which there are
            as many as were replaced.
    """

    original: str
    shown: str
    is_masked: bool
    p_original: float
    p_shown: float
    p_replaced: float
    is_suspected: bool

    @property
    def is_replaced(self) -> bool:
        """Whether it is not the original."""
        return self.shown != self.original


def examples_of(judged: Judged) -> list[list[Token]]:
    """Returns the tokens of each example, without special ones and padding."""
    return [_tokens(judged, row) for row in range(len(judged.original_ids))]


def _tokens(judged: Judged, row: int) -> list[Token]:
    names, originals = judged.tokens, judged.original_ids[row]
    kept = [i for i, number in enumerate(originals) if names[number] not in _LEFT_OUT]
    replaced = judged.shown_ids[row] != originals
    opinion = np.zeros(len(originals)) if judged.p_replaced is None else judged.p_replaced[row]
    order = sorted(kept, key=lambda i: -opinion[i])
    suspected = set() if judged.p_replaced is None else set(order[: int(replaced[kept].sum())])
    return [
        Token(
            names[int(originals[i])],
            names[int(judged.shown_ids[row, i])],
            bool(judged.masked[row, i]),
            float(judged.p_original[row, i]),
            float(judged.p_shown[row, i]),
            float(opinion[i]),
            i in suspected,
        )
        for i in kept
    ]


def render_opinions(examples: Sequence[Sequence[Token]]) -> Markup:
    """Returns the examples with replacements in them, coloured by the discriminator's opinion."""
    found = sum(t.is_replaced and t.is_suspected for tokens in examples for t in tokens)
    replaced = sum(t.is_replaced for tokens in examples for t in tokens)
    by_chance = sum(
        sum(t.is_replaced for t in tokens) ** 2 / len(tokens) for tokens in examples if tokens
    )
    legend = [
        "The stronger the colour, the more likely the discriminator takes the token for a "
        "replacement; hovering over it shows the probability. ",
        element("span", "new ", element("small", "✓ old"), class_="replaced found"),
        " was replaced and is among the most suspicious tokens of its text, ",
        element("span", "new ", element("small", "✗ old"), class_="replaced missed"),
        " was replaced and is not, ",
        element("span", "token", class_="suspected"),
        " is the original and looks suspicious. As many count as suspicious as were replaced.",
    ]
    result = f"Found: {found} of {replaced} replaced tokens; by chance it would be {by_chance:.1f}."
    texts = [
        element("p", _words([t.shown for t in e], map(_opinion, e)), class_="sentence", dir="auto")
        for e in examples
    ]
    return joined([note(*legend), *texts, element("p", result)])


def _opinion(token: Token) -> Markup:
    glow = {"style": f"--p:{token.p_replaced:.2f}", "title": f"replaced: {token.p_replaced:.1%}"}
    shown = token.shown.removeprefix("##")
    if not token.is_replaced:
        class_ = "token suspected" if token.is_suspected else "token"
        return element("span", shown, class_=class_, **glow)
    mark, class_ = ("✓", "found") if token.is_suspected else ("✗", "missed")
    original = element("small", f"{mark} ", element("del", token.original.removeprefix("##")))
    return element("span", shown, " ", original, class_=f"token replaced {class_}", **glow)


def _words(tokens: Sequence[str], rendered: Iterable[str]) -> Markup:
    """Puts pieces of a word together, and spaces between words that are not ideographs.

    Args:
        tokens: the vocabulary's.
        rendered: what stands for each.
    """
    parts: list[str] = []
    before = ""
    for token, shown in zip(tokens, rendered, strict=True):
        is_inside = token.startswith("##") or (
            is_ideograph(token[:1] or " ") and is_ideograph(before[-1:] or " ")
        )
        parts += [shown] if is_inside or not parts else [" ", shown]
        before = token
    return joined(parts)


def render_samples(examples: Sequence[Sequence[Token]], *, judges: bool) -> Markup:
    """Returns the examples with masks, and what the generator made of each.

    Args:
        examples: their tokens.
        judges: whether there is a discriminator, whose opinion is shown too.
    """
    header = ["", "original", "sample", *["judged replaced"] * judges]
    parts: list[str] = []
    for tokens in examples:
        numbers = itertools.count(1)
        text = _words([t.original for t in tokens], (_masked(t, numbers) for t in tokens))
        rows = []
        for number, token in enumerate((t for t in tokens if t.is_masked), 1):
            sample = token.shown if token.is_replaced else f"{token.shown} ✓"
            cells = [_likely(token.original, token.p_original), _likely(sample, token.p_shown)]
            rows.append([str(number), *cells, *[f"{token.p_replaced:.1%}"] * judges])
        parts.append(element("p", text, class_="sentence", dir="auto"))
        parts.append(table(header, rows))
    return joined(parts)


def _likely(token: str, probability: float) -> Markup:
    return joined([token, " ", element("small", f"{probability:.1%}", dir="ltr")])


def _masked(token: Token, numbers: Iterator[int]) -> str:
    if token.is_masked:
        return element("span", str(next(numbers)), class_="mask", title="masked")
    return token.shown.removeprefix("##")
