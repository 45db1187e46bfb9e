"""Whether a discriminator has learned anything, by the figures of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping

from electra_tf2.pretraining.guards import LOWEST_AUC


def replaced_share(figures: Mapping[str, float]) -> float | None:
    """Returns the share of tokens that were replaced, which the evaluation does not state.

    It follows from accuracy a, precision p and recall r at a threshold of .5: the wrong answers
    are the replaced tokens that were missed, (1 - r) s, and the originals that were taken for
    replaced, r s (1 / p - 1). Without any hit (r = 0) all are taken to be missed.

    Args:
        figures: of an evaluation.

    Returns:
        s in 0..1; None where all answers are right or nothing was measured.
    """
    accuracy, precision, recall = (
        figures.get(name, math.nan) for name in ("disc_accuracy", "disc_precision", "disc_recall")
    )
    per_replaced = 1 - recall + (recall * (1 / precision - 1) if recall and precision else 0)
    if not per_replaced > 0 or not accuracy < 1:
        return None
    return min(1.0, (1 - accuracy) / per_replaced)


def entropy(share: float) -> float:
    """Returns the loss in nats of answering every time with the share of positives."""
    return -sum(p * math.log(p) for p in (share, 1 - share) if p > 0)


def learns_nothing(figures: Mapping[str, float]) -> str | None:
    """Says by what a discriminator shows that it has learned nothing.

    Args:
        figures: of an evaluation of ELECTRA (Electric counts other tokens as replaced).

    Returns:
        The reason, or None if it has learned something.
    """
    auc = figures.get("disc_auc", math.nan)
    if not auc >= LOWEST_AUC:
        return f"AUC {auc:.3f} is under {LOWEST_AUC:g} (.5 is guessing)"
    share, loss = replaced_share(figures), figures.get("discriminator_loss", math.nan)
    if share is not None and not loss < entropy(share):
        return (
            f"loss {loss:.4f} is no better than that of always answering with the share of "
            f"replaced tokens, {entropy(share):.4f}"
        )
    return None
