"""Fine-tuning from an ALBERT-style model, and its pre-training's compute beside the scores."""

import dataclasses
import json

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.pretrained import Pretrained
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.setup import resolve_network
from tests.finetune import tiny_tasks

MODEL = "albert_tiny"
NETWORK = dataclasses.replace(tiny_tasks.NETWORK, encoder="albert", num_hidden_layers=3)


def newest(folder):
    store = CheckpointStore(str(folder))
    return store.load(store.latest())


@pytest.fixture
def model_dir(data_dir):
    folder = tiny_tasks.write_model(data_dir, NETWORK, MODEL)
    weights = newest(folder).weights
    state = {"examples_seen": 160, "pfs_days": 0.25}
    CheckpointStore(str(folder)).save(20, weights, {}, state)
    return folder


def test_trial(data_dir, model_dir):
    """The encoder is taken over from the model, as its sizes are."""
    (result,), shown = tiny_tasks.finetune_here(data_dir, model=MODEL, num_train_epochs=1.0)
    assert "3 passes through one layer" in shown
    folder = model_dir / "finetuning_models" / "marks_model_1"
    assert json.loads((folder / "config.json").read_text())["network"] == NETWORK.to_dict()
    before, after = newest(model_dir).weights, newest(folder).weights
    encoder = {name for name in before if name.startswith("electra/")}
    assert encoder == {name for name in after if name.startswith("electra/")}
    name = "electra/shared_layer/attention/query/kernel"
    assert not np.array_equal(before[name], after[name])

    stored = json.loads((model_dir / "results" / "marks_results.json").read_text())
    assert stored["pretraining_pfs_days"] == 0.25
    cost = 0.25 / result.scores["marks"]["accuracy"]
    assert f"pre-training: 0.25 pfs-days, {cost:.3g} per point of accuracy" in shown
    row = (model_dir / "results" / "scores.md").read_text().splitlines()[-1]
    assert row.startswith("| marks | accuracy |") and row.endswith(f"| {cost:.3g} |")


def test_another_encoder_is_refused(data_dir, model_dir):
    problem = "encoder: the checkpoint has albert, the hparams say bert"
    with pytest.raises(UserError, match=problem):
        tiny_tasks.finetune_here(data_dir, model=MODEL, encoder="bert")


@pytest.mark.parametrize("given", [{}, {"encoder": "albert"}, {"model_size": "base"}])
def test_stated_sizes_that_agree(data_dir, given):
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "embedding_size": 128}
    stored = {**NETWORK.to_dict(), **sizes, "num_attention_heads": 12, "intermediate_size": 3072}
    pretrained = Pretrained("p", "p", {}, stored, {})
    network = resolve_network(tiny_tasks.configure(data_dir, **given), pretrained)
    assert network.to_dict() == stored


def test_a_model_of_an_older_version_is_a_stack(data_dir):
    stored = tiny_tasks.NETWORK.to_dict()
    del stored["encoder"]
    pretrained = Pretrained("p", "p", {}, stored, {})
    assert resolve_network(tiny_tasks.configure(data_dir), pretrained) == tiny_tasks.NETWORK
    with pytest.raises(UserError, match="encoder: the checkpoint has bert"):
        resolve_network(tiny_tasks.configure(data_dir, encoder="albert"), pretrained)


@pytest.mark.parametrize("given, warned", [({}, False), ({"preset": "electra_base"}, True)])
def test_a_preset_of_another_size(data_dir, capsys, given, warned):
    pretrained = Pretrained("p", "p", {}, tiny_tasks.NETWORK.to_dict(), {})
    resolve_network(tiny_tasks.configure(data_dir, **given), pretrained)
    message = "the preset electra_base is for a hidden size of 768; the checkpoint's is 16"
    assert (message in capsys.readouterr().err) is warned
