"""Checksums, against the published test vectors and a bit-by-bit computation."""

import numpy as np
import pytest

from electra_tf2.data.tfrecords import crc32c_rows, crc32c_strings, masked


def rows_of(texts):
    width = -(-max(map(len, texts)) // 4) * 4
    rows = np.zeros((len(texts), width), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        row[width - len(text) :] = np.frombuffer(text, np.uint8)
    return rows, np.array([len(text) for text in texts])


def bit_by_bit(text):
    crc = 0xFFFFFFFF
    for byte in text:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_published_vectors():
    # RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    texts = [bytes(32), b"\xff" * 32, bytes(range(32)), bytes(range(31, -1, -1)), b"123456789"]
    expected = [0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0x113FDB5C, 0xE3069283]

    assert crc32c_rows(*rows_of(texts)).tolist() == expected


def test_strings_of_all_lengths_at_once():
    generator = np.random.default_rng(0)
    texts = [generator.bytes(length) for length in range(4, 60)]
    rows, lengths = rows_of(texts)
    before = rows.copy()

    assert crc32c_rows(rows, lengths).tolist() == [bit_by_bit(text) for text in texts]
    assert (rows == before).all()


def test_strings_of_very_different_lengths():
    generator = np.random.default_rng(0)
    lengths = [4, 127, 128, 129, 5, 1000, 256, 3000, 384, 31]
    texts = [generator.bytes(length) for length in lengths] + [bytes(300), b"\xff" * 500]

    assert crc32c_strings(texts).tolist() == [bit_by_bit(text) for text in texts]
    assert crc32c_strings([]).tolist() == []
    with pytest.raises(ValueError, match="Received: 3 bytes"):
        crc32c_strings([b"long enough", b"not"])


def test_mask_wraps_around():
    value = 0xDEADBEEF
    expected = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    assert masked(np.array([value], np.uint32)).tolist() == [expected]


@pytest.mark.parametrize("shape, length", [((1, 7), 5), ((1, 8), 3)])
def test_what_it_can_not_do(shape, length):
    with pytest.raises(ValueError, match="multiple of 4"):
        crc32c_rows(np.zeros(shape, np.uint8), np.array([length]))
