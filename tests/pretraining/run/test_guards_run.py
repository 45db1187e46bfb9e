"""The guards in real runs."""

import pytest

from electra_tf2.data.open_records import open_records
from electra_tf2.data.order import Reading
from electra_tf2.data.position import describe_places, record_places
from electra_tf2.pretraining import guards
from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.trainer import NonFiniteLoss
from tests.pretraining import tiny


@pytest.fixture
def early_guard(monkeypatch):
    """Judges after a few steps."""
    monkeypatch.setattr(guards, "FIRST_STEPS", 2)
    monkeypatch.setattr(guards, "SPAN", 4)


def warnings_in(shown):
    return [line for line in shown.splitlines() if "the discriminator learns nothing" in line]


def test_a_run_that_learns_nothing_says_so(tiny_data, early_guard):
    still = {"learning_rate": 1e-9, "num_train_steps": 30, "num_warmup_steps": 3}
    _, shown = tiny.pretrain_here(tiny_data, "still", **tiny.UNIFORM | still)
    warnings = warnings_in(shown)
    assert len(warnings) == 2
    assert "up to step 8 its AUC is 0." in warnings[0]  # reports come every 2 steps


@pytest.mark.slow
def test_other_runs_do_not(tiny_data, early_guard, monkeypatch):
    hparams = {"num_train_steps": 12, "electra_objective": False, "learning_rate": 1e-9}
    _, shown = tiny.pretrain_here(tiny_data, "masked_lm", **hparams)
    assert warnings_in(shown) == []
    monkeypatch.setattr(guards, "LOWEST_AUC", 0.3)
    hparams = {"num_train_steps": 12}
    _, shown = tiny.pretrain_here(tiny_data, "lower", **tiny.UNIFORM | hparams)
    assert warnings_in(shown) == []


def test_a_loss_that_is_not_finite_names_the_shards(tiny_data):
    """In the second step, with a rate that sends the weights to infinity in the first."""
    hparams = {"learning_rate": 1e30, "num_warmup_steps": 0, "shuffle_buffer_size": 7}
    with pytest.raises(NonFiniteLoss) as info:
        tiny.pretrain_here(tiny_data, "not_finite", **tiny.UNIFORM | hparams)
    step = int(info.value.where.split()[1].rstrip(","))
    assert step > 1
    files = open_records(
        f"{tiny_data}/pretrain_tfrecords/{tiny.GLOB}",
        max_seq_length=tiny.LENGTH,
        vocabulary=load_vocabulary(str(tiny_data / "vocab.txt")),
        casing=UNCASED,
    )
    places = record_places(files, Reading(0, tiny.LENGTH, 7), 8 * (step - 1), 8)
    assert info.value.where.endswith(f", {describe_places(places)}")
    assert f"{tiny_data}/pretrain_tfrecords/pretrain_data.tfrecord-" in info.value.where
