"""Scores of labels and of numbers."""

import warnings

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from finetune.classification.metrics import (
    AccuracyScorer,
    F1Scorer,
    MacroF1Scorer,
    MCCScorer,
    RegressionScorer,
)

TRUE = [0, 1, 1, 0, 1, 1, 0, 0]
PREDICTED = [0, 1, 0, 0, 1, 1, 1, 0]


def fill(scorer, true, predicted, losses=None, name="label_ids"):
    for i, (t, p) in enumerate(zip(true, predicted, strict=True)):
        loss = np.float32(i if losses is None else losses[i])
        kind = np.int32 if name == "label_ids" else np.float32
        scorer.update({"eid": i, "loss": loss, name: kind(t), "predictions": np.array(p)})
    return scorer


def scores(true, predicted):
    return fill(RegressionScorer(), true, predicted, name="targets")


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        (AccuracyScorer(), [("accuracy", 75.0), ("loss", 3.5)]),
        (F1Scorer(), [("accuracy", 75.0), ("loss", 3.5), ("f1", 75.0)]),
        (MCCScorer(), [("mcc", 50.0), ("loss", 3.5)]),
        (MacroF1Scorer("ab"), [("accuracy", 75), ("loss", 3.5), ("macro_f1", 75), ("f1", 75)]),
        (MacroF1Scorer("abc"), [("accuracy", 75), ("loss", 3.5), ("macro_f1", 75)]),
    ],
)
def test_names_figures_and_order(scorer, expected):
    results = fill(scorer, TRUE, PREDICTED).get_results()
    assert [name for name, _ in results] == [name for name, _ in expected]
    assert dict(results) == pytest.approx(dict(expected))
    assert scorer.get_loss() == 3.5
    assert scorer.stuck_at() is None


def test_f1_is_that_of_the_second_class():
    results = dict(fill(F1Scorer(), [1, 1, 0, 0, 0], [1, 0, 0, 0, 1]).get_results())
    assert results["f1"] == pytest.approx(50.0)
    assert dict(fill(F1Scorer(), [1, 0], [0, 0]).get_results())["f1"] == 0.0


def test_macro_f1_of_three_classes():
    true, predicted = [0, 1, 2, 2, 1], [0, 2, 2, 2, 1]
    results = dict(fill(MacroF1Scorer("abc"), true, predicted).get_results())
    by_hand = np.mean([1.0, 2 * 1 * 0.5 / 1.5, 2 * (2 / 3) / (5 / 3)])
    assert results["macro_f1"] == pytest.approx(100 * by_hand)


@pytest.mark.parametrize(
    ("true", "predicted"), [([0, 1, 1], [1, 1, 1]), ([1, 1], [1, 1]), ([0, 0], [0, 1])]
)
def test_mcc_of_one_class_is_0(true, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fill(MCCScorer(), true, predicted).get_results()[0] == ("mcc", 0.0)


def test_mcc_is_scikit_learns():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    got = dict(fill(MCCScorer(), true, predicted).get_results())["mcc"]
    assert got == pytest.approx(100 * metrics.matthews_corrcoef(true, predicted))


def test_correlations():
    rng = np.random.default_rng(1)
    true = rng.random(40).astype(np.float32)
    predicted = (true + 0.3 * rng.random(40)).astype(np.float32)
    results = scores(true, predicted).get_results()
    assert [name for name, _ in results] == ["pearson", "spearman", "mse", "loss"]
    expected = {
        "pearson": 100 * np.corrcoef(true, predicted)[0, 1],
        "spearman": 100 * scipy.stats.spearmanr(true, predicted)[0],
        "mse": np.mean((true - predicted) ** 2),
        "loss": 19.5,
    }
    assert dict(results) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        ([0.0, 0.5, 1.0], [0.3, 0.3, 0.3]),
        ([0.2, 0.2, 0.2], [0.0, 0.5, 1.0]),
        ([0.5], [0.4]),
        ([0.0, 1.0], [np.nan, 0.5]),
        ([0.0, 1.0], [np.inf, 0.5]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_undefined_correlations_are_0_and_silent(true, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = dict(scores(true, predicted).get_results())
    assert results["pearson"] == results["spearman"] == 0.0


def test_the_one_predicted_class_is_named():
    assert fill(AccuracyScorer(["no", "yes"]), [0, 1], [1, 1]).stuck_at() == "the class 'yes'"
    assert fill(MCCScorer(), [0, 1], [0, 0]).stuck_at() == "the class '0'"
    assert fill(AccuracyScorer(["no", "yes"]), [0, 1], [1, 0]).stuck_at() is None
    # Nothing can be said where the truth is one class, too.
    assert fill(AccuracyScorer(["no", "yes"]), [1, 1], [1, 1]).stuck_at() is None


def test_one_score_for_all_is_named():
    true = np.linspace(0, 1, 50)
    assert scores(true, 0.5 + 1e-4 * true).stuck_at() == "one score"
    assert scores(true, 0.5 + 0.2 * true).stuck_at() is None
    assert scores([0.5, 0.5], [0.5, 0.5]).stuck_at() is None
