"""Warnings of large generators, of discriminators that learn nothing, and where a NaN came from."""

import math
import re

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining import guards
from electra_tf2.pretraining.guards import (
    DiscriminatorGuard,
    discriminator_guard,
    entropy,
    learns_nothing,
    likeliest_cause,
    replaced_share,
)
from electra_tf2.pretraining.phases import phases_of

CAUSE = "the moon is full"


def warnings_of(**hparams):
    config = PretrainingConfig("tiny", "/data", **hparams)
    return [text for text in config.warnings if "generator" in text and "keeps" not in text]


@pytest.mark.parametrize(
    "hparams",
    [
        {},
        {"model_size": "base", "generator_hidden_size": 1 / 3},
        {"generator_hidden_size": 0.5},
        {"generator_layers": 2.0},
        {"uniform_generator": True, "generator_hidden_size": 1.0},
        {"electra_objective": False, "generator_hidden_size": 1.0},
        {"electric_objective": True},
        {"generator_hidden_size": 1.0, "do_train": False, "do_eval": True},
    ],
    ids=str,
)
def test_generators_of_a_good_size(hparams):
    assert warnings_of(**hparams) == []


@pytest.mark.parametrize(
    "hparams, said",
    [
        ({"generator_hidden_size": 0.75}, "hidden size 192 of 256, 12 of 12 layers, 75%"),
        ({"generator_hidden_size": 1.0}, "hidden size 256 of 256, 12 of 12 layers, 100%"),
        ({"generator_layers": 3.0}, "hidden size 64 of 256, 36 of 12 layers, 75%"),
        ({"untied_generator": False}, "the discriminator's own network"),
    ],
    ids=str,
)
def test_large_generators(hparams, said):
    (warning,) = warnings_of(**hparams)
    assert said in warning and "a quarter to half" in warning


def reports(guard, aucs, every=100, start=0):
    """Feeds a report every so many steps; returns the steps that gave a warning, and the texts."""
    steps = range(start + every, start + every * (len(aucs) + 1), every)
    said = {s: guard(s, {"disc_auc": auc}) for s, auc in zip(steps, aucs, strict=True)}
    return {step: text for step, text in said.items() if text}


def test_warns_twice_at_most():
    said = reports(DiscriminatorGuard(1000, CAUSE), [0.51] * 200)
    assert list(said) == [1500, 3000]
    assert "up to step 1500 its AUC is 0.510" in said[1500]
    assert CAUSE in said[1500]


@pytest.mark.parametrize(
    "hparams, named",
    [
        ({"num_warmup_steps": 100}, "num_warmup_steps"),
        ({"num_warmup_steps": 100, "num_train_steps": 150}, "num_train_steps"),
        ({"preset": "electra_large_batch_lamb"}, "num_train_steps"),
        ({"preset": "lmtuners_small_owt", "generator_hidden_size": 0.25}, "num_train_steps"),
        ({"untied_generator": False}, "untied_generator"),
        ({"generator_hidden_size": 1.0}, "generator_hidden_size"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"train_batch_size": 16}, "train_batch_size"),
        ({}, "num_train_steps"),
        ({"preset": "electra_tiny"}, "num_train_steps"),
    ],
)
def test_the_likeliest_cause(hparams, named):
    config = PretrainingConfig("tiny", "/data", **hparams)
    assert re.findall(r"[a-z]+_[a-z_]+", likeliest_cause(config, config.network()))[0] == named


def test_says_nothing_more_once_the_discriminator_learns():
    assert list(reports(DiscriminatorGuard(1000, CAUSE), [0.5] * 20 + [0.7] * 100)) == [1500]


@pytest.mark.parametrize("aucs", [[0.61] * 200, [0.5] * 10 + [0.8] * 200])
def test_learning_in_time(aucs):
    assert reports(DiscriminatorGuard(1000, CAUSE), aucs) == {}


def test_judges_the_mean_of_a_span():
    assert reports(DiscriminatorGuard(100, CAUSE), [0.5] + [0.5, 0.5, 0.5, 0.5, 0.9] * 4) != {}
    assert reports(DiscriminatorGuard(100, CAUSE), [0.5] + [0.5, 0.8, 0.5, 0.8, 0.5] * 4) == {}
    assert list(reports(DiscriminatorGuard(0, CAUSE), [0.5] * 9, every=2000)) == [4000, 8000]


def test_a_resumed_run_is_not_judged_by_its_first_report():
    assert reports(DiscriminatorGuard(1000, CAUSE), [0.5] + [0.7] * 9, every=10, start=6000) == {}
    assert list(reports(DiscriminatorGuard(1000, CAUSE), [0.5] * 99, every=10, start=6000)) == [
        6510
    ]


@pytest.mark.parametrize("auc", [0.0, math.nan])
def test_a_report_that_tells_nothing(auc):
    assert reports(DiscriminatorGuard(0, CAUSE), [auc] * 50) == {}


def test_a_masked_lm_has_no_discriminator():
    guard = DiscriminatorGuard(0, CAUSE)
    assert all(guard(step, {"masked_lm_loss": 3.0}) is None for step in range(0, 5000, 100))


def first_warning(phase):
    return next(iter(reports(discriminator_guard(phase), [0.5] * 300)), None)


def test_when_the_guard_of_a_phase_begins():
    stages = [
        {"num_train_steps": 12000, "num_warmup_steps": 100},
        {"num_train_steps": 12000, "num_warmup_steps": 3000},
    ]
    short, long = phases_of(PretrainingConfig("tiny", "/data", phases=stages))
    assert first_warning(short) == guards.FIRST_STEPS + guards.SPAN
    assert first_warning(long) == 12000 + 3000 + guards.SPAN
    (electric,) = phases_of(PretrainingConfig("tiny", "/data", electric_objective=True))
    assert first_warning(electric) is None
    (brief,) = phases_of(PretrainingConfig("tiny", "/data", preset="electra_tiny"))
    assert first_warning(brief) == 1000 + guards.SPAN


def test_a_discriminator_is_judged_once_its_loss_counts_in_full():
    ramp = [[0, 0], [30000, 0], [40000, 50]]
    hparams = {"disc_weight": ramp, "num_train_steps": 100000, "num_warmup_steps": 1000}
    (phase,) = phases_of(PretrainingConfig("some", "data", **hparams))
    guard = discriminator_guard(phase)
    said = [step for step in range(500, 60000, 500) if guard(step, {"disc_auc": 0.5})]
    assert said and said[0] > 40000


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
