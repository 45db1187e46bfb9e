"""Data sets built with Apache Beam beside those of the plain builder."""

import collections
import errno
import os
import random
import re
import sys
import tarfile
import types

import pytest
import tensorflow as tf

import build_openwebtext_pretraining_dataset
import build_pretraining_dataset
from electra_tf2 import cli
from electra_tf2.data.building import beam as beam_build
from electra_tf2.data.building import beam_files, corpus
from electra_tf2.data.building.beam_files import NOT_SHARED, JobFolder
from electra_tf2.data.building.build import BuildConfig, build_dataset
from electra_tf2.data.shards import read_metadata
from electra_tf2.data.sources import reader
from electra_tf2.data.sources.chunks import CHUNK_BYTES
from electra_tf2.data.sources.found import find_files
from electra_tf2.errors import UserError
from tests.data.small_corpus import content, document, write_corpus, write_vocabulary

beam_runner = pytest.importorskip(
    "apache_beam.runners.runner", reason="needs Apache Beam: pip install 'electra-tf2[beam]'"
)

TWO_PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture
def small_steps(monkeypatch):
    """Many stretches, slices and pieces of a corpus of some kilobytes. In this process only."""
    from electra_tf2.data.building import beam as beam_steps

    monkeypatch.setattr(beam_build, "STRETCH_BYTES", 5000)
    monkeypatch.setattr(beam_steps, "SLICE_TASKS", 2)
    monkeypatch.setattr(beam_steps, "PIECE_BYTES", 3000)
    monkeypatch.setattr(corpus, "CHUNK_BYTES", 1000)
    cut = reader.plan_chunks
    monkeypatch.setattr(
        reader, "plan_chunks", lambda file, **options: cut(file, chunk_bytes=700, **options)
    )


def examples(folder):
    """How often every example is in a data set."""
    metadata = read_metadata(str(folder))
    paths = [str(folder / shard.name) for shard in metadata.shards]
    return collections.Counter(record.numpy() for record in tf.data.TFRecordDataset(paths))


def build_both(tmp_path, corpus_dir, *, beam_options=(), **settings):
    """Builds a corpus plainly and with Beam; returns the two folders."""
    vocab = write_vocabulary(tmp_path)
    plain, beam = tmp_path / "plain", tmp_path / "beam"
    build_dataset(BuildConfig(corpus_dir, vocab, str(plain), **settings))
    settings |= {"runner": "DirectRunner", "beam_options": beam_options}
    build_dataset(BuildConfig(corpus_dir, vocab, str(beam), **settings))
    return plain, beam


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"seed": 3, "split_long_lines": True, "num_out_files": 1},
        {"blanks_separate_docs": False, "num_out_files": 40},
        {"segmentation": "dynamic"},
    ],
    ids=["default", "split", "files", "documents"],
)
def test_same_examples_as_the_plain_builder(tmp_path, small_steps, settings):
    folder = write_corpus(tmp_path / "corpus", [100, 20_000, 0, 3000, 9000, 1])
    settings = {"max_seq_length": 32, "num_out_files": 7} | settings

    plain, beam = build_both(tmp_path, folder, **settings)

    assert len(examples(plain)) > 20
    assert examples(beam) == examples(plain)
    assert content(beam) == content(plain), "down to the bytes of every shard and the metadata"
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "vocab.txt", "plain", "beam"}


def test_steps_that_are_run_again_change_nothing(tmp_path, small_steps):
    folder = write_corpus(tmp_path / "corpus", [100, 5000])

    options = ("--direct_runner_bundle_repeat=1",)
    plain, beam = build_both(tmp_path, folder, beam_options=options, num_out_files=3)

    assert content(beam) == content(plain)


@pytest.mark.slow
def test_several_worker_processes_write_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(beam_build, "STRETCH_BYTES", 400_000)
    folder = write_corpus(tmp_path / "corpus", [100, 5 * CHUNK_BYTES, 300_000, 300_000, 1])

    plain, beam = build_both(
        tmp_path, folder, beam_options=TWO_PROCESSES, max_seq_length=64, num_out_files=5
    )

    assert examples(beam) == examples(plain)
    assert content(beam) == content(plain)


