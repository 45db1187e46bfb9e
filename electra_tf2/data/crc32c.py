"""CRC-32C of many byte strings at once: the checksum that TFRecords carry.

The checksum is computed column by column over a matrix with one string per row, so that a few
hundred NumPy operations serve thousands of strings. Strings of very different lengths are cut into
blocks, whose checksums are computed so and then joined.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reflected
_ALL_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8  # TFRecord's masking, tensorflow/core/lib/hash/crc32c.h
_BLOCK_BYTES = 128  # a multiple of 4


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
    return _through(words, _word_tables()) ^ np.uint32(_ALL_ONES)


def crc32c_strings(strings: Sequence[bytes]) -> np.ndarray:
    """CRC-32C of strings of any lengths.

    Args:
        strings: The strings, at least 4 bytes each.

    Returns:
        uint32 `[n]`.

    Raises:
        ValueError: A string is too short.
    """
    if not strings:
        return np.zeros(0, np.uint32)
    if (shortest := min(map(len, strings))) < 4:
        raise ValueError(f"Strings must be at least 4 bytes long. Received: {shortest} bytes")
    # As above, with zeros before each string up to a whole number of blocks.
    blocks = np.array([-(-len(string) // _BLOCK_BYTES) for string in strings])
    last = np.cumsum(blocks)
    padded = bytearray(int(last[-1]) * _BLOCK_BYTES)
    for string, end in zip(strings, (last * _BLOCK_BYTES).tolist(), strict=True):
        padded[end - len(string) : end] = string
    rows = np.frombuffer(padded, np.uint8)
    starts = last * _BLOCK_BYTES - np.array([len(string) for string in strings])
    rows[starts[:, None] + np.arange(4)] ^= 0xFF
    words = np.ascontiguousarray(rows.view("<u4").reshape(int(last[-1]), -1).T)
    by_block = _through(words, _word_tables())
    # Right-aligned by block, so that the strings go in step again.
    most = int(blocks.max())
    aligned = np.zeros((most, len(strings)), np.uint32)
    place = np.arange(int(last[-1])) - np.repeat(last, blocks) + most
    aligned[place, np.repeat(np.arange(len(strings)), blocks)] = by_block
    crc = np.zeros(len(strings), np.uint32)
    low_table, high_table = _block_tables()
    for block in aligned:
        crc = low_table[crc & 0xFFFF] ^ high_table[crc >> 16] ^ block
    return crc ^ np.uint32(_ALL_ONES)


def _through(words: np.ndarray, tables: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The checksums after columns of 4-byte words `[words, n]`, without any inversion."""
    low_table, high_table = tables
    count = words.shape[1]
    crc = np.zeros(count, "<u4")
    low_half, high_half = crc.view("<u2").reshape(count, 2).T
    for word in words:
        crc ^= word
        # "wrap" only because it is quicker than to check indices that can't be out of range.
        low, high = low_table.take(low_half, mode="wrap"), high_table.take(high_half, mode="wrap")
        np.bitwise_xor(low, high, out=crc)
    return crc.astype(np.uint32)


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


@functools.cache
def _block_tables() -> tuple[np.ndarray, np.ndarray]:
    """What the low and the high half of a checksum become after a block of zeros."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    words = np.zeros((_BLOCK_BYTES // 4, 32), np.uint32)
    words[0] = bits  # a checksum is xor-ed with the word that follows
    after = _through(words, _word_tables())
    halves = np.arange(1 << 16, dtype=np.uint32)
    low, high = np.zeros_like(halves), np.zeros_like(halves)
    for bit in range(16):
        is_set = (halves >> bit & 1).astype(bool)
        low ^= np.where(is_set, after[bit], np.uint32(0))
        high ^= np.where(is_set, after[16 + bit], np.uint32(0))
    return low, high
