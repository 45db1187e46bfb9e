"""Token ids of the docstrings on this machine, for the examples that bring a pair of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from docstring_corpus import docstrings_of_file, is_held_out, package_sources

from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import Vocabulary
from electra_tf2.text.vocabulary_training import WordCounter, train_vocabulary


class PairText(NamedTuple):
    """A vocabulary, and rows [CLS] … [SEP] of token ids, int32 [rows, length].

    Attributes:
        vocabulary: made of the text to train on.
        train: rows to train on, in random order.
        held_out: rows from modules that give nothing to `train`.
    """

    vocabulary: Vocabulary
    train: np.ndarray
    held_out: np.ndarray


def load_text(
    packages: Sequence[str] = ("numpy", "keras"), *, vocab_size: int = 1024, length: int = 32
) -> PairText:
    """Reads the docstrings of some packages, see `docstring_corpus`.

    Args:
        packages: that are installed; they are read, not imported.
        vocab_size: word pieces.
        length: tokens of a row; a docstring goes on in the next row.
    """
    texts: dict[bool, list[str]] = {False: [], True: []}
    for package in packages:
        for module, path in package_sources(package):
            texts[is_held_out(module)] += docstrings_of_file(path)
    counter = WordCounter()
    for text in texts[False]:
        counter.add(text)
    vocabulary = train_vocabulary(counter.words(), vocab_size).vocabulary
    train, held_out = (
        _rows(list(dict.fromkeys(texts[part])), vocabulary, length) for part in (False, True)
    )
    return PairText(vocabulary, np.random.default_rng(0).permutation(train), held_out)


def _rows(texts: Sequence[str], vocabulary: Vocabulary, length: int) -> np.ndarray:
    ids = make_tokenizer(vocabulary).encode_lines(texts).values
    width = length - 2
    ids = ids[: len(ids) // width * width].reshape(-1, width)
    ends = [np.full((len(ids), 1), end, np.int32) for end in (vocabulary.cls_id, vocabulary.sep_id)]
    return np.concatenate([ends[0], ids, ends[1]], axis=1)
