"""The kill campaign in small, and whether it would notice."""

import json
import shutil

import pytest

from tests.faults import kill_campaign
from tests.faults.run_outcomes import differences

pytestmark = pytest.mark.slow


TWO_REPLICAS = ["--devices", "2", "--hparams", '{"distribution": "mirrored"}']


@pytest.mark.parametrize(
    "flags, devices",
    [(["--kills", "3"], "(1 replica)"), (["--kills", "2", *TWO_REPLICAS], "(2 replicas)")],
)
def test_a_few_kills(flags, devices, capfd):
    code = kill_campaign.main([*flags, "--in-writes", "1", "--steps", "120"])
    shown = capfd.readouterr().out
    assert code == 0, shown
    assert devices in shown
    assert shown.splitlines()[-1].endswith("0 problems; bit for bit like an undisturbed run")


def test_differences_are_noticed(trained_for_three_steps, tmp_path):
    theirs = trained_for_three_steps

    def changed(change):
        shutil.rmtree(tmp_path / "ours", ignore_errors=True)
        shutil.copytree(theirs, tmp_path / "ours")
        change(tmp_path / "ours")
        return differences(tmp_path / "ours", theirs)

    def log_again(folder):
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))

    def log_later(folder):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        later = [json.dumps({**line, "wall_time": 0}) + "\n" for line in lines]
        (folder / "metrics.jsonl").write_text("".join(later))

    def lose_events(folder):
        shutil.rmtree(folder / "tensorboard" / "train")

    def one_bit(folder):
        from electra_tf2.training.checkpoints import CheckpointStore

        store = CheckpointStore(str(folder))
        saved = store.load(store.latest())
        saved.optimizer["electra/embeddings/layer_norm/beta/adam_v"].view("uint8")[0] ^= 1
        store.save(saved.step, saved.weights, saved.optimizer, saved.state)

    assert changed(lambda folder: None) == []
    assert changed(log_later) == []
    assert len(changed(log_again)) == 1
    assert any("TensorBoard" in line for line in changed(lose_events))
    assert changed(lambda folder: (folder / "checkpoints" / "step-00000001.tmp").mkdir())
    assert changed(one_bit) == ["step 3: optimizer electra/embeddings/layer_norm/beta/adam_v"]
