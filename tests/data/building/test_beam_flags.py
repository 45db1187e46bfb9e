"""--runner and what comes after --, as far as it goes without Apache Beam."""

import sys

import pytest

import build_pretraining_dataset
from electra_tf2 import cli
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.errors import UserError
from tests.data.small_corpus import content, write_corpus, write_vocabulary
from tests.programs import run_python


@pytest.fixture
def arguments(tmp_path):
    """Flags of a build that would work."""
    vocab = write_vocabulary(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", [300])
    output = str(tmp_path / "out")
    return ["--corpus-dir", corpus, "--vocab-file", vocab, "--output-dir", output,
            "--num-out-files", "2"]  # fmt: skip


def failure(arguments, capsys):
    """Runs the program; returns its exit code and what it says."""
    with pytest.raises(SystemExit) as caught:
        cli.run(lambda _: build_pretraining_dataset.main(arguments))
    return caught.value.code, capsys.readouterr().err


CASES = {
    "options without a runner": (
        ["--", "--direct_num_workers=2"],
        ["only with --runner", "--direct_num_workers=2", "or leave both out"],
    ),
    "processes of the plain builder": (
        ["--runner", "DirectRunner", "--num-processes", "3"],
        ["set by its own options", "--num-processes", "-- --direct_num_workers=3"],
    ),
    "the official random stream": (
        ["--runner", "DirectRunner", "--sampling", "official"],
        ["needs one process", "--runner", "DirectRunner", "--sampling chunked"],
    ),
    "an option of Beam's before --": (
        ["--runner", "DirectRunner", "--direct_num_workers=2"],
        ["unrecognized arguments: --direct_num_workers=2", "come after --"],
    ),
}


@pytest.mark.parametrize("flags, expected", CASES.values(), ids=CASES.keys())
def test_bad_flags(tmp_path, capsys, arguments, flags, expected):
    before = content(tmp_path)

    code, message = failure(arguments + flags, capsys)

    assert code == 2 and "Traceback" not in message
    assert all(part in message for part in expected)
    assert content(tmp_path) == before


def test_without_beam_installed(tmp_path, capsys, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # an import of it fails
    monkeypatch.delitem(sys.modules, "electra_tf2.data.building.beam", raising=False)
    before = content(tmp_path)

    code, message = failure([*arguments, "--runner", "SparkRunner"], capsys)

    assert code == 2 and "not installed" in message
    assert "--runner SparkRunner" in message
    assert "pip install 'electra-tf2[beam]'" in message
    assert content(tmp_path) == before


def test_plain_build_does_not_import_beam(arguments):
    code = (
        "import build_pretraining_dataset, sys\n"
        "try:\n"
        "    build_pretraining_dataset.main(sys.argv[1:])\n"
        "except Exception as error:\n"
        "    print(error.what, 'apache_beam' in sys.modules)\n"
    )
    arguments[3] = "nowhere.txt"  # found missing after the runner would have been made
    assert run_python("-c", code, *arguments).stdout == "There is no vocabulary file. False\n"


def test_help_says_where_corpora_beyond_one_machine_go(capsys):
    with pytest.raises(SystemExit):
        build_pretraining_dataset.main(["--help"])

    text = capsys.readouterr().out
    assert "--runner" in text and "docs/large_corpora.md" in text


def test_checks_hold_for_configs_too(tmp_path, arguments):
    config = BuildConfig(*arguments[1:6:2], beam_options=("--streaming",))
    with pytest.raises(UserError, match="only with --runner"):
        build_dataset(config)
