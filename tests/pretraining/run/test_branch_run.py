"""A second model that goes on from a step of another: its decay, to the bit."""

import re
import shutil
import signal

import pytest

from electra_tf2.errors import UserError
from tests.faults.watched_runs import wait_for_step
from tests.pretraining import tiny

# Warm-up, four stable steps and a decay in three.
STABLE = tiny.UNIFORM | {
    "lr_schedule": "wsd",
    "lr_decay_steps": 0,
    "num_warmup_steps": 2,
    "num_train_steps": 4,
    "save_checkpoints_steps": 2,
    "log_every_steps": 1,
}
DECAY = STABLE | {"lr_decay_steps": 3, "num_train_steps": 7}


@pytest.fixture(scope="module")
def straight(tiny_data):
    """A run that decays after step 4; returns the data folder."""
    tiny.pretrain_here(tiny_data, "straight", **DECAY)
    return tiny_data


@pytest.fixture(scope="module")
def stable(tiny_data):
    """A run without a decay; returns the checkpoint of step 4."""
    tiny.pretrain_here(tiny_data, "stable", **STABLE)
    return f"{tiny_data}/models/stable/checkpoints/step-00000004"


@pytest.mark.slow
def test_a_branch_is_the_run_that_had_begun_to_decay_there(straight, stable):
    _, shown = tiny.pretrain_here(straight, "branch", branch_from=stable, **DECAY)
    assert f"Branching off at step 4 from {stable}" in shown
    tiny.assert_same_end(straight, "branch", "straight")
    ours, theirs = (tiny.lines(straight / "models" / name) for name in ("branch", "straight"))
    names = ("step", "loss", "learning_rate", "pfs_days")
    rows = [[[line[name] for name in names] for line in log] for log in (ours, theirs[4:])]
    assert rows[0] == rows[1]
    rates = [line["learning_rate"] for line in theirs]
    assert rates == pytest.approx(
        [5e-4, *[1e-3] * 3, *(1e-3 * (1 - (n / 3) ** 0.5) for n in (1, 2, 3))]
    )
    # Its own checkpoint counts from now on, wherever it branched off.
    _, shown = tiny.pretrain_here(straight, "branch", branch_from="/gone", **DECAY)
    assert "Already trained for 7 steps" in shown


@pytest.mark.slow
def test_more_steps_from_the_stable_part_in_the_same_folder(straight, stable):
    shutil.copytree(straight / "models" / "stable", straight / "models" / "longer_stable")
    _, shown = tiny.pretrain_here(straight, "longer_stable", **DECAY)
    assert "Resuming at step 4" in shown and "Warning: the learning rate" not in shown
    tiny.assert_same_end(straight, "longer_stable", "straight")


@pytest.mark.slow
def test_a_branch_that_is_killed_goes_on(tiny_data, stable):
    """By SIGKILL, which leaves no time to save, before and after its first checkpoint."""
    long = DECAY | {"num_train_steps": 64, "lr_decay_steps": 60, "save_checkpoints_steps": 30}
    tiny.pretrain_here(tiny_data, "undisturbed_branch", branch_from=stable, **long)
    begun = []
    for step in (10, 45):
        process = tiny.start(tiny_data, "killed_branch", branch_from=stable, **long)
        wait_for_step(process, tiny_data / "models" / "killed_branch", step)
        process.kill()
        begun += re.findall(r"Training from step (\d+)", process.communicate()[1])
        assert process.returncode == -signal.SIGKILL
    code, shown = tiny.run(tiny_data, "killed_branch", branch_from=stable, **long)
    begun += re.findall(r"Training from step (\d+)", shown)
    assert code == 0 and begun == ["4", "4", "30"]
    tiny.assert_same_end(tiny_data, "killed_branch", "undisturbed_branch")


REFUSED = {
    "nothing there": ("{root}/models/nowhere", {}, "hparam branch_from", "/checkpoints/step-"),
    "a model's folder": ("{root}/models/stable", {}, "hparam branch_from", "step-00000004"),
    "too few steps": (
        "{step}",
        {"num_train_steps": 4, "lr_decay_steps": 1},
        "num_train_steps",
        "4",
    ),
    "another rate": ("{step}", {"learning_rate": 2e-3}, "step-00000004", "learning_rate"),
    "a decay before it": ("{step}", {"lr_decay_steps": 4}, "step-00000004", "lr_decay_steps"),
    "other data": (
        "{step}",
        {"pretrain_tfrecords": f"{{root}}/other/{tiny.GLOB}"},
        "other",
        "contents",
    ),
}


@pytest.mark.parametrize("path, changed, where, keyword", REFUSED.values(), ids=REFUSED)
def test_refused(stable, tiny_data, path, changed, where, keyword):
    if not (tiny_data / "other").exists():
        tiny.write_data(tiny_data, records="other", seed=9)
    fill = lambda text: text.format(root=tiny_data, step=stable) if isinstance(text, str) else text  # noqa: E731
    given = DECAY | {name: fill(value) for name, value in changed.items()}
    with pytest.raises(UserError) as info:
        tiny.pretrain_here(tiny_data, "refused", branch_from=fill(path), **given)
    assert where in info.value.where
    assert keyword in f"{info.value.received} {info.value.remedy}"
    assert "--model-name" not in info.value.remedy  # a branch has one of its own
    assert not (tiny_data / "models" / "refused").exists()


def test_a_damaged_checkpoint_is_refused_with_advice_for_a_branch(stable, tiny_data):
    copy = shutil.copytree(stable, tiny_data / "copied" / "step-00000004")
    (copy / "optimizer.safetensors").write_bytes(b"x")
    with pytest.raises(UserError) as info:
        tiny.pretrain_here(tiny_data, "damaged", branch_from=str(copy), **DECAY)
    assert "optimizer.safetensors" in info.value.where
    assert "branch from another checkpoint" in info.value.remedy
