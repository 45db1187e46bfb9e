"""CRC-32C of many byte strings at once: the checksum that TFRecords carry.

The checksum is computed column by column over a matrix with one string per row, so that a few
hundred NumPy operations serve thousands of strings.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reflected
_ALL_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8  # TFRecord's masking, tensorflow/core/lib/hash/crc32c.h


def crc32c_rows(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """CRC-32C of strings that are right-aligned in the rows of a matrix.

    Args:
        rows: uint8 `[n, width]`, width a multiple of 4; row i holds its string in the last
            `lengths[i]` columns and zeros before. Not changed.
        lengths: Integers `[n]`, at least 4 each.

    Returns:
        uint32 `[n]`.

    Raises:
        ValueError: The width or a length is not as described.
    """
    count, width = rows.shape
    if width % 4 or (count and int(lengths.min()) < 4):
        raise ValueError(
            "Rows must be a multiple of 4 wide, strings at least 4 long. "
            f"Received: width {width}, shortest {lengths.min() if count else None}"
        )
    # Starting from all ones equals starting from zero with the first four bytes inverted, and
    # leading zeros leave a checksum of zero as it is: strings of all lengths go in step.
    inverted = rows.copy()
    starts = (width - lengths)[:, None] + np.arange(4)
    inverted[np.arange(count)[:, None], starts] ^= 0xFF
    words = np.ascontiguousarray(inverted.view("<u4").T)
    low_table, high_table = _word_tables()
    crc = np.zeros(count, "<u4")
    low_half, high_half = crc.view("<u2").reshape(count, 2).T
    for word in words:
        crc ^= word
        # "wrap" only because it is quicker than to check indices that can't be out of range.
        low, high = low_table.take(low_half, mode="wrap"), high_table.take(high_half, mode="wrap")
        np.bitwise_xor(low, high, out=crc)
    return crc.astype(np.uint32) ^ np.uint32(_ALL_ONES)


def masked(crc: np.ndarray) -> np.ndarray:
    """The form in which TFRecord files store a checksum (uint32, any shape)."""
    return ((crc >> 15) | (crc << 17)) + np.uint32(_MASK_DELTA)


@functools.cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the low and the high half of a 4-byte word add to the checksum after the word."""
    after = np.arange(256, dtype=np.uint32)  # after a byte, then after 1, 2 and 3 zeros more
    for _ in range(8):
        after = (after >> 1) ^ np.where(after & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    byte_table = after
    by_zeros = [byte_table]
    for _ in range(3):
        after = (after >> 8) ^ byte_table[after & 0xFF]
        by_zeros.append(after)
    halves = np.arange(1 << 16)
    low = by_zeros[3][halves & 0xFF] ^ by_zeros[2][halves >> 8]
    high = by_zeros[1][halves & 0xFF] ^ by_zeros[0][halves >> 8]
    return low, high
