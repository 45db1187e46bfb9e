"""A corpus folder to a vocabulary file, through the program."""

import json
import re
from pathlib import Path

import pytest

import build_pretraining_dataset
import build_vocabulary
from electra_tf2.data.building.vocabulary_builder import sample_batches, sample_text
from electra_tf2.data.shards import read_metadata
from electra_tf2.data.sources.found import find_files
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface_tokenizer import tokenizer_files
from electra_tf2.text.casing_files import as_flag
from electra_tf2.text.casing_fit import inspect_text, text_advice
from electra_tf2.text.normalization import UNCASED, Casing
from electra_tf2.text.vocabulary import Vocabulary, load_vocabulary
from tests.data.small_corpus import PIECES, write_corpus
from tests.data.sources.corpora import cut_small
from tests.programs import run_python

READER = CorpusReader()
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
    written = sorted(path.name for path in output.parent.iterdir())
    assert written == ["vocab.txt", "vocab.txt.casing.json"]
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


def test_the_next_program_takes_the_casing(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.txt").write_text("वह किताब पढ़ता है\nÖzgür güzel\n" * 20, encoding="utf-8")
    vocab = tmp_path / "vocab.txt"
    build(corpus, vocab, "--vocab-size", "50", "--no-strip-accents")
    assert "removing accents" not in capsys.readouterr().err
    assert {"ü", "कि", "ढ़"} & set(load_vocabulary(str(vocab)).tokens)

    def casing_of_data(*flags):
        output = tmp_path / "data"
        build_pretraining_dataset.main(
            ["--corpus-dir", str(corpus), "--vocab-file", str(vocab), "--output-dir", str(output),
             "--num-out-files", "1", "--overwrite", *flags]
        )  # fmt: skip
        metadata = read_metadata(str(output))
        return metadata.do_lower_case, metadata.strip_accents

    assert casing_of_data() == (True, False)
    said = capsys.readouterr().err
    assert "warning" not in said and f"{vocab}.casing.json: --do-lower-case --no-strip" in said
    assert casing_of_data("--do-strip-accents") == (True, True)
    said = capsys.readouterr().err
    assert "--do-strip-accents is followed, although" in said
    assert "pieces of the vocabulary can never occur" in said and "is it --no-strip-acc" in said
    assert "of the Devanagari words" in said
    Path(f"{vocab}.casing.json").unlink()
    assert casing_of_data() == (True, True)


def test_the_next_program_takes_the_limit_for_long_words(tmp_path, capsys):
    corpus, vocab, output = (tmp_path / name for name in ("corpus", "vocab.txt", "data"))
    corpus.mkdir()
    (corpus / "a.txt").write_text(("ACGGT" * 60 + "\n") * 20)
    with pytest.raises(UserError, match="longer than 200") as caught:
        build(corpus, vocab, "--vocab-size", "16")
    remedy = re.search(r"(--max-word-characters) (\d+)", caught.value.remedy)
    build(corpus, vocab, "--vocab-size", "16", *remedy.groups())
    assert "takes --do-lower-case --do-strip-accents --max-word-ch" in capsys.readouterr().out
    build_pretraining_dataset.main(
        ["--corpus-dir", str(corpus), "--vocab-file", str(vocab), "--output-dir", str(output),
         "--num-out-files", "1", "--max-seq-length", "16"]
    )  # fmt: skip
    metadata = read_metadata(str(output))
    assert metadata.max_word_characters == 300 and metadata.counts["unknown_tokens"] == 0
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "other", "--max-word-characters", "1000000000")
    assert caught.value.where == "--max-word-characters"


def test_a_tokenizer_file_as_the_vocabulary_of_the_builders(tmp_path, capsys):
    corpus = write_corpus(tmp_path / "corpus", [2000])
    vocab = tmp_path / "tokenizer.json"
    vocabulary = Vocabulary((*PIECES, "Ship"))
    vocab.write_bytes(tokenizer_files(vocabulary, Casing(False, False), 64)["tokenizer.json"])
    build_pretraining_dataset.main(
        ["--corpus-dir", corpus, "--vocab-file", str(vocab), "--output-dir", f"{tmp_path}/data",
         "--num-out-files", "1"]
    )  # fmt: skip
    metadata = read_metadata(f"{tmp_path}/data")
    assert (metadata.do_lower_case, metadata.vocab_sha256) == (False, vocabulary.sha256)


