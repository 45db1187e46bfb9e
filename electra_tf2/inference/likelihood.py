"""What scoring a text gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from electra_tf2.errors import UserError
from electra_tf2.inference.texts import Row


class TextScore(NamedTuple):
    """How likely a model finds a text.

    Attributes:
        score: the pseudo-log-likelihood in nats, the sum of `token_scores`.
        tokens: the text's tokens, without special ones.
        token_scores: float32 [tokens], the log-probability of each token given all others.
    """

    score: float
    tokens: list[str]
    token_scores: np.ndarray


def text_score(tokens: list[str], token_scores: np.ndarray) -> TextScore:
    """Sums up the scores of a text's tokens."""
    return TextScore(float(np.sum(token_scores, dtype=np.float64)), tokens, token_scores)


def check_whole(rows: list[Row], longest: int) -> None:
    """Refuses texts that don't fit: what is cut off would be missing from the score.

    Args:
        rows: the texts, not cut.
        longest: rows of the network's position table.

    Raises:
        UserError: a text is longer; names its place.
    """
    for number, row in enumerate(rows):
        if len(row.input_ids) > longest:
            raise UserError(
                "A text is too long to be scored as a whole.",
                where=f"texts[{number}]",
                received=f"{len(row.input_ids)} tokens; the model has {longest} positions",
                remedy="Cut the text into parts, such as sentences, and score these.",
            )
