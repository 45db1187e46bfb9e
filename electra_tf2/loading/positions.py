"""More positions for a model: its table goes on where its trained part ends."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.hparams.shared_checks import LARGEST_SIZES
from electra_tf2.loading.source import Source
from electra_tf2.training.checkpoints import CheckpointStore

Filling = Literal["copy", "interpolate"]
TRAINED_POSITIONS = "trained_positions"
"""Field in the state of a grown model's checkpoints: how many positions are trained."""


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


class Trained(NamedTuple):
    """How many of a model's positions were trained.

    Attributes:
        positions: number of the first rows.
        reason: what says so, for a message.
        is_known: whether something does; otherwise `positions` are all rows.
    """

    positions: int
    reason: str
    is_known: bool = True


class _Lengths(NamedTuple):
    """Hparams of training that say how long the examples were."""

    max_seq_length: int | None = None
    phases: list[dict[str, Any]] | None = None
    init_checkpoint: str | None = None
    init_generator: str | None = None
    branch_from: str | None = None


class _State(NamedTuple):
    """What the state of a checkpoint says of its positions."""

    trained_positions: int | None = None


def trained_positions(source: Source) -> Trained:
    """Returns how many positions of a model were trained.

    A checkpoint of a grown model states it. Of others of `run_pretraining.py` it is the length of
    the longest examples up to the checkpoint's step, unless the run began with other weights, which
    may have been trained on longer ones: no trained row is ever taken for an untrained one.

    Raises:
        UserError: hparams or state are not what they should be.
    """
    rows, pretrained = source.network.max_position_embeddings, source.pretrained
    stated, step = None, None
    if pretrained.format == "electra_tf2":
        head = CheckpointStore(pretrained.folder).head(pretrained.path)
        stated, step = head.part(_State).trained_positions, head.step
    hparams = source.trained_with(_Lengths)
    longest = _longest(hparams, step)
    if stated is not None:
        return Trained(min(max(stated, longest), rows), "its checkpoint says so")
    if not longest:
        return Trained(rows, "nothing beside it says otherwise", is_known=False)
    start = hparams.init_checkpoint or hparams.branch_from or hparams.init_generator
    if start and longest < rows:
        reason = f"it began as {start}, and how long the examples of that were is not known"
        return Trained(rows, reason, is_known=False)
    return Trained(min(longest, rows), "its examples were no longer, as its hparams say")


def _longest(hparams: _Lengths, step: int | None) -> int:
    """Returns the greatest length of the phases that had begun at a step; None: of all; 0: none."""
    longest = first = 0
    for phase in hparams.phases or [{}]:
        if step is not None and first >= step:
            break
        length, steps = phase.get("max_seq_length"), phase.get("num_train_steps")
        length = length if isinstance(length, int) else hparams.max_seq_length
        longest = max(longest, length or 0)
        first += steps if isinstance(steps, int) else 0
    return longest


def check_positions(wanted: MorePositions, rows: int) -> None:
    """Refuses positions that can't be made of a table.

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