def test_a_vocabulary_that_can_not_spell_its_text(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    text = "".join(chr(0x4E00 + n) * max(1, 300 // (n + 1)) for n in range(400))
    (corpus / "a.txt").write_text(text + "\n" + "ACGT" * 60 + "\n", encoding="utf-8")
    build(corpus, tmp_path / "vocab.txt", "--vocab-size", "155")
    said = capsys.readouterr().err
    assert "become [UNK]. With --vocab-size" in said
    assert "of more than 200 characters" in said


def test_samples_come_from_all_files(tmp_path):
    for n in range(70):
        (tmp_path / f"{n:02}.txt").write_bytes(b"\xff " + f"word{n} more\n".encode() * 99)
    (tmp_path / "long.txt").write_text("".join(f"line{n} of text\n" for n in range(300_000)))
    corpus, _ = find_files(str(tmp_path), "--corpus-dir")
    words = set(" ".join(sample_text(corpus, READER)).split())
    assert {"word0", "word69"} <= words and len([w for w in words if w[:4] == "word"]) > 20
    single, _ = find_files(str(tmp_path), "--corpus-dir")
    words = set(
        " ".join(sample_text([file for file in single if file.size > 10**6], READER)).split()
    )
    assert "line0" in words and "line299999" in words
    assert sum(map(len, sample_text(corpus, READER))) <= 1 << 19


def test_samples_of_records_are_pieces(tmp_path):
    """A language that begins after another is not averaged with it."""
    texts = ["an old ship crossed the river " * 9] * 600 + ["Er hört dort schöne Musik " * 9] * 99
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    corpus, _ = find_files(str(tmp_path), "--corpus-dir")
    pieces = list(sample_text(corpus, READER))
    assert "".join(pieces).count("Musik") == 9 * 99 and max(map(len, pieces)) <= 1 << 14
    sample = inspect_text(pieces)
    assert "in a part of the text" in text_advice(sample, UNCASED, as_flag)[0]


@pytest.mark.parametrize("end", ["", "\n", "\u3000と"])
def test_samples_of_text_without_spaces(tmp_path, end):
    text = "ガラスの窓がある。" * 60_000 + end
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    corpus, _ = find_files(str(tmp_path), "--corpus-dir")
    assert len("".join(sample_text(corpus, READER))) > 150_000


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
        (["--output-file", "vocab.json"], "--output-file", "such as vocab.txt"),
        (["--output-file", "{corpus}/more/vocab.txt"], "--output-file", "in the corpus folder"),
        (["--corpus-dir", "nowhere"], "--corpus-dir", "does not exist"),
    ],
)
def test_bad_values_change_nothing(corpus, tmp_path, flags, where, message):
    before = files_under(tmp_path)
    flags = [flag.format(corpus=corpus) for flag in flags]
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "out" / "vocab.txt", *flags)
    assert where in caught.value.where
    assert message in str(caught.value)
    assert caught.value.received is not None and caught.value.remedy
    assert files_under(tmp_path) == before and not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["*.txt", "../corp*", "**/*.txt", "a.txt,{0}/v*", "*.json"])
def test_a_vocabulary_that_a_pattern_of_the_corpus_matches(corpus, pattern):
    before = files_under(corpus)
    with pytest.raises(UserError, match="match a pattern") as caught:
        build(corpus / pattern.format(corpus), corpus / "vocab.txt", "--vocab-size", "120")
    assert caught.value.where == "--output-file" and "outside of" in caught.value.remedy
    assert files_under(corpus) == before


def test_a_vocabulary_beside_the_files_that_a_pattern_matches(corpus):
    build(corpus / "*" / "*.txt", corpus / "vocab.txt", "--vocab-size", "80")
    assert len(load_vocabulary(str(corpus / "vocab.txt"))) == 80


def test_no_vocabulary_without_its_casing(corpus, tmp_path):
    (tmp_path / "vocab.txt.casing.json").mkdir()
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "vocab.txt", "--vocab-size", "120")
    assert "casing" in caught.value.where and not (tmp_path / "vocab.txt").exists()


def test_a_vocabulary_on_stdout(corpus):
    flags = ["--output-file", "/dev/stdout", "--vocab-size", "120", "--no-lower-case"]
    done = run_python("build_vocabulary.py", "--corpus-dir", corpus, *flags)
    assert len(done.stdout.splitlines()) == 120
    assert "Give build_pretraining_dataset.py --no-lower-case" in done.stderr
    assert "casing.json" not in done.stderr


def test_a_corpus_that_is_not_utf8(corpus, tmp_path):
    (corpus / "c.txt").write_bytes(b"one\ntwo \xff\n")
    with pytest.raises(UserError) as caught:
        build(corpus, tmp_path / "vocab.txt", "--vocab-size", "120")
    assert "c.txt, line 2" in caught.value.where
    assert not (tmp_path / "vocab.txt").exists()


def test_a_corpus_of_something_else_is_refused_before_its_words_are_looked_at(
    corpus, tmp_path, capsys
):
    (corpus / "c.txt").write_bytes(b"%PDF-1.7\n" + "Özgür çocuk ağaç gördü. ".encode() * 999)
    with pytest.raises(UserError, match="PDF"):
        build(corpus, tmp_path / "vocab.txt", "--vocab-size", "120")
    assert "accents" not in capsys.readouterr().err


