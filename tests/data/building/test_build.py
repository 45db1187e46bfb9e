"""Whole builds: text in, shards out."""

import functools
import os
import random
import signal
import subprocess
import sys
import tarfile
import time

import pytest
import tensorflow as tf

import build_openwebtext_pretraining_dataset
import build_pretraining_dataset
from electra_tf2.data.building import corpus
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.shards import read_metadata
from electra_tf2.data.sources import reader
from electra_tf2.data.sources.chunks import CHUNK_BYTES
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import load_vocabulary
from tests.data.small_corpus import PIECES, content, document, write_corpus, write_vocabulary

CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def read_shards(folder):
    """The examples of each shard as (ids, mask, segment ids)."""
    metadata = read_metadata(str(folder))
    result = []
    for shard in metadata.shards:
        assert (folder / shard.name).stat().st_size == shard.bytes
        examples = []
        for record in tf.data.TFRecordDataset(str(folder / shard.name)):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            names = ("input_ids", "input_mask", "segment_ids")
            examples.append(tuple(list(feature[name].int64_list.value) for name in names))
        assert len(examples) == shard.examples
        result.append(examples)
    return metadata, result


def test_everything_that_is_written(tmp_path, capsys):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [3000, 5000])

    build_pretraining_dataset.main(
        ["--corpus-dir", folder, "--vocab-file", vocab, "--output-dir", str(tmp_path / "out"),
         "--max-seq-length", "32", "--num-out-files", "3", "--seed", "4", "--no-strip-accents"]
    )  # fmt: skip

    metadata, shards = read_shards(tmp_path / "out")
    counts = metadata.counts
    assert metadata.vocab_sha256 == load_vocabulary(vocab).sha256
    settings = (metadata.vocab_size, metadata.max_seq_length, metadata.seed, metadata.sampling)
    assert settings == (len(PIECES), 32, 4, "chunked")
    assert (metadata.do_lower_case, metadata.strip_accents) == (True, False)
    assert metadata.blanks_separate_docs
    lengths = [len(examples) for examples in shards]
    assert sum(lengths) == metadata.num_examples and max(lengths) - min(lengths) <= 1
    text = "".join(p.read_text() + "\n\n" for p in sorted((tmp_path / "corpus").iterdir()))
    assert counts["lines"] == sum(1 for line in text.split("\n") if line)
    assert counts["documents"] == sum(1 for part in text.split("\n\n") if part.strip())
    assert counts["files"] == 2
    kept = sum(sum(mask) - 2 - (1 in segments)
               for shard in shards for _, mask, segments in shard)  # fmt: skip
    assert counts["tokens"] - counts["dropped_tokens"] == kept
    summary, said = capsys.readouterr()
    for figure in (*counts.values(), metadata.num_examples):
        assert f"{figure:,}" in summary
    assert str(tmp_path / "out") in summary
    assert "Building examples of 32 tokens (1 process" in said
    assert "% of the tokens are in no example" in said and "--split-long-lines" in said


@pytest.mark.parametrize("pattern", [None, "*.txt", "**/*.txt", "../link/voc*"])
def test_a_vocabulary_in_the_corpus_is_told(tmp_path, capsys, pattern):
    folder = write_corpus(tmp_path / "corpus", [3000])
    vocab = write_vocabulary(tmp_path / "corpus")
    (tmp_path / "link").symlink_to("corpus")
    corpus = f"{folder}/{pattern},{folder}/*0*" if pattern else folder
    build_dataset(BuildConfig(corpus, vocab, str(tmp_path / "out"), max_seq_length=32))
    assert f"the vocabulary, {vocab}, lies in the corpus" in capsys.readouterr().err


def test_examples_are_dealt_in_turn_and_end_with_their_document(tmp_path):
    stream = random.Random(1)
    documents = [document(stream, 20) for _ in range(12)]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("\n".join(documents))
    vocab = write_vocabulary(tmp_path)
    metadata = build_dataset(
        BuildConfig(str(tmp_path / "corpus"), vocab, str(tmp_path / "out"),
                    max_seq_length=24, num_out_files=2, split_long_lines=True)
    )  # fmt: skip

    _, shards = read_shards(tmp_path / "out")

    assert metadata.counts["dropped_tokens"] == 0
    tokenizer = make_tokenizer(load_vocabulary(vocab), implementation="reference")
    texts = [tokenizer.encode(text.replace("\n", " ")) for text in documents]
    for i in range(metadata.num_examples):
        ids, mask, segments = shards[i % 2][i // 2]
        length = sum(mask)
        assert len(ids) == 24 and ids[0] == CLS and ids[length - 1] == SEP
        assert set(ids[length:]) <= {0}
        # An example holds the next tokens of its document, dealt to its two segments.
        tokens = [token for token in ids[:length] if token not in (CLS, SEP)]
        assert sorted(tokens) == sorted(texts[0][: len(tokens)])
        assert length - len(tokens) == 2 + (1 in segments)
        texts[0] = texts[0][len(tokens) :]
        if not texts[0]:
            texts.pop(0)
    assert texts == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, most",
    [({"max_seq_length": 64}, 3), ({"segmentation": "dynamic"}, 2)],
    ids=["static", "dynamic"],
)
def test_any_number_of_processes_writes_the_same_bytes(tmp_path, monkeypatch, options, most):
    vocab = write_vocabulary(tmp_path)
    # One file of many chunks beside small ones. (The workers are told where the cuts are.)
    small_chunks = functools.partial(reader.plan_chunks, chunk_bytes=4000)
    monkeypatch.setattr(reader, "plan_chunks", small_chunks)
    monkeypatch.setattr(corpus, "CHUNK_BYTES", 8000)
    folder = write_corpus(tmp_path / "corpus", [100, 100_000, 3000, 20_000, 1])
    results = []
    for processes in range(1, most + 1):
        output = tmp_path / f"out{processes}"
        given = {"num_processes": processes, "num_out_files": 7, **options}
        build_dataset(BuildConfig(folder, vocab, str(output), **given))
        results.append(content(output))
    assert len(results[0]) == 8
    assert all(result == results[0] for result in results)


