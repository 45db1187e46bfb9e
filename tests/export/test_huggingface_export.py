"""Models written for transformers: the same tensors, complete folders, nothing overwritten."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair
from electra_tf2.text.normalization import Casing
from electra_tf2.training.array_files import write_arrays
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import content, write_vocabulary
from tests.formats.huggingface_models import NETWORK, stored, write_model, write_pair

CASES = Path(__file__).parents[1] / "conformance" / "cases"
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}


def export(source, output, **options):
    export_huggingface(str(source), str(output), ExportOptions(**options))
    return Path(output)


def own_model(folder, network=NETWORK, hparams=None, change=None, **pair):
    """Writes a model of this program with random weights; returns its folder and arrays.

    `change` is called with the arrays before they are written.
    """
    built = build_pair(network, generator_hidden_size=0.5, **pair)
    networks = filter(None, [built.encoder, built.discriminator, built.generator])
    variables = [v for network in networks for v in network.trainable_variables]
    weights = {v.path: v.numpy().copy() for v in variables}
    if change:
        change(weights)
    make_model_folder(str(folder))
    write_model_folder(
        str(folder),
        hparams={"num_train_steps": 10, "vocab_file": "/secret/path", **(hparams or {})},
        network=network,
        vocab_file=write_vocabulary(folder.parent),
        casing=Casing(lower_case=False, strip_accents=False),
    )
    CheckpointStore(str(folder)).save(10, weights, {}, {"examples_seen": 80})
    return folder, weights


def assert_same_tensors(one, other):
    one, other = stored(one), stored(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.tobytes() == other[name].tobytes() and array.shape == other[name].shape, name


@pytest.mark.parametrize("depth", [0, "x", None])
def test_a_depth_of_the_generator_that_can_not_be(tmp_path, depth):
    network = TransformerConfig(**{**NETWORK.to_dict(), "encoder": "albert"})
    folder, _ = own_model(tmp_path / "own", network, hparams={"generator_layers": depth})
    with pytest.raises(UserError, match="how deep the generator is") as error:
        export(folder, tmp_path / "out")
    assert error.value.where == f"{folder / 'config.json'}, hparams.generator_layers"


@pytest.mark.parametrize("content", ["[" * 100000, b"\xff", None], ids=["deep", "bytes", "folder"])
def test_a_stored_configuration_that_can_not_be_read(tmp_path, content):
    folder, _ = own_model(tmp_path / "own")
    path = folder / "config.json"
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="stored configuration can't be read") as error:
        export(folder, tmp_path / "out")
    assert error.value.where == str(path)


@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back_again(tmp_path, tied):
    write_pair(tmp_path / "theirs", tied=tied)
    export(tmp_path / "theirs", tmp_path / "again")
    for name in ("discriminator", "generator"):
        theirs, again = tmp_path / "theirs" / name, tmp_path / "again" / name
        assert_same_tensors(theirs, again)
        assert {path.name for path in again.iterdir()} == FILES
        for file in FILES - {"README.md", "model.safetensors", "config.json"}:
            assert (theirs / file).read_bytes() == (again / file).read_bytes()
        configs = [json.loads((p / "config.json").read_text()) for p in (theirs, again)]
        assert configs[0].items() <= configs[1].items()


@pytest.mark.parametrize("kind", ["encoder", "generator"])
@pytest.mark.parametrize("model_type", ["electra", "bert", "albert"])
def test_single_models_there_and_back(tmp_path, model_type, kind):
    changed = {"bert": {"embedding_size": 16}, "albert": {"encoder": "albert"}}
    network = TransformerConfig(**{**NETWORK.to_dict(), **changed.get(model_type, {})})
    write_model(tmp_path / "theirs", kind, network, model_type)
    architecture = {"bert": "bert"}.get(model_type)
    again = export(tmp_path / "theirs", tmp_path / "again", architecture=architecture)
    assert_same_tensors(tmp_path / "theirs", again)
    config = json.loads((again / "config.json").read_text())
    assert config["model_type"] == model_type
    assert open_pretrained(str(again)).network == network


@pytest.mark.parametrize("case", ["electra_train", "tied_generator", "untied_embeddings"])
def test_an_official_checkpoint(tmp_path, case):
    source = CASES / case / "init"
    official = open_pretrained(str(source))
    export(source, tmp_path / "out", vocab_file=str(CASES / "vocab.txt"))
    arrays = open_pretrained(str(tmp_path / "out")).arrays
    own = case != "tied_generator"  # one encoder for both: each folder has it
    for name, array in official.arrays.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    assert own == (arrays.keys() == official.arrays.keys())
    if not own:
        kernel = official.arrays["electra/layer_0/output/kernel"]
        np.testing.assert_array_equal(arrays["generator/layer_0/output/kernel"], kernel)


def test_an_official_fine_tuned_model(tmp_path, capsys):
    source = CASES / "finetune_cola" / "final"
    out = export(source, tmp_path / "out", vocab_file=str(CASES / "vocab.txt"))
    said = capsys.readouterr().err
    assert "The heads of tasks are left out" in said and "lower-cased, as for" in said
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["ElectraModel"]


def test_a_model_of_this_program(tmp_path, capsys):
    source, weights = own_model(
        tmp_path / "model", hparams={"learning_rate": 3e-4, "pretrain_tfrecords": "/secret/x"}
    )
    line = {"step": 10, "split": "train", "total_loss": 12.345678, "time": 1.0}
    (source / "metrics.jsonl").write_text(json.dumps(line) + "\n{cut by a crash")
    out = export(source, tmp_path / "out")
    said = capsys.readouterr().err
    assert "Exported the discriminator as ElectraForPreTraining" in said
    assert "Exported the generator as ElectraForMaskedLM" in said
    arrays = open_pretrained(str(out)).arrays
    assert arrays.keys() == weights.keys()
    assert all(np.array_equal(arrays[name], weights[name]) for name in weights)

    config = json.loads((out / "generator" / "config.json").read_text())
    assert config["hidden_size"] == 8 and config["num_attention_heads"] == 1
    tokenizer = json.loads((out / "discriminator" / "tokenizer_config.json").read_text())
    assert tokenizer["do_lower_case"] is tokenizer["strip_accents"] is False
    card = (out / "discriminator" / "README.md").read_text()
    for part in ('"step": 10', '"learning_rate": 0.0003', '"total_loss": 12.345678',
                 "ElectraForPreTraining.from_pretrained", "Text is cased"):  # fmt: skip
        assert part in card, part
    assert "secret" not in card


@pytest.mark.parametrize(
    "network, expected",
    [
        (None, {"discriminator", "generator"}),
        ("both", {"discriminator", "generator"}),
        ("discriminator", FILES),
        ("generator", FILES),
    ],
)
def test_the_networks_that_were_asked_for(tmp_path, network, expected):
    write_pair(tmp_path / "theirs")
    out = export(tmp_path / "theirs", tmp_path / "out", network=network)
    assert {path.name for path in out.iterdir()} == expected
    if network in ("discriminator", "generator"):
        assert_same_tensors(tmp_path / "theirs" / network, out)


def test_a_shared_layer(tmp_path, capsys):
    """transformers' ALBERT has no replaced-token head; it has a masked LM."""
    network = TransformerConfig(**{**NETWORK.to_dict(), "encoder": "albert"})
    source, weights = own_model(tmp_path / "model", network, untied_generator_embeddings=False)
    out = export(source, tmp_path / "out")
    assert "Without its replaced-token head" in capsys.readouterr().err
    config = json.loads((out / "discriminator" / "config.json").read_text())
    assert config["architectures"] == ["AlbertModel"] and config["num_hidden_layers"] == 2
    config = json.loads((out / "generator" / "config.json").read_text())
    assert config["architectures"] == ["AlbertForMaskedLM"] and config["hidden_size"] == 8
    tensors = stored(out / "generator")
    kernel = tensors["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"]
    np.testing.assert_array_equal(kernel.T, weights["generator/shared_layer/intermediate/kernel"])
    # The generator's embeddings are as wide as its states: Albert's projection changes nothing.
    projection = "albert.encoder.embedding_hidden_mapping_in.weight"
    np.testing.assert_array_equal(tensors[projection], np.eye(8))
    arrays = open_pretrained(str(out / "generator")).arrays
    assert not any("embeddings_project" in name for name in arrays)
    write_arrays(
        str(out / "generator" / "model.safetensors"), tensors | {projection: 2 * np.eye(8)}
    )
    with pytest.raises(UserError, match="not that of the identity"):
        open_pretrained(str(out / "generator"))


