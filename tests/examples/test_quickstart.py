"""The quickstart: its corpus, its display, and one short run of the whole."""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.programs import ROOT, run_python

sys.path.insert(0, str(ROOT / "examples"))  # scripts beside each other, not a package

import detection_display  # noqa: E402
import docstring_corpus  # noqa: E402

SOURCE = '''
"""A module whose docstring is long enough for the corpus to keep it.

Heading
-------
    Indented text that belongs to the docstring.
"""

class Reader:
    """Reads things from other things, one after the other, until none are left."""

    def read(self):
        """Too short."""

    async def close(self):
        """Closes what was open; whatever was read before stays as it was read then."""
'''


def test_docstrings_become_documents(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    documents = docstring_corpus.docstrings_of_file(path)
    assert documents[0].splitlines() == [
        "A module whose docstring is long enough for the corpus to keep it.",
        "Heading",
        "Indented text that belongs to the docstring.",
    ]
    assert [document.split()[0] for document in documents[1:]] == ["Reads", "Closes"]


@pytest.mark.parametrize("source", ['"""Unclosed', 'print("""2""" 3)', "x = 1\n"])
def test_files_that_give_nothing(tmp_path, source):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert docstring_corpus.docstrings_of_file(path) == []


def test_modules_are_held_out_as_a_whole():
    assert docstring_corpus.is_held_out("python/json/decoder.py")
    assert docstring_corpus.is_held_out("python/argparse.py")
    assert not docstring_corpus.is_held_out("python/jsonpath.py")


def test_packages_are_found_without_an_import_and_without_their_tests():
    code = (
        "import sys, docstring_corpus as c; paths = dict(c.package_sources('sklearn'));"
        "assert 'sklearn/cluster/_kmeans.py' in paths, len(paths);"
        "assert not any('/tests/' in module for module in paths);"
        "assert 'sklearn' not in sys.modules"
    )
    run_python("-c", code, cwd=ROOT / "examples")
    assert not list(docstring_corpus.package_sources("no_such_package_anywhere"))


@pytest.fixture
def detection():
    """[CLS] the dog ate a bone [SEP] [PAD], with two words replaced, one of them suspected."""
    tokens = ["[PAD]", "[CLS]", "[SEP]", "the", "dog", "ate", "a", "bone", "sky", "##y"]
    original = np.array([1, 3, 4, 9, 5, 6, 7, 2, 0])
    shown = np.array([1, 3, 8, 9, 5, 6, 6, 2, 0])
    probabilities = np.array([0.99, 0.1, 0.9, 0.2, 0.6, 0.3, 0.4, 0.99, 0.99])
    return detection_display.make_detection(tokens, original, shown, probabilities)


def test_special_tokens_are_not_judged(detection):
    assert list(detection.shown) == ["the", "sky", "##y", "ate", "a", "a"]
    assert detection.replaced == [False, True, False, False, False, True]
    assert detection.suspected == [False, True, False, True, False, False]
    assert detection.found == 1


def test_the_display_without_colours(detection):
    text = detection_display.render(detection, color=False)
    assert text.splitlines()[0] == "  the [dog -> sky]+ ##y ate? a [bone -> a]-"
    assert "\033" not in text and "Found 1 of 2; by chance it would be 0.7." in text
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["dog", "sky", "90.0%", "1", "of", "6"],
        ["bone", "a", "40.0%", "3", "of", "6"],
    ]


def test_the_display_in_colours(detection):
    text = detection_display.render(detection, color=True, width=20)
    assert "\033[32m[dog -> sky]+\033[0m" in text
    assert "\033[31m[bone -> a]-\033[0m" in text
    assert "\033[33mate?\033[0m" in text


def test_the_number_of_steps_follows_from_the_time_and_is_kept(tmp_path, monkeypatch):
    import quickstart

    trials = []

    def pretrain(config):
        """A machine that makes 10 steps a second."""
        trials.append(config)
        Path(config.model_dir).mkdir()
        figures = {"tokens_per_second": 10 * 64 * 64}
        Path(config.model_dir, "metrics.jsonl").write_text(json.dumps(figures) + "\n")

    monkeypatch.setattr("electra_tf2.pretraining.run.pretrain.pretrain", pretrain)
    monkeypatch.setattr(quickstart, "fastest_precision", lambda: "float32")
    flags = argparse.Namespace(output_dir=tmp_path, minutes=2.0, steps=None)
    plan = quickstart.make_plan(flags)
    assert plan == (1200, "float32")
    quickstart.write_plan(tmp_path, plan)
    monkeypatch.setattr(quickstart, "fastest_precision", lambda: "bfloat16")
    flags.minutes = None
    assert quickstart.make_plan(flags) == (1200, "float32") and len(trials) == 1
    flags.steps = 7
    assert quickstart.make_plan(flags) == (7, "float32")
    (tmp_path / "plan.json").unlink()
    flags.steps = None
    assert quickstart.make_plan(flags) == (quickstart.RECIPE["num_train_steps"], "bfloat16")
    flags.minutes = 1e308
    assert quickstart.make_plan(flags).steps == quickstart.STEPS_AT_MOST
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_plan_goes_by_its_model(tmp_path, monkeypatch):
    import quickstart

    from electra_tf2.errors import UserError

    monkeypatch.setattr(quickstart, "fastest_precision", lambda: "bfloat16")
    config = quickstart.make_config(tmp_path, 300, "float32")
    stored = Path(config.model_dir, "config.json")
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"hparams": config.to_dict()}))
    flags = argparse.Namespace(output_dir=tmp_path, minutes=None, steps=None)
    assert quickstart.make_plan(flags) == (300, "float32")
    (tmp_path / "plan.json").write_text('{"steps": "many"}')
    with pytest.raises(UserError) as info:
        quickstart.make_plan(flags)
    assert info.value.where.startswith(str(tmp_path / "plan.json"))


