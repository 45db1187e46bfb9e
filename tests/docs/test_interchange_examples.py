"""The examples of docs/interchange.md run as they stand; that of transformers where it is."""

import shutil

import pytest

import export_model
from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.loading.pretrained import open_pretrained
from tests.docs.pages import DOCS, blocks, code, quoted_messages, run_python, run_shell, section
from tests.export.test_huggingface_export import own_model
from tests.finetune.fine_tuned_models import write_fine_tuned

PAGE = DOCS / "interchange.md"
CONFIGS = {"run_finetuning.py": FinetuningConfig, "run_pretraining.py": PretrainingConfig}


def calls(tmp_path, script):
    """The arguments of the page's calls of a script, in order."""
    found = [call for block in blocks(PAGE) for call in run_shell(block, tmp_path)]
    return [arguments for name, *arguments in found if name == script]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The folder in which the page's exports were made."""
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    own_model(models / "tiny")
    trial, _, _ = write_fine_tuned(tmp_path / "tuning", ["marks"])
    shutil.copytree(trial, models / "tiny" / "finetuning_models" / "reviews_model_1")
    for arguments in calls(tmp_path, "export_model.py"):
        export_model.main(arguments)
    return tmp_path


def test_exports(exported):
    assert {path.name for path in (exported / "exported").iterdir()} == {
        "discriminator",
        "generator",
    }
    assert open_pretrained(str(exported / "exported")).generator
    assert "classifier.out_proj.weight" in open_pretrained(str(exported / "reviews")).left_over


@pytest.mark.interop
def test_the_example_of_transformers(exported):
    pytest.importorskip("torch", reason="torch is not installed: run make test-slow")
    pytest.importorskip("transformers", reason="run make test-slow")
    names = run_python(PAGE)
    assert names["logits"].shape[0] == 1


@pytest.mark.parametrize("script", CONFIGS)
def test_hparams(tmp_path, script):
    (arguments,) = calls(tmp_path, script)
    flags, _ = cli.parse_run_flags("", arguments)
    config = CONFIGS[script](flags.model_name, flags.data_dir, **flags.hparams)
    assert "electra-small-discriminator" in config.init_checkpoint


def test_quoted_messages_are_the_program_s():
    quoted = quoted_messages(section(PAGE, "Common errors"))
    text = code("electra_tf2")
    assert len(quoted) >= 5
    assert [message for message in quoted if message not in text] == []
