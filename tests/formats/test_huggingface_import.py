"""Hugging Face folders are read whole and by name."""

import dataclasses
import json
import os

import ml_dtypes
import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface import huggingface_folders
from electra_tf2.formats.huggingface_tokenizer import tokenizer_files
from electra_tf2.inference.encoder import Encoder
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary
from electra_tf2.training.array_files import write_arrays
from tests.formats.huggingface_models import (
    NETWORK,
    SMALLER,
    VOCABULARY,
    stored,
    tensors,
    write_model,
    write_pair,
)

QUERY = "encoder.layer.1.attention.self.query.weight"
SHARED = TransformerConfig(**{**NETWORK.to_dict(), "encoder": "albert"})


def test_a_discriminator(tmp_path):
    made = write_model(tmp_path / "model", "discriminator")
    model = open_pretrained(str(tmp_path / "model"))
    assert model.format == "huggingface" and model.network == NETWORK
    assert model.casing == UNCASED
    assert model.left_over == () and model.generator is None
    assert len(model.arrays) == len(made)
    arrays = model.arrays
    np.testing.assert_array_equal(
        arrays["electra/layer_1/attention/query/kernel"], made[f"electra.{QUERY}"].T
    )
    np.testing.assert_array_equal(
        arrays["discriminator_predictions/logit/kernel"],
        made["discriminator_predictions.dense_prediction.weight"].T,
    )
    np.testing.assert_array_equal(
        arrays["electra/layer_0/attention/layer_norm/gamma"],
        made["electra.encoder.layer.0.attention.output.LayerNorm.weight"],
    )
    assert load_vocabulary(model.vocab_file) == VOCABULARY


def test_a_generator_alone_is_the_encoder(tmp_path):
    made = write_model(tmp_path, "generator")
    model = open_pretrained(str(tmp_path))
    assert model.generator == model.network == NETWORK
    assert {name.partition("/")[0] for name in model.arrays} == {
        "electra",
        "generator_predictions",
    }
    np.testing.assert_array_equal(
        model.arrays["generator_predictions/output_bias"], made["generator_lm_head.bias"]
    )


def test_an_encoder_without_prefix(tmp_path):
    made = write_model(tmp_path, "encoder")
    model = open_pretrained(str(tmp_path))
    np.testing.assert_array_equal(
        model.arrays["electra/layer_1/attention/query/kernel"], made[QUERY].T
    )
    assert len(model.arrays) == len(made)


@pytest.mark.parametrize("tied", [True, False])
def test_both_networks(tmp_path, tied):
    discriminator, generator = write_pair(tmp_path, tied=tied)
    paths = [
        str(tmp_path),
        f"{tmp_path}/discriminator,{tmp_path}/generator",
        f"{tmp_path}/generator,{tmp_path}/discriminator/model.safetensors",
    ]
    models = [open_pretrained(path) for path in paths]
    for model in models:
        assert model.network == NETWORK
        assert model.generator == dataclasses.replace(NETWORK, **SMALLER)
        assert model.folder == str(tmp_path / "discriminator")
        assert model.arrays.keys() == models[0].arrays.keys()
    arrays = models[0].arrays
    assert ("generator/embeddings/word_embeddings" in arrays) is not tied
    assert len(arrays) == len(discriminator) + len(generator) - 5 * tied
    np.testing.assert_array_equal(
        arrays["generator/layer_1/attention/query/kernel"], generator[f"electra.{QUERY}"].T
    )


@pytest.mark.parametrize(
    "model_type, network",
    [("bert", {**NETWORK.to_dict(), "embedding_size": 16}), ("albert", SHARED.to_dict())],
)
def test_other_families(tmp_path, model_type, network):
    network = TransformerConfig(**network)
    made = write_model(tmp_path, "generator", network, model_type)
    model = open_pretrained(str(tmp_path))
    assert model.network == network
    assert len(model.arrays) == len(made) and model.left_over == ()


