"""Rerankers: scores by a sigmoid, and rankings of the candidates of each query."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from electra_tf2.errors import UserError
from finetune.classification.metrics import RankingScorer
from finetune.classification.regression import RegressionHead
from finetune.definitions import read_definition
from tests.finetune.sentences.sentence_samples import make_task, write_lines

PAGES = {"kind": "regression", "text": "query", "text_b": "page", "label": "relevance"}
RANKED = {**PAGES, "loss": "logistic", "ranking": True, "min": 0, "max": 1}


def test_a_logistic_loss_is_the_cross_entropy_of_a_probability():
    head = RegressionHead(0.1, "logistic")
    head.build((None, None, 4))
    states = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    targets = np.array([0.0, 1.0, 0.3], np.float32)
    result = head(states, {"targets": targets})
    p = expit(head.project(states, False, None).numpy()[:, 0])
    np.testing.assert_allclose(result.outputs["predictions"], p, atol=1e-6)
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    np.testing.assert_allclose(result.losses, expected, atol=1e-5)


def test_a_window_s_loss_is_that_of_the_joined_score(tmp_path):
    task = make_task(tmp_path, {**PAGES, "loss": "logistic"}, "pages")
    joined = task.with_output({"targets": 1.0}, np.float64(0.25))
    assert joined["loss"] == pytest.approx(-np.log(0.25))
    assert 10 < task.with_output({"targets": 0.0}, np.float32(1.0))["loss"] < 20


def test_candidates_are_ranked_within_their_query():
    stream = np.random.default_rng(1)
    scorer, rows = RankingScorer(), []
    for query, relevant in enumerate([[1, 0, 0], [0] * 11 + [1], [0, 0], [0, 1, 1, 0]]):
        rows += [(query, target, stream.normal()) for target in relevant]
    rows[3 + 11] = (1, 1, -9.0)  # beyond the best ten
    for query, target, score in [rows[i] for i in stream.permutation(len(rows))]:
        scorer.update({"queries": query, "targets": target, "predictions": score, "loss": 0.0})
    reciprocal, precision = [], []
    for query in (0, 1, 3):  # the third has nothing to find
        own = sorted((r for r in rows if r[0] == query), key=lambda row: -row[2])
        rank = 1 + [target for _, target, _ in own].index(1)
        reciprocal.append(1 / rank if rank <= 10 else 0)
        precision.append(average_precision_score([r[1] for r in own], [r[2] for r in own]))
    results = dict(scorer.get_results())
    assert results["mrr_at_10"] == pytest.approx(100 * np.mean(reciprocal))
    assert results["map"] == pytest.approx(100 * np.mean(precision))
    assert {"spearman", "loss"} <= results.keys()


def test_equal_scores_are_no_ranking():
    scorer = RankingScorer()
    for target in (1, 0):
        scorer.update({"queries": 0, "targets": target, "predictions": 0.5, "loss": 0.0})
    assert dict(scorer.get_results())["mrr_at_10"] == 50


@pytest.mark.parametrize("spread, stuck", [(1e-3, None), (-1e-3, "one score"), (0, "one score")])
def test_scores_that_differ_little_are_a_ranking_if_in_order(spread, stuck):
    scorer = RankingScorer()
    for query, target in ((0, 1), (0, 0), (1, 1), (1, 0)):
        row = {"queries": query, "targets": target, "predictions": 0.6 + spread * target}
        scorer.update({**row, "loss": 0.0})
    assert scorer.stuck_at() == stuck


def test_rows_of_one_text_are_one_query(tmp_path):
    task = make_task(tmp_path, RANKED, "pages")
    rows = [{"query": q, "page": "the ship", "relevance": i % 2} for i, q in enumerate("abab")]
    write_lines(tmp_path / "dev.jsonl", rows)
    features = [*task.featurize(task.read_examples(str(tmp_path / "dev.jsonl"), "dev"), False)]
    assert [row["queries"] for row in features] == [0, 1, 0, 1]
    assert task.main_metric == "mrr_at_10"
    assert isinstance(task.get_scorer(), RankingScorer)


def test_features_of_plain_regressions_have_the_settings_they_had(tmp_path):
    plain = make_task(tmp_path, {**PAGES, "min": 0, "max": 1}, "pages").feature_settings()
    assert not {"loss", "ranking"} & plain["definition"].keys() and "ranking" not in plain
    logistic = make_task(tmp_path, {**PAGES, "min": 0, "max": 1, "loss": "logistic"}, "pages")
    assert logistic.feature_settings() == plain


def test_a_model_of_another_loss_is_refused(tmp_path):
    squared, logistic = (
        make_task(tmp_path, {**RANKED, "loss": loss}, "pages") for loss in ("squared", "logistic")
    )
    assert squared.get_state() == {"min": 0, "max": 1}
    for task, other in ((squared, logistic), (logistic, squared)):
        task.set_state(task.get_state())
        with pytest.raises(UserError) as error:
            task.set_state(other.get_state())
        assert error.value.where == "task pages, loss" and other.loss in error.value.remedy


def test_single_texts_are_no_ranking():
    with pytest.raises(UserError) as error:
        read_definition("pages", {**RANKED, "text_b": None})
    assert error.value.where == "hparam tasks.pages.ranking"
