"""What the training loop tells: where a bad batch came from, and warnings about its figures."""

import pytest

from electra_tf2.training.trainer import NonFiniteLoss
from tests.training.test_trainer import BATCH, bad_at, make_trainer, numbers


@pytest.mark.parametrize("bad", [1, 3, 6])
def test_a_bad_batch_is_located(tmp_path, bad):
    """Whether it is the first of its graph call or not, and after a resume."""
    trainer = make_trainer(tmp_path, log_every=100, save_every=2)
    with pytest.raises(NonFiniteLoss) as info:
        trainer.train(bad_at(bad), locate=lambda position: f"from {position}")
    assert f"where: step {bad}, learning rate" in str(info.value)
    assert info.value.where.endswith(f", from {BATCH * (bad - 1)}")


def test_reports_are_watched_and_warnings_printed(tmp_path, capsys):
    seen = []

    def watch(step, figures):
        seen.append((step, figures["learning_rate"]))
        return "Warning: eight." if step == 8 else None

    trainer = make_trainer(tmp_path)
    trainer.train(numbers, watch=watch)
    assert seen == [(step, pytest.approx(float(trainer.schedule(step)))) for step in (4, 8, 12)]
    assert capsys.readouterr().err.splitlines().count("Warning: eight.") == 1
