"""The fine-tuning examples of the README and of docs/finetuning.md run as they stand."""

import json
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

import prepare_glue
import run_finetuning
from configure_finetuning import FinetuningConfig
from electra_tf2 import cli
from electra_tf2.modeling.config import TransformerConfig
from finetune import task_builder
from finetune.classification.custom import KEYS
from finetune.qa import tasks as qa
from finetune.tagging import custom as tagging
from finetune.task_builder import KINDS
from tests.finetune import tiny_tasks

ROOT = Path(__file__).parents[2]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "finetuning.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"run_finetuning.py": run_finetuning.main, "prepare_glue.py": prepare_glue.main}
RESULTS = "data/models/tiny/results/{}_results.json"
DEV_PREDICTIONS = "data/models/tiny/test_predictions/{}_dev_1_predictions.jsonl"
# Words of any text are spelled with them.
PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
    + list(string.ascii_lowercase + string.digits + string.punctuation)
    + [f"##{c}" for c in string.ascii_lowercase + string.digits]
)
# What the shell makes of each call of python is noted instead of run: words, and a mark after them.
_NOTE_CALLS = 'python() { printf "%s\\0" "$@" $\'\\x1e\' >> calls; }\n'


def blocks(path, language=""):
    """The fenced blocks of a page in a language ("" for commands)."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    return [block for kind, block in found if kind == language]


def block_with(path, part):
    """The one block of commands that a text is part of."""
    (block,) = [block for block in blocks(path) if part in block]
    return block


def run_shell(block, folder):
    """Runs a block's other commands in a folder; returns the arguments of its calls of python."""
    subprocess.run(["bash", "-euc", _NOTE_CALLS + block], cwd=folder, check=True)
    calls, words = [], []
    if (folder / "calls").exists():
        for word in (folder / "calls").read_text().split("\0")[:-1]:
            if word == "\x1e":
                calls.append(words)
                words = []
            else:
                words.append(word)
        (folder / "calls").unlink()
    return calls


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
def test_readme_example(place):
    for script, *arguments in run_shell(block_with(README, "finetuning_data"), place):
        SCRIPTS[script](arguments)

    results = json.loads((place / RESULTS.format("reviews")).read_text())
    (trial,) = results["trials"]
    assert trial["step"] == 60
    assert 0 <= trial["scores"]["reviews"]["accuracy"] <= 100
    assert len(read_lines(place / DEV_PREDICTIONS.format("reviews"))) == 4
    (record,) = read_lines(place / "predictions.jsonl")
    assert record["label"] in ("good", "bad")
    assert record["probabilities"].keys() == {"good", "bad"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, kind, metric, records",
    [
        ("support", "classification", "accuracy", 2),
        ("similarity", "regression", "spearman", 3),
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
    (code,) = blocks(GUIDE, "python")
    assert run_shell(block_with(GUIDE, "finetuning_data/topics\n"), place) == []
    ((_, *arguments),) = run_shell(block_with(GUIDE, "fine_tune_topics.py"), place)

    task_builder.task_names()  # the built-in tasks stay registered when the page's is forgotten
    monkeypatch.setattr(task_builder, "_TASKS", dict(task_builder._TASKS))
    monkeypatch.setattr(sys, "argv", ["fine_tune_topics.py", *arguments])
    with pytest.raises(SystemExit) as left:
        exec(compile(code, "fine_tune_topics.py", "exec"), {"__name__": "__main__"})
    assert left.value.code == 0

    results = json.loads((place / RESULTS.format("topics")).read_text())
    assert results["trials"][0]["step"] == 6
    records = read_lines(place / DEV_PREDICTIONS.format("topics"))
    assert [record["label"] in ("land", "sea") for record in records] == [True, True]


@pytest.mark.parametrize("path", [README, GUIDE], ids=lambda path: path.name)
def test_every_command_has_flags_and_hparams_that_there_are(path, tmp_path, monkeypatch):
    read = 0
    monkeypatch.chdir(tmp_path)
    for block in blocks(path):
        if "python run_finetuning.py" not in block:
            continue
        for script, *arguments in run_shell(block, tmp_path):
            if script != "run_finetuning.py":
                continue
            flags, _ = cli.parse_run_flags("", arguments, add_flags=run_finetuning.add_flags)
            FinetuningConfig(flags.model_name, flags.data_dir, **flags.hparams)
            read += 1
    assert read >= 2


def test_every_key_of_a_definition_is_explained():
    page = GUIDE.read_text(encoding="utf-8").split("## A task by class")[0]
    sections = re.split(r"^### ", page, flags=re.M)[1:]
    keys = {
        "classification": KEYS["classification"],
        "regression": KEYS["regression"],
        "tagging": tagging.DEFAULTS,
        "qa": qa.KEYS,
    }
    assert keys.keys() == KINDS.keys()
    for section, (kind, expected) in zip(sections, keys.items(), strict=True):
        first_cells = re.findall(r"^\| (`.*?) \|", section, re.M)
        assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == set(expected), kind


def test_official_tasks_are_listed():
    """Every registered task has a row of its files."""
    page = GUIDE.read_text(encoding="utf-8").split("## Tasks without code")[0]
    rows = re.findall(r"^\| (`\w+`.*?) \|", page, re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == task_builder.task_names()


def test_quoted_messages_are_the_program_s():
    page = GUIDE.read_text(encoding="utf-8").split("## Common mistakes")[1]
    quoted = re.findall(r'^\| "(.*?)" \|', page, re.M)
    packages = ("finetune", "electra_tf2")
    code = "".join(p.read_text() for name in packages for p in (ROOT / name).rglob("*.py"))
    code = re.sub(r"\{\w+\}", "…", code)
    assert len(quoted) >= 5
    assert [message for message in quoted if message not in code] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for place in re.findall(r"\]\((?!https?:)(.*?)\)", text):
        file, _, anchor = place.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), place
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M) if anchor else ()
        anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in anchors, place
