"""Whole builds from corpora of every kind: examples, vocabularies, what is left out."""

import json
import random

import pytest

import build_pretraining_dataset
import build_vocabulary
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.building.vocabulary_builder import sample_batches
from electra_tf2.data.shards import read_metadata
from electra_tf2.data.sources.found import find_files
from electra_tf2.data.sources.reader import CorpusReader
from electra_tf2.errors import UserError
from tests.data.small_corpus import content, document, write_vocabulary
from tests.data.sources.corpora import (
    PACKERS,
    cut_small,
    feather_bytes,
    json_bytes,
    parquet_bytes,
    stream_bytes,
    table_bytes,
    text_bytes,
    write_saved,
)

FORMS = {
    "a.txt.zst": text_bytes,
    "a.jsonl": json_bytes,
    "a.jsonl.gz": json_bytes,
    "a.csv": table_bytes,
    "a.tsv.bz2": lambda texts: table_bytes(texts, "\t"),
    "a.parquet": lambda texts: parquet_bytes(texts, 7),
    "a.arrow": lambda texts: stream_bytes(texts, 7),
    "a.feather": lambda texts: feather_bytes(texts, 7),
}


def texts_of(seed, count=30):
    stream = random.Random(seed)
    return [document(stream, stream.randint(1, 12)) for _ in range(count)]


def put(folder, name, texts):
    folder.mkdir(parents=True, exist_ok=True)
    pack = PACKERS.get("." + name.rpartition(".")[2], bytes)
    (folder / name).write_bytes(pack(FORMS[name](texts)))


@pytest.fixture
def mixture(tmp_path):
    """A folder with each kind of files, of other documents each; yields it and their number."""
    folder = tmp_path / "corpus"
    for seed, name in enumerate(FORMS):
        put(folder / f"folder{seed % 3}" / str(seed), name, texts_of(seed))
    write_saved(folder / "saved", texts_of(99))
    return str(folder), 30 * len(FORMS) + 30


@pytest.mark.parametrize("segmentation", ["static", "dynamic"])
def test_every_kind_gives_the_same_data_set(tmp_path, segmentation):
    vocab, texts = write_vocabulary(tmp_path), texts_of(0)
    built = {}
    sampling = "official" if segmentation == "static" else "chunked"  # one stream for all kinds
    for name in FORMS:
        put(tmp_path / name, name, texts)
        output = tmp_path / "out"
        build_dataset(
            BuildConfig(str(tmp_path / name), vocab, str(output), num_out_files=2, seed=3,
                        max_seq_length=32, sampling=sampling, segmentation=segmentation,
                        blanks_separate_docs=True, overwrite=True)
        )  # fmt: skip
        built[name] = content(output)
    assert all(data == built["a.jsonl"] for data in built.values())


def test_a_mixture_with_bad_records(tmp_path, mixture, capsys):
    folder, documents = mixture
    bad = ['{"text": null}', '{"text": 5}', '{"text": "an', '{"txt": "the ship"}', "7", "{}", "[]"]
    put(tmp_path / "corpus", "a.jsonl", texts_of(7))
    with open(tmp_path / "corpus" / "a.jsonl", "a") as file:
        file.write("\n".join(bad))
    flags = ["--corpus-dir", folder, "--vocab-file", write_vocabulary(tmp_path),
             "--output-dir", str(tmp_path / "out"), "--num-out-files", "2"]  # fmt: skip

    build_pretraining_dataset.main(flags)

    metadata = read_metadata(str(tmp_path / "out"))
    assert metadata.counts["documents"] == documents + 30
    assert metadata.counts["files"] == len(FORMS) + 3
    assert metadata.counts["bad_records"] == len(bad)
    assert metadata.blanks_separate_docs, "of the plain text in it"
    said = capsys.readouterr()
    assert f"7 of {documents + 37} documents were left out: {folder}/a.jsonl, line 31: " in said.err
    assert "line 35" in said.err and "line 36" not in said.err and "; …" in said.err
    assert "bad records" in said.out and "% of the documents are left out" in said.out


def test_records_alone_have_no_documents_between_blanks(tmp_path):
    put(tmp_path / "corpus", "a.jsonl", ["the ship\n\nthe old bread\n"] * 9)
    config = BuildConfig(
        str(tmp_path / "corpus"), write_vocabulary(tmp_path), str(tmp_path / "out"), num_out_files=1
    )
    metadata = build_dataset(config)
    assert metadata.counts["documents"] == 9 and not metadata.blanks_separate_docs
    assert "bad_records" not in metadata.counts