def test_several_files_and_half_precision(tmp_path):
    made = write_model(tmp_path, "discriminator")
    os.remove(tmp_path / "model.safetensors")
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in made.items()}
    places = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(half)}
    for place in set(places.values()):
        part = {name: half[name] for name in half if places[name] == place}
        write_arrays(str(tmp_path / place), part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))

    array = open_pretrained(str(tmp_path)).arrays["electra/layer_1/attention/query/kernel"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.T, half[f"electra.{QUERY}"].astype(np.float32))

    index.write_text(json.dumps({"weight_map": places | {"electra.more": places[min(places)]}}))
    with pytest.raises(UserError, match="electra.more"):
        open_pretrained(str(tmp_path))
    index.write_text(json.dumps({"weight_map": {"electra.more": "../elsewhere.safetensors"}}))
    with pytest.raises(UserError, match="can't be understood"):
        open_pretrained(str(tmp_path))


def test_what_has_no_use_here_is_listed(tmp_path):
    more = {
        "electra.embeddings.position_ids": np.arange(64)[None],
        "classifier.dense.weight": np.ones((16, 16), np.float32),
    }
    write_model(tmp_path, "discriminator", change=lambda made: made.update(more))
    model = open_pretrained(str(tmp_path))
    assert model.left_over == ("classifier.dense.weight", "electra.embeddings.position_ids")


def test_names_of_old_files(tmp_path):
    def rename(made):
        for name in [name for name in made if "LayerNorm" in name]:
            stem, _, kind = name.rpartition(".")
            made[f"{stem}.{'gamma' if kind == 'weight' else 'beta'}"] = made.pop(name)

    write_model(tmp_path, "discriminator", change=rename, hidden_act="gelu_python")
    model = open_pretrained(str(tmp_path))
    assert "electra/layer_0/layer_norm/gamma" in model.arrays
    assert model.network.hidden_act == "gelu"


def test_tied_tensors_are_equal_or_refused(tmp_path):
    table = "electra.embeddings.word_embeddings.weight"
    copy = "generator_lm_head.weight"
    write_model(tmp_path, "generator", change=lambda made: made.update({copy: made[table]}))
    assert open_pretrained(str(tmp_path)).left_over == ()
    write_model(tmp_path, "generator", change=lambda made: made.update({copy: made[table] + 1}))
    with pytest.raises(UserError, match="not tied") as error:
        open_pretrained(str(tmp_path))
    assert f"{copy} differs from {table}" in error.value.received


@pytest.mark.parametrize(
    "casing",
    [UNCASED, Casing(True, False), Casing(False, False)],
    ids=["lower", "accents", "cased"],
)
@pytest.mark.parametrize("left", ["both", "tokenizer.json", "tokenizer_config.json"])
def test_casing(tmp_path, casing, left):
    write_model(tmp_path, "discriminator", casing=casing)
    for name in {"tokenizer.json", "tokenizer_config.json"} - {left} if left != "both" else ():
        os.remove(tmp_path / name)
    assert open_pretrained(str(tmp_path)).casing == casing


@pytest.mark.parametrize("config", [None, "", "{}", '{"model_max_length": 64}'])
def test_a_casing_that_no_file_states(tmp_path, config):
    write_model(tmp_path, "discriminator", casing=Casing(False, False))
    os.remove(tmp_path / "tokenizer.json")
    os.remove(tmp_path / "tokenizer_config.json")
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(config)
    assert open_pretrained(str(tmp_path)).casing is None
    stated = tokenizer_files(VOCABULARY, Casing(True, False), 64)["tokenizer.json"]
    (tmp_path / "tokenizer.json").write_bytes(stated)
    assert open_pretrained(str(tmp_path)).casing == Casing(True, False)


