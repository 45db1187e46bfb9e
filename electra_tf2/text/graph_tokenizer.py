"""Raw strings to rows of token ids inside a graph, for models that are used without this package.

The operations are TensorFlow's and tensorflow-text's: whoever loads such a graph imports
tensorflow_text first. See `graph_normalization` for where it differs from the tokenizer.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from electra_tf2.text.fast_tokenizer import MAX_UTF8_BYTES, pieces_for_matching
from electra_tf2.text.graph_normalization import GraphNormalizer
from electra_tf2.text.tokenizer import Tokenizer
from electra_tf2.text.vocabulary import MASK, UNK, Vocabulary
from electra_tf2.text.wordpiece import MAX_WORD_CHARACTERS

Features = dict[str, tf.Tensor]


class GraphTokenizer:
    """Tokenizes texts inside a graph as a tokenizer does outside.

    Args:
        tokenizer: vocabulary, casing and accents.
        separate_ideographs: False for words that are not to be cut there, as in tagging.

    Attributes:
        vocabulary: the tokenizer's.
        tokens: string [vocab_size], the pieces.
    """

    def __init__(self, tokenizer: Tokenizer, *, separate_ideographs: bool = True):
        self.vocabulary: Vocabulary = tokenizer.vocabulary
        self.tokens = tf.constant(self.vocabulary.tokens)
        self._normalize = GraphNormalizer(
            lower_case=tokenizer.lower_case,
            strip_accents=tokenizer.strip_accents,
            separate_ideographs=separate_ideographs,
        )
        self._match = tf_text.FastWordpieceTokenizer(
            pieces_for_matching(self.vocabulary),
            max_bytes_per_word=MAX_UTF8_BYTES * MAX_WORD_CHARACTERS,
            token_out_type=tf.int32,
            unknown_token=UNK,
            no_pretokenization=True,
        )
        # Functions of their own: graphs that use them several times hold them once.
        texts = tf.TensorSpec([None], tf.string)
        self._call = tf.function(self._tokenize, input_signature=[texts], autograph=False)
        self._call_pairs = tf.function(self._pair_rows, autograph=False)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Args: texts: string [n]. Returns int32 [n, tokens], without special tokens."""
        return self._call(texts)

    def _tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        words = self._normalize(texts)
        letters = tf.strings.length(words.flat_values, unit="UTF8_CHAR")
        known = tf.where(letters > MAX_WORD_CHARACTERS, UNK, words.flat_values)
        return self._match.tokenize(words.with_flat_values(known)).merge_dims(-2, -1)

    def with_masks(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """As a call, but `[MASK]` in a text becomes that token."""
        parts = tf.strings.split(texts, sep=MASK)
        later = tf.cast(tf.ragged.range(parts.row_lengths()) > 0, tf.int64).flat_values
        masks = tf.fill([tf.reduce_sum(later)], np.int32(self.vocabulary.mask_id))
        ids = tf.concat(
            [tf.RaggedTensor.from_row_lengths(masks, later), self(parts.flat_values)], axis=1
        )
        return parts.with_values(ids).merge_dims(-2, -1)

    def rows(self, first: tf.RaggedTensor, max_length: int) -> Features:
        """Puts [CLS] and [SEP] around the tokens of texts, cut where they are too long.

        Args:
            first: int32 [n, tokens].
            max_length: longest row.

        Returns:
            `input_ids`, `input_mask` and `segment_ids`, int32 [n, longest].
        """
        return self._features(first[:, : max_length - 2], None)

    def pair_rows(
        self, first: tf.RaggedTensor, second: tf.RaggedTensor, max_length: int
    ) -> Features:
        """Puts special tokens around pairs of texts; an empty second text leaves a single one.

        Args:
            first: int32 [n, tokens].
            second: likewise.
            max_length: longest row; see `truncated_lengths` for what is cut.

        Returns:
            As `rows`.
        """
        return self._call_pairs(first, second, max_length)

    def _pair_rows(
        self, first: tf.RaggedTensor, second: tf.RaggedTensor, max_length: int
    ) -> Features:
        lengths_a, lengths_b = first.row_lengths(), second.row_lengths()
        room = tf.where(lengths_b > 0, np.int64(max_length - 3), np.int64(max_length - 2))
        keep_a, keep_b = truncated(lengths_a, lengths_b, room)
        return self._features(_shortened(first, keep_a), _shortened(second, keep_b))

    def _features(self, first: tf.RaggedTensor, second: tf.RaggedTensor | None) -> Features:
        ones = tf.ones([first.nrows()], tf.int64)
        parts = [self._special(self.vocabulary.cls_id, ones), first]
        parts.append(self._special(self.vocabulary.sep_id, ones))
        if second is None:
            ids = tf.concat(parts, axis=1)
            segments = tf.zeros_like(ids)
        else:
            there = tf.cast(second.row_lengths() > 0, tf.int64)
            end = tf.concat([second, self._special(self.vocabulary.sep_id, there)], axis=1)
            start = tf.concat(parts, axis=1)
            ids = tf.concat([start, end], axis=1)
            segments = tf.concat([tf.zeros_like(start), tf.ones_like(end)], axis=1)
        return {
            "input_ids": _dense(ids),
            "input_mask": _dense(tf.ones_like(ids)),
            "segment_ids": _dense(segments),
        }

    def _special(self, token_id: int, counts: tf.Tensor) -> tf.RaggedTensor:
        """Rows of `counts` times the token."""
        values = tf.fill([tf.reduce_sum(counts)], np.int32(token_id))
        return tf.RaggedTensor.from_row_lengths(values, counts)


def _dense(rows: tf.RaggedTensor) -> tf.Tensor:
    """Pads rows with 0; no rows are one column wide, as networks look at the first."""
    dense = rows.to_tensor()
    return tf.pad(dense, [[0, 0], [0, tf.cast(tf.shape(dense)[1] == 0, tf.int32)]])


def truncated(
    lengths_a: tf.Tensor, lengths_b: tf.Tensor, room: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`truncation.truncated_lengths` for many pairs: arguments and results are int64 [n]."""
    half_b = room // 2
    half_a = room - half_b
    fits = lengths_a + lengths_b <= room
    short_b, short_a = lengths_b <= half_b, lengths_a <= half_a
    keep_a = tf.where(short_b, room - lengths_b, tf.minimum(lengths_a, half_a))
    keep_b = tf.where(short_b, lengths_b, tf.where(short_a, room - lengths_a, half_b))
    return tf.where(fits, lengths_a, keep_a), tf.where(fits, lengths_b, keep_b)


def _shortened(rows: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    places = tf.ragged.range(rows.row_lengths())
    return tf.ragged.boolean_mask(rows, places < lengths[:, tf.newaxis])