def test_job_server(tmp_path, small_steps):
    """Beam's own job service, which speaks the protocol of Flink's and Spark's job servers."""
    from apache_beam.runners.portability.local_job_service import LocalJobServicer

    folder = write_corpus(tmp_path / "corpus", [100, 5000])
    vocab = write_vocabulary(tmp_path)
    service = LocalJobServicer(staging_dir=str(tmp_path / "staging"))
    options = (f"--job_endpoint=localhost:{service.start_grpc_server()}",
               "--environment_type=LOOPBACK")  # fmt: skip
    build_dataset(BuildConfig(folder, vocab, str(tmp_path / "plain"), num_out_files=3))
    try:
        build_dataset(
            BuildConfig(folder, vocab, str(tmp_path / "beam"), num_out_files=3,
                        runner="PortableRunner", beam_options=options)
        )  # fmt: skip
    finally:
        service.stop()

    assert content(tmp_path / "beam") == content(tmp_path / "plain")


def test_archives(tmp_path, small_steps):
    vocab = write_vocabulary(tmp_path)
    assert vocab == str(tmp_path / "vocab.txt")
    stream = random.Random(2)
    (tmp_path / "openwebtext").mkdir()
    for number in range(5):
        with tarfile.open(tmp_path / "openwebtext" / f"{number}.tar", "w") as tar:
            (tmp_path / "member").write_text(document(stream, 20))
            tar.add(tmp_path / "member", "a.txt")
    arguments = ["--data-dir", str(tmp_path), "--num-out-files", "3", "--max-seq-length", "32"]
    build_openwebtext_pretraining_dataset.main(arguments)
    plain = content(tmp_path / "pretrain_tfrecords")

    build_openwebtext_pretraining_dataset.main(
        [*arguments, "--overwrite", "--runner", "DirectRunner"]
    )

    assert content(tmp_path / "pretrain_tfrecords") == plain


def check_failure(tmp_path, capsys, expected, *flags):
    """Runs the program with Beam; checks what it says and that it leaves everything as it was."""
    before = content(tmp_path)
    arguments = ["--corpus-dir", str(tmp_path / "corpus"), "--output-dir", str(tmp_path / "out"),
                 "--vocab-file", str(tmp_path / "vocab.txt"), "--num-out-files", "3"]  # fmt: skip

    with pytest.raises(SystemExit) as caught:
        cli.run(lambda _: build_pretraining_dataset.main([*arguments, *flags]))

    message = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" not in message
    assert re.search("^error: ", message, re.MULTILINE), message
    for part in expected:
        assert part in message
    assert content(tmp_path) == before


@pytest.fixture
def small_corpus(tmp_path):
    """Folder of a corpus, and a vocabulary."""
    return write_corpus(tmp_path / "corpus", [3000]), write_vocabulary(tmp_path)


@pytest.fixture
def bad_corpus(tmp_path):
    """A corpus with a file of another encoding."""
    write_vocabulary(tmp_path)
    write_corpus(tmp_path / "corpus", [3000, 3000])
    (tmp_path / "corpus" / "bad.txt").write_bytes(b"one\ntwo\nna\xefve\n")
    return ["not UTF-8", f"{tmp_path}/corpus/bad.txt, line 3, byte 10", "0xef", "Convert the file"]


def test_bad_file_is_named_before_anything_is_built(tmp_path, capsys, bad_corpus, monkeypatch):
    from electra_tf2.data.building import beam as beam_steps

    monkeypatch.setattr(beam_steps, "write_pieces", pytest.fail)
    check_failure(tmp_path, capsys, bad_corpus, "--runner", "DirectRunner")


def test_bad_file_that_comes_to_light_late(tmp_path, capsys, bad_corpus, monkeypatch):
    # As for files that aren't local.
    monkeypatch.setattr(reader, "check_utf8", lambda file, **_: None)
    check_failure(tmp_path, capsys, bad_corpus, "--runner", "DirectRunner")


