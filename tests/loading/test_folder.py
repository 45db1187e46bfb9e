"""What a model's folder says of its text and its network."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.loading.folder import (
    check_same_tokens,
    read_casing,
    read_config,
    stored_config,
    write_model_folder,
)
from electra_tf2.loading.pretrained import (
    Pretrained,
    generator_network,
    model_vocabulary,
    open_pretrained,
)
from electra_tf2.loading.source import Source
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import write_vocabulary

KEEPS_ACCENTS = Casing(strip_accents=False)


def test_what_is_written_is_read(tmp_path):
    network = TransformerConfig(vocab_size=9, encoder="albert")
    (tmp_path / "model").mkdir()
    folder = str(tmp_path / "model")
    write_model_folder(
        folder,
        hparams={"seed": 3},
        network=network,
        vocab_file=write_vocabulary(tmp_path),
        casing=KEEPS_ACCENTS,
    )
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"casing.json", "config.json", "vocab.txt"}
    assert read_config(folder) == ({"seed": 3}, network, f"{folder}/config.json")
    assert read_casing(folder) == KEEPS_ACCENTS


@pytest.mark.parametrize(
    "casing", [Casing(False, True), KEEPS_ACCENTS, Casing(max_word_characters=1000)]
)
def test_the_former_name_of_the_casing(tmp_path, casing):
    vocabulary = load_vocabulary(write_vocabulary(tmp_path))
    former = tmp_path / "tokenizer.json"
    former.write_text(json.dumps(casing.to_dict()))
    assert read_casing(str(tmp_path)) == casing
    check_same_tokens(str(tmp_path), vocabulary, casing)
    with pytest.raises(UserError, match="tokenized otherwise") as error:
        check_same_tokens(str(tmp_path), vocabulary, UNCASED)
    assert error.value.where == str(former)
    (tmp_path / "casing.json").write_text(json.dumps(UNCASED.to_dict()))
    assert read_casing(str(tmp_path)) == UNCASED


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": "1.0"}',
        '{"do_lower_case": 1}',
        '{"do_lower_case": true, "strip_accents": true, "max_word_characters": 0}',
        '{"do_lower_case": true, "strip_accents": true, "max_word_characters": true}',
    ],
)
def test_a_casing_that_can_not_be_read(tmp_path, content):
    assert read_casing(str(tmp_path)) is None
    for name in ("tokenizer.json", "casing.json"):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match="casing can't be read") as error:
            read_casing(str(tmp_path))
        assert error.value.where == str(tmp_path / name)


@pytest.mark.parametrize("content", ["", "[]", '{"hparams": {}}', '{"hparams": 1, "network": {}}'])
def test_a_configuration_that_can_not_be_read(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="configuration can't be read") as error:
        read_config(str(tmp_path))
    assert error.value.where == str(tmp_path / "config.json")


ACTS = [{"vocab_size": 9, "hidden_act": act} for act in ("gelu_new", "swish", "", 1)]


def test_the_name_of_an_activation_in_capitals(tmp_path):
    network = {"vocab_size": 9, "hidden_act": "GELU"}
    (tmp_path / "config.json").write_text(json.dumps({"hparams": {}, "network": network}))
    stored = read_config(str(tmp_path))
    assert stored is not None and stored.network.hidden_act == "gelu"


@pytest.mark.parametrize("network", [{}, {"hidden_size": 8}, {"vocab_size": 9, "heads": 2}, *ACTS])
def test_a_network_that_can_not_be(tmp_path, network):
    (tmp_path / "config.json").write_text(json.dumps({"hparams": {}, "network": network}))
    with pytest.raises(UserError, match="impossible") as error:
        read_config(str(tmp_path))
    assert error.value.where == str(tmp_path / "config.json")


def bare(hidden_size):
    """A checkpoint that nothing is stored of."""
    shapes = {
        "embeddings/word_embeddings": (9, 8),
        "embeddings/position_embeddings": (32, 8),
        "layer_0/intermediate/kernel": (hidden_size, 24),
        "layer_1/intermediate/kernel": (hidden_size, 24),
    }
    arrays = {f"electra/{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return Pretrained("p", "p", arrays, None, None)


def test_sizes_that_arrays_show():
    expected = TransformerConfig(
        vocab_size=9,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        embedding_size=8,
        max_position_embeddings=32,
    )
    assert bare(128).encoder_config() == expected
    assert Pretrained("p", "p", {}, None, None).encoder_config() is None
    assert Pretrained("p", "p", bare(64).arrays, expected, None).encoder_config(4) is expected


def test_heads_that_the_official_rule_does_not_give():
    with pytest.raises(UserError, match="multiple of the number of attention heads"):
        bare(200).encoder_config()
    assert bare(200).encoder_config(4).num_attention_heads == 4


CASED = Casing(lower_case=False, strip_accents=False)


@pytest.fixture
def model(tmp_path):
    """A cased model of this program whose state says what its files say."""
    vocab_file = write_vocabulary(tmp_path)
    vocabulary = load_vocabulary(vocab_file)
    folder = tmp_path / "model"
    folder.mkdir()
    hparams = CASED.settings()
    network = TransformerConfig(vocab_size=len(vocabulary), hidden_size=128, num_attention_heads=2)
    write_model_folder(
        str(folder), hparams=hparams, network=network, vocab_file=vocab_file, casing=CASED
    )
    state = {
        "config": stored_config(hparams, network),
        "vocab_sha256": vocabulary.sha256,
        "casing": CASED.to_dict(),
    }
    CheckpointStore(str(folder)).save(3, {}, {}, state)
    return folder


def change_state(model, **values):
    path = model / "checkpoints" / "step-00000003" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_lost_casing_is_that_of_the_state_or_the_hparams(model):
    os.remove(model / "casing.json")
    assert open_pretrained(str(model)).casing == CASED
    change_state(model, casing=None)
    assert open_pretrained(str(model)).casing == CASED
    config = json.loads((model / "config.json").read_text())
    del config["hparams"]["strip_accents"]
    (model / "config.json").write_text(json.dumps(config))
    assert open_pretrained(str(model)).casing is None


def test_a_checkpoint_away_from_its_model_is_opened_by_its_state(model, tmp_path):
    stated = {"num_attention_heads": 8, "hidden_act": "relu", "encoder": "albert"}
    network = TransformerConfig(vocab_size=9, hidden_size=128, **stated)
    change_state(model, config=stored_config({"generator_layers": 0.5}, network))
    for folder in (tmp_path / "elsewhere", tmp_path / "kept" / "checkpoints"):
        copy = folder / "step-00000003"
        shutil.copytree(model / "checkpoints" / "step-00000003", copy)
        opened = open_pretrained(str(copy))
        assert opened.encoder_config() == network
        hparams = Source(opened, network, None, "").hparams()  # pyright: ignore[reportArgumentType]
        assert hparams == {"generator_layers": 0.5}
        table, kernel = np.zeros((9, 8), np.float32), np.zeros((64, 24), np.float32)
        of_generator = {
            "electra/embeddings/word_embeddings": table,
            "generator/shared_layer/intermediate/kernel": kernel,
        }
        opened = dataclasses.replace(opened, arrays=of_generator)
        assert generator_network(opened, network).num_hidden_layers == 6


def test_a_checkpoint_named_from_its_own_folder_belongs_to_its_model(model, monkeypatch):
    monkeypatch.chdir(model / "checkpoints")
    assert open_pretrained("step-00000003").folder == str(model)
    monkeypatch.chdir("step-00000003")
    assert open_pretrained(".").vocab_file == str(model / "vocab.txt")


def test_another_vocabulary_than_the_checkpoint_s_is_refused(model):
    path = model / "vocab.txt"
    lines = path.read_text().splitlines()
    opened = open_pretrained(str(model))
    model_vocabulary(opened, len(lines), None, "vocab_file")
    path.write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]))
    with pytest.raises(UserError, match="not the one that the model was trained with") as error:
        model_vocabulary(opened, len(lines), None, "vocab_file")
    assert error.value.where == str(path)
    change_state(model, vocab_sha256=None)  # as of older versions
    model_vocabulary(open_pretrained(str(model)), len(lines), None, "vocab_file")


@pytest.mark.parametrize("name, value", [("num_attention_heads", 4), ("hidden_act", "relu")])
def test_another_network_than_the_state_s_is_refused(model, name, value):
    config = json.loads((model / "config.json").read_text())
    config["network"][name] = value
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is not that of its weights") as error:
        open_pretrained(str(model))
    assert f"{name}: {value!r} there" in error.value.received
    assert error.value.where == str(model / "config.json")