def test_an_open_casing_is_given(tmp_path, capsys):
    capitals = Vocabulary((*VOCABULARY.tokens[:-2], "Ship", "Town"))
    write_model(tmp_path, "discriminator")
    os.remove(tmp_path / "tokenizer.json")
    (tmp_path / "vocab.txt").write_text("\n".join(capitals.tokens) + "\n")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    source = open_source(str(tmp_path))
    assert source.casing == UNCASED
    said = capsys.readouterr().err
    assert "Nothing beside the model says how text is cased" in said
    assert "2 of 20 pieces" in said and "is it do_lower_case=False?" in said

    cased = Encoder.from_pretrained(tmp_path, do_lower_case=False).tokenizer
    assert cased.tokenize("Ship") == ["Ship"] and not capsys.readouterr().err
    assert open_source(str(tmp_path), strip_accents=False).casing == Casing(True, False)

    (tmp_path / "tokenizer_config.json").write_text('{"strip_accents": false}')
    assert open_source(str(tmp_path)).casing == Casing(True, False)
    said = capsys.readouterr().err
    assert f"Accents as in {tmp_path / 'tokenizer_config.json'}: strip_accents=False" in said
    assert open_source(str(tmp_path), do_lower_case=True).casing == Casing(True, False)
    assert open_source(str(tmp_path), strip_accents=True).casing == UNCASED

    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    open_source(str(tmp_path), do_lower_case=True, strip_accents=True)
    with pytest.raises(UserError, match="tokenized otherwise") as error:
        open_source(str(tmp_path), do_lower_case=False)
    assert error.value.where == "do_lower_case=False"


def test_white_space_and_gaps_there_and_back(tmp_path):
    """A piece that is white space keeps its id in both of the files of a tokenizer."""
    pieces = (*VOCABULARY.tokens[:-4], "\u2028", "##\u3000", "", "ship2")
    vocabulary = Vocabulary((*pieces[:7], "\u2028", "", *pieces[7:]))
    for name, content in tokenizer_files(vocabulary, UNCASED, 64).items():
        (tmp_path / name).write_bytes(content)
    assert load_vocabulary(str(tmp_path / "vocab.txt")) == vocabulary
    # JSON has each name once: what never matches may lose its name there, not its id.
    ids = load_vocabulary(str(tmp_path / "tokenizer.json")).ids
    assert all(ids[piece] == i for i, piece in enumerate(vocabulary.tokens) if piece.strip())
    assert len(load_vocabulary(str(tmp_path / "tokenizer.json"))) == len(vocabulary)


def test_a_vocabulary_in_the_tokenizer_file_alone(tmp_path):
    write_model(tmp_path, "discriminator")
    os.remove(tmp_path / "vocab.txt")
    model = open_pretrained(str(tmp_path))
    assert model.vocab_file == str(tmp_path / "tokenizer.json")
    assert load_vocabulary(model.vocab_file).sha256 == VOCABULARY.sha256

    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    stored["model"]["type"] = "Unigram"
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="kind Unigram"):
        load_vocabulary(model.vocab_file)


def test_double_precision_is_narrowed(tmp_path):
    write_model(
        tmp_path,
        "discriminator",
        change=lambda made: made.update({n: a.astype(np.float64) for n, a in made.items()}),
    )
    arrays = open_pretrained(str(tmp_path)).arrays
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_paths_joined_by_a_comma(tmp_path):
    write_pair(tmp_path)
    first, second = (f"{tmp_path}/{name}" for name in ("discriminator", "generator"))
    assert huggingface_folders(f"{first}, {second}") == (first, second)
    assert huggingface_folders(f"{first},") == (first,)
    with pytest.raises(UserError, match="There is no Hugging Face model") as error:
        open_pretrained(f"{first},{tmp_path}/none")
    assert f"{tmp_path}/none" in error.value.received


def test_sizes_that_a_configuration_leaves_out(tmp_path):
    """As transformers' classes have them: a small model's."""
    network = TransformerConfig(
        vocab_size=len(VOCABULARY), num_hidden_layers=1, max_position_embeddings=64
    )
    silent = dict.fromkeys(("hidden_size", "embedding_size", "intermediate_size", "hidden_act"))
    write_model(tmp_path, "encoder", network, **silent)
    assert open_pretrained(str(tmp_path)).network == network
    assert stored(tmp_path).keys() == tensors("encoder", network).keys()
