"""What the README says can be pasted, and works."""

import json
import re

import pytest

import build_pretraining_dataset
import build_vocabulary
import export_model
import run_finetuning
import run_pretraining
from tests.docs.pages import README, ROOT, blocks, run_python, run_shell

MAINS = {
    f"{script.__name__}.py": script.main
    for script in (
        build_vocabulary,
        build_pretraining_dataset,
        run_pretraining,
        run_finetuning,
        export_model,
    )
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that the commands are given in, as `make quickstart` leaves it."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from docstring_corpus import collect

    corpus = tmp_path / "quickstart_data" / "corpus"
    collect(corpus / "train", corpus / "heldout", packages=["keras", "numpy", "sklearn"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_and_python_from_top_to_bottom(place):
    (take_the_text,) = re.findall(r"`(mkdir .*?)`", README.read_text("utf-8"))
    run_shell(take_the_text, place)
    made, *commands = blocks(README)
    assert made.split() == "make quickstart make test".split()
    *before, export = [call for block in commands for call in run_shell(block, place)]
    for script, *arguments in before:
        MAINS[script](arguments)

    names = run_python(README)
    assert names["encoder"].encode(["a"], pooling="mean").states.shape == (1, 128)
    (answer,) = names["reviews"].predict(["the actors are funny"])
    assert answer.label in ("good", "bad")

    script, *arguments = export
    MAINS[script](arguments)
    arguments[arguments.index("huggingface")] = "savedmodel"
    arguments[arguments.index("exported")] = "exported_tf"
    MAINS[script](arguments)
    assert (place / "exported" / "discriminator" / "model.safetensors").exists()
    assert (place / "exported_tf" / "saved_model.pb").exists()

    results = json.loads((place / "data/models/tiny/results/reviews_results.json").read_text())
    assert len(results["trials"]) == 1


def test_make_has_the_targets():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    named = re.findall(r"(?:^|`)make ([\w-]+)", README.read_text("utf-8"), re.M)
    assert set(named) <= set(targets)


def test_picture_is_drawn_from_what_is_stored_beside_it(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import detection_picture

    stored = ROOT / "docs" / "figures" / "quickstart_detections.json"
    detection_picture.main(["--detections", str(stored), "--output", str(tmp_path / "new.png")])
    assert (tmp_path / "new.png").read_bytes().startswith(b"\x89PNG")
    for detection in detection_picture.read(stored):
        places = detection_picture.layout(detection)
        assert len(places) == len(detection.shown) and sorted(places) == places
        assert sum(detection.replaced) > 0


def test_it_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 120
