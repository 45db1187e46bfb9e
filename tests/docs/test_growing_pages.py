"""The commands of docs/beyond_electra.md on new words and longer texts, on a tiny model."""

import pytest

import build_pretraining_dataset
import build_vocabulary
import grow_model
from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.loading.source import open_source
from tests.data.small_corpus import PIECES, write_corpus
from tests.docs.pages import DOCS, run_shell, section
from tests.export.test_huggingface_export import own_model

PAGE = DOCS / "beyond_electra.md"
PROGRAMS = {
    "build_vocabulary.py": build_vocabulary.main,
    "build_pretraining_dataset.py": build_pretraining_dataset.main,
    "grow_model.py": grow_model.main,
}
SIZE = len(PIECES) + 22


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "models").mkdir(parents=True)
    own_model(tmp_path / "data" / "models" / "small", hparams={"max_seq_length": 32})
    (tmp_path / "law").mkdir()
    write_corpus(tmp_path / "law" / "corpus", [9000])
    return tmp_path


def run(folder, heading):
    """Runs the calls of a section; returns the configurations of those of pre-training."""
    configs = []
    for block in section(PAGE, heading).split("```\n")[1::2]:
        for script, *arguments in run_shell(block, folder):
            arguments = [argument.replace("34000", str(SIZE)) for argument in arguments]
            if script == "run_pretraining.py":
                flags, _ = cli.parse_run_flags("", arguments)
                configs.append(PretrainingConfig(flags.model_name, flags.data_dir, **flags.hparams))
            else:
                PROGRAMS[script](arguments)
    return configs


def test_new_words(folder):
    (config,) = run(folder, "New words")
    source = open_source(config.init_checkpoint)
    assert source.vocab_file == config.vocab_file
    assert source.network.vocab_size == config.vocab_size == SIZE
    assert (folder / "law" / "pretrain_tfrecords" / "metadata.json").exists()


def test_longer_texts(folder):
    config, in_phases = run(folder, "Longer texts")
    positions = open_source(config.init_checkpoint).network.max_position_embeddings
    assert positions == config.network().max_position_embeddings == config.max_seq_length == 2048
    assert in_phases.phases[1]["copy_positions"] == in_phases.phases[0]["max_seq_length"]
