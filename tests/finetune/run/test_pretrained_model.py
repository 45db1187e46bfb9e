"""What fine-tuning takes over from pre-trained models: ALBERT-style ones, Hugging Face folders."""

import dataclasses
import json

import numpy as np
import pytest

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import read_config
from electra_tf2.loading.pretrained import Pretrained, open_pretrained
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.run.pretrained_model import resolve_casing, resolve_network
from tests.data.small_corpus import write_vocabulary
from tests.finetune import tiny_tasks
from tests.formats import huggingface_models

CASED = Casing(lower_case=False, strip_accents=False)
MODEL = "albert_tiny"
ALBERT = dataclasses.replace(tiny_tasks.NETWORK, encoder="albert", num_hidden_layers=3)


def newest(folder):
    store = CheckpointStore(str(folder))
    return store.load(store.latest())


@pytest.fixture
def model_dir(data_dir):
    folder = tiny_tasks.write_model(data_dir, ALBERT, MODEL)
    weights = newest(folder).weights
    state = {"examples_seen": 160, "pfs_days": 0.25}
    CheckpointStore(str(folder)).save(20, weights, {}, state)
    return folder


def test_a_trial_from_an_albert_style_model(data_dir, model_dir):
    """The encoder is taken over from the model, as its sizes are."""
    (result,), shown = tiny_tasks.finetune_here(data_dir, model=MODEL, num_train_epochs=1.0)
    assert "3 passes through one layer" in shown
    folder = model_dir / "finetuning_models" / "marks_model_1"
    assert json.loads((folder / "config.json").read_text())["network"] == ALBERT.to_dict()
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


@pytest.mark.slow
def test_a_trial_from_a_modern_model(data_dir):
    """With layer-wise decay; texts may be longer than those of pre-training."""
    modern = dataclasses.replace(
        tiny_tasks.NETWORK, encoder="modern", num_hidden_layers=3, local_attention=8
    )
    folder = tiny_tasks.write_model(data_dir, modern, "modern_tiny")
    length = modern.max_position_embeddings
    longer = {"model_hparam_overrides": {"max_position_embeddings": 2 * length}}
    tiny_tasks.finetune_here(
        data_dir, model="modern_tiny", num_train_epochs=1.0, max_seq_length=length + 8, **longer
    )
    trial = folder / "finetuning_models" / "marks_model_1"
    expected = dataclasses.replace(modern, max_position_embeddings=2 * length)
    assert read_config(str(trial)).network == expected
    before, after = newest(folder).weights, newest(trial).weights
    for name in ("layer_2/gate/kernel", "final_layer_norm/gamma"):
        assert not np.array_equal(before[f"electra/{name}"], after[f"electra/{name}"])


def test_what_may_be_stated_of_a_modern_model(data_dir):
    """Positions have no table; the windows of attention are the model's."""
    modern = dataclasses.replace(tiny_tasks.NETWORK, encoder="modern", local_attention=8)
    pretrained = Pretrained("p", "p", {}, modern, None)
    longer = {"max_position_embeddings": 999, "local_attention": 8}
    config = tiny_tasks.configure(data_dir, model_hparam_overrides=longer)
    expected = dataclasses.replace(modern, max_position_embeddings=999)
    assert resolve_network(config, pretrained) == expected
    other = tiny_tasks.configure(data_dir, model_hparam_overrides={"local_attention": 16})
    with pytest.raises(UserError, match="local_attention: the checkpoint has 8"):
        resolve_network(other, pretrained)
    for start in (None, Pretrained("p", "p", {}, tiny_tasks.NETWORK, None)):
        with pytest.raises(UserError, match="Only the encoder modern has local_attention"):
            resolve_network(other, start)


@pytest.mark.parametrize("given", [{}, {"encoder": "modern"}], ids=str)
def test_stated_sizes_of_a_modern_model_that_agree(data_dir, given):
    """The feed-forward width that follows from a size is another one than BERT's."""
    given = {"model_size": "large", **given}
    stored = FinetuningConfig("m", "d", **given | {"encoder": "modern"}).network()
    pretrained = Pretrained("p", "p", {}, stored, None)
    assert resolve_network(tiny_tasks.configure(data_dir, **given), pretrained) == stored


def test_another_encoder_is_refused(data_dir, model_dir):
    problem = "encoder: the checkpoint has albert, the hparams say bert"
    with pytest.raises(UserError, match=problem):
        tiny_tasks.finetune_here(data_dir, model=MODEL, encoder="bert")


@pytest.mark.parametrize("encoder, layer", [("modern", "final_layer_norm"), ("albert", "shared")])
def test_another_encoder_without_a_stored_configuration_is_refused(data_dir, encoder, layer):
    network = dataclasses.replace(tiny_tasks.NETWORK, encoder=encoder)
    folder = tiny_tasks.write_model(data_dir, network, encoder)
    (folder / "config.json").unlink()
    assert any(layer in name for name in newest(folder).weights)
    assert open_pretrained(str(folder)).encoder_config() is None
    sizes = {"vocab_size": network.vocab_size, "model_hparam_overrides": {"num_hidden_layers": 1}}
    with pytest.raises(UserError, match=f"encoder: {encoder} there, bert here") as error:
        tiny_tasks.finetune_here(data_dir, model=encoder, **sizes)
    assert f"Set the hparam encoder to {encoder}" in error.value.remedy


@pytest.mark.parametrize("given", [{}, {"encoder": "albert"}, {"model_size": "base"}])
def test_stated_sizes_that_agree(data_dir, given):
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "embedding_size": 128}
    stored = dataclasses.replace(ALBERT, **sizes, num_attention_heads=12, intermediate_size=3072)
    pretrained = Pretrained("p", "p", {}, stored, None)
    assert resolve_network(tiny_tasks.configure(data_dir, **given), pretrained) == stored


