"""The tokenizer's interface, and the choice between its two implementations."""

import abc
import importlib.util
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from absl import logging

from electra_tf2.text.vocabulary import Vocabulary


class RaggedIds(NamedTuple):
    """Token ids of several texts, one after the other.

    Attributes:
        values: int32 `[total]`, the ids of all texts.
        row_splits: int64 `[texts + 1]`; text i has `values[row_splits[i]:row_splits[i + 1]]`.
    """

    values: np.ndarray
    row_splits: np.ndarray


class Tokenizer(abc.ABC):
    """Text to token ids, as BERT does it (see `normalization` and `wordpiece`).

    Every text is ordinary text: `[MASK]` in it is three words, not the special token. No special
    tokens are added.

    Attributes:
        vocabulary: the pieces and their ids.
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed (only when lower-casing).
    """

    def __init__(self, vocabulary: Vocabulary, *, lower_case: bool, strip_accents: bool):
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self.strip_accents = strip_accents

    @abc.abstractmethod
    def encode_lines(self, lines: Sequence[str]) -> RaggedIds:
        """Returns the ids of many texts; far cheaper than one call for each."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of one text."""
        return self.encode_lines([text]).values.tolist()

    def tokenize(self, text: str) -> list[str]:
        """Returns the pieces of one text, with `[UNK]` for each unknown word."""
        return [self.vocabulary.tokens[i] for i in self.encode(text)]


def make_tokenizer(
    vocabulary: Vocabulary,
    *,
    lower_case: bool = True,
    strip_accents: bool = True,
    implementation: Literal["auto", "fast", "reference"] = "auto",
) -> Tokenizer:
    """Builds a tokenizer. Both implementations give the same ids for every text.

    Args:
        vocabulary: the pieces.
        lower_case: whether text is lower-cased.
        strip_accents: whether accents are removed (only when lower-casing).
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
        return ReferenceTokenizer(
            vocabulary, lower_case=lower_case, strip_accents=strip_accents
        )
    from electra_tf2.text.fast_tokenizer import FastTokenizer  # imports TensorFlow

    return FastTokenizer(vocabulary, lower_case=lower_case, strip_accents=strip_accents)
