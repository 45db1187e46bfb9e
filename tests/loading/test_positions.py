"""Position tables with more rows: copied or stretched."""

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.positions import MorePositions, check_positions, grown_positions

TABLE = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


@pytest.mark.parametrize("rows", [8, 11, 20])
def test_copies_repeat_the_trained_rows(rows):
    grown = grown_positions(TABLE, MorePositions(rows, 5, "copy"))
    assert grown.dtype == np.float32 and grown.shape == (rows, 3)
    for place, row in enumerate(grown):
        np.testing.assert_array_equal(row, TABLE[place % 5])


@pytest.mark.parametrize("rows", [8, 11, 20])
@pytest.mark.parametrize("trained", [1, 5, 8])
def test_interpolation_stretches_them(rows, trained):
    grown = grown_positions(TABLE, MorePositions(rows, trained, "interpolate"))
    places = np.linspace(0, trained - 1, rows)
    for column in range(3):
        expected = np.interp(places, np.arange(trained), TABLE[:trained, column])
        np.testing.assert_allclose(grown[:, column], expected, rtol=1e-6, atol=1e-7)
    assert grown.dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "trained", "where"),
    [
        (7, 8, "--max-positions"),
        (8, 8, "--max-positions"),
        (7, 5, "--max-positions"),
        (1 << 21, 5, "--max-positions"),
        (16, 0, "--trained-positions"),
        (16, 9, "--trained-positions"),
    ],
)
def test_positions_that_can_not_be(rows, trained, where):
    check_positions(MorePositions(8, 5, "copy"), 8)
    with pytest.raises(UserError) as error:
        check_positions(MorePositions(rows, trained, "copy"), 8)
    assert error.value.where == where
