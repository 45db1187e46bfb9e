"""export_model.py: which model, which exporter, and errors."""

import importlib
import json
import os
import types

import keras
import numpy as np
import pytest

import export_model
from electra_tf2.loading.networks import build_discriminator
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.outputs import new_folder
from finetune.export import export_model as exporting
from tests.formats.huggingface_models import NETWORK, write_model, write_pair
from tests.inference import official_models
from tests.program_errors import error_of, run_here


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "data" / "models" / "theirs", "encoder")
    return tmp_path / "data" / "models" / "theirs"


def run(*arguments):
    return run_here(export_model.main, list(map(str, arguments)))


def test_by_name_and_by_folder(tmp_path, model):
    by_name = ("--data-dir", tmp_path / "data", "--model-name", "theirs")
    for flags in (by_name, ("--model-dir", model)):
        out = tmp_path / f"out{len(flags)}"
        code, shown = run(*flags, "--format", "huggingface", "--output", out)
        assert code == 0, shown
        assert f"Exported the encoder as ElectraModel to {out}" in shown
        assert (out / "model.safetensors").exists()


def test_what_was_written_is_said(tmp_path, model):
    out = tmp_path / "out"
    code, shown = run("--model-dir", model, "--format", "keras", "--output", out)
    assert code == 0, shown
    assert f"Exported {model} to {out}: casing.json, encoder.keras, vocab.txt" in shown
    assert sorted(os.listdir(out)) == ["casing.json", "encoder.keras", "vocab.txt"]


@pytest.mark.parametrize(
    "folder, fine_tuned", [("pretrained", 0), ("tuned", 1), ("tuned/checkpoints/step-00000004", 1)]
)
def test_formats_are_dispatched_by_the_kind_of_model(tmp_path, monkeypatch, folder, fine_tuned):
    (tmp_path / "tuned" / "checkpoints" / "step-00000004").mkdir(parents=True)
    (tmp_path / "tuned" / "tasks.json").write_text("{}")
    calls = []

    class Module:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, function):
            called = f"{self.name}:{function}"
            return lambda *given, int8=False: calls.append((called, given, int8))

    monkeypatch.setattr(exporting, "importlib", types.SimpleNamespace(import_module=Module))
    source, out = str(tmp_path / folder), str(tmp_path / "out")
    (tmp_path / "out").mkdir()
    for name in exporting.EXPORTERS:
        assert run("--model-dir", source, "--format", name, "--output", out)[0] == 0
    for call, (name, exporters) in zip(calls, exporting.EXPORTERS.items(), strict=True):
        called, given, int8 = call
        assert called == exporters[fine_tuned] and int8 == (name == "tflite-int8")
        takes_options = name in ("huggingface", "keras") or not fine_tuned
        assert given[:2] == (source, out) and len(given) == 2 + takes_options


def test_every_exporter_is_there():
    for module, _, function in (e.partition(":") for pair in exporting.EXPORTERS.values()
                                for e in pair):  # fmt: skip
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("kind", ["folder", "link", "here"])
def test_an_empty_folder_is_filled(tmp_path, model, monkeypatch, kind):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(place)
    output = {"folder": f"{place}/", "link": tmp_path / "link", "here": "."}[kind]
    code, shown = run("--model-dir", model, "--format", "huggingface", "--output", output)
    assert code == 0, shown
    assert (place / "model.safetensors").exists()
    assert sorted(os.listdir(tmp_path)) == ["data", "link", "place"]


def test_an_export_that_fails_leaves_an_empty_folder(tmp_path, model):
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError), new_folder(str(tmp_path / "out")) as folder:
        assert folder != str(tmp_path / "out") and os.path.isdir(folder)
        raise OSError
    assert sorted(os.listdir(tmp_path)) == ["data", "out"]


