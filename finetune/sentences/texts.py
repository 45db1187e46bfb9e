"""The rows of examples with several texts, which one encoder reads side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from electra_tf2.text.rows import make_row
from electra_tf2.text.tokenizer import Tokenizer
from finetune.task import CUT, MORE_IDS, MORE_SEGMENTS

Pair = tuple[np.ndarray, np.ndarray]


def text_features(
    texts: Sequence[Pair | None], tokenizer: Tokenizer, max_length: int
) -> dict[str, Any]:
    """Returns the features of an example's texts: the shared ones, and `MORE_TEXTS`.

    Args:
        texts: int32 [tokens], the ids of each text, and those of a second one behind it (empty:
            none); None where the example lacks a text that others have. The first one must be
            there.
        tokenizer: gives the special tokens.
        max_length: longest row, special tokens included.

    Returns:
        `input_ids` and `segment_ids` (int32 [tokens]) of the first text, lists of such rows of the
        others (empty ones where there is no text), and `CUT`, the tokens of all that don't fit.
    """
    rows, cut = [], 0
    for pair in texts:
        if pair is None:
            rows.append(((), ()))
            continue
        first, second = pair
        rows.append(make_row(first, tokenizer, second=second, max_length=max_length))
        whole = len(first) + len(second) + (3 if len(second) else 2)
        cut += whole - len(rows[-1].input_ids)
    (input_ids, segment_ids), *more = rows
    return {
        "input_ids": input_ids,
        "segment_ids": segment_ids,
        MORE_IDS: [ids for ids, _ in more],
        MORE_SEGMENTS: [segments for _, segments in more],
        CUT: cut,
    }
