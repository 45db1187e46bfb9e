"""Documents as records: what is in them, and that nothing but the text decides it."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import build_pretraining_dataset
from electra_tf2.data.building import builders
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.shards import read_metadata
from electra_tf2.errors import UserError
from electra_tf2.text.normalization import normalize
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import content, write_corpus, write_vocabulary


def read_documents(folder):
    """The documents in the order in which they were dealt, as lists of sentences."""
    metadata = read_metadata(str(folder))
    shards = []
    for shard in metadata.shards:
        documents = []
        for record in tf.data.TFRecordDataset(str(folder / shard.name)).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            assert example.SerializeToString(deterministic=True) == record
            feature = example.features.feature
            (packed,) = feature["token_ids"].bytes_list.value
            ids = iter(np.frombuffer(packed, "<u2").tolist())
            lengths = feature["sentence_lengths"].int64_list.value
            documents.append([list(itertools.islice(ids, length)) for length in lengths])
            assert next(ids, None) is None and all(documents[-1])
        assert len(documents) == shard.examples
        shards.append(documents)
    dealt = itertools.zip_longest(*shards)
    return metadata, [document for turn in dealt for document in turn if document is not None]


def tokenized(text, tokenizer):
    """Documents of a text, as lists of sentences."""
    documents = [
        [tokenizer.encode(line) for line in block.split("\n") if line.strip()]
        for block in text.split("\n\n")
    ]
    return [[ids for ids in document if ids] for document in documents]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    vocabulary = load_vocabulary(write_vocabulary(tmp_path_factory.mktemp("vocabulary")))
    return make_tokenizer(vocabulary, implementation="reference")


def build(tmp_path, text, **settings):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "text").write_text(text)
    settings = {"num_out_files": 2, "segmentation": "dynamic"} | settings
    vocab = write_vocabulary(tmp_path)
    build_dataset(BuildConfig(str(folder), vocab, str(tmp_path / "out"), **settings))
    return read_documents(tmp_path / "out")


def test_all_that_is_written(tmp_path, tokenizer, capsys):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [9000])
    build_pretraining_dataset.main(
        ["--corpus-dir", folder, "--vocab-file", vocab, "--output-dir", str(tmp_path / "out"),
         "--segmentation", "dynamic", "--num-out-files", "3", "--split-long-lines"]
    )  # fmt: skip
    metadata, documents = read_documents(tmp_path / "out")
    text = (tmp_path / "corpus" / "part0.txt").read_text()
    expected = tokenized(text, tokenizer)
    assert documents == expected
    assert (metadata.segmentation, metadata.format_version) == ("dynamic", 2)
    assert (metadata.max_seq_length, metadata.split_long_lines) == (0, True)
    assert metadata.counts == {
        "files": 1,
        "documents": len(expected),
        "lines": sum(map(len, expected)),
        "tokens": sum(len(ids) for document in expected for ids in document),
        "unknown_tokens": sum(ids.count(1) for document in expected for ids in document),
        "characters": sum(len(word) for word in normalize(text)),
        "unknown_characters": sum(len(word) for word in normalize(text) if word == "unknown"),
        "long_word_characters": 0,
        "tokens_in_lines_over_128": 0,
        "tokens_in_lines_over_512": 0,
    }
    summary, said = capsys.readouterr()
    assert "Building tokenized documents (1 process" in said
    assert f"  records         {len(expected):>14,}" in summary and "dropped" not in summary


def test_how_much_is_in_long_lines(tmp_path, tokenizer, capsys):
    lines = [" ".join(["ship"] * n) for n in (128, 129, 512, 513)]
    metadata, _ = build(tmp_path, "\n".join(lines))
    assert metadata.counts["tokens_in_lines_over_128"] == 129 + 512 + 513
    assert metadata.counts["tokens_in_lines_over_512"] == 513
    summary, said = capsys.readouterr()
    assert "40.0% of the tokens" in summary and "90.0% of the tokens" in summary
    assert "40.0% of the tokens are in lines of more than 512" in said
    assert "--split-long-lines" in said


def test_lines_and_documents_without_tokens(tmp_path, tokenizer):
    bare = "\u0301"  # a line, but no token
    text = f"{bare}\n\nthe ship\n{bare}\na river\n\n{bare}\n{bare}\n\nbread\n\n{bare}\n"
    metadata, documents = build(tmp_path, text)
    assert documents == tokenized("the ship\na river\n\nbread", tokenizer)
    assert (metadata.num_examples, metadata.counts["documents"]) == (2, 5)


def test_a_long_document_continues_in_another_record(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(builders, "PIECE_TOKENS", 10)
    lines = ["the ship is in the harbour"] * 3 + ["a river"] + ["water " * 25] + ["bread", "new"]
    text = "\n".join(lines) + "\n\nthe town\n"
    _, documents = build(tmp_path, text)
    sentences = [tokenizer.encode(line) for line in lines]
    assert documents == [
        sentences[:2],
        sentences[2:5],
        sentences[5:],
        [tokenizer.encode("the town")],
    ]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--max-seq-length", "64"], "no example length"),
        (["--sampling", "official"], "documents are cut in training"),
    ],
)
def test_flags_that_documents_have_no_use_for(tmp_path, flags, message):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [100])
    before = content(tmp_path)
    with pytest.raises(UserError, match=message) as info:
        build_pretraining_dataset.main(
            ["--corpus-dir", folder, "--vocab-file", vocab, "--output-dir", str(tmp_path / "out"),
             "--segmentation", "dynamic", *flags]
        )  # fmt: skip
    assert info.value.where == flags[0] and info.value.remedy
    assert content(tmp_path) == before