def test_embeddings_as_wide_as_the_states_as_bert(tmp_path, capsys):
    network = TransformerConfig(**{**NETWORK.to_dict(), "embedding_size": 16})
    source, weights = own_model(tmp_path / "model", network, untied_generator_embeddings=True)
    out = export(source, tmp_path / "out", architecture="bert")
    assert "Without its replaced-token head" in capsys.readouterr().err
    assert "bert.embeddings.word_embeddings.weight" in stored(out / "generator")
    table = stored(out / "discriminator")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(table, weights["electra/embeddings/word_embeddings"])


def test_a_generator_that_is_no_bert_is_exported_as_what_it_is(tmp_path, capsys):
    network = TransformerConfig(**{**NETWORK.to_dict(), "embedding_size": 16})
    source, _ = own_model(tmp_path / "model", network)
    out = export(source, tmp_path / "out", architecture="bert")
    assert "does not fit the architecture bert" in capsys.readouterr().err
    config = json.loads((out / "generator" / "config.json").read_text())
    assert config["architectures"] == ["ElectraForMaskedLM"] and config["embedding_size"] == 16
    with pytest.raises(UserError, match="exported as bert"):
        export(source, tmp_path / "other", architecture="bert", network="generator")


def modern_network(**changed):
    return TransformerConfig(**{**NETWORK.to_dict(), "encoder": "modern", **changed})


