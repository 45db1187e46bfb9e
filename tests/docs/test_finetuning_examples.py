"""The examples and tables of docs/finetuning.md and its reference are the program's."""

import json
import re
import shutil
import string
import sys

import pytest

import prepare_glue
import run_finetuning
from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2 import cli
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.pretraining.resume_rules import changed_on_resume
from finetune import task_builder
from finetune.definitions import DEFINITIONS
from tests.docs.pages import (
    DOCS,
    README,
    block_with,
    blocks,
    code,
    quoted_messages,
    run_shell,
    section,
)
from tests.finetune import tiny_tasks

GUIDE, REFERENCE = DOCS / "finetuning.md", DOCS / "finetuning_reference.md"
SCRIPTS = {"run_finetuning.py": run_finetuning.main, "prepare_glue.py": prepare_glue.main}
RESULTS = "data/models/tiny/results/{}_results.json"
DEV_PREDICTIONS = "data/models/tiny/test_predictions/{}_dev_1_predictions.jsonl"
# Words of any text are spelled with them.
PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
    + list(string.ascii_lowercase + string.digits + string.punctuation)
    + [f"##{c}" for c in string.ascii_lowercase + string.digits]
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A data folder with the model `tiny`, as the README's pre-training example leaves it."""
    folder = tmp_path_factory.mktemp("docs") / "data"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    network = TransformerConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=64,
        embedding_size=16,
        max_position_embeddings=512,
    )
    tiny_tasks.write_model(folder, network)
    return folder


@pytest.fixture
def place(model_folder, tmp_path, monkeypatch):
    """The folder that the commands are given in."""
    shutil.copytree(model_folder, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_task_with_prediction_of_a_file(place):
    for script, *arguments in run_shell(block_with(GUIDE, "finetuning_data/reviews\n"), place):
        SCRIPTS[script](arguments)

    results = json.loads((place / RESULTS.format("reviews")).read_text())
    (trial,) = results["trials"]
    assert trial["step"] == 30
    assert 0 <= trial["scores"]["reviews"]["accuracy"] <= 100
    assert len(read_lines(place / DEV_PREDICTIONS.format("reviews"))) == 2
    (record,) = read_lines(place / "predictions.jsonl")
    assert record["label"] in ("good", "bad")
    assert record["probabilities"].keys() == {"good", "bad"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, kind, metric, records",
    [
        ("support", "classification", "accuracy", 2),
        ("comments", "multilabel", "micro_f1", 2),
        ("similarity", "regression", "spearman", 3),
        ("paraphrases", "embedding", "mrr_at_10", 2),
        ("endings", "choice", "accuracy", 2),
        ("places", "tagging", "f1", 1),
        ("manuals", "qa", "f1", 1),
    ],
)
def test_task_without_code(place, task, kind, metric, records):
    block = block_with(GUIDE, f"mkdir -p data/finetuning_data/{task}\n")
    ((script, *arguments),) = run_shell(block, place)
    assert json.loads(arguments[-1])["tasks"][task]["kind"] == kind
    SCRIPTS[script](arguments)

    results = json.loads((place / RESULTS.format(task)).read_text())
    assert results["main_metrics"] == {task: metric}
    assert 0 <= abs(results["trials"][0]["scores"][task][metric]) <= 100
    assert len(read_lines(place / DEV_PREDICTIONS.format(task))) == records


@pytest.mark.slow
def test_task_by_class(place, monkeypatch):
    (script,) = blocks(GUIDE, "python")
    assert run_shell(block_with(GUIDE, "finetuning_data/topics\n"), place) == []
    ((_, *arguments),) = run_shell(block_with(GUIDE, "fine_tune_topics.py"), place)

    task_builder.task_names()  # the built-in tasks stay registered when the page's is forgotten
    monkeypatch.setattr(task_builder, "_TASKS", dict(task_builder._TASKS))
    monkeypatch.setattr(sys, "argv", ["fine_tune_topics.py", *arguments])
    with pytest.raises(SystemExit) as left:
        exec(compile(script, "fine_tune_topics.py", "exec"), {"__name__": "__main__"})
    assert left.value.code == 0

    results = json.loads((place / RESULTS.format("topics")).read_text())
    assert results["trials"][0]["step"] == 6
    records = read_lines(place / DEV_PREDICTIONS.format("topics"))
    assert [record["label"] in ("land", "sea") for record in records] == [True, True]


@pytest.mark.parametrize("path", [README, *sorted(DOCS.glob("*.md"))], ids=lambda path: path.stem)
def test_every_command_has_existing_flags_and_hparams(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    runs = {
        "run_finetuning.py": (FinetuningConfig, run_finetuning.add_flags),
        "run_pretraining.py": (PretrainingConfig, lambda parser: None),
    }
    read, pretrained = 0, {}
    for block in blocks(path):
        if not any(f"python {script}" in block for script in runs):
            continue
        for script, *arguments in run_shell(block, tmp_path):
            if script in runs:
                config, add_flags = runs[script]
                flags, _ = cli.parse_run_flags("", arguments, add_flags=add_flags)
                run = config(flags.model_name, flags.data_dir, **flags.hparams)
                read += 1
                if config is PretrainingConfig and run.do_train:  # a reader runs one after another
                    before = pretrained.setdefault(run.model_dir, run.to_dict())
                    assert changed_on_resume(config, before, run.to_dict(), 1) == [], arguments
    assert read >= {"README": 2, "finetuning": 10, "pretraining": 4}.get(path.stem, 0)


def test_every_key_of_a_definition_is_explained():
    sections = re.split(r"^### ", section(REFERENCE, "Task definitions"), flags=re.M)[1:]
    for text, (kind, definition) in zip(sections, DEFINITIONS.items(), strict=True):
        table = text[text.index("| key |") :].partition("\n\n")[0]
        first_cells = re.findall(r"^\| (`.*?) \|", table, re.M)
        keys = re.findall(r"`(\w+)`", " ".join(first_cells))
        assert sorted(keys) == sorted(definition.names()), kind


def test_official_tasks_are_listed():
    """Every registered task has a row of its files."""
    rows = re.findall(r"^\| (`\w+`.*?) \|", section(REFERENCE, "Official tasks"), re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == task_builder.task_names()


def test_quoted_messages_are_the_program_s():
    quoted = quoted_messages(section(GUIDE, "Common mistakes"))
    text = code("finetune", "electra_tf2")
    assert len(quoted) >= 5
    assert [message for message in quoted if message not in text] == []
