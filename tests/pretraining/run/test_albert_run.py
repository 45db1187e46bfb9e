"""Pre-training an ALBERT-style pair: what is stored, resumed, refused and counted."""

import json
import shutil

import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.folder import check_same_model, read_config
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.phases import RunCompute
from tests.pretraining import tiny

ALBERT = {
    "encoder": "albert",
    "model_hparam_overrides": tiny.NETWORK | {"num_hidden_layers": 3},
}


@pytest.fixture(scope="module")
def trained(tiny_data):
    """(model folder, figures, what was printed) of six steps, with checkpoints after 3 and 6."""
    figures, shown = tiny.pretrain_here(tiny_data, "albert_pair", do_eval=True, **ALBERT)
    return tiny_data / "models" / "albert_pair", figures, shown


@pytest.mark.slow
def test_each_network_has_one_layer(trained):
    folder, _, shown = trained
    stored = json.loads((folder / "config.json").read_text())
    assert stored["network"]["encoder"] == stored["hparams"]["encoder"] == "albert"
    weights = tiny.newest(folder.parents[1], folder.name).weights
    assert not any("/layer_0/" in name for name in weights)
    for scope in ("electra", "generator"):
        assert f"{scope}/shared_layer/output/kernel" in weights
    assert "3 passes through one layer; computing in float32" in shown


@pytest.mark.slow
def test_a_resumed_run_is_the_same(trained, tiny_data):
    folder, _, _ = trained
    again = tiny_data / "models" / "albert_again"
    shutil.copytree(folder, again)
    shutil.rmtree(again / "checkpoints" / "step-00000006")
    _, shown = tiny.pretrain_here(tiny_data, again.name, **ALBERT)
    assert "Resuming at step 3" in shown
    tiny.assert_same_end(tiny_data, again.name, folder.name)
    assert tiny.lines(again)[-1]["loss"] == tiny.lines(folder, "train")[-1]["loss"]


@pytest.mark.slow
def test_another_encoder_is_refused(trained, tiny_data):
    folder, _, _ = trained
    with pytest.raises(UserError, match="encoder: the model has 'albert', this run 'bert'"):
        tiny.pretrain_here(tiny_data, folder.name, **ALBERT | {"encoder": "bert"})


def test_a_model_of_an_older_version_has_the_encoder_that_there_was(tmp_path):
    network = {"vocab_size": 9, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps({"hparams": {}, "network": network}))
    stored = read_config(str(tmp_path))
    same = TransformerConfig(**network, encoder="bert")
    check_same_model(stored, {}, same, lambda old, new: [])
    with pytest.raises(UserError, match="encoder: the model has 'bert', this run 'albert'"):
        other = TransformerConfig(**network, encoder="albert")
        check_same_model(stored, {}, other, lambda old, new: [])


@pytest.mark.slow
def test_compute_is_reported_as_it_is_spent(trained):
    folder, figures, shown = trained
    config = tiny.configure(folder.parents[1], **ALBERT)
    run = RunCompute(config, config.network())
    lines = tiny.lines(folder, "train")
    spent = [run.figures(line["step"])["pfs_days"] for line in lines]
    assert [line["pfs_days"] for line in lines] == pytest.approx(spent)
    assert lines[-1]["step"] == 6 and spent[-1] == pytest.approx(3 * spent[0])
    state = tiny.newest(folder.parents[1], folder.name).state
    assert figures["pfs_days"] == state["pfs_days"] == spent[-1]
    stored = json.loads((folder / "results" / "unsup_results.json").read_text())
    assert stored["pfs_days"] == spent[-1]
    assert "\n".join(run.describe()) in shown
