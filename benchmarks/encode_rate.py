"""How a contender of `encode.py` is measured."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

# Passes that don't count: ours builds its last graph after 300 batches.
_WARM_UP = 5


class Contender:
    """Something that computes states of sentences.

    Args:
        encode: sentences -> their states, [tokens, width] each.
        encode_all: computes the states of sentences and leaves them as they come.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], list[np.ndarray]],
        encode_all: Callable[[list[str]], None],
    ):
        self._encode = encode
        self._encode_all = encode_all

    def __call__(self, sentences: list[str]) -> list[np.ndarray]:
        """Returns the states of each sentence."""
        return self._encode(sentences)

    def rate(self, sentences: list[str], seconds: float) -> float:
        """Returns sentences/s over whole passes that take at least so many seconds."""
        for _ in range(_WARM_UP):
            self._encode_all(sentences)
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            self._encode_all(sentences)
            done += len(sentences)
        return done / (time.perf_counter() - start)
