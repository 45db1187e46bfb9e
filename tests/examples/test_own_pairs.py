"""The examples that bring a pair of their own: what they learn, measured against no learning."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))  # scripts beside each other, not a package

import bring_your_own_pair  # noqa: E402
import pair_text  # noqa: E402

pytestmark = pytest.mark.slow

BETTER_BY = 0.10
STEPS = 300  # half of what the examples take, which is enough for that


@pytest.fixture(scope="module")
def text():
    return pair_text.load_text()


def test_the_text(text):
    """Rows [CLS] … [SEP] of known pieces, none of them in both parts."""
    vocabulary = text.vocabulary
    for rows in (text.train, text.held_out):
        assert rows.dtype == np.int32 and rows.shape[1] == 32 and len(rows) > 500
        assert (rows[:, 0] == vocabulary.cls_id).all() and (rows[:, -1] == vocabulary.sep_id).all()
        assert rows.min() > vocabulary.pad_id and rows.max() < len(vocabulary)
        assert (rows == vocabulary.unk_id).mean() < 0.01
    train = {row.tobytes() for row in text.train}
    assert sum(row.tobytes() in train for row in text.held_out) < 0.01 * len(text.held_out)


def test_a_convolutional_pair_learns(text):
    scores, discriminator = bring_your_own_pair.compare(text, STEPS)
    assert scores.trained >= scores.random + BETTER_BY, scores
    assert 0.45 < scores.random < 0.75
    assert discriminator(text.held_out[:2]).shape == (2, 32, 1)


def test_a_keras_hub_backbone_learns(text):
    pytest.importorskip("keras_hub", reason="KerasHub isn't installed (the [keras-hub] extra)")
    import keras_hub_pair

    scores = keras_hub_pair.compare(text, STEPS)
    assert scores.trained >= scores.random + BETTER_BY, scores
    assert 0.45 < scores.random < 0.75
