"""Raw strings to rows of token ids inside a graph, for models that are used without this package.

The operations are TensorFlow's and tensorflow-text's: whoever loads such a graph imports
tensorflow_text first. See `GraphNormalizer` for where it differs from the tokenizer.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from electra_tf2.text.normalization import (
    Casing,
    is_dropped,
    is_ideograph,
    is_punctuation,
    is_space,
)
from electra_tf2.text.tokenizer import MAX_UTF8_BYTES, Tokenizer, pieces_for_matching
from electra_tf2.text.vocabulary import MASK, UNK, Vocabulary

_PAGE = 256
_NUM_CODE_POINTS = sys.maxunicode + 1
_SURROGATES = range(0xD800, 0xE000)  # no characters of UTF-8
# The first rules; the others are texts that characters are replaced by.
_KEEP, _ALONE = 0, 1
_NO_TEXT = ["", ""]
_CAPITAL_SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c2"


class GraphNormalizer:
    """BERT's normalization inside a graph.

    Nearly every character can be normalized by itself: a table says what becomes of it, made from
    `normalization` and so from the Unicode tables of the Python that makes the graph. A capital
    sigma, whose small letter depends on its neighbours, is replaced beforehand. Only one thing
    differs from the definition: combining characters that are not accents (categories Mc and Me)
    are not put in canonical order, which hardly any text shows.

    Args:
        casing: what becomes of capitals and accents.
        separate_ideographs: whether ideographs become words of their own.
    """

    def __init__(self, casing: Casing, *, separate_ideographs: bool = True):
        pages, index, texts = _table(casing, separate_ideographs)
        # Made outside of graphs: a SavedModel then holds them once, not in each of its functions.
        self._page_of = tf.constant(index)
        self._pages = tf.constant(pages)
        self._texts = tf.constant(texts)
        self._sigma_pattern = _final_sigma_pattern() if casing.lower_case else None

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the words of texts.

        Args:
            texts: string [n], UTF-8; bytes that are not are dropped.

        Returns:
            string [n, words], words without white space, punctuation alone.
        """
        if self._sigma_pattern is not None:
            texts = tf.strings.regex_replace(texts, self._sigma_pattern, rf"\1{_FINAL_SIGMA}\2")
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
def _table(casing: Casing, separate_ideographs: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns the rules of all code points in pages of 256, and the texts that rules put.

    Most pages are equal to another one: int32 [different pages * 256], and which of them each page
    is, int32 [pages].
    """
    numbers = {"": len(_NO_TEXT)}  # what category C becomes
    rules = np.full(_NUM_CODE_POINTS, numbers[""], np.int32)
    for char in _assigned():
        text = _normalized(char, casing, separate_ideographs)
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


def _normalized(char: str, casing: Casing, ideographs: bool) -> str:
    """What a character becomes; parts that are words of their own have spaces around them."""
    if is_dropped(char):
        return ""
    if is_space(char) or char.isspace():
        return " "
    parts = casing.apply(char)
    text = "".join(f" {part} " if is_punctuation(part) else part for part in parts)
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


Features = dict[str, tf.Tensor]


class GraphTokenizer:
    """Tokenizes texts inside a graph as a tokenizer does outside.

    Args:
        tokenizer: vocabulary and casing.
        separate_ideographs: False for words that are not to be cut there, as taggers had it once.

    Attributes:
        vocabulary: the tokenizer's.
        tokens: string [vocab_size], the pieces.
    """

    def __init__(self, tokenizer: Tokenizer, *, separate_ideographs: bool = True):
        self.vocabulary: Vocabulary = tokenizer.vocabulary
        self._max_word_characters = tokenizer.casing.max_word_characters
        self.tokens = tf.constant(self.vocabulary.tokens)
        self._normalize = GraphNormalizer(tokenizer.casing, separate_ideographs=separate_ideographs)
        self._match = tf_text.FastWordpieceTokenizer(
            pieces_for_matching(self.vocabulary, separate_ideographs=separate_ideographs),
            max_bytes_per_word=MAX_UTF8_BYTES * self._max_word_characters,
            token_out_type=tf.int32,  # pyright: ignore[reportArgumentType] # one class, two names
            unknown_token=UNK,
            no_pretokenization=True,
        )
        # A function of its own: graphs that use it several times hold it once.
        texts = tf.TensorSpec([None], tf.string)
        self._call = tf.function(self._tokenize, input_signature=[texts], autograph=False)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Args: texts: string [n]. Returns int32 [n, tokens], without special tokens."""
        return self._call(texts)

    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        words = self._normalize(texts)
        letters = tf.strings.length(words.flat_values, unit="UTF8_CHAR")
        known = tf.where(letters > self._max_word_characters, UNK, words.flat_values)
        pieces: Any = self._match.tokenize(words.with_flat_values(known))
        return pieces.merge_dims(-2, -1)

    def with_masks(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """As a call, but `[MASK]` in a text becomes that token."""
        parts = tf.strings.split(texts, sep=MASK)
        later = tf.cast(tf.ragged.range(parts.row_lengths()) > 0, tf.int64).flat_values
        masks = tf.fill([tf.reduce_sum(later)], np.int32(self.vocabulary.mask_id))
        ragged: Any = tf.RaggedTensor  # its stub lacks the constructors
        ids = tf.concat([ragged.from_row_lengths(masks, later), self(parts.flat_values)], axis=1)
        return parts.with_values(ids).merge_dims(-2, -1)

    def rows(
        self, first: tf.RaggedTensor, max_length: int, *, second: tf.RaggedTensor | None = None
    ) -> Features:
        """Puts [CLS] and [SEP] around the tokens of texts or of pairs, as `rows.make_row` does.

        Args:
            first: int32 [n, tokens].
            max_length: longest row; what is too long is cut as there.
            second: int32 [n, tokens] of the second texts; where one is empty, or None for all, the
                row is that of a single text.

        Returns:
            `input_ids`, `input_mask` and `segment_ids`, int32 [n, longest]; no rows are one column
            wide, as networks look at the first.
        """
        second_values = tf.zeros([0], tf.int32) if second is None else second.values
        second_splits = tf.zeros_like(first.row_splits) if second is None else second.row_splits
        # With a tokens kept of the first text and b of the second, the columns of a row are
        # 0: [CLS]; 1 … a: the first text; a + 1: [SEP]; a + 2 … a + b + 1: the second; then [SEP].
        lengths_a = first.row_lengths()
        lengths_b = second_splits[1:] - second_splits[:-1]
        room = tf.where(lengths_b > 0, np.int64(max_length - 3), np.int64(max_length - 2))
        a, b = truncated(lengths_a, lengths_b, room)
        ends = a + 2 + tf.where(b > 0, b + 1, 0)
        column = tf.range(tf.reduce_max(tf.concat([ends, [1]], 0)))[tf.newaxis]
        a, b, ends = a[:, tf.newaxis], b[:, tf.newaxis], ends[:, tf.newaxis]
        places_a = first.row_splits[:-1, tf.newaxis] + column - 1
        places_b = second_splits[:-1, tf.newaxis] + column - a - 2
        ids = tf.where(column <= a, _at(first.values, places_a), _at(second_values, places_b))
        is_end = (column == a + 1) | (column == ends - 1)
        ids = tf.where(is_end, np.int32(self.vocabulary.sep_id), ids)
        ids = tf.where(column == 0, np.int32(self.vocabulary.cls_id), ids)
        mask = tf.cast(column < ends, tf.int32)
        return {
            "input_ids": ids * mask,
            "input_mask": mask,
            "segment_ids": mask * tf.cast(column > a + 1, tf.int32),
        }


def _at(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Looks values up; places that are none have some value or other."""
    last = tf.shape(values, tf.int64)[0]
    return tf.gather(tf.concat([values, [0]], 0), tf.clip_by_value(places, 0, last))


def truncated(
    lengths_a: tf.Tensor, lengths_b: tf.Tensor, room: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`rows.truncated_lengths` for many pairs: arguments and results are int64 [n]."""
    half_b = room // 2
    half_a = room - half_b
    fits = lengths_a + lengths_b <= room
    short_b, short_a = lengths_b <= half_b, lengths_a <= half_a
    keep_a = tf.where(short_b, room - lengths_b, tf.minimum(lengths_a, half_a))
    keep_b = tf.where(short_b, lengths_b, tf.where(short_a, room - lengths_a, half_b))
    return tf.where(fits, lengths_a, keep_a), tf.where(fits, lengths_b, keep_b)
