"""The conformance harness itself: which cases it finds."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conformance.cases import LABELS, case_ids, find_cases
from tests.programs import run_python

HERE = Path(__file__).parent
CARRIED = HERE / "cases"


def make_case(folder: Path, kind: str = "pretrain") -> Path:
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps({"kind": kind}))
    (folder.parent / "vocab.txt").write_text(folder.parent.name)
    return folder


def test_every_kind_needed_is_carried():
    ids = {id for kind in LABELS for id in case_ids(find_cases([CARRIED], kind))}
    assert {
        "tokenization-lower_strip",
        "tokenization-lower_keep_accents",
        "tokenization-cased",
        "dataset-dataset_128",
        "dataset-dataset_48_noblank_cased",
        "pretrain-electra_train",
        "pretrain-electric",
        "pretrain-masked_lm",
        "pretrain-tied_generator",
        "finetune-finetune_chunk",
        "finetune-finetune_cola",
        "finetune-finetune_squad",
        "finetune-finetune_sts",
    } <= ids
    size = sum(path.stat().st_size for path in CARRIED.rglob("*") if path.is_file())
    assert size <= 12e6


def test_cases_are_found_at_any_depth(tmp_path):
    folder = make_case(tmp_path / "deep" / "down" / "name")
    (case,) = find_cases([tmp_path], "pretrain")
    assert (case.id, case.folder) == ("pretrain-name", folder.resolve())
    assert case.vocab == folder.parent.resolve() / "vocab.txt"
    assert case.spec == {"kind": "pretrain"}
    assert find_cases([tmp_path], "finetune") == []


def test_a_copy_runs_once_and_namesakes_both(tmp_path):
    make_case(tmp_path / "one" / "name")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    make_case(tmp_path / "two" / "name")
    cases = find_cases([tmp_path / "one", tmp_path], "pretrain")
    assert [case.folder.parent.name for case in cases] == ["one", "two"]
    assert len(set(case_ids(cases))) == 2


def test_what_is_no_case_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="No tokenization.json and no case.json"):
        find_cases([tmp_path], "pretrain")
    make_case(tmp_path / "odd" / "name", kind="pretraining")
    with pytest.raises(ValueError, match="unknown kind"):
        find_cases([tmp_path / "odd"], "pretrain")
    (make_case(tmp_path / "bare" / "name").parent / "vocab.txt").unlink()
    with pytest.raises(ValueError, match="no vocabulary"):
        find_cases([tmp_path / "bare"], "pretrain")


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_missing_folder_fails_the_run(tmp_path, monkeypatch, there):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # options of the outer run
    folder = tmp_path / "cases"
    if there:
        folder.mkdir()
    flags = ["--conformance-dir", folder, "-p", "no:cacheprovider"]
    result = run_python("-m", "pytest", HERE / "test_tokenization.py", *flags, check=False)
    assert result.returncode != 0
    assert str(folder) in result.stdout + result.stderr
