"""Runs whose batch, masks, temperature and weights change: stopped and resumed at any step."""

import json

import pytest

from electra_tf2.data.input import ExampleFiles
from electra_tf2.errors import UserError
from electra_tf2.pretraining.run import open_run
from electra_tf2.training.throughput import MEASURED
from tests.pretraining import tiny

STEPS = 7
RAMPS = {
    "train_batch_size": [[0, 4], [3, 8]],
    "mask_prob": [[0, 0.3], [4, 0.1]],
    "temperature": [[0, 2.0], [8, 1.0]],
    "gen_weight": [[0, 1.0], [2, 3.0]],
    "disc_weight": [[0, 20.0], [4, 60.0]],
}
# The rate knows no last step, so that a shorter run is the beginning of a longer one.
HPARAMS = tiny.UNIFORM | RAMPS | {
    "lr_schedule": "inverse_sqrt",
    "num_warmup_steps": 2,
    "num_train_steps": STEPS,
    "log_every_steps": 1,
    "save_checkpoints_steps": 100,
}  # fmt: skip


def log(data_dir, name):
    dropped = ("wall_time", *MEASURED)
    found = tiny.lines(data_dir / "models" / name, "train")
    return [{k: v for k, v in line.items() if k not in dropped} for line in found]


@pytest.fixture(scope="module")
def undisturbed(tiny_data):
    """A run without a stop; returns what was printed, and the data that it opened."""
    opened = []
    with pytest.MonkeyPatch.context() as patch:
        make = ExampleFiles.training_dataset

        def recorded(files, reading, position, global_batch_size, *context):
            opened.append((position, global_batch_size))
            return make(files, reading, position, global_batch_size, *context)

        patch.setattr(ExampleFiles, "training_dataset", recorded)
        figures, shown = tiny.pretrain_here(
            tiny_data, "ramps", do_eval=True, num_eval_steps=1, **HPARAMS
        )
    return shown, opened, figures


@pytest.mark.slow
def test_the_log_shows_the_values_of_each_step(tiny_data, undisturbed):
    shown, opened, evaluation = undisturbed
    lines = log(tiny_data, "ramps")
    assert [line["train_batch_size"] for line in lines] == [4, 4, 4, 8, 8, 8, 8]
    assert [line["mask_prob"] for line in lines] == pytest.approx(
        [0.3, 0.25, 0.2, 0.15] + [0.1] * 3
    )
    assert [line["temperature"] for line in lines] == [2 - n / 8 for n in range(STEPS)]
    assert [line["gen_weight"] for line in lines] == [1, 2, *[3] * 5]
    for line in lines:
        total = line["disc_weight"] * line["discriminator_loss"]
        total += line["gen_weight"] * line["generator_loss"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
    # An evaluation is made by the last values, so that those on the way can be compared with it.
    total = 3 * evaluation["generator_loss"] + 60 * evaluation["discriminator_loss"]
    assert evaluation["loss"] == pytest.approx(total, rel=1e-5)
    assert opened == [(0, 4), (12, 8)]
    assert "Ramp of train_batch_size: 4 at step 0, 8 at step 3" in shown
    assert lines[-1]["pfs_days"] / lines[0]["pfs_days"] == pytest.approx((12 + 4 * 8) / 4)


@pytest.mark.slow
def test_resumed_where_the_batch_changes(tiny_data, undisturbed):
    for step in (3, STEPS):
        tiny.pretrain_here(tiny_data, "stopped_ramps", **HPARAMS | {"num_train_steps": step})
    tiny.assert_same_end(tiny_data, "stopped_ramps", "ramps")
    assert log(tiny_data, "stopped_ramps") == log(tiny_data, "ramps")
    state = tiny_data / "models" / "ramps" / "checkpoints" / f"step-{STEPS:08d}" / "state.json"
    assert json.loads(state.read_text())["examples_seen"] == 3 * 4 + 4 * 8


@pytest.mark.slow
def test_another_ramp_is_another_run(tiny_data, undisturbed):
    changed = HPARAMS | {"temperature": [[0, 2.0], [9, 1.0]], "num_train_steps": 9}
    with pytest.raises(UserError) as info:
        tiny.pretrain_here(tiny_data, "ramps", **changed)
    assert "temperature" in info.value.received


@pytest.mark.slow
def test_documents_and_phases(tmp_path):
    """Of documents the next size is cut from the same place; phases have ramps of their own."""
    flags = ("--segmentation", "dynamic")
    tiny.write_data(tmp_path, records="documents", length=None, flags=flags)
    given = HPARAMS | {"segmentation": "dynamic", "eval_tfrecords": None}
    given |= {"pretrain_tfrecords": f"{tmp_path}/documents/{tiny.GLOB}", "mask_prob": 0.15}
    second = {"mask_prob": RAMPS["mask_prob"], "train_batch_size": [[0, 8], [2, 4]]}

    def train(name, *steps):
        phases = [own | {"num_train_steps": n} for own, n in zip(({}, second), steps, strict=False)]
        tiny.pretrain_here(
            tmp_path, name, **given | {"phases": phases, "num_train_steps": sum(steps)}
        )

    train("whole", 5, 4)
    for steps in ((4,), (5,), (5, 1), (5, 4)):
        train("parts", *steps)
    assert log(tmp_path, "parts") == log(tmp_path, "whole")
    lines = log(tmp_path, "whole")
    assert [line["train_batch_size"] for line in lines] == [4, 4, 4, 8, 8, 8, 8, 4, 4]
    assert [line["mask_prob"] for line in lines[5:]] == pytest.approx([0.3, 0.25, 0.2, 0.15])


@pytest.mark.slow
@pytest.mark.parametrize(
    "devices, changed",
    [("2", {"distribution": "mirrored"}), ("1", {"gradient_accumulation_steps": 2})],
    ids=["replicas", "micro-batches"],
)
def test_divided_batches_give_the_same_losses(tiny_data, devices, changed):
    """Without dropout, which differs between the parts of a batch."""
    network = tiny.NETWORK | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    given = HPARAMS | {"model_hparam_overrides": network}
    if not (tiny_data / "models" / "undivided").exists():
        tiny.pretrain_here(tiny_data, "undivided", **given)
    name, script = f"divided_{devices}", tiny.ROOT / "tests" / "on_devices.py"
    env = {"VIRTUAL_DEVICES": devices}
    code, shown = tiny.run(tiny_data, name, script=script, env=env, **given | changed)
    assert code == 0, shown
    found, expected = (
        [line["loss"] for line in log(tiny_data, own)] for own in (name, "undivided")
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_every_size_has_to_divide_over_the_replicas():
    config = tiny.configure("/d", **HPARAMS | {"train_batch_size": [[0, 6], [3, 8]]})
    with pytest.raises(UserError) as info:
        open_run.check_batches(config, replicas=3)
    assert info.value.where == "hparam train_batch_size" and "8 examples" in info.value.received
