"""A tiny data set, hparams for networks that train in seconds, and ways to run the program."""

import contextlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

import build_pretraining_dataset
import run_pretraining
from configure_pretraining import PretrainingConfig
from tests.data.small_corpus import PIECES, write_corpus, write_vocabulary
from tests.program_errors import run_here

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "run_pretraining.py"
LENGTH = 32
GLOB = "pretrain_data.tfrecord*"

# No generator network: half the variables, for tests that are not about the pair.
UNIFORM = {"uniform_generator": True}

# One layer keeps the number of variables low: compiling the optimizer takes most of a run's time.
NETWORK = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": LENGTH,
}
HPARAMS = {
    "model_hparam_overrides": NETWORK,
    "embedding_size": 8,
    "generator_hidden_size": 0.5,
    "vocab_size": len(PIECES),
    "max_seq_length": LENGTH,
    "train_batch_size": 8,
    "eval_batch_size": 8,
    "learning_rate": 1e-3,
    "num_warmup_steps": 4,
    "num_train_steps": 6,
    "log_every_steps": 2,
    "save_checkpoints_steps": 3,
    "shuffle_buffer_size": 16,
}


def write_data(
    folder,
    *,
    sizes=(9000,),
    seed=0,
    shards=2,
    records="pretrain_tfrecords",
    length=LENGTH,
    flags=(),
):
    """Builds a data set with the program for it.

    Args:
        folder: gets vocab.txt (if it has none), the corpus and the records.
        sizes: bytes of the corpus files.
        seed: of the text.
        shards: number of TFRecord files.
        records: name of the folder of the records.
        length: of the examples; None for documents.
        flags: more flags of build_pretraining_dataset.py.

    Returns:
        The folder of the records.
    """
    if not (folder / "vocab.txt").exists():
        write_vocabulary(folder)
    corpus = write_corpus(folder / f"{records}_corpus", sizes, seed)
    given = ["--corpus-dir", corpus, "--vocab-file", str(folder / "vocab.txt")]
    given += ["--output-dir", str(folder / records)]
    given += ["--max-seq-length", str(length)] if length else []
    build_pretraining_dataset.main([*given, "--num-out-files", str(shards), *flags])
    return folder / records


def arguments(data_dir, name="model", **hparams):
    """Command line of run_pretraining.py for `HPARAMS` and the overrides given."""
    text = json.dumps(HPARAMS | hparams)
    return ["--data-dir", str(data_dir), "--model-name", name, "--hparams", text]


def start(data_dir, name="model", *, env=None, script=SCRIPT, stderr=subprocess.PIPE, **hparams):
    """Starts run_pretraining.py in a process of its own; its stderr is piped by default."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(script), *arguments(data_dir, name, **hparams)],
        stderr=stderr,
        text=True,
        env=environment | (env or {}),
    )


def run(data_dir, name="model", **options):
    """Runs it to the end; returns (exit code, stderr)."""
    process = start(data_dir, name, **options)
    _, message = process.communicate(timeout=300)
    return process.returncode, message


def lines(model_dir, split=None):
    """The lines of metrics.jsonl, of all splits or one."""
    found = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if split in (None, line["split"])]


def figures(data_dir, name, split=None):
    """The lines of a model's log without what differs between two equal runs."""
    from electra_tf2.training.throughput import MEASURED

    found = lines(data_dir / "models" / name, split)
    return [{k: v for k, v in line.items() if k not in ("wall_time", *MEASURED)} for line in found]


def configure(data_dir, name="model", **hparams):
    """The configuration that `arguments` gives."""
    return PretrainingConfig(name, str(data_dir), **(HPARAMS | hparams))


def main_here(arguments):
    """Runs the program in this process; returns (exit code, stderr)."""
    return run_here(run_pretraining.main, arguments)


def pretrain_here(data_dir, name="model", **hparams):
    """Trains in this process; returns (figures, what was printed)."""
    from electra_tf2.pretraining.run.pretrain import pretrain

    with contextlib.redirect_stderr(io.StringIO()) as shown:
        figures = pretrain(configure(data_dir, name, **hparams))
    return figures, shown.getvalue()


@contextlib.contextmanager
def disturbed_at(step, disturb):
    """Within it, `disturb` is called when a run in this process has logged a step."""
    from electra_tf2.training.reports import RunLog

    write = RunLog.write

    def write_and_disturb(log, at, scalars, **options):
        write(log, at, scalars, **options)
        if at == step:
            disturb()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "write", write_and_disturb)
        yield


def terminate():
    """Sends this process a SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def die():
    """Ends the run as a bug would."""
    raise RuntimeError("the machine died")


def newest(data_dir, name):
    """The newest checkpoint of a model."""
    from electra_tf2.training.checkpoints import CheckpointStore

    store = CheckpointStore(str(data_dir / "models" / name))
    return store.load(str(store.latest()))


def assert_same_end(data_dir, name, other, *, but=()):
    """Asserts that two models ended with the same step, state, weights and slots, bit for bit.

    Args:
        data_dir: the folder that both are in.
        name: of one model.
        other: of the other one.
        but: parts of the state that may differ.
    """
    found, expected = newest(data_dir, name), newest(data_dir, other)
    states = [{**own.state, **dict.fromkeys(but)} for own in (found, expected)]
    assert found.step == expected.step and states[0] == states[1]
    for these, those in ((found.weights, expected.weights), (found.optimizer, expected.optimizer)):
        assert these.keys() == those.keys()
        for variable, array in those.items():
            assert these[variable].tobytes() == array.tobytes(), variable