@pytest.mark.slow
def test_two_processes_build_the_same(tmp_path, mixture, monkeypatch, capsys):
    cut_small(monkeypatch, 700)
    folder, _ = mixture
    vocab = write_vocabulary(tmp_path)
    outputs = []
    for processes in (1, 2):
        outputs.append(tmp_path / f"out{processes}")
        build_dataset(
            BuildConfig(folder, vocab, str(outputs[-1]), num_processes=processes, num_out_files=3)
        )
    assert "(2 processes, " in capsys.readouterr().err
    assert content(outputs[0]) == content(outputs[1])


def test_beam_builds_the_same(tmp_path, mixture, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs Beam: pip install 'electra-tf2[beam]'")
    from electra_tf2.data.building import beam

    cut_small(monkeypatch, 700)
    monkeypatch.setattr(beam, "STRETCH_BYTES", 5000)
    monkeypatch.setattr(beam, "SLICE_TASKS", 2)
    folder, _ = mixture
    with open(f"{folder}/folder1/1/a.jsonl", "a") as file:
        file.write('{"text": null}\n')
    vocab = write_vocabulary(tmp_path)
    outputs = [tmp_path / "plain", tmp_path / "beam"]
    for output, runner in zip(outputs, (None, "DirectRunner"), strict=True):
        config = BuildConfig(folder, vocab, str(output), num_out_files=3, runner=runner)
        assert build_dataset(config).counts["bad_records"] == 1
    assert content(outputs[0]) == content(outputs[1])


def test_a_vocabulary_is_the_same_of_every_kind(tmp_path, capsys):
    texts = texts_of(0)
    built = set()
    for name in FORMS:
        put(tmp_path / name, name, texts)
        output = tmp_path / f"{name}.vocab"
        build_vocabulary.main(
            ["--corpus-dir", f"{tmp_path / name}/a.*", "--output-file", str(output),
             "--vocab-size", "60"]
        )  # fmt: skip
        built.add(output.read_bytes())
    assert len(built) == 1
    (tmp_path / "a.jsonl" / "b.jsonl").write_text('{"text": "the ship"}\n{"text": 5}\n')
    build_vocabulary.main(
        ["--corpus-dir", str(tmp_path / "a.jsonl"), "--output-file", str(tmp_path / "vocab"),
         "--vocab-size", "60"]
    )  # fmt: skip
    assert "1 of 32 documents were left out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
def test_a_share_of_a_file_makes_a_vocabulary(tmp_path, monkeypatch, name):
    cut_small(monkeypatch, 700)
    put(tmp_path, name, texts_of(0, 300))
    found, _ = find_files(str(tmp_path), "--corpus-dir")
    counts = [
        len(list(sample_batches(found, CorpusReader(), found[0].size // share))) for share in (1, 4)
    ]
    assert counts[0] > 20 and counts[1] == pytest.approx(counts[0] / 4, abs=1)


@pytest.mark.parametrize("program", ["dataset", "vocabulary"])
def test_a_field_that_is_not_there_ends_both_programs_at_once(tmp_path, program):
    put(tmp_path / "corpus", "a.jsonl", texts_of(0))
    flags = ["--corpus-dir", str(tmp_path / "corpus"), "--text-field", "txt"]
    before = content(tmp_path)
    with pytest.raises(UserError, match="'txt'") as caught:
        if program == "dataset":
            vocab = write_vocabulary(tmp_path)
            before = content(tmp_path)
            build_pretraining_dataset.main(
                [*flags, "--vocab-file", vocab, "--output-dir", str(tmp_path / "out")]
            )
        else:
            build_vocabulary.main([*flags, "--output-file", str(tmp_path / "vocab")])
    assert caught.value.where == str(tmp_path / "corpus" / "a.jsonl")
    assert "--text-field text" in caught.value.remedy
    assert content(tmp_path) == before


def test_plain_text_of_these_names(tmp_path):
    """What was text before these kinds were known still is, with one flag."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.csv").write_text("the ship, the bread\n\nthe old harbour\n")
    config = BuildConfig(
        str(tmp_path / "corpus"), write_vocabulary(tmp_path), str(tmp_path / "out"),
        num_out_files=1, as_plain_text=True,
    )  # fmt: skip
    assert build_dataset(config).counts["documents"] == 2
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["blanks_separate_docs"]
