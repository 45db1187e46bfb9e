"""The model that the quickstart trained, looking at held-out examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from configure_pretraining import PretrainingConfig
from electra_tf2.report.judged import judge
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary

# original ids, ids after replacement (int [L]) and the discriminator's probabilities (float [L])
Row = tuple[np.ndarray, np.ndarray, np.ndarray]


def detect(config: PretrainingConfig, examples: int) -> tuple[Sequence[str], list[Row]]:
    """Masks, replaces and judges some held-out examples with the newest checkpoint.

    Args:
        config: the configuration the model was trained with.
        examples: how many; they are taken evenly from those that read like prose.

    Returns:
        The vocabulary's tokens, and a row for each example.
    """
    vocabulary, casing = load_vocabulary(config.vocab_file), Casing.from_hparams(config)
    records = config.eval_tfrecords
    assert records is not None  # `make_config` in quickstart.py sets it
    judged = judge(config, config.network(), vocabulary, records, examples=examples, casing=casing)
    assert judged.p_replaced is not None  # the quickstart trains a discriminator
    rows = zip(judged.original_ids, judged.shown_ids, judged.p_replaced, strict=True)
    return judged.tokens, list(rows)
