"""What an evaluation's figures say of a discriminator that learned nothing."""

import math

import pytest

from electra_tf2.pretraining.guards import entropy, learns_nothing, replaced_share

# Two evaluations of the official program on 409,600 tokens each (its AUC counts padding).
OFFICIAL = {
    "disc_accuracy": 0.8874528,
    "disc_auc": 0.54794663,
    "discriminator_loss": 0.346258,
    "disc_precision": 0.6612245,
    "disc_recall": 0.0035538005,
}


def figures(hits, missed, false_alarms, right, **more):
    total = hits + missed + false_alarms + right
    called = hits + false_alarms
    return {
        "disc_accuracy": (hits + right) / total,
        "disc_precision": hits / called if called else 0.0,
        "disc_recall": hits / (hits + missed) if hits + missed else 0.0,
        **more,
    }


@pytest.mark.parametrize(
    "counts", [(3, 9, 1, 87), (12, 0, 5, 83), (1, 119, 0, 880), (0, 12, 0, 88), (5, 0, 95, 0)]
)
def test_share_of_replaced_tokens(counts):
    assert replaced_share(figures(*counts)) == pytest.approx(sum(counts[:2]) / sum(counts))


def test_share_that_can_not_be_told():
    assert replaced_share(figures(12, 0, 0, 88)) is None
    assert replaced_share({}) is None


def test_entropy():
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(0.12) == pytest.approx(0.36692, abs=1e-5)
    assert entropy(0.0) == entropy(1.0) == 0.0


def test_low_auc():
    assert "AUC 0.548 is under 0.6" in learns_nothing(OFFICIAL)
    assert learns_nothing({**OFFICIAL, "disc_auc": 0.6}) is None
    assert learns_nothing({**OFFICIAL, "disc_auc": 0.0})
    assert learns_nothing({})


def test_loss_no_better_than_the_share_alone():
    good_ranking = {**OFFICIAL, "disc_auc": 0.7}
    assert replaced_share(OFFICIAL) == pytest.approx(0.11274, abs=1e-5)
    assert learns_nothing({**good_ranking, "discriminator_loss": 0.3521}) is None
    reason = learns_nothing({**good_ranking, "discriminator_loss": 0.3523})
    assert "loss 0.3523 is no better" in reason and "0.3522" in reason
    assert learns_nothing({**good_ranking, "discriminator_loss": math.nan})
