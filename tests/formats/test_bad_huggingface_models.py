"""Hugging Face folders that are damaged, of something else, or no models, are refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface import huggingface_folders
from electra_tf2.loading.pretrained import has_checkpoint, open_pretrained
from electra_tf2.text.normalization import Casing
from electra_tf2.text.vocabulary import load_vocabulary
from electra_tf2.training.array_files import write_arrays
from tests.formats.huggingface_models import write_model, write_pair

QUERY = "encoder.layer.1.attention.self.query.weight"


class _Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    "name, part",
    [
        ("pytorch_model.bin", "M.from_pretrained(folder).save_pretrained(target);"),
        ("tf_model.h5", "M.from_pretrained(folder, from_tf=True).save_pretrained(target);"),
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
        assert part in error.value.remedy
        assert error.value.remedy.endswith(f"]' {folder} {folder}-safetensors")
    assert not (tmp_path / "exploded").exists()


def test_the_command_to_convert_a_file_in_the_current_folder(tmp_path, monkeypatch):
    write_model(tmp_path, "encoder")
    os.rename(tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        open_pretrained("pytorch_model.bin")
    assert str(error.value).endswith("' . model-safetensors")


@pytest.mark.parametrize("name", ["'); import os; os.mkdir('ran'); ('", "$(mkdir ran) \x1b"])
def test_a_command_to_paste_runs_nothing_of_the_folder_s_name(tmp_path, name):
    folder = tmp_path / name
    write_model(folder, "encoder")
    (folder / "tokenizer_config.json").unlink()
    os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(UserError) as error:
        open_pretrained(str(folder))
    command = str(error.value).rpartition("\n")[2].strip()
    # What the command does with its arguments, without transformers.
    (tmp_path / "transformers.py").write_text(
        "class ElectraModel:\n"
        "    @classmethod\n"
        "    def from_pretrained(cls, path): return cls()\n"
        "    def save_pretrained(self, path):\n"
        "        path.mkdir()\n"
        "        (path / 'config.json').write_text('{}')\n"
    )
    command = command.replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()
    # What is there of the tokenizer comes along as it is: no word on the casing, here.
    target = tmp_path / f"{folder}-safetensors"
    names = {"config.json", "vocab.txt", "tokenizer.json", "special_tokens_map.json"}
    assert {path.name for path in target.iterdir()} == names
    assert (target / "config.json").read_text() == "{}"
    same = [(target / n).read_bytes() == (folder / n).read_bytes() for n in names]
    assert sum(same) == len(names) - 1


def test_a_command_to_paste_has_nothing_of_the_model_s_own_in_it(tmp_path):
    write_model(tmp_path, "encoder", architectures=["ElectraModel; import evil"])
    os.rename(tmp_path / "model.safetensors", tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError) as error:
        open_pretrained(str(tmp_path))
    assert "evil" not in str(error.value) and "AutoModel as M" in error.value.remedy


@pytest.mark.parametrize(
    "weight_map",
    [
        {"a": ["x.safetensors"]}, {"a": {}}, {"a": ".."}, {"a": ""}, {"a": "config.json"},
        ["a"], None, {"a": "/elsewhere/model.safetensors"},
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


@pytest.mark.parametrize(
    "name, wrong, received",
    [
        ("tokenizer_config.json", {"do_lower_case": "false"}, "do_lower_case 'false'"),
        ("tokenizer.json", {"normalizer": {"type": "NFC"}}, "normalizer 'NFC'"),
        ("tokenizer.json", {"normalizer": "BertNormalizer"}, "normalizer 'BertNormalizer'"),
    ],
)
def test_settings_of_a_tokenizer_that_are_not_known(tmp_path, name, wrong, received):
    write_model(tmp_path, "discriminator")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / name).write_text(json.dumps(wrong))
    with pytest.raises(UserError) as error:
        open_pretrained(str(tmp_path))
    assert error.value.where == str(tmp_path / name)
    assert received in error.value.received


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
        ["impossible values", "hidden_size '16', num_attention_heads 0"],
    ),
    "whose sizes do not fit each other": (
        "discriminator", {"num_attention_heads": 3},
        ["config.json", "hidden_size 16, num_attention_heads 3", "Copy the model again"],
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
        "discriminator", {"casing": Casing(False, True), "change": lambda made: None}, None,
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
    os.remove(tmp_path / "generator" / "tokenizer.json")
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


def test_what_to_do_where_there_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "hf", "encoder")
    (tmp_path / "data").mkdir()
    for path, said in {
        "google/electra": "hf download google/electra --local-dir electra",
        "hf/config.json": "such as hf, not a file",
        "data/none": "Give a model's folder",
        str(tmp_path): "Give a model's folder",
    }.items():
        with pytest.raises(UserError) as error:
            open_pretrained(path)
        remedy = error.value.remedy or ""
        assert said in remedy and ("hf download" in remedy) == (path == "google/electra")
        assert "init_checkpoint" not in remedy
    with pytest.raises(UserError, match="to do: Check it. Give a model's folder"):
        open_pretrained("data/none", "Check it.")
