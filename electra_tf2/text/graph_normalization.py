"""BERT's normalization as TensorFlow operations, for graphs that take raw strings.

Nearly every character can be normalized by itself: a table says what becomes of it, made from
`normalization` and so from the Unicode tables of the Python that makes the graph. A capital sigma,
whose small letter depends on its neighbours, is replaced beforehand. Only one thing differs from
the definition: combining characters that are no accents (categories Mc and Me) are not put in
canonical order, which hardly any text shows.
"""

from __future__ import annotations

import functools
import sys
import unicodedata

import numpy as np
import tensorflow as tf

from electra_tf2.text.normalization import (
    is_dropped,
    is_ideograph,
    is_punctuation,
    is_space,
    remove_accents,
)

_PAGE = 256
_NUM_CODE_POINTS = sys.maxunicode + 1
_SURROGATES = range(0xD800, 0xE000)  # no characters of UTF-8
# The first rules; the others are texts that characters are replaced by.
_KEEP, _ALONE = 0, 1
_NO_TEXT = ["", ""]
_CAPITAL_SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c2"


class GraphNormalizer:
    """Normalizes texts inside a graph.

    Args:
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed (only when lower-casing).
        separate_ideographs: whether ideographs become words of their own.
    """

    def __init__(self, *, lower_case: bool, strip_accents: bool, separate_ideographs: bool = True):
        pages, index, texts = _table(lower_case, lower_case and strip_accents, separate_ideographs)
        # Made outside of graphs: a SavedModel then holds them once, not in each of its functions.
        self._page_of = tf.constant(index)
        self._pages = tf.constant(pages)
        self._texts = tf.constant(texts)
        self._sigma_pattern = _final_sigma_pattern() if lower_case else None

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the words of texts.

        Args:
            texts: string [n], UTF-8; bytes that are not are dropped.

        Returns:
            string [n, words], words without white space, punctuation alone.
        """
        if self._sigma_pattern is not None:
            texts = tf.strings.regex_replace(
                texts, self._sigma_pattern, rf"\1{_FINAL_SIGMA}\2"
            )
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        chars = tf.strings.unicode_split(texts, "UTF-8", errors="replace").flat_values
        code = codes.flat_values
        page = tf.gather(self._page_of, code // _PAGE)
        rule = tf.gather(self._pages, page * _PAGE + code % _PAGE)
        alone = tf.strings.join([" ", chars, " "])
        replaced = tf.where(rule == _ALONE, alone, tf.gather(self._texts, rule))
        replaced = tf.where(rule == _KEEP, chars, replaced)
        joined = tf.strings.unsorted_segment_join(replaced, codes.value_rowids(), codes.nrows())
        return tf.strings.split(joined)


@functools.cache
def _table(
    lower_case: bool, strip_accents: bool, separate_ideographs: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the rules of all code points in pages of 256, and the texts that rules put.

    Most pages are equal to another one: int32 [different pages * 256], and which of them each page
    is, int32 [pages].
    """
    numbers = {"": len(_NO_TEXT)}  # what category C becomes
    rules = np.full(_NUM_CODE_POINTS, numbers[""], np.int32)
    for char in _assigned():
        text = _normalized(char, lower_case, strip_accents, separate_ideographs)
        rule = _ALONE if text == f" {char} " else _KEEP
        if rule == _KEEP and text != char:
            rule = numbers.setdefault(text, len(_NO_TEXT) + len(numbers))
        rules[ord(char)] = rule
    pages, index = np.unique(rules.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return (
        pages.reshape(-1).astype(np.int32),
        index.reshape(-1).astype(np.int32),
        [*_NO_TEXT, *numbers],
    )


@functools.cache
def _assigned() -> list[str]:
    """All characters but those of category C, of which normalization drops all but these three."""
    chars = map(chr, range(_NUM_CODE_POINTS))
    return [char for char in chars if unicodedata.category(char)[0] != "C" or char in "\t\n\r"]


def _normalized(char: str, lower_case: bool, strip_accents: bool, ideographs: bool) -> str:
    """What a character becomes; parts that are words of their own have spaces around them."""
    if is_dropped(char):
        return ""
    if is_space(char) or char.isspace():
        return " "
    text = char.lower() if lower_case else char
    if strip_accents:
        text = remove_accents(text)
    text = "".join(f" {part} " if is_punctuation(part) else part for part in text)
    return f" {text} " if ideographs and is_ideograph(char) else text


@functools.cache
def _final_sigma_pattern() -> str:
    """A regular expression for a capital sigma that ends a word, with what makes it do so.

    By Unicode's rule Final_Sigma: after a letter with case and before none, characters in between
    that are ignored for this not counted. Python's `lower` tells which characters are which.
    """
    cased = np.zeros(_NUM_CODE_POINTS, bool)
    ignored = ~cased  # what is dropped before the text is lower-cased
    ignored[_SURROGATES.start : _SURROGATES.stop] = False
    for char in _assigned():
        cased[ord(char)] = f"A{_CAPITAL_SIGMA}{char}".lower()[1] != _FINAL_SIGMA
        ignored[ord(char)] = not cased[ord(char)] and (
            is_dropped(char) or f"A{_CAPITAL_SIGMA}{char}A".lower()[1] != _FINAL_SIGMA
        )
    with_case, between, other = map(_character_class, (cased, ignored, cased | ignored))
    return f"([{with_case}][{between}]*){_CAPITAL_SIGMA}([{between}]*(?:[^{other}]|$))"


def _character_class(members: np.ndarray) -> str:
    """The inside of a bracket expression, RE2's syntax, for the code points where it is True."""
    edges = np.flatnonzero(np.diff(members.astype(np.int8), prepend=0, append=0))
    return "".join(rf"\x{{{first:X}}}-\x{{{end - 1:X}}}" for first, end in edges.reshape(-1, 2))