BAD_COMMANDS = {
    "no model": (["--output", "{0}/out"], ["which model to export", "--model-dir alone"]),
    "two models": (
        ["--model-dir", "{0}", "--model-name", "x", "--output", "{0}/out"], ["which model"],
    ),
    "no model there": (
        ["--model-dir", "{0}/none", "--output", "{0}/out"], ["no pre-trained model", "{0}/none"],
    ),
    "an output that is there": (
        ["--model-dir", "{0}/data/models/theirs", "--output", "{0}"],
        ["taken", "a folder that is not empty"],
    ),
    "no output": (
        ["--model-dir", "{0}/data/models/theirs", "--output", ""], ["no name"],
    ),
    "an output below a file": (
        ["--model-dir", "{0}/data/models/theirs", "--output",
         "{0}/data/models/theirs/config.json/out"], ["can't be made"],
    ),
    "another architecture of the generator alone": (
        ["--model-dir", "{0}/albert", "--output", "{0}/out", "--architecture", "electra"],
        ["can't be exported as electra", "all of its layers are one"],
    ),
    "a network that is not there": (
        ["--model-dir", "{0}/data/models/theirs", "--output", "{0}/out", "--network", "both"],
        ["no discriminator", "an encoder alone"],
    ),
    "an option of another format": (
        ["--model-dir", "{0}/data/models/theirs", "--output", "{0}/out", "--network", "both",
         "--format", "savedmodel"], ["no such option", "--network"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_a_bad_command(tmp_path, model, name):
    arguments, parts = BAD_COMMANDS[name]
    shared = TransformerConfig(**{**NETWORK.to_dict(), "encoder": "albert"})
    write_model(tmp_path / "albert", "generator", shared, "albert")
    arguments = ["--format", "huggingface", *(part.format(tmp_path) for part in arguments)]
    error = error_of(*run(*arguments))
    assert [part for part in parts if part.format(tmp_path) not in error] == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_every_format_takes_the_text_of_a_pretrained_model(tmp_path, model, name):
    flags = ("--model-dir", model, "--format", name, "--output", tmp_path / "out")
    error = error_of(*run(*flags, "--vocab-file", tmp_path / "vocabulary"))
    assert f"{tmp_path}/vocabulary" in error and "no such option" not in error
    error = error_of(*run(*flags, "--do-lower-case", "false"))
    assert "was tokenized otherwise" in error and "--do-lower-case false" in error


@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_a_fine_tuned_model_without_its_vocabulary(tmp_path, model, name):
    """The remedy leads on: its own folder, or a flag that the format takes."""
    flags = ("--model-dir", model, "--format", name, "--output", tmp_path / "out")
    (model / "tasks.json").write_text("{}")
    for path in (model / "tokenizer.json", model / "vocab.txt"):
        path.unlink(missing_ok=True)
    error = error_of(*run(*flags))
    given_as = "--vocab-file" if name in ("huggingface", "keras") else "vocab.txt in that folder"
    assert f"Give the one that it was trained with as {given_as}" in error
    error = error_of(*run(*flags, "--vocab-file", tmp_path / "vocabulary"))
    refused = "no such option for a fine-tuned model" in error
    assert refused == (given_as != "--vocab-file")


def test_a_cased_official_model_as_keras_files(tmp_path):
    official = ("--model-dir", official_models.folder("electra_train"), "--format", "keras")
    text = ("--vocab-file", official_models.case("electra_train").vocab, "--do-lower-case", "false")
    code, shown = run(*official, "--output", tmp_path / "out", *text)
    assert code == 0, shown
    assert json.loads((tmp_path / "out" / "casing.json").read_text())["do_lower_case"] is False
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == text[1].read_bytes()


@pytest.mark.parametrize("name", exporting.EXPORTERS)
def test_heads_that_an_official_checkpoint_can_not_have(tmp_path, name):
    flags = ("--model-dir", official_models.folder("electra_train"), "--format", name)
    text = ("--vocab-file", official_models.case("electra_train").vocab)
    flags += (*text, "--output", tmp_path / "out", "--num-attention-heads")
    error = error_of(*run(*flags, 7))
    assert "not a multiple" in error and "where: --num-attention-heads\n" in error
    assert "one attention head or more" in error_of(*run(*flags, 0))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras
def test_heads_of_an_official_checkpoint(tmp_path):
    """By the official rule it has one head, which would give other states without a word."""
    name = "electra_train"
    flags = ("--model-dir", official_models.folder(name), "--format", "keras")
    flags += ("--vocab-file", official_models.case(name).vocab, "--output")
    heads = official_models.options(name)["model_hparam_overrides"]["num_attention_heads"]
    code, shown = run(*flags, tmp_path / "said", "--num-attention-heads", heads)
    assert code == 0 and "attention heads" not in shown, shown
    code, shown = run(*flags, tmp_path / "unsaid")
    assert code == 0 and "1 by the official rule (--num-attention-heads may say" in shown, shown
    said, unsaid = (
        keras.models.load_model(tmp_path / folder / "discriminator.keras")
        for folder in ("said", "unsaid")
    )
    inputs = official_models.inputs(name, "batch0/input_ids")
    expected = build_discriminator(official_models.source(name))(*inputs)
    np.testing.assert_array_equal(said(*inputs), expected)
    assert not np.allclose(unsaid(*inputs), expected, atol=1e-3)


def test_heads_that_a_model_states_are_its_own(tmp_path, model):
    flags = ("--model-dir", model, "--format", "keras", "--output", tmp_path / "out")
    error = error_of(*run(*flags, "--num-attention-heads", 4))
    assert "of another size than --num-attention-heads says" in error
    assert "num_attention_heads 4; the model has 2" in error
    assert run(*flags, "--num-attention-heads", 2)[0] == 0


def test_casing_flags(tmp_path):
    write_pair(tmp_path / "pair")
    for path in (tmp_path / "pair").rglob("tokenizer*.json"):
        path.unlink()
    flags = ("--model-dir", tmp_path / "pair", "--format", "huggingface")
    code, shown = run(*flags, "--output", tmp_path / "out", "--do-lower-case", "false")
    assert code == 0, shown
    settings = (tmp_path / "out" / "generator" / "tokenizer_config.json").read_text()
    assert '"do_lower_case": false' in settings and '"strip_accents": false' in settings
    code, shown = run(*flags, "--output", tmp_path / "other")
    assert code == 0 and "lower-cased, as for the released models" in shown