def test_result_depends_on_seed_and_text_alone(tmp_path, monkeypatch):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [4000, 4000])

    def build(name, **options):
        options = {"max_seq_length": 32, "num_out_files": 2} | options
        build_dataset(BuildConfig(folder, vocab, str(tmp_path / name), **options))
        return content(tmp_path / name)

    first = build("first")
    random.seed(99)
    os.utime(os.path.join(folder, "part0.txt"))
    assert build("second") == first
    assert build("third", seed=1) != first
    monkeypatch.setattr(corpus, "CHUNK_BYTES", 1)
    assert build("fourth") == first, "grouping files into tasks doesn't change the result"


def test_blank_lines_that_do_not_separate(tmp_path):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [5000])
    arguments = ["--corpus-dir", folder, "--vocab-file", vocab, "--num-out-files", "1"]
    documents = {}
    for value in ("true", "False", "0", "YES"):
        output = tmp_path / value
        build_pretraining_dataset.main(
            [*arguments, "--output-dir", str(output), "--blanks-separate-docs", value]
        )
        metadata = read_metadata(str(output))
        documents[value] = (metadata.blanks_separate_docs, metadata.counts["documents"])

    assert documents["False"] == documents["0"] == (False, 1)
    assert documents["true"] == documents["YES"]
    assert documents["true"][0] and documents["true"][1] > 3


def test_openwebtext(tmp_path):
    write_vocabulary(tmp_path)
    stream = random.Random(2)
    (tmp_path / "openwebtext").mkdir()
    for name, count in [("one.xz", 4), ("two.tar", 3)]:
        mode = "w:xz" if name.endswith("xz") else "w"
        with tarfile.open(tmp_path / "openwebtext" / name, mode) as tar:
            for number in range(count):
                path = tmp_path / "member"
                path.write_text(document(stream, 9) + "\n" + document(stream, 3))
                tar.add(path, f"{number}.txt")
    (tmp_path / "openwebtext" / ".hidden").write_text("no archive")
    arguments = ["--data-dir", str(tmp_path), "--max-seq-length", "16", "--num-out-files", "2"]

    build_openwebtext_pretraining_dataset.main(arguments)
    first = content(tmp_path / "pretrain_tfrecords")
    build_openwebtext_pretraining_dataset.main(
        [*arguments, "--overwrite", "--sampling", "official"]
    )

    metadata, _ = read_shards(tmp_path / "pretrain_tfrecords")
    assert (metadata.counts["documents"], metadata.counts["files"]) == (7, 2)
    assert metadata.counts["lines"] == 7 * 12
    assert metadata.sampling == "official"
    assert content(tmp_path / "pretrain_tfrecords") != first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_build_leaves_nothing(tmp_path, number):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [100])
    before = {path.name for path in tmp_path.iterdir()}
    code = (
        "from electra_tf2.data.building import flags\nfrom electra_tf2.data.sources import reader\n"
        "import build_pretraining_dataset, signal, sys, time\n"
        # A shell that starts the tests in the background has SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "reader.check_utf8 = lambda file, **_: (print('under way', flush=True), time.sleep(60))\n"
        "flags.run_builder(lambda _: build_pretraining_dataset.main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--corpus-dir", folder, "--vocab-file", vocab,
         "--output-dir", str(tmp_path / "out"), "--num-out-files", "3"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "under way" not in process.stdout.readline():
        assert process.poll() is None
    assert any(path.name.startswith(".out.partial-") for path in tmp_path.iterdir())

    process.send_signal(number)
    _, errors = process.communicate(timeout=30)

    assert "Traceback" not in errors
    after = {path.name for path in tmp_path.iterdir()}
    if number == signal.SIGKILL:
        assert "out" not in after
        build_dataset(BuildConfig(folder, vocab, str(tmp_path / "out"), num_out_files=1))
        after = {path.name for path in tmp_path.iterdir()} - {"out"}
    else:
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert after == before


@pytest.mark.slow
def test_killed_worker_fails_the_program(tmp_path):
    vocab = write_vocabulary(tmp_path)
    folder = write_corpus(tmp_path / "corpus", [6 * CHUNK_BYTES])
    before = content(tmp_path)
    process = subprocess.Popen(
        [sys.executable, build_pretraining_dataset.__file__, "--corpus-dir", folder,
         "--vocab-file", vocab, "--output-dir", str(tmp_path / "out"), "--num-processes", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    victim = None
    while victim is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        victim = _a_worker_of(process.pid)

    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "error: A worker process ended before its work was done." in errors
    assert "SIGKILL" in errors and "Traceback" not in errors
    assert content(tmp_path) == before


def _a_worker_of(parent):
    """The id of a spawned child (by its command line), or None."""
    children = f"/proc/{parent}/task/{parent}/children"
    if not os.path.exists(children):
        pytest.skip("needs Linux' /proc to find the worker processes")
    with open(children) as file:
        for pid in file.read().split():
            try:
                with open(f"/proc/{pid}/cmdline") as command:
                    if "spawn_main" in command.read():
                        return int(pid)
            except FileNotFoundError:
                continue
    return None