def test_a_modern_discriminator_and_no_generator_that_is_projected(tmp_path, capsys):
    """Of one name there, ours are put one below another."""
    source, weights = own_model(tmp_path / "model", modern_network(embedding_size=16))
    out = export(source, tmp_path / "out")
    assert "generator is left out" in capsys.readouterr().err
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["ModernBertForTokenClassification"]
    assert (config["global_attn_every_n_layers"], config["local_attention"]) == (3, 128)
    assert "which tokens of a text were replaced" in (out / "README.md").read_text()
    tokenizer = json.loads((out / "tokenizer_config.json").read_text())
    assert "token_type_ids" not in tokenizer["model_input_names"]
    tensors = stored(out)
    for name, parts in (("attn.Wqkv", ("attention/query", "attention/key", "attention/value")),
                        ("mlp.Wi", ("intermediate", "gate"))):  # fmt: skip
        kernels = [weights[f"electra/layer_1/{part}/kernel"] for part in parts]
        theirs = tensors[f"model.layers.1.{name}.weight"]
        np.testing.assert_array_equal(theirs, np.concatenate(kernels, axis=1).T)
    assert "model.layers.0.attn_norm.weight" not in tensors
    assert len(tensors) == 2 + 2 * 6 - 1 + 1 + 4
    for asked in (None, "modernbert"):
        with pytest.raises(UserError, match="projected to the hidden size") as error:
            export(source, tmp_path / "other", network="generator", architecture=asked)
        assert error.value.where == "--format huggingface"


def test_a_modern_model_is_written_as_no_other_and_not_read(tmp_path):
    source, _ = own_model(
        tmp_path / "model", modern_network(embedding_size=16), with_discriminator=False
    )
    with pytest.raises(UserError, match="those of ModernBERT"):
        export(source, tmp_path / "out", architecture="electra")
    out = export(source, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["architectures"][0].endswith("MaskedLM")
    with pytest.raises(UserError, match="another architecture"):
        open_pretrained(str(out))


def test_two_towers_are_left_out(tmp_path, capsys):
    source, _ = own_model(tmp_path / "model", two_tower_generator=True)
    out = export(source, tmp_path / "out")
    assert "Electric's two towers" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} == FILES
    with pytest.raises(UserError, match="no generator") as error:
        export(source, tmp_path / "other", network="generator")
    assert error.value.received == (
        "discriminator and Electric's two towers, which transformers has no equivalent of"
    )


