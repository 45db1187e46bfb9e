"""Hugging Face folders are read whole and by name, or refused with what is wrong."""

import json
import os
import pickle
import shutil

import ml_dtypes
import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.interop.huggingface_import import huggingface_folders
from electra_tf2.interop.pretrained import has_checkpoint, open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.array_files import write_arrays
from tests.interop.huggingface_models import (
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
    assert model.format == "huggingface" and model.network == NETWORK.to_dict()
    assert model.tokenizer == {"do_lower_case": True, "strip_accents": True}
    assert model.left_over == () and model.generator == {}
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
    assert model.generator == model.network == NETWORK.to_dict()
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
        assert model.network == NETWORK.to_dict()
        assert model.generator == NETWORK.to_dict() | SMALLER
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
    assert model.network == network.to_dict()
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
    assert model.network["hidden_act"] == "gelu"


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
    "casing", [(True, True), (True, False), (False, False)], ids=["lower", "accents", "cased"]
)
@pytest.mark.parametrize("left", ["both", "tokenizer.json", "tokenizer_config.json"])
def test_casing(tmp_path, casing, left):
    write_model(tmp_path, "discriminator", casing=casing)
    for name in {"tokenizer.json", "tokenizer_config.json"} - {left} if left != "both" else ():
        os.remove(tmp_path / name)
    expected = dict(zip(("do_lower_case", "strip_accents"), casing, strict=True))
    assert open_pretrained(str(tmp_path)).tokenizer == expected


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


class _Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    "name, part",
    [
        ("pytorch_model.bin", "from_pretrained('{0}').save_pretrained('{0}-safetensors')\""),
        ("tf_model.h5", "from_pretrained('{0}', from_tf=True).save_pretrained("),
    ],
)
def test_other_formats_are_refused_unopened(tmp_path, monkeypatch, name, part):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    write_model(folder, "discriminator")
    os.remove(folder / "model.safetensors")
    (folder / name).write_bytes(pickle.dumps(_Bomb()))
    for path in (folder, folder / name):
        with pytest.raises(UserError, match="not opened here") as error:
            open_pretrained(str(path))
        assert error.value.where == str(folder / name)
        assert "ElectraForPreTraining as M" in error.value.remedy
        assert part.format(folder) in error.value.remedy
    assert not (tmp_path / "exploded").exists()


def test_a_command_to_paste_has_nothing_of_the_model_s_own_in_it(tmp_path):
    write_model(tmp_path, "encoder", architectures=["ElectraModel; import evil"])
    os.rename(tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError) as error:
        open_pretrained(str(tmp_path))
    assert "evil" not in str(error.value) and "AutoModel as M" in error.value.remedy


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": ["x.safetensors"]}, {"a": {}}, {"a": ".."}, {"a": ""}, {"a": "config.json"}, ["a"], None,
        {"a": "/elsewhere/model.safetensors"},
    ],
    ids=str,
)  # fmt: skip
def test_a_list_of_files_that_is_none(tmp_path, weight_map):
    write_model(tmp_path, "discriminator")
    os.remove(tmp_path / "model.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match="can't be understood") as error:
        open_pretrained(str(tmp_path))
    assert error.value.where == str(index)


def test_a_tensor_in_two_files(tmp_path):
    made = write_model(tmp_path, "discriminator")
    places = dict.fromkeys(made, "one.safetensors") | {min(made): "two.safetensors"}
    os.rename(tmp_path / "model.safetensors", tmp_path / "one.safetensors")
    write_arrays(str(tmp_path / "two.safetensors"), {min(made): made[min(made)]})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(UserError, match="have a tensor twice") as error:
        open_pretrained(str(tmp_path))
    assert error.value.received == min(made)


@pytest.mark.parametrize("content", ["[" * 100000, '{"model_type": ["electra"]}', None])
def test_a_configuration_that_is_none(tmp_path, content):
    write_model(tmp_path, "discriminator")
    path = tmp_path / "config.json"
    os.remove(path)
    if content is None:
        path.mkdir()
        os.remove(tmp_path / "model.safetensors")
    else:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        open_pretrained(str(tmp_path))
    assert error.value.where == str(path) and error.value.remedy


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json"])
def test_settings_of_a_tokenizer_that_are_not_known(tmp_path, name):
    write_model(tmp_path, "discriminator")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    wrong = {
        "tokenizer_config.json": {"do_lower_case": "false"},
        "tokenizer.json": {"normalizer": {"type": "NFC"}},
    }
    (tmp_path / name).write_text(json.dumps(wrong[name]))
    with pytest.raises(UserError, match="do_lower_case 'false'|normalizer 'NFC'") as error:
        open_pretrained(str(tmp_path))
    assert error.value.where == str(tmp_path / name)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"continuing_subword_prefix": "@@"}, "start with '@@'"),
        ({"vocab": {"[PAD]": [0]}}, "no tokenizer of Hugging Face's"),
    ],
)
def test_pieces_of_another_kind(tmp_path, change, message):
    write_model(tmp_path, "discriminator")
    stored = json.loads((tmp_path / "tokenizer.json").read_text())
    stored["model"] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=message):
        load_vocabulary(str(tmp_path / "tokenizer.json"))


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


def without(*names):
    return {"change": lambda made: [made.pop(name) for name in names]}


def reshaped(name):
    return {"change": lambda made: made.update({name: made[name][:-1]})}


def added(name):
    return {"change": lambda made: made.update({name: np.ones((2, 2), np.float32)})}