@pytest.mark.slow
def test_bad_file_in_a_worker_process(tmp_path, capfd, bad_corpus):
    check_failure(tmp_path, capfd, bad_corpus, "--runner", "DirectRunner", "--", *TWO_PROCESSES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of Beam's
def test_worker_process_that_dies(tmp_path):
    folder = write_corpus(tmp_path / "corpus", [3000])
    files, _ = find_files(folder, "--corpus-dir")
    job = beam_build.BeamJob("DirectRunner", TWO_PROCESSES)

    with pytest.raises(UserError, match="(?s)Beam job failed.*--runner DirectRunner"):
        # Where a worker would load the tokenizer it aborts.
        job.build_shards(corpus.TextCorpus(files, 32), os.abort, 2, JobFolder(str(tmp_path), "out"))


def test_full_disk(tmp_path, small_corpus, capsys, monkeypatch):

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(beam_files, "_write_piece", fail)
    expected = ["disk is full", f"{tmp_path}/out", "No space left", "Free some space"]
    check_failure(tmp_path, capsys, expected, "--runner", "DirectRunner")


@pytest.mark.parametrize(
    "flags, expected",
    [
        (["--runner", "Direkt"], ["can't use this runner", "--runner Direkt", "Valid values"]),
        (["--runner", "no.such.Runner"], ["can't use this runner", "No module named 'no'"]),
        (
            ["--runner", "DirectRunner", "--", "--direct_num_workers=many"],
            ["can't use this runner", "--direct_num_workers", "'many'"],
        ),
    ],
)
def test_runners_and_options_that_beam_refuses(tmp_path, small_corpus, capsys, flags, expected):
    check_failure(tmp_path, capsys, expected, *flags)


def test_data_set_is_replaced_only_when_asked(tmp_path, small_corpus, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pretrain_data.tfrecord-0-of-1").write_bytes(b"old")
    expected = ["not empty", f"{tmp_path}/out", "--overwrite"]
    check_failure(tmp_path, capsys, expected, "--runner", "DirectRunner")


class Result:
    """What a runner returns that does nothing."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.cancelled = False

    def wait_until_finish(self):
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def idle_runner(monkeypatch):
    """A cluster's runner as Beam sees it: the job ends in the way that the test sets."""
    results, options_seen = [], []

    class Idle(beam_runner.PipelineRunner):
        outcome = "DONE"

        def run_pipeline(self, pipeline, options):
            options_seen.append(options.get_all_options(drop_default=True))
            results.append(Result(Idle.outcome))
            return results[-1]

    module = types.ModuleType("idle_beam_runner")
    module.Idle = Idle
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return types.SimpleNamespace(name="idle_beam_runner.Idle", kind=Idle, results=results,
                                 options_seen=options_seen)  # fmt: skip


@pytest.mark.parametrize(
    "outcome, expected",
    [
        ("CANCELLED", ["without a result", "state CANCELLED", "runner's own log"]),
        ("DONE", ["without a result", "state DONE", "all workers see the output folder"]),
        (ConnectionError("refused"), ["job failed", "ConnectionError: refused", "runner's own"]),
        (RuntimeError("Traceback\n  lost\nKilled."), ["job failed", "RuntimeError: Killed."]),
        (RuntimeError(f"…{NOT_SHARED}…"), [NOT_SHARED, "network file system"]),
    ],
)
def test_jobs_that_do_not_succeed(tmp_path, small_corpus, capsys, idle_runner, outcome, expected):
    idle_runner.kind.outcome = outcome
    options = ["--", "--flink_master=nowhere:1", "--parallelism=3"]

    check_failure(tmp_path, capsys, expected, "--runner", idle_runner.name, *options)

    assert idle_runner.options_seen[0]["flink_master"] == "nowhere:1"
    assert idle_runner.results[0].cancelled == isinstance(outcome, BaseException)


def test_ctrl_c_cancels_the_job(tmp_path, small_corpus, idle_runner):
    folder, vocab = small_corpus
    before = content(tmp_path)
    idle_runner.kind.outcome = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        build_dataset(BuildConfig(folder, vocab, str(tmp_path / "out"), runner=idle_runner.name))

    assert idle_runner.results[-1].cancelled
    assert content(tmp_path) == before


def test_bug_in_a_step_keeps_its_traceback(tmp_path, small_corpus, monkeypatch):
    from electra_tf2.data.building import beam as beam_steps

    folder, vocab = small_corpus
    before = content(tmp_path)
    monkeypatch.setattr(beam_steps, "write_shard", lambda *_: 1 // 0)

    with pytest.raises(RuntimeError, match="(?s)Beam worker failed.*in process.*ZeroDivision"):
        build_dataset(BuildConfig(folder, vocab, str(tmp_path / "out"), runner="DirectRunner"))

    assert content(tmp_path) == before


def test_folder_that_workers_do_not_see(tmp_path, small_corpus, monkeypatch):
    folder, vocab = small_corpus
    make = JobFolder.make

    def make_elsewhere(self, ordered, stretch_bytes):
        stretches = make(self, ordered, stretch_bytes)
        os.remove(os.path.join(self.path, "files.jsonl"))
        return stretches

    monkeypatch.setattr(JobFolder, "make", make_elsewhere)
    config = BuildConfig(folder, vocab, str(tmp_path / "out"), runner="DirectRunner")

    with pytest.raises(UserError, match=NOT_SHARED):
        build_dataset(config)

    assert not (tmp_path / "out").exists()
