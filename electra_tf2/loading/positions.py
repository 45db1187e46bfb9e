"""More positions for a model: its table goes on where its trained part ends."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.hparams.shared_checks import LARGEST_SIZES
from electra_tf2.loading.source import Source

Filling = Literal["copy", "interpolate"]


class MorePositions(NamedTuple):
    """What becomes of a position table.

    Attributes:
        rows: number of positions that it will have.
        trained: number of its first rows that were trained.
        filling: "copy": the trained rows are repeated, so that positions up to `trained` stay as
            they are. "interpolate": they are stretched over all rows, and all but the first change.
    """

    rows: int
    trained: int
    filling: Filling


class _Lengths(NamedTuple):
    """Hparams of training that say how long the examples were."""

    max_seq_length: int | None = None
    phases: list[dict[str, Any]] | None = None


def trained_length(source: Source) -> int | None:
    """Returns the length of the longest examples that a model was trained on.

    Args:
        source: the model.

    Returns:
        None where no hparams of training lie beside it, as with other programs' models.

    Raises:
        UserError: the hparams are not what they should be.
    """
    trained = source.trained_with(_Lengths)
    if trained.max_seq_length is None:
        return None
    lengths = [phase.get("max_seq_length") for phase in trained.phases or [{}]]
    return max(n if isinstance(n, int) else trained.max_seq_length for n in lengths)


def check_positions(wanted: MorePositions, rows: int) -> None:
    """Refuses positions that can't be made of a table.

    Args:
        wanted: what is to become of it.
        rows: number of its rows.

    Raises:
        UserError: the table would shrink or stay as it is, or it has not so many trained rows.
    """
    if not 1 <= wanted.trained <= rows:
        raise UserError(
            "The model has not so many positions.",
            where="--trained-positions",
            received=f"{wanted.trained}; the model has {rows}",
            remedy=f"Give a number from 1 to {rows}: the length of the examples that it was "
            "trained on.",
        )
    least = rows + (wanted.trained == rows)
    most = LARGEST_SIZES["max_position_embeddings"]
    if not least <= wanted.rows <= most:
        raise UserError(
            "The model can't grow to this number of positions.",
            where="--max-positions",
            received=f"{wanted.rows}; the model has {rows}, of which {wanted.trained} are trained",
            remedy=f"Give a number from {least} to {most}.",
        )


def grown_positions(table: np.ndarray, positions: MorePositions) -> np.ndarray:
    """Returns a position table with more rows.

    Copies are those of Longformer (Beltagy et al. 2020, arXiv:2004.05150, section 5): attention
    finds its neighbours by the embeddings of nearby positions, which copies keep everywhere but at
    their seams. Interpolation is linear, from the first trained row to the last.

    Args:
        table: [rows, width].
        positions: how many, and of which rows.

    Returns:
        [positions.rows, width], of the same type.
    """
    trained = table[: positions.trained]
    if positions.filling == "copy":
        return trained[np.arange(positions.rows) % positions.trained]
    places = np.linspace(0, positions.trained - 1, positions.rows)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, positions.trained - 1)
    share = (places - low)[:, None]
    return ((1 - share) * trained[low] + share * trained[high]).astype(table.dtype)