@pytest.mark.parametrize("slower, precision", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_the_precision_is_the_faster_one(slower, precision, monkeypatch):
    import quickstart
    import tensorflow as tf

    matmul = tf.matmul

    def slowed(a, b):
        if a.dtype == slower:
            time.sleep(0.03)
        return matmul(a, b)

    monkeypatch.setattr(tf, "matmul", slowed)
    assert quickstart.fastest_precision() == precision
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert quickstart.fastest_precision() == "auto"


def test_a_model_of_another_recipe(tmp_path):
    import quickstart

    from electra_tf2.errors import UserError

    config = quickstart.make_config(tmp_path, 10, "float32")
    quickstart.check_recipe(config)
    stored = Path(config.model_dir, "config.json")
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"hparams": config.to_dict()}))
    quickstart.check_recipe(config)
    stored.write_text(json.dumps({"hparams": config.to_dict() | {"preset": None}}))
    with pytest.raises(UserError) as info:
        quickstart.check_recipe(config)
    assert "--output-dir" in str(info.value) and info.value.where == str(stored)


@pytest.mark.parametrize("minutes", ["0", "-inf", "nan"])
def test_no_time(minutes, capsys):
    import quickstart

    with pytest.raises(SystemExit):
        quickstart.main(["--minutes", minutes])
    assert "--minutes" in capsys.readouterr().err


def test_the_command_line_gives_the_same_configuration(tmp_path):
    import quickstart
    import quickstart_finetuning

    from configure_finetuning import FinetuningConfig
    from electra_tf2.hparams.record import parse_hparams

    sizes = {name: quickstart.RECIPE[name] for name in quickstart._SIZES}
    config = quickstart_finetuning.make_config(tmp_path, "some", 2, sizes)
    assert config.init_checkpoint is None and config.network().hidden_size == 128
    line = quickstart_finetuning.command_line(config, "python3").replace("\\\n", " ")
    words = shlex.split(line)
    assert words[:2] == ["python3", "run_finetuning.py"]
    flags = dict(zip(words[2::2], words[3::2], strict=True))
    hparams = parse_hparams(flags.pop("--hparams"))
    assert flags == {"--data-dir": str(tmp_path), "--model-name": "some"}
    assert FinetuningConfig("some", str(tmp_path), **hparams).to_dict() == config.to_dict()


def test_what_was_finetuned_is_forgotten_when_pretraining_went_on(tmp_path):
    import quickstart_finetuning

    model = tmp_path / "models" / "some"
    trial = model / "finetuning_models" / "parameters_model_1"
    results = model / "results" / "parameters_results.json"
    others = model / "results" / "cola_results.json", model / "finetuning_models" / "cola_model_1"
    for path in (trial, *others):
        path.mkdir(parents=True)
    results.touch()
    for steps in (100, 100):
        quickstart_finetuning.forget_older(tmp_path, "some", steps)
        assert trial.exists() and results.exists()
    quickstart_finetuning.forget_older(tmp_path, "some", 200)
    assert not trial.exists() and not results.exists()
    assert all(path.exists() for path in others)


def run_quickstart(folder, steps):
    """On little text; returns what it printed."""
    finished = run_python(
        "examples/quickstart.py", "--output-dir", folder, "--packages", "numpy,keras",
        "--steps", steps,
    )  # fmt: skip
    return finished.stdout + finished.stderr


@pytest.mark.slow
def test_a_short_run_and_another_that_goes_on(tmp_path):
    printed = run_quickstart(tmp_path, 6)
    assert "Learning 2048 pieces" in printed and "Building examples" in printed
    assert printed.count("\nExample ") == 4 and "discriminator AUC" in printed
    model = tmp_path / "models" / "quickstart"
    assert str(model / "report.html") in printed
    page = (model / "report.html").read_text("utf-8")
    assert "Examples of held-out text" in page and 'dir="auto">NAME</th>' in page
    assert json.loads((model / "results/unsup_results.json").read_text())["global_step"] == 6
    check_finetuning(tmp_path, printed)

    vocabulary = (tmp_path / "vocab.txt").stat()
    printed = run_quickstart(tmp_path, 8)
    assert "Learning" not in printed and "Building examples" not in printed
    assert (tmp_path / "vocab.txt").stat().st_mtime_ns == vocabulary.st_mtime_ns
    assert json.loads((model / "results/unsup_results.json").read_text())["global_step"] == 8
    assert "pre-trained further" in printed
    check_finetuning(tmp_path, printed)


def check_finetuning(folder, printed):
    """The table says what fine-tuning wrote, and texts are shown."""
    assert printed.count("run_finetuning.py --data-dir") == 1 and printed.count("    found ") == 4
    rows = {
        line[2:17].strip(): line[17:].split()
        for line in printed.splitlines()
        if line.startswith(("  commonest tag  ", "  not pre-trained", "  pre-trained    "))
    }
    assert float(rows["commonest tag"][0]) > 10
    for title, name in (("not pre-trained", "quickstart_random"), ("pre-trained", "quickstart")):
        results = folder / "models" / name / "results/parameters_results.json"
        (trial,) = json.loads(results.read_text())["trials"]
        assert rows[title][0] == f"{trial['scores']['parameters']['f1']:.1f}"
