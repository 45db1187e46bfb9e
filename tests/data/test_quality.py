"""What is lost of a corpus, and what is padding, is counted, said and, where it is all, refused."""

import dataclasses
import gzip
import random

import pytest

import build_pretraining_dataset
import build_vocabulary
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.quality import check_known, unknown_warnings
from electra_tf2.data.shards import read_metadata
from electra_tf2.errors import UserError
from electra_tf2.text.vocabulary import SPECIAL_TOKENS

BASES = "ACGTN"
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def vocabulary_of(tmp_path, characters):
    path = tmp_path / "vocab.txt"
    pieces = [*SPECIAL_TOKENS, *characters.lower(), *(f"##{char}" for char in characters.lower())]
    path.write_text("\n".join(pieces) + "\n", "utf-8")
    return str(path)


def corpus_of(tmp_path, text, name="a.txt"):
    folder = tmp_path / "corpus"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder)


def build(tmp_path, **settings):
    settings = {"num_out_files": 2, "max_seq_length": 32} | settings
    return build_dataset(
        BuildConfig(
            str(tmp_path / "corpus"), str(tmp_path / "vocab.txt"), str(tmp_path / "out"), **settings
        )
    )


def sequences(lengths, letters=LETTERS):
    draw = random.Random(0)
    return "\n\n".join("".join(draw.choices(letters, k=length)) for length in lengths)


@pytest.mark.parametrize("segmentation", ["static", "dynamic"])
def test_words_over_the_limit_are_counted_and_warned_of(tmp_path, capsys, segmentation):
    vocabulary_of(tmp_path, LETTERS)
    corpus_of(tmp_path, sequences([100] * 6 + [300] * 2))
    counts = build(tmp_path, segmentation=segmentation).counts
    assert counts["characters"] == 1200
    assert counts["unknown_characters"] == counts["long_word_characters"] == 600
    assert (counts["tokens"], counts["unknown_tokens"]) == (602, 2)
    summary, said = capsys.readouterr()
    assert "50.0% of the characters are in words of more than 200" in summary
    assert "50.0% of the text is in words" in said and "--max-word-characters 1000000" in said
    assert read_metadata(str(tmp_path / "out")).counts == counts


def test_text_that_is_nearly_all_unknown_is_refused_and_the_remedy_works(tmp_path):
    vocabulary_of(tmp_path, BASES)
    corpus_of(tmp_path, sequences([1500] * 5, BASES))
    with pytest.raises(UserError, match="Nearly all") as caught:
        build(tmp_path)
    assert caught.value.where == str(tmp_path / "corpus") and "100.0%" in caught.value.received
    assert "--max-word-characters 1000000" in caught.value.remedy
    assert not (tmp_path / "out").exists()
    metadata = build(tmp_path, max_word_characters=1000000)
    assert metadata.counts["unknown_tokens"] == 0 and metadata.max_word_characters == 1000000
    assert read_metadata(str(tmp_path / "out")) == metadata
    allowed = build(tmp_path, allow_unknown=True, overwrite=True)
    assert allowed.counts["unknown_characters"] == allowed.counts["characters"] == 7500


def test_a_high_limit_for_long_words_is_not_the_remedy_for_itself(tmp_path):
    vocabulary_of(tmp_path, BASES)
    corpus_of(tmp_path, sequences([300] * 5, BASES))
    metadata = build(tmp_path, allow_unknown=True)
    higher = dataclasses.replace(metadata, max_word_characters=1_000_000)
    assert "--max-word-characters 100000000 splits" in unknown_warnings(higher)[0]
    with pytest.raises(UserError, match="Nearly all") as caught:
        check_known(higher, "corpus", "")
    assert "--max-word-characters 100000000" in caught.value.remedy


def test_another_language_s_vocabulary_is_refused(tmp_path):
    vocabulary_of(tmp_path, LETTERS)
    corpus_of(tmp_path, "сегодня хорошая погода\n\nв москве идёт дождь\n" * 9)
    with pytest.raises(UserError, match="Nearly all") as caught:
        build(tmp_path)
    assert "build_vocabulary.py" in caught.value.remedy
    assert "--allow-unknown" in caught.value.remedy