def test_heads_alone_have_to_fit_the_checkpoint_alone(data_dir):
    """A model 96 wide whose checkpoint does not state its heads; 3 do not divide 256."""
    shapes = {"embeddings/word_embeddings": (9, 8), "layer_0/intermediate/kernel": (96, 24)}
    arrays = {f"electra/{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    bare = Pretrained("p", "p", arrays, None, None)
    heads = {"num_attention_heads": 3}
    config = tiny_tasks.configure(data_dir, model_hparam_overrides=heads)
    assert resolve_network(config, bare).num_attention_heads == 3
    stored = dataclasses.replace(tiny_tasks.NETWORK, hidden_size=96, num_attention_heads=2)
    with pytest.raises(UserError, match="the checkpoint has 2, the hparams say 3"):
        resolve_network(config, Pretrained("p", "p", {}, stored, None))
    with pytest.raises(UserError, match="not a multiple"):
        resolve_network(
            tiny_tasks.configure(data_dir, model_hparam_overrides={"num_attention_heads": 5}), bare
        )
    for given in ({"init_checkpoint": None}, {"model_size": "small"}):
        with pytest.raises(UserError, match="not a multiple"):
            tiny_tasks.configure(data_dir, model_hparam_overrides=heads, **given)


def test_a_model_of_an_older_version_is_a_stack(data_dir, tmp_path):
    network = tiny_tasks.NETWORK.to_dict()
    del network["encoder"]
    (tmp_path / "config.json").write_text(json.dumps({"hparams": {}, "network": network}))
    pretrained = Pretrained("p", "p", {}, read_config(str(tmp_path)).network, None)
    assert resolve_network(tiny_tasks.configure(data_dir), pretrained) == tiny_tasks.NETWORK
    with pytest.raises(UserError, match="encoder: the checkpoint has bert"):
        resolve_network(tiny_tasks.configure(data_dir, encoder="albert"), pretrained)


@pytest.mark.parametrize("given, warned", [({}, False), ({"preset": "electra_base"}, True)])
def test_a_preset_of_another_size(data_dir, capsys, given, warned):
    pretrained = Pretrained("p", "p", {}, tiny_tasks.NETWORK, None)
    resolve_network(tiny_tasks.configure(data_dir, **given), pretrained)
    message = "the preset electra_base is for a hidden size of 768; the checkpoint's is 16"
    assert (message in capsys.readouterr().err) is warned


@pytest.mark.slow
def test_a_trial_from_a_huggingface_folder(tmp_path):
    made = huggingface_models.write_model(tmp_path / "theirs", "discriminator", casing=CASED)
    (tmp_path / "theirs" / "vocab.txt").unlink()  # tokenizer.json has it too
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    results, shown = tiny_tasks.finetune_here(
        tmp_path, init_checkpoint=str(tmp_path / "theirs"), num_train_epochs=1.0,
        learning_rate=1e-12,
    )  # fmt: skip
    assert "not used: " not in shown
    trial = tmp_path / "models" / "tiny" / "finetuning_models" / "marks_model_1"
    model = open_pretrained(str(trial))
    assert model.network == huggingface_models.NETWORK
    assert model.casing == CASED
    name = "electra.encoder.layer.1.output.dense.weight"
    np.testing.assert_allclose(
        model.arrays["electra/layer_1/output/kernel"].T, made[name], atol=1e-6
    )
    assert huggingface_models.stored(tmp_path / "theirs").keys() == made.keys()


def test_a_huggingface_vocabulary_of_another_size(tmp_path):
    huggingface_models.write_model(tmp_path / "theirs", "discriminator")
    with open(tmp_path / "theirs" / "vocab.txt", "a") as file:
        file.write("more\n")
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    with pytest.raises(UserError, match="more pieces than") as error:
        tiny_tasks.finetune_here(tmp_path, init_checkpoint=str(tmp_path / "theirs"))
    assert "26 pieces in the file, 25 embeddings" in error.value.received


def test_a_huggingface_model_without_heads_can_not_be_evaluated(tmp_path):
    huggingface_models.write_model(tmp_path / "theirs", "discriminator")
    tiny_tasks.write_marks(tmp_path, train=8, dev=4)
    definition = tiny_tasks.HPARAMS["tasks"]["marks"] | {"labels": ["bad", "good"]}
    with pytest.raises(UserError, match="can't be evaluated") as error:
        tiny_tasks.finetune_here(
            tmp_path, init_checkpoint=str(tmp_path / "theirs"), do_train=False,
            tasks={"marks": json.loads(json.dumps(definition))},
        )  # fmt: skip
    assert "task_specific/marks/classifier/kernel is missing" in error.value.received


def test_the_limit_for_long_words_comes_with_the_model(tmp_path):
    config = FinetuningConfig("model", str(tmp_path), task_names=["sst"])
    stored = Casing(max_word_characters=1000)
    pretrained = Pretrained("", "", {}, None, stored)
    path = write_vocabulary(tmp_path)
    beside = load_vocabulary(path), path
    assert resolve_casing(config, pretrained, *beside) == stored
    assert resolve_casing(config, None, *beside) == Casing()
    config = FinetuningConfig("model", str(tmp_path), task_names=["sst"], max_word_characters=200)
    with pytest.raises(UserError) as caught:
        resolve_casing(config, pretrained, *beside)
    assert caught.value.where == '"max_word_characters": 200'
