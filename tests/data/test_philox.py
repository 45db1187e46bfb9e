"""Philox against the known answers that its authors publish with Random123."""

import numpy as np
import pytest

from electra_tf2.data.documents import philox_words

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        (0, (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ONES << 32 | ONES, (ONES,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            0x299F31D0A4093822,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_known_answers(key, counter, expected):
    assert philox_words(key, counter).tolist() == list(expected)


def test_many_counters_at_once():
    numbers = np.arange(5)
    words = philox_words(7, (numbers, 3, numbers * 1000, 1))
    assert words.shape == (4, 5)
    for number in range(5):
        alone = philox_words(7, (number, 3, number * 1000, 1))
        assert words[:, number].tolist() == alone.tolist()
    assert philox_words(-1, (0, 0, 0, 0)).tolist() == philox_words(2**64 - 1, (0,) * 4).tolist()
