"""The tokenizer's interface, and the choice between its two implementations."""

import abc
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from absl import logging

from electra_tf2.text.normalization import (
    UNCASED,
    Casing,
    FastNormalizer,
    is_dropped,
    is_ideograph,
    is_punctuation,
    normalize,
)
from electra_tf2.text.vocabulary import UNK, Vocabulary
from electra_tf2.text.wordpiece import CONTINUATION, split_word


class RaggedIds(NamedTuple):
    """Token ids of several texts, one after the other.

    Attributes:
        values: int32 `[total]`, the ids of all texts.
        row_splits: int64 `[texts + 1]`; text i has `values[row_splits[i]:row_splits[i + 1]]`.
    """

    values: np.ndarray
    row_splits: np.ndarray

    def rows(self) -> Iterator[np.ndarray]:
        """Yields the ids of each text."""
        ends = self.row_splits.tolist()
        for start, end in zip(ends[:-1], ends[1:], strict=True):
            yield self.values[start:end]


class Tokenizer(abc.ABC):
    """Text to token ids, as BERT does it (see `normalization` and `wordpiece`).

    Every text is ordinary text: `[MASK]` in it is three words, not the special token. No special
    tokens are added.

    Attributes:
        vocabulary: the pieces and their ids.
        casing: what becomes of capitals, accents and very long words.
    """

    def __init__(self, vocabulary: Vocabulary, casing: Casing):
        self.vocabulary = vocabulary
        self.casing = casing
        self._longest_piece = max(map(len, vocabulary.tokens))

    @abc.abstractmethod
    def encode_lines(self, lines: Sequence[str]) -> RaggedIds:
        """Returns the ids of many texts; far cheaper than one call for each."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        return self.encode_lines([text]).values.tolist()

    def tokenize(self, text: str) -> list[str]:
        """Returns the pieces of one text, with `[UNK]` for each unknown word."""
        return [self.vocabulary.tokens[i] for i in self.encode(text)]

    def split_word(self, word: str) -> list[str] | None:
        """Returns the pieces of a normalized word, or None if it is unknown."""
        return split_word(
            word,
            self.vocabulary.ids,
            max_characters=self.casing.max_word_characters,
            longest_piece=self._longest_piece,
        )


def make_tokenizer(
    vocabulary: Vocabulary,
    casing: Casing = UNCASED,
    *,
    implementation: Literal["auto", "fast", "reference"] = "auto",
) -> Tokenizer:
    """Builds a tokenizer. Both implementations give the same ids for every text.

    Args:
        vocabulary: the pieces.
        casing: what becomes of capitals, accents and very long words.
        implementation: "fast" needs tensorflow-text; "reference" is plain Python, some twenty
            times slower; "auto" takes the fast one where tensorflow-text is installed.

    Returns:
        The tokenizer.

    Raises:
        ValueError: `implementation` is none of the three.
        ImportError: "fast" was asked for and tensorflow-text is not installed.
    """
    if implementation not in ("auto", "fast", "reference"):
        raise ValueError(f"Unknown implementation. Received: {implementation!r}")
    if implementation == "auto":
        found = importlib.util.find_spec("tensorflow_text") is not None
        implementation = "fast" if found else "reference"
        if not found:
            logging.warning("tensorflow-text is not installed: tokenizing in plain Python, slowly.")
    if implementation == "reference":
        return ReferenceTokenizer(vocabulary, casing)
    return FastTokenizer(vocabulary, casing)


class ReferenceTokenizer(Tokenizer):
    """Plain Python, word by word: slow, short, and what the fast one is held against."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        ids = self.vocabulary.ids
        result = []
        for word in normalize(text, self.casing):
            pieces = self.split_word(word)
            if pieces is None:
                result.append(self.vocabulary.unk_id)
            else:
                result.extend(ids[piece] for piece in pieces)
        return result

    def encode_lines(self, lines: Sequence[str]) -> RaggedIds:
        """Returns the ids of many texts."""
        rows = [self.encode(line) for line in lines]
        row_splits = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=row_splits[1:])
        values = np.fromiter((i for row in rows for i in row), np.int32, row_splits[-1])
        return RaggedIds(values, row_splits)