def test_documents_shorter_than_examples_are_warned_of(tmp_path, capsys):
    vocabulary_of(tmp_path, LETTERS)
    corpus_of(tmp_path, sequences([10] * 40))
    metadata = build(tmp_path)
    assert metadata.counts["example_tokens"] == 40 * 12
    summary, said = capsys.readouterr()
    assert "37.5% of the examples' places are filled" in summary
    assert "62% of the examples' places are padding" in said
    assert "--blanks-separate-docs false" in said
    build(tmp_path, blanks_separate_docs=False, overwrite=True)
    summary, said = capsys.readouterr()
    assert "padding" not in said and "example tokens" in summary


def test_dna_from_vocabulary_to_data(tmp_path):
    folder = corpus_of(tmp_path, sequences([1500, 900], BASES))
    vocab = str(tmp_path / "vocab.txt")
    given = ["--corpus-dir", folder, "--output-file", vocab, "--vocab-size", "60"]
    with pytest.raises(UserError, match="longer than 200") as caught:
        build_vocabulary.main(given)
    assert "--max-word-characters 1500" in caught.value.remedy
    long = ["--max-word-characters", "1500"]
    build_vocabulary.main([*given, *long])
    output = str(tmp_path / "out")
    given = ["--corpus-dir", folder, "--vocab-file", vocab, "--output-dir", output]
    build_pretraining_dataset.main([*given, "--split-long-lines", *long])
    counts = read_metadata(output).counts
    assert counts["unknown_tokens"] == counts["dropped_tokens"] == 0
    assert counts["tokens"] < 0.7 * counts["characters"], "pieces of several bases"


@pytest.mark.parametrize("limit", [0, 10**9])
def test_limits_that_can_not_be_set(tmp_path, limit):
    vocabulary_of(tmp_path, LETTERS)
    corpus_of(tmp_path, "abc")
    with pytest.raises(UserError) as caught:
        build(tmp_path, max_word_characters=limit)
    assert caught.value.where == "--max-word-characters"


@pytest.mark.parametrize(
    ("content", "name"),
    [("a b c\n".encode("utf-16-le"), "UTF-16LE"), (b'{"text": "a"}\n', "JSON"),
     (gzip.compress(b"a", mtime=0), "gzip"), (b"<html>\n", "HTML")],
)  # fmt: skip
def test_both_programs_refuse_what_is_not_text(tmp_path, content, name):
    folder = corpus_of(tmp_path, content, "b.txt")
    corpus_of(tmp_path, "a c d e\n" * 9)
    for error in _errors_of_both(tmp_path, folder):
        assert error.where == f"{folder}/b.txt" and name in error.what


def test_both_programs_look_at_the_names_of_all_files(tmp_path):
    for name in ("wiki_00", "wiki_01"):
        folder = corpus_of(tmp_path, b'{"text": "a"}\n', name)
    for error in _errors_of_both(tmp_path, folder):
        assert error.where == folder and "JSON lines" in error.what


def _errors_of_both(tmp_path, folder):
    vocab = vocabulary_of(tmp_path, LETTERS)
    for program, flags in (
        (build_pretraining_dataset, ["--vocab-file", vocab, "--output-dir", f"{tmp_path}/out"]),
        (build_vocabulary, ["--output-file", f"{tmp_path}/new.txt", "--vocab-size", "12"]),
    ):
        with pytest.raises(UserError) as caught:
            program.main(["--corpus-dir", folder, *flags])
        yield caught.value


def test_markup_that_is_taken_as_text(tmp_path):
    vocab = vocabulary_of(tmp_path, LETTERS)
    folder = corpus_of(tmp_path, "<html> a c d <b> a c d </b>\n")
    given = ["--corpus-dir", folder, "--vocab-file", vocab, "--output-dir", f"{tmp_path}/out"]
    build_pretraining_dataset.main([*given, "--as-plain-text", "--num-out-files", "1"])
    assert read_metadata(f"{tmp_path}/out").counts["lines"] == 1


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\x00 \u200d"])
def test_a_line_that_shows_nothing_ends_a_document(tmp_path, mark):
    vocabulary_of(tmp_path, LETTERS)
    corpus_of(tmp_path, f"\ufeffa c\n{mark}\nd e\n{mark}\nf\n")
    counts = build(tmp_path).counts
    assert (counts["documents"], counts["lines"], counts["unknown_tokens"]) == (3, 3, 0)
