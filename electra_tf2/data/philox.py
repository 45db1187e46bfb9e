"""Random words that are addressed, not drawn in turn: Philox4x32-10 in NumPy.

A block of four 32-bit words is a function of a 128-bit counter and a 64-bit key (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", 2011). Many blocks are computed at once.
"""

from __future__ import annotations

import numpy as np

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_HALF = np.uint64(32)
_MASK = 0xFFFFFFFF


def philox_words(key: int, counter: tuple[np.ndarray | int, ...]) -> np.ndarray:
    """Computes blocks of random words.

    Args:
        key: Which generator; its lowest 64 bits count.
        counter: The four words of the counters, the lowest first: integers of at least 0 and below
            2**32, or arrays `[n]` of such.

    Returns:
        uint64 `[4, n]`, words below 2**32.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(part, np.uint64) for part in counter))
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    mask = np.uint64(_MASK)
    for _ in range(_ROUNDS):
        even, odd = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (odd >> _HALF) ^ c1 ^ np.uint64(k0), (even >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = odd & mask, even & mask
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return np.stack([c0, c1, c2, c3])