# Lines per call: enough to hide a call's cost, few enough for the processor's caches.
LINES_PER_CALL = 2048
MAX_UTF8_BYTES = 4
# tensorflow-text refuses longer pieces.
MAX_PIECE_BYTES = 256


class FastTokenizer(Tokenizer):
    """Gives the reference tokenizer's ids, many times faster, with tensorflow-text.

    Its FastWordpieceTokenizer splits at white space and punctuation and finds the longest pieces in
    one pass. On its own it is not BERT's tokenizer: its character classes, its limit for long words
    (in bytes) and the vocabularies it takes differ. So it only ever sees text on which the two
    agree: normalized by `FastNormalizer`, without characters that it classifies otherwise (they are
    found out by asking it), and with a vocabulary without pieces that can't match. The few lines
    that don't qualify are left to the reference tokenizer.
    """

    def __init__(self, vocabulary: Vocabulary, casing: Casing):
        super().__init__(vocabulary, casing)
        self._reference = ReferenceTokenizer(vocabulary, casing)
        self._normalizer = FastNormalizer(casing)
        pieces = pieces_for_matching(vocabulary)
        limit = casing.max_word_characters
        self._match_ascii = _matcher(pieces, limit)
        # A word of more bytes is left to the reference: it may be one of the pieces left out.
        complete = max(map(_byte_length, vocabulary.tokens)) <= MAX_PIECE_BYTES
        max_word_bytes = MAX_UTF8_BYTES * limit if complete else MAX_PIECE_BYTES
        self._match = _matcher(pieces, max_word_bytes)
        self._longest_safe_word = min(limit, max_word_bytes // MAX_UTF8_BYTES)
        self._ascii_is_safe = complete or limit <= MAX_PIECE_BYTES
        self._classes = _CharacterClasses()

    def encode_lines(self, lines: Sequence[str]) -> RaggedIds:
        """Returns the ids of many texts."""
        blocks = [
            self._encode_block(lines[start : start + LINES_PER_CALL])
            for start in range(0, len(lines), LINES_PER_CALL)
        ]
        if len(blocks) == 1:
            return blocks[0]
        lengths = [np.diff(block.row_splits) for block in blocks]
        values = [block.values for block in blocks]
        return _ragged(
            np.concatenate(values or [np.zeros(0, np.int32)]),
            np.concatenate(lengths or [np.zeros(0, np.int64)]),
        )

    def _encode_block(self, lines: Sequence[str]) -> RaggedIds:
        block = "\n".join(lines)
        if not block.strip("\n"):  # such as the second texts of single ones
            return _ragged(np.zeros(0, np.int32), np.zeros(len(lines), np.int64))
        if block.count("\n") != len(lines) - 1:
            lines = [line.replace("\n", " ") for line in lines]
            block = "\n".join(lines)
        if not self._ascii_is_safe:
            return self._encode_other(lines, block)
        if block.isascii():
            return self._encode_ascii(block)
        is_ascii = np.fromiter(map(str.isascii, lines), bool, len(lines))
        if not is_ascii.any():
            return self._encode_other(lines, block)
        plain = [line for line in lines if line.isascii()]
        other = [line for line in lines if not line.isascii()]
        return _merge(
            is_ascii,
            self._encode_ascii("\n".join(plain)),
            self._encode_other(other, "\n".join(other)),
        )

    def _encode_ascii(self, block: str) -> RaggedIds:
        return self._match_ascii(self._normalizer.normalize_ascii(block).split(b"\n"))

    def _encode_other(self, lines: Sequence[str], block: str) -> RaggedIds:
        normalized = self._normalizer.normalize(block)
        disputed = self._classes.disputed(set(normalized))
        normalized = normalized.split("\n")
        unsafe = [
            self._has_long_word(line) or any(char in line for char in disputed)
            for line in normalized
        ]
        if not any(unsafe):
            return self._match(normalized)
        safe_lines = [line for line, no in zip(normalized, unsafe, strict=True) if not no]
        unsafe_lines = [line for line, yes in zip(lines, unsafe, strict=True) if yes]
        return _merge(
            ~np.array(unsafe),
            self._match(safe_lines),
            self._reference.encode_lines(unsafe_lines),
        )

    def _has_long_word(self, line: str) -> bool:
        """Whether a word may be too long for the matcher's limit in bytes to decide rightly."""
        if len(line) <= self._longest_safe_word:
            return False
        return max(map(len, line.split()), default=0) > self._longest_safe_word


class _CharacterClasses:
    """Finds the characters that tensorflow-text treats otherwise than BERT inside a word."""

    def __init__(self):
        self._known: set[str] = set()
        self._disputed: set[str] = set()
        self._probe = _matcher(["x", "##x", UNK], MAX_PIECE_BYTES)

    def disputed(self, characters: set[str]) -> set[str]:
        """Returns those of the characters of a normalized text that the matcher gets wrong.

        A character of a word must not split it. Punctuation and ideographs, which stand alone by
        now, must not be taken for white space.
        """
        new = sorted(char for char in characters - self._known if not char.isascii())
        if new:
            # A word character gives [UNK] for the whole, white space x and x, punctuation x,
            # [UNK] and x.
            splits = self._probe([f"x{char}x" for char in new]).row_splits
            for char, pieces in zip(new, np.diff(splits), strict=True):
                alone = is_punctuation(char) or is_ideograph(char)
                if pieces == 2 if alone else pieces != 1:
                    self._disputed.add(char)
        self._known.update(characters)  # last: another thread may ask meanwhile
        return characters & self._disputed


def _matcher(pieces: Sequence[str], max_word_bytes: int):
    """Returns a function from normalized lines to ids; longer words are unknown to it."""
    # Here, so that the reference tokenizer needs no TensorFlow.
    import tensorflow as tf
    import tensorflow_text as tf_text

    tokenizer = tf_text.FastWordpieceTokenizer(
        pieces,
        max_bytes_per_word=max_word_bytes,
        token_out_type=tf.int32,  # pyright: ignore[reportArgumentType] # one class, two names
        unknown_token=UNK,
    )

    def match(lines: Sequence[str | bytes]) -> RaggedIds:
        ids: Any = tokenizer.tokenize(tf.constant(lines, tf.string))
        return RaggedIds(ids.values.numpy(), ids.row_splits.numpy())

    return match


def pieces_for_matching(vocabulary: Vocabulary, *, separate_ideographs: bool = True) -> list[str]:
    """Replaces what can never match by names that tensorflow-text takes and never matches.

    It would refuse some such pieces (with U+0000, too long), and match others where BERT does not
    (a piece of white space).

    Args:
        vocabulary: the pieces.
        separate_ideographs: whether ideographs are words of their own, so that longer pieces with
            one never match.
    """
    return [
        token if token == UNK or _can_match(token, separate_ideographs) else f"[{i}]"
        for i, token in enumerate(vocabulary.tokens)
    ]


def _can_match(token: str, separate_ideographs: bool) -> bool:
    body = token.removeprefix(CONTINUATION)
    if not body or _byte_length(token) > MAX_PIECE_BYTES:
        return False
    if any(is_dropped(char) or char.isspace() for char in body):
        return False
    if len(token) == 1:
        return True
    alone = is_punctuation, *([is_ideograph] * separate_ideographs)
    return not any(is_alone(char) for char in body for is_alone in alone)


def _byte_length(token: str) -> int:
    return len(token.encode("utf-8", "replace"))


def _ragged(values: np.ndarray, lengths: Iterable[int]) -> RaggedIds:
    lengths = np.asarray(lengths, np.int64)
    row_splits = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=row_splits[1:])
    return RaggedIds(values, row_splits)


def _merge(from_first: np.ndarray, first: RaggedIds, second: RaggedIds) -> RaggedIds:
    """Interleaves rows: the next one of `first` where `from_first` [rows], else of `second`."""
    lengths = np.empty(len(from_first), np.int64)
    lengths[from_first] = np.diff(first.row_splits)
    lengths[~from_first] = np.diff(second.row_splits)
    values = np.empty(lengths.sum(), np.int32)
    in_first = np.repeat(from_first, lengths)
    values[in_first] = first.values
    values[~in_first] = second.values
    return _ragged(values, lengths)