BAD_MODELS = {
    "of another architecture": (
        "discriminator", {"model_type": "roberta", "architectures": ["RobertaModel"]},
        ["another architecture", "config.json", "'roberta'", "RobertaModel"],
    ),
    "that lacks tensors": (
        "discriminator", without(f"electra.{QUERY}", "discriminator_predictions.dense.bias"),
        ["model.safetensors", f"electra.{QUERY} is missing",
         "discriminator_predictions.dense.bias is missing"],
    ),
    "with tensors more": (
        "discriminator", added("electra.encoder.layer.2.output.dense.weight"),
        ["model.safetensors", "electra.encoder.layer.2.output.dense.weight has no place"],
    ),
    "of wrong shapes": (
        "discriminator", reshaped(f"electra.{QUERY}"),
        ["model.safetensors", f"electra.{QUERY} has shape (15, 16), not (16, 16)"],
    ),
    "of a larger vocabulary": (
        "discriminator", {"vocab_size": 99},
        ["word_embeddings.weight has shape (25, 8), not (99, 8)"],
    ),
    "with another epsilon and activation": (
        "discriminator", {"layer_norm_eps": 1e-5, "hidden_act": "gelu_new", "is_decoder": True},
        ["layer_norm_eps 1e-05 instead of 1e-12", "'gelu_new'", "is_decoder True"],
    ),
    "with sizes that can't be": (
        "discriminator", {"hidden_size": "16", "num_attention_heads": 0},
        ["values that can't be", "hidden_size '16', num_attention_heads 0"],
    ),
    "whose sizes do not fit each other": (
        "discriminator", {"num_attention_heads": 3},
        ["config.json", "hidden_size 16, num_attention_heads 3", "Copy the file again"],
    ),
    "with damaged weights": (
        "discriminator", {"change": lambda made: made[f"electra.{QUERY}"].fill(np.nan)},
        ["model.safetensors", f"electra.{QUERY} has values that are not finite"],
    ),
    "with whole numbers": (
        "discriminator",
        {"change": lambda made: made.update({f"electra.{QUERY}": np.ones((16, 16), np.int32)})},
        [f"electra.{QUERY} has the type int32"],
    ),
    "with an old name beside the new one": (
        "discriminator", added("electra.embeddings.LayerNorm.gamma"),
        ["electra.embeddings.LayerNorm.weight is there by an old name too"],
    ),
    "whose head has another activation": (
        "generator", {"hidden_act": "relu"}, ["hidden_act 'relu' and gelu in the masked-LM head"],
    ),
    "that strips accents of cased text": (
        "discriminator", {"casing": (False, True), "change": lambda made: None}, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model(tmp_path, name):
    kind, options, parts = BAD_MODELS[name]
    write_model(tmp_path / "model", kind, **options)
    if parts is None:
        config = tmp_path / "model" / "tokenizer_config.json"
        config.write_text(json.dumps({"do_lower_case": False, "strip_accents": True}))
        parts = ["do_lower_case False, strip_accents True", "only removed from lower-cased"]
    with pytest.raises(UserError) as error:
        open_pretrained(str(tmp_path / "model"))
    message = str(error.value)
    assert str(tmp_path / "model") in error.value.where and error.value.remedy
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("damage", [100, -10], ids=["in the header", "at the end"])
def test_a_truncated_file(tmp_path, damage):
    write_model(tmp_path, "discriminator")
    path = tmp_path / "model.safetensors"
    os.truncate(path, damage % path.stat().st_size)
    with pytest.raises(UserError, match="truncated or corrupt") as error:
        open_pretrained(str(tmp_path))
    assert error.value.where == str(path)


def test_two_models_that_do_not_belong_together(tmp_path):
    write_pair(tmp_path)
    first, second = (f"{tmp_path}/{name}" for name in ("discriminator", "generator"))
    shutil.copytree(first, tmp_path / "again")
    with pytest.raises(UserError, match="not a discriminator and its generator"):
        open_pretrained(f"{first},{tmp_path}/again")
    path = tmp_path / "generator" / "vocab.txt"
    path.write_text(path.read_text().replace("ship", "boat"))
    config = tmp_path / "generator" / "tokenizer_config.json"
    config.write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(UserError, match="belong together") as error:
        open_pretrained(f"{first},{second}")
    assert error.value.received == "they differ in the vocabularies, casing or accents"


def test_paths_that_are_no_models(tmp_path):
    (tmp_path / "config.json").write_text('{"hparams": {}}')
    for path in (tmp_path, tmp_path / "none", f"{tmp_path}/a,{tmp_path}/b"):
        assert huggingface_folders(str(path)) == () and not has_checkpoint(str(path))
        with pytest.raises(UserError, match="There is no pre-trained model"):
            open_pretrained(str(path))
    (tmp_path / "config.json").write_text('{"model_type": "electra"}')
    with pytest.raises(UserError, match="has no weights"):
        open_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "electra"')
    with pytest.raises(UserError, match="configuration can't be read"):
        open_pretrained(str(tmp_path))


def test_sizes_that_a_configuration_leaves_out(tmp_path):
    """As transformers' classes have them: a small model's."""
    network = TransformerConfig(
        vocab_size=len(VOCABULARY), num_hidden_layers=1, max_position_embeddings=64
    )
    silent = dict.fromkeys(("hidden_size", "embedding_size", "intermediate_size", "hidden_act"))
    write_model(tmp_path, "encoder", network, **silent)
    assert open_pretrained(str(tmp_path)).network == network.to_dict()
    assert stored(tmp_path).keys() == tensors("encoder", network).keys()