def test_a_corpus_without_words(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "blank.txt").write_text("\n \n")
    with pytest.raises(UserError, match="holds no words"):
        build(tmp_path / "corpus", tmp_path / "vocab.txt")


def test_samples_are_spread_over_the_corpus(tmp_path, monkeypatch):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("0123456789\n" * 300_000)
    corpus, _ = find_files(str(tmp_path), "--corpus-dir")
    everything = list(sample_batches(corpus, READER, 10**9))
    total = sum(file.size for file in corpus)
    assert sum(batch.source_bytes for _, batch in everything) == total

    half = list(sample_batches(corpus, READER, total // 2))
    assert len(half) == pytest.approx(len(everything) / 2, abs=1)
    assert {file for file, _ in half} == set(corpus)
    assert len(list(sample_batches(corpus, READER, 1))) == 1


def test_progress_of_a_sample_that_is_larger_than_asked_for(tmp_path, capsys):
    (tmp_path / "one_line.txt").write_text(" ".join(SENTENCES))
    build(tmp_path / "one_line.txt", tmp_path / "vocab.txt", "--vocab-size=60", "--max-bytes=20")
    shown = capsys.readouterr().err
    assert "(100.0 %)" in shown and "ETA 0:00" in shown


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_sample_is_of_plain_text_alone(tmp_path, monkeypatch, prefix):
    """Of a file whose beginning is not drawn, too."""
    cut_small(monkeypatch, 50)
    for n in range(64):
        page = "<!DOCTYPE html>\n<html>\n" if n == 33 else ""
        (tmp_path / f"{n:02}.txt").write_text(page + "some words here\n" * 20)
    corpus, _ = find_files(f"{prefix}{tmp_path}", "--corpus-dir")
    assert corpus[33].path not in {file.path for file in corpus[::2]}  # those of `sample_text`
    total = sum(file.size for file in corpus)
    with pytest.raises(UserError, match="HTML") as caught:
        list(sample_batches(corpus, READER, total * 2 // 3))
    assert caught.value.where == corpus[33].path


def test_a_local_file_of_which_nothing_is_sampled_is_plain_text(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for n in range(64):
        (corpus / f"{n:02}.txt").write_text("<html>\n" * (n == 33) + "some words here\n" * 9)
    with pytest.raises(UserError, match="HTML"):
        build(corpus, tmp_path / "vocab.txt", "--vocab-size", "20", "--max-bytes", "500")


def test_as_a_program(corpus, tmp_path):
    assert "UTF-8" in run_python("build_vocabulary.py", "--help").stdout

    flags = ["--corpus-dir", corpus, "--vocab-file", tmp_path / "vocab.txt"]
    failed = run_python("build_vocabulary.py", *flags, check=False)
    assert failed.returncode == 2
    assert "error: The text gives only" in failed.stderr
    assert "what to do:" in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "vocab.txt").exists()


def test_extends_a_vocabulary(corpus, tmp_path, capsys):
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("Ships Café harbour\n" * 9, encoding="utf-8")
    build(other, old, "--vocab-size", "40", "--no-lower-case")
    capsys.readouterr()
    build(corpus, new, "--extend", str(old), "--vocab-size", "80")
    before, after = (load_vocabulary(str(path)).tokens for path in (old, new))
    assert after[:40] == before and len(after) == 80
    assert "T" in after  # the casing is the old vocabulary's
    assert '"do_lower_case": false' in Path(f"{new}.casing.json").read_text()
    summary, said = capsys.readouterr()
    assert "Learning 40 new pieces" in said
    assert "vocab_size = 80" in summary and "pieces on average" in summary


def test_a_size_that_is_too_small_to_extend_is_told_before_the_corpus_is_read(
    corpus, tmp_path, capsys
):
    old = tmp_path / "old.txt"
    build(corpus, old, "--vocab-size", "80")
    capsys.readouterr()
    with pytest.raises(UserError, match="no room") as caught:
        build(corpus, tmp_path / "new.txt", "--extend", str(old), "--vocab-size", "75")
    assert caught.value.where == "--vocab-size" and capsys.readouterr().err == ""


def test_records_of_remote_files_need_the_field_too(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "Some words"}\n' * 9)
    with pytest.raises(UserError, match="'text'") as caught:
        build_vocabulary.main(
            ["--corpus-dir", f"file://{tmp_path}", "--output-file", str(tmp_path / "vocab.txt")]
        )
    assert caught.value.where.endswith("a.jsonl") and "content" in caught.value.remedy


def test_a_vocabulary_to_extend_that_is_not_there(corpus, tmp_path):
    with pytest.raises(UserError, match="no vocabulary file") as caught:
        build(corpus, tmp_path / "new.txt", "--extend", str(tmp_path / "old.txt"))
    assert caught.value.where == str(tmp_path / "old.txt")
    assert not (tmp_path / "new.txt").exists()