def test_an_activation_that_their_head_has_not(tmp_path, capsys):
    network = TransformerConfig(**{**NETWORK.to_dict(), "hidden_act": "relu"})
    source, _ = own_model(tmp_path / "model", network)
    out = export(source, tmp_path / "out", network="generator")
    assert "Without its masked-LM head" in capsys.readouterr().err
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["ElectraModel"] and config["hidden_act"] == "relu"


def other_vocabulary(folder, change):
    path = folder / "other.txt"
    path.write_text(change((folder / "theirs" / "discriminator" / "vocab.txt").read_text()))
    return str(path)


BAD_EXPORTS = {
    "an architecture that does not fit": (
        lambda folder: {"architecture": "bert", "network": "discriminator"},
        ["exported as bert", "projected", "embedding_size 8"],
    ),
    "a shared layer that is not": (
        lambda folder: {"architecture": "albert"}, ["exported as albert", "weights of their own"],
    ),
    "a modern one that is not": (
        lambda folder: {"architecture": "modernbert"}, ["exported as modernbert", "layers are not"],
    ),
    "a vocabulary of another size": (
        lambda folder: {"vocab_file": other_vocabulary(folder, lambda text: f"{text}more\n")},
        ["more pieces", "other.txt", "26 pieces in the file, 25 embeddings"],
    ),
    "another vocabulary than the model's": (
        lambda folder: {
            "vocab_file": other_vocabulary(folder, lambda text: text.replace("ship", "boat"))
        },
        ["not the one that the model was trained with", "other.txt", "line 10 differs"],
    ),
    "casing that is not the model's": (
        lambda folder: {"do_lower_case": False}, ["tokenized otherwise", "--do-lower-case"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_EXPORTS)
def test_a_bad_export_writes_nothing(tmp_path, name):
    options, parts = BAD_EXPORTS[name]
    write_pair(tmp_path / "theirs")
    options = options(tmp_path)
    before = content(tmp_path)
    with pytest.raises(UserError) as error:
        export(tmp_path / "theirs", tmp_path / "out", **options)
    assert [part for part in parts if part not in str(error.value)] == []
    assert error.value.where and error.value.received and error.value.remedy
    assert content(tmp_path) == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_has_diverged_is_not_exported(tmp_path, value):
    def change(weights):
        weights["discriminator_predictions/dense/kernel"][1, 2] = value

    folder, _ = own_model(tmp_path / "own", change=change)
    with pytest.raises(UserError, match="not finite") as error:
        export(folder, tmp_path / "out")
    assert error.value.received == "discriminator_predictions/dense/kernel"
    assert not (tmp_path / "out").exists()


def test_the_output_is_not_overwritten(tmp_path):
    write_model(tmp_path / "theirs", "encoder")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    before = content(tmp_path)
    for name, received in (("file", "a file"), ("full", "a folder that is not empty")):
        with pytest.raises(UserError, match="taken") as error:
            export(tmp_path / "theirs", tmp_path / name)
        assert error.value.received == received
    assert content(tmp_path) == before
    export(tmp_path / "theirs", tmp_path / "empty")
    with pytest.raises(UserError, match="can't be made"):
        export(tmp_path / "theirs", tmp_path / "file" / "below")


def test_nothing_is_left_of_an_export_that_failed(tmp_path, monkeypatch):
    from electra_tf2.export import huggingface

    write_model(tmp_path / "theirs", "encoder")
    before = content(tmp_path)
    monkeypatch.setattr(huggingface, "model_card", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(tmp_path / "theirs", tmp_path / "out")
    assert content(tmp_path) == before


def test_a_model_that_lacks_parts(tmp_path):
    source, weights = own_model(tmp_path / "model")
    shutil.rmtree(source / "checkpoints")
    weights.pop("generator/layer_1/output/bias")
    weights["electra/layer_0/attention/key/bias"] = np.zeros(3, np.float32)
    CheckpointStore(str(source)).save(10, weights, {}, {})
    for network, part in (
        ("generator", "generator/layer_1/output/bias is missing"),
        ("discriminator", "electra/layer_0/attention/key/bias has shape (3,), not (16,)"),
    ):
        with pytest.raises(UserError, match="lacks parts") as error:
            export(source, tmp_path / "out", network=network)
        assert part in error.value.received
