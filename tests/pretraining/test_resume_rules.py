"""What of a decaying learning rate may change where a run goes on."""

import pytest

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining.resume_rules import changed_on_resume, decay_warning


def wsd(steps=100, decay: int | None = 20, **hparams):
    given = {"num_train_steps": steps, "lr_decay_steps": decay, "num_warmup_steps": 5}
    return PretrainingConfig("m", "/d", lr_schedule="wsd", **given | hparams).to_dict()


OTHER_DECAY = {"lr_decay_shape": "linear", "end_learning_rate": 1e-5}


@pytest.mark.parametrize(
    "old, new, step, refused",
    [
        (wsd(), wsd(200, 50, **OTHER_DECAY), 80, []),
        (wsd(100, 0), wsd(100, 30), 70, []),
        (wsd(100, 0), wsd(100, 30), 71, ["lr_decay_steps"]),
        (wsd(), wsd(90, 40), 51, ["lr_decay_steps"]),
        (wsd(), wsd(100, 20, **OTHER_DECAY), 81, ["end_learning_rate", "lr_decay_shape"]),
        (wsd(100, None), wsd(100, 10), 90, []),
        (wsd(), wsd(learning_rate=1e-3), 10, ["learning_rate"]),
        (wsd(), PretrainingConfig("m", "/d", num_warmup_steps=5).to_dict(), 10,
         ["lr_schedule", "lr_decay_steps"]),
        (wsd() | {"lr_decay_steps": "x"}, wsd(), 10, ["lr_decay_steps"]),
    ],
)  # fmt: skip
def test_the_decay_may_change_until_it_begins(old, new, step, refused):
    found = changed_on_resume(PretrainingConfig, old, new, step)
    assert sorted(name for name, *_ in found) == sorted(refused)


def test_other_schedules_may_not_change_their_end():
    old, new = (PretrainingConfig("m", "/d", end_learning_rate=e).to_dict() for e in (0.0, 1e-5))
    assert changed_on_resume(PretrainingConfig, old, new, 10) == [("end_learning_rate", 0.0, 1e-5)]


def test_a_phase_has_a_decay_of_its_own():
    def phases(decay):
        second = {"num_train_steps": 100, "lr_schedule": "wsd", "lr_decay_steps": decay}
        entries = [{"num_train_steps": 50}, second]
        return PretrainingConfig("m", "/d", num_warmup_steps=5, phases=entries).to_dict()

    same = lambda step: changed_on_resume(PretrainingConfig, phases(20), phases(40), step)  # noqa: E731
    assert same(110) == []
    assert same(111) == [("phase 2: lr_decay_steps", 20, 40)]


def test_a_ramp_that_moves_into_a_phase_is_another():
    """Its steps count from the start of that phase."""
    ramp = {"mask_prob": [[0, 0.3], [9, 0.2]]}
    steps = {"num_train_steps": 50}
    first, second = (
        PretrainingConfig("m", "/d", num_warmup_steps=5, phases=phases, **beside).to_dict()
        for phases, beside in (([steps | ramp, steps], {}), ([steps, steps | ramp], {}))
    )
    beside = PretrainingConfig(
        "m", "/d", num_warmup_steps=5, phases=[steps, steps], **ramp
    ).to_dict()
    names = lambda *runs: [name for name, *_ in changed_on_resume(PretrainingConfig, *runs)]  # noqa: E731
    assert names(beside, first, 40) == []
    assert names(beside, first, 60) == ["phase 2: mask_prob"]
    assert names(beside, second, 60) == ["phase 1: mask_prob", "phase 2: mask_prob"]


@pytest.mark.parametrize(
    "new, step, warning",
    [
        (150, 80, None),
        (150, 81, "since step 80"),
        (100, 90, None),
        (80, 60, None),
        (80, 61, "lr_decay_steps to 19 or less"),
    ],
)
def test_a_decay_that_is_not_whole_is_said(new, step, warning):
    found = decay_warning(PretrainingConfig, wsd(), wsd(new), step)
    assert (found is None) if warning is None else warning in str(found)
    if step == 61:  # what it advises
        shorter = wsd(80, 19)
        assert changed_on_resume(PretrainingConfig, wsd(), shorter, step) == []
        assert decay_warning(PretrainingConfig, wsd(), shorter, step) is None
