"""What a discriminator says of text in which a generator replaced some tokens, and showing it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from configure_pretraining import PretrainingConfig
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary

PADDING = "[PAD]"
SPECIAL = ("[CLS]", "[SEP]")
_GREEN, _RED, _YELLOW, _RESET = "\033[32m", "\033[31m", "\033[33m", "\033[0m"


class Detection(NamedTuple):
    """One example after replacement, special tokens and padding left out.

    Attributes:
        shown: the tokens the discriminator saw.
        originals: the tokens that stood there before.
        probabilities: of each token, how likely the discriminator takes it for a replacement.
    """

    shown: Sequence[str]
    originals: Sequence[str]
    probabilities: Sequence[float]

    @property
    def replaced(self) -> list[bool]:
        """Which tokens are not the original ones."""
        return [new != old for new, old in zip(self.shown, self.originals, strict=True)]

    @property
    def suspected(self) -> list[bool]:
        """The tokens that look most like replacements: as many as were in fact replaced."""
        order = np.argsort(-np.asarray(self.probabilities), kind="stable")
        chosen = set(order[: sum(self.replaced)].tolist())
        return [index in chosen for index in range(len(self.shown))]

    @property
    def found(self) -> int:
        """Number of replaced tokens among the suspected ones."""
        return sum(r and s for r, s in zip(self.replaced, self.suspected, strict=True))


def make_detection(
    tokens: Sequence[str],
    original_ids: np.ndarray,
    shown_ids: np.ndarray,
    probabilities: np.ndarray,
) -> Detection:
    """Turns a row of ids into a `Detection`.

    Args:
        tokens: the vocabulary.
        original_ids: ids before replacement, int [L].
        shown_ids: ids after it, int [L].
        probabilities: the discriminator's, float [L].
    """
    kept = [i for i, n in enumerate(original_ids) if tokens[n] not in (PADDING, *SPECIAL)]
    return Detection(
        [tokens[shown_ids[i]] for i in kept],
        [tokens[original_ids[i]] for i in kept],
        [float(probabilities[i]) for i in kept],
    )


def detect(config: PretrainingConfig, examples: int) -> list[Detection]:
    """Masks, replaces and judges some held-out examples with a run's newest checkpoint.

    Args:
        config: the configuration the model was trained with, with held-out records.
        examples: how many; they are taken evenly from those that read like prose.
    """
    from electra_tf2.report.judged import judge  # TensorFlow takes seconds to import

    vocabulary, casing = load_vocabulary(config.vocab_file), Casing.from_hparams(config)
    records = config.eval_tfrecords
    assert records is not None
    judged = judge(config, config.network(), vocabulary, records, examples=examples, casing=casing)
    assert judged.p_replaced is not None  # there is a discriminator
    rows = zip(judged.original_ids, judged.shown_ids, judged.p_replaced, strict=True)
    return [make_detection(judged.tokens, *row) for row in rows]


def legend(color: bool) -> str:
    """Explains the marks of `render`."""
    marks = [
        _mark("[old -> new]+", _GREEN, color) + "  replaced, and among the suspected",
        _mark("[old -> new]-", _RED, color) + "  replaced, but not suspected",
        _mark("token?", _YELLOW, color) + "         original, but suspected",
    ]
    head = "As many tokens count as suspected as were replaced: those with the highest probability."
    return "\n".join([head, *(f"  {mark}" for mark in marks)])


def render(detection: Detection, *, color: bool, width: int = 88) -> str:
    """The text with its replacements marked, and a table of the replaced tokens.

    Args:
        detection: what to show.
        color: whether to colour the marks (for a terminal).
        width: characters per line.

    Returns:
        Several lines, without a newline at the end.
    """
    words: list[str] = []
    for new, old, replaced, suspected in zip(
        detection.shown,
        detection.originals,
        detection.replaced,
        detection.suspected,
        strict=True,
    ):
        if replaced:
            # Joined by a character that no wrapping breaks at; see the replacement below.
            words.append(f"[{old}\0->\0{new}]" + ("+" if suspected else "-"))
        elif new.startswith("##") and words and words[-1][-1] not in "+-?]":
            words[-1] += new[2:] + ("?" if suspected else "")
        else:
            words.append(new + ("?" if suspected else ""))
    lines = textwrap.wrap(" ".join(words), width, break_long_words=False, break_on_hyphens=False)
    colored = (" ".join(_color_word(word, color) for word in line.split(" ")) for line in lines)
    text = "\n".join("  " + line for line in colored).replace("\0", " ")
    return text + "\n" + _table(detection)


def _table(detection: Detection) -> str:
    ranks = np.argsort(np.argsort(-np.asarray(detection.probabilities), kind="stable")) + 1
    rows = [
        f"    {old:<16} {new:<16} {probability:11.1%}  {rank:3d} of {len(detection.shown)}"
        for old, new, probability, rank, replaced in zip(
            detection.originals,
            detection.shown,
            detection.probabilities,
            ranks,
            detection.replaced,
            strict=True,
        )
        if replaced
    ]
    if not rows:
        return "    The generator guessed every masked token: nothing was replaced."
    head = f"    {'original':<16} {'replaced by':<16} {'p(replaced)':>11}  rank"
    by_chance = sum(detection.replaced) ** 2 / len(detection.shown)
    foot = f"    Found {detection.found} of {len(rows)}; by chance it would be {by_chance:.1f}."
    return "\n".join([head, *rows, foot])


def _color_word(word: str, color: bool) -> str:
    if word.startswith("[") and word.endswith("]+"):
        return _mark(word, _GREEN, color)
    if word.startswith("[") and word.endswith("]-"):
        return _mark(word, _RED, color)
    return _mark(word, _YELLOW, color) if len(word) > 1 and word.endswith("?") else word


def _mark(text: str, code: str, color: bool) -> str:
    return f"{code}{text}{_RESET}" if color else text
