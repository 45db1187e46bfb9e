"""Predicted tags as they are written to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.tagging.spans import OUTSIDE, official_spans
from finetune.tagging.tagging_metrics import predicted_tags


def tagged_sentence(
    words: Sequence[str], result: Mapping[str, Any], labels: Sequence[str], is_token_level: bool
) -> dict[str, Any]:
    """Writes the tags of a sentence.

    Args:
        words: the sentence.
        result: its `logits`, `predictions` and `labels_mask`, from the head.
        labels: the tag of each id.
        is_token_level: whether tags stand for themselves or mark spans.

    Returns:
        See `TaggingTask.prediction_records`.
    """
    tags = predicted_tags(result, labels)
    cut = len(words) - len(tags)
    logits = np.asarray(result["logits"], np.float64)[: len(tags)]
    # Of the largest logit: 1 / sum(exp(logits - largest)).
    chosen = 1 / np.sum(np.exp(logits - logits.max(-1, keepdims=True)), axis=-1)
    record: dict[str, Any] = {
        "words": list(words),
        "tags": tags + [None if is_token_level else OUTSIDE] * cut,
        "probabilities": chosen.tolist() + [None] * cut,
    }
    if not is_token_level:
        record["spans"] = [
            {
                "start": span.start,
                "end": span.end + 1,
                "type": span.type,
                "text": " ".join(words[span.start : span.end + 1]),
            }
            for span in official_spans(tags)
        ]
    return record
