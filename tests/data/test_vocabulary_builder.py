"""A corpus folder to a vocabulary file, through the program."""

import subprocess
import sys
from pathlib import Path

import pytest

import build_vocabulary
from electra_tf2.data.corpus import find_files
from electra_tf2.data.vocabulary_builder import sample_chunks
from electra_tf2.errors import UserError
from electra_tf2.text.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
SENTENCES = [
    "The harbour was built in 1871; it has two basins, and a Café.",
    "Ships of up to ninety metres can enter the larger basin.",
    "Bread is made of flour, water and salt: the dough rests overnight.",
]


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("\n".join(SENTENCES * 4) + "\n", encoding="utf-8")
    (folder / "more" / "b.txt").write_text("\n\n".join(SENTENCES[::-1] * 3), encoding="utf-8")
    return folder


def build(corpus: Path, output: Path, *flags: str) -> None:
    build_vocabulary.main(["--corpus-dir", str(corpus), "--output-file", str(output), *flags])


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_a_vocabulary(corpus, tmp_path, capsys):
    output = tmp_path / "new" / "vocab.txt"

    build(corpus, output, "--vocab-size", "120")

    vocabulary = load_vocabulary(str(output))
    assert len(vocabulary) == 120
    assert "the" in vocabulary.ids
    assert {"e", "C", "é"} & set("".join(vocabulary.tokens[5:])) == {"e"}
    assert [path.name for path in output.parent.iterdir()] == ["vocab.txt"]
    summary, said = capsys.readouterr()
    assert "vocab_size = 120" in summary
    assert "Learning 120 pieces" in said and "Counting words: 0.0/0.0 MB (100.0 %)" in said


def test_casing_flags(corpus, tmp_path):
    build(corpus, tmp_path / "cased", "--vocab-size", "120", "--no-lower-case")
    build(corpus, tmp_path / "accents", "--vocab-size", "120", "--no-strip-accents")
    cased = "".join(load_vocabulary(str(tmp_path / "cased")).tokens[5:])
    accents = "".join(load_vocabulary(str(tmp_path / "accents")).tokens[5:])
    assert {"T", "é"} <= set(cased)
    assert "é" in accents and "T" not in accents


def test_the_same_corpus_gives_the_same_bytes(corpus, tmp_path):
    build(corpus, tmp_path / "one", "--vocab-size", "120")
    build(corpus, tmp_path / "two", "--vocab-size", "120")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_overwrite(corpus, tmp_path):
    output = tmp_path / "vocab.txt"
    output.write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        build(corpus, output, "--vocab-size", "120")
    assert output.read_text() == "mine"
    build(corpus, output, "--vocab-size", "120", "--overwrite")
    assert len(load_vocabulary(str(output))) == 120


@pytest.mark.parametrize(
    ("flags", "where", "message"),
    [
        (["--vocab-size", "5"], "--vocab-size", "at least 6"),
        (["--vocab-size", "5000"], "--vocab-size", "The text gives only"),
        (["--vocab-size", "20"], "--vocab-size", "Ask for at least"),
        (["--min-frequency", "0"], "--min-frequency", "at least 1"),
        (["--limit-alphabet", "0"], "--limit-alphabet", "at least 1"),
        (["--max-bytes", "0"], "--max-bytes", "at least 1"),
        (["--max-bytes", "9" * 400], "--max-bytes", "at most"),
        (["--vocab-size", f"{1 << 63}"], "--vocab-size", "at most"),
        (["--limit-alphabet", f"{10**12}"], "--limit-alphabet", "at most"),
        (["--output-file", "."], "--output-file", "a folder"),
        (["--corpus-dir", "nowhere"], "--corpus-dir", "does not exist"),
    ],
)
def test_bad_values_change_nothing(corpus, tmp_path, flags, where, message):
    before = files_under(tmp_path)
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "out" / "vocab.txt", *flags)
    assert where in caught.value.where
    assert message in str(caught.value)
    assert caught.value.received is not None and caught.value.remedy
    assert files_under(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_corpus_that_is_not_utf8(corpus, tmp_path):
    (corpus / "c.txt").write_bytes(b"one\ntwo \xff\n")
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "vocab.txt", "--vocab-size", "120")
    assert "c.txt, line 2" in caught.value.where
    assert not (tmp_path / "vocab.txt").exists()


def test_a_corpus_without_words(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "blank.txt").write_text("\n \n")
    with pytest.raises(UserError, match="holds no words"):
        build(tmp_path / "corpus", tmp_path / "vocab.txt")


def test_samples_are_spread_over_the_corpus(tmp_path, monkeypatch):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("0123456789\n" * 300_000)
    corpus, _ = find_files(str(tmp_path), "--corpus-dir")
    everything = list(sample_chunks(corpus, 10**9))
    total = sum(file.size for file in corpus)
    assert sum(chunk.end - chunk.start for chunk in everything) == total

    half = list(sample_chunks(corpus, total // 2))
    assert len(half) == pytest.approx(len(everything) / 2, abs=1)
    assert {chunk.file.name for chunk in half} == {"a.txt", "b.txt"}
    assert len(list(sample_chunks(corpus, 1))) == 1


def test_as_a_program(corpus, tmp_path):
    command = [sys.executable, "build_vocabulary.py"]
    shown = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "UTF-8" in shown.stdout

    failed = subprocess.run(
        [*command, "--corpus-dir", str(corpus), "--vocab-file", str(tmp_path / "vocab.txt")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2
    assert "error: The text gives only" in failed.stderr
    assert "what to do:" in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "vocab.txt").exists()
