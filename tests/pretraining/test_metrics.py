"""Metrics as sums, against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from electra_tf2.pretraining import metrics
from electra_tf2.pretraining.replaced_token_detection import (
    ReplacedTokenOutput,
    _discriminator_metrics,
)

RNG = np.random.default_rng(12)
COUNT = 20_000


def auc(logits, labels, weights=None):
    weights = np.ones_like(labels) if weights is None else weights
    sums = metrics.ranking(*map(tf.constant, (logits.astype(np.float32), labels, weights)))
    return float(metrics.area_under_curve(sums))


def scores(shift, center, spread):
    """Labels (one in seven positive), and logits of which the positives' are higher by `shift`."""
    labels = (RNG.random(COUNT) < 1 / 7).astype(np.int32)
    return labels, center + spread * (RNG.normal(size=COUNT) + shift * labels)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 3.0, -1.0])
@pytest.mark.parametrize(
    "center, spread",
    [
        (0.0, 2.0),
        (0.0, 0.01),  # untrained: all logits are small
        (-2.0, 0.03),  # the rate of replaced tokens is learned before anything else
        (-4.0, 6.0),
        (-25.0, 5.0),  # Electric's, which hold the log-probability of the token
    ],
)
def test_area_under_the_curve(shift, center, spread):
    labels, logits = scores(shift, center, spread)
    expected = sklearn.metrics.roc_auc_score(labels, logits)
    assert auc(logits, labels) == pytest.approx(expected, abs=1e-3)


def test_area_with_ties_and_extremes():
    labels = np.array([0, 1, 0, 1, 1, 0], np.int32)
    logits = np.array([0.0, 0.0, -1e4, 1e4, 3.0, 3.0])
    expected = sklearn.metrics.roc_auc_score(labels, logits)
    assert auc(logits, labels) == pytest.approx(expected, abs=1e-12)
    assert auc(np.full(6, 7.0), labels) == 0.5
    assert auc(np.where(labels, 1e30, -1e30), labels) == 1.0
    assert auc(np.where(labels, -1e30, 1e30), labels) == 0.0


def test_elements_without_weight_do_not_count():
    labels, logits = scores(1.0, 0.0, 1.0)
    weights = (RNG.random(COUNT) < 0.5).astype(np.int32)
    misleading = np.where(weights, logits, np.where(labels, -9.0, 9.0))
    expected = sklearn.metrics.roc_auc_score(labels[weights > 0], logits[weights > 0])
    assert auc(misleading, labels, weights) == pytest.approx(expected, abs=1e-3)


def test_histograms_of_several_batches_add_up():
    labels, logits = scores(1.0, 0.0, 1.0)
    ones = tf.ones([COUNT // 2])
    parts = [
        metrics.ranking(tf.constant(x, tf.float32), tf.constant(y), ones)
        for x, y in zip(np.split(logits, 2), np.split(labels, 2), strict=True)
    ]
    assert float(metrics.area_under_curve(sum(parts))) == auc(logits, labels)


@pytest.mark.parametrize("label", [0, 1])
def test_without_one_of_the_classes_the_area_is_0(label):
    assert auc(RNG.normal(size=50), np.full(50, label, np.int32)) == 0.0


def test_ratio():
    sums = metrics.ratio(tf.constant([[1, 2], [3, 4]]), tf.constant([[1, 0], [1, 2]]))
    np.testing.assert_array_equal(sums, [12.0, 4.0])
    assert sums.dtype == tf.float32


def test_figures():
    ranking = np.zeros((2, metrics.AUC_BINS))
    figures = metrics.summarize(
        {"mean": np.array([3.0, 4.0]), "empty": np.array([0.0, 0.0]), "auc": ranking}
    )
    assert figures == {"mean": 0.75, "empty": 0.0, "auc": 0.0}


def output(logits, labels, losses=None):
    losses = np.zeros_like(logits) if losses is None else losses
    rest = dict.fromkeys(set(ReplacedTokenOutput._fields) - {"disc_logits", "labels"})
    rest["disc_losses"] = tf.constant(losses, tf.float32)
    return ReplacedTokenOutput(
        **rest, disc_logits=tf.constant(logits, tf.float32), labels=tf.constant(labels)
    )


def discriminator_figures(mask, *args):
    sums = _discriminator_metrics(tf.constant(mask), output(*args))
    return metrics.summarize({name: value.numpy() for name, value in sums.items()})


def test_discriminator_metrics():
    """Padding is not counted, however wrong the logits are there."""
    shape = (40, 50)
    labels = (RNG.random(shape) < 0.2).astype(np.int32)
    logits = RNG.normal(size=shape) + 2.0 * labels - 1.0
    mask = (np.arange(50) < RNG.integers(10, 51, (40, 1))).astype(np.int32)
    logits = np.where(mask, logits, 5.0)
    labels = labels * mask
    losses = RNG.random(shape) * mask
    figures = discriminator_figures(mask, logits, labels, losses)
    real = mask > 0
    truth, predicted = labels[real], logits[real] > 0
    expected = {
        "disc_accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "disc_precision": sklearn.metrics.precision_score(truth, predicted),
        "disc_recall": sklearn.metrics.recall_score(truth, predicted),
        "disc_loss": np.mean(losses.sum(-1) / (mask.sum(-1) + 1e-6)),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-5), name
    expected = sklearn.metrics.roc_auc_score(truth, logits[real])
    assert figures["disc_auc"] == pytest.approx(expected, abs=1e-3)


def test_a_logit_of_0_means_original():
    figures = discriminator_figures([[1, 1]], [[0.0, 0.0]], [[0, 1]])
    assert (figures["disc_accuracy"], figures["disc_recall"]) == (0.5, 0.0)


def test_nothing_predicted_or_nothing_there_is_0():
    figures = discriminator_figures([[1, 1, 1]], [[-1.0, -1.0, -1.0]], [[0, 0, 0]])
    assert figures["disc_precision"] == figures["disc_recall"] == figures["disc_auc"] == 0.0
    assert figures["disc_accuracy"] == 1.0
    nothing = discriminator_figures([[0, 0]], [[1.0, 1.0]], [[0, 0]])
    assert set(nothing.values()) == {0.0}


def test_a_row_of_padding_is_no_example():
    mask, losses = [[1, 1], [0, 0]], [[0.5, 1.5], [0.0, 0.0]]
    figures = discriminator_figures(mask, np.zeros((2, 2)), np.zeros((2, 2), np.int32), losses)
    assert figures["disc_loss"] == pytest.approx(1.0, rel=1e-5)
