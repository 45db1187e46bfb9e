"""Held-out text as both networks see it: the discriminator's opinion in colour, and samples."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.loading.folder import VOCABULARY
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.patterns import weighted
from electra_tf2.pretraining.phases import phase_trained, phases_of
from electra_tf2.report.folder import PretrainedFolder, casing_of, places_of
from electra_tf2.report.judged import Judged, judge
from electra_tf2.report.page import Markup, Section, element, joined, note, paragraph, table
from electra_tf2.text.normalization import is_ideograph
from electra_tf2.text.vocabulary import load_vocabulary

_OPINIONS, _SAMPLES = 4, 2
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


def examples_sections(folder: PretrainedFolder) -> tuple[list[Section], Judged | None]:
    """Returns the sections of the networks' opinions and samples, and what they show.

    Where the model or its records can't be opened, a section says why.
    """
    if folder.config is None or folder.stored is None or not folder.state:
        return [], None
    try:
        judged, where = _judge(folder, folder.stored.network)
    except UserError as error:
        why = paragraph("There are no examples: ", *_error(error))
        return [Section("examples", "Examples", why)], None
    tokens = examples_of(judged)
    sections = []
    if judged.p_replaced is not None:
        content = joined([where, render_opinions(tokens)])
        sections.append(Section("discriminator", "What the discriminator says", content))
    if not folder.config.uniform_generator:
        judges = judged.p_replaced is not None
        content = joined([where, render_samples(tokens[:_SAMPLES], judges=judges)])
        sections.append(Section("generator", "What the generator makes of masks", content))
    return sections, judged


def _error(error: UserError) -> Sequence[str]:
    place = [" ", element("code", error.where)] if error.where else []
    received = [" ", str(error.received)] if error.received else []
    return [error.what, *place, *received]


def _judge(folder: PretrainedFolder, network: TransformerConfig) -> tuple[Judged, Markup]:
    """What the networks make of held-out text, or else of the text they were trained on."""
    assert folder.config is not None
    config = phase_trained(phases_of(folder.config), folder.step).config
    vocabulary = load_vocabulary(posixpath.join(folder.model_dir, VOCABULARY))
    tries = [(own, True) for own in places_of(folder, config.eval_tfrecords or "") if own]
    for patterns in weighted(config.pretrain_tfrecords):
        tries += [(own, False) for own in places_of(folder, patterns)]
    failure: UserError | None = None
    for pattern, is_held_out in tries:
        try:
            judged = judge(
                config,
                network,
                vocabulary,
                pattern,
                examples=_OPINIONS,
                casing=casing_of(folder),
            )
        except UserError as error:
            failure = failure or error
            continue
        kind = "held-out text" if is_held_out else "text it was trained on"
        lost = is_held_out or not config.eval_tfrecords
        reason = "" if lost else " (the held-out records can't be read)"
        return judged, note(f"Examples of {kind}{reason}: ", element("code", pattern))
    assert failure is not None
    raise failure


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
    """Puts pieces of a word together, and spaces between words that are not ideographs."""
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
