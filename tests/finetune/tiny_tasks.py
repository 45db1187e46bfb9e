"""A tiny pre-trained model and tiny tasks, and ways to run the program on them."""

import contextlib
import io
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np

from configure_finetuning import FinetuningConfig
from electra_tf2.loading.folder import make_model_folder, write_model_folder
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.normalization import UNCASED
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import PIECES, write_vocabulary
from tests.programs import run_python

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "run_finetuning.py"
MODEL = "tiny"
POSITIONS = 64
NETWORK = TransformerConfig(
    vocab_size=len(PIECES),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    embedding_size=8,
    max_position_embeddings=POSITIONS,
)
# "good" sentences have one of these words and the others don't: learnt in a hundred steps.
MARKS = ("ship", "harbour")
HPARAMS = {
    "task_names": ["marks"],
    "tasks": {"marks": {"kind": "classification", "text": "text", "label": "label"}},
    "max_seq_length": 32,
    "train_batch_size": 8,
    "eval_batch_size": 16,
    "num_train_epochs": 2.0,
    "learning_rate": 1e-3,
    "log_every_steps": 4,
}
# Enough to learn which words matter: 240 examples, so 30 batches x 6 epochs.
LEARN = {"num_train_epochs": 6.0, "learning_rate": 2e-3, "layerwise_lr_decay": None}
SHORT = {"num_train_epochs": 0.2}  # 6 steps


def write_model(data_dir, network=NETWORK, name=MODEL, seed=0):
    """Writes the folder of a "pre-trained" model with random weights, as run_pretraining.py does.

    Returns:
        The model's folder.
    """
    import keras

    from electra_tf2.modeling.encoder import Encoder

    if not (data_dir / "vocab.txt").exists():
        write_vocabulary(data_dir)
    keras.utils.set_random_seed(seed)
    encoder = Encoder(network, name="electra")
    encoder.build()
    weights = {v.path: np.asarray(v) for v in encoder.trainable_variables}
    # As a model after pre-training: it holds other networks too.
    weights["discriminator_predictions/logit/bias"] = np.zeros(1, np.float32)
    folder = str(data_dir / "models" / name)
    make_model_folder(folder)
    write_model_folder(
        folder,
        hparams={},
        network=network,
        vocab_file=str(data_dir / "vocab.txt"),
        casing=UNCASED,
    )
    CheckpointStore(folder).save(10, weights, {}, {"examples_seen": 80})
    return pathlib.Path(folder)


def sentences(count, seed=0):
    """(text, label) pairs; the label is whether one of `MARKS` occurs."""
    stream = random.Random(seed)
    plain = [word for word in PIECES[7:22] if word not in MARKS]
    pairs = []
    for i in range(count):
        words = stream.choices(plain, k=stream.randint(2, 12))
        if i % 2:
            words[stream.randrange(len(words))] = stream.choice(MARKS)
        pairs.append((" ".join(words), "good" if i % 2 else "bad"))
    stream.shuffle(pairs)
    return pairs


def write_table(path, pairs, header="text\tlabel"):
    """Writes a TSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (header, *map("\t".join, pairs))))


def write_marks(data_dir, train=240, dev=33):
    """Writes the task without code that `HPARAMS` describes; returns its folder."""
    folder = data_dir / "finetuning_data" / "marks"
    write_table(folder / "train.tsv", sentences(train))
    write_table(folder / "dev.tsv", sentences(dev, seed=1))
    return folder


def write_cola(data_dir, train=24, dev=9, test=5):
    """Writes the same sentences in the files of cola."""
    folder = data_dir / "finetuning_data" / "cola"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("dev", dev)):
        rows = [f"gj04\t{int(y == 'good')}\t\t{x}" for x, y in sentences(count, len(split))]
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    rows = [f"{i}\t{x}" for i, (x, _) in enumerate(sentences(test, 9))]
    (folder / "test.tsv").write_text("\n".join(["index\tsentence", *rows]) + "\n")
    return folder


def write_chunk(data_dir, train=12, dev=5):
    """Writes a chunking task: `MARKS` are noun phrases; returns its folder."""
    folder = data_dir / "finetuning_data" / "chunk"
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("dev", dev)):
        blocks = [
            "\n".join(f"{w} X {'B-NP' if w in MARKS else 'O'}" for w in text.split())
            for text, _ in sentences(count, len(split))
        ]
        (folder / f"{split}.txt").write_text("\n\n".join(blocks) + "\n")
    return folder


def write_squad(data_dir, name="squad", train=8, dev=4):
    """Writes a SQuAD 2.0 task whose answers are `MARKS`; returns its folder."""
    folder = data_dir / "finetuning_data" / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("dev", dev)):
        paragraphs = []
        for number, (text, label) in enumerate(sentences(count, len(split))):
            word = next((w for w in text.split() if w in MARKS), None)
            answers = [{"text": word, "answer_start": text.index(word)}] if word else []
            question = {
                "id": f"{split}{number}",
                "question": "the ship or the harbour",
                "answers": answers,
                "is_impossible": label == "bad",
            }
            paragraphs.append({"context": text, "qas": [question]})
        data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"{split}.json").write_text(json.dumps(data))
    return folder


def model_of(data_dir):
    """The folder of the pre-trained model."""
    return data_dir / "models" / MODEL


def configure(data_dir, model=MODEL, **hparams):
    """The configuration that `arguments` gives."""
    return FinetuningConfig(model, str(data_dir), **(HPARAMS | hparams))


def arguments(data_dir, *more, model=MODEL, **hparams):
    """Command line of run_finetuning.py for `HPARAMS` and the overrides given."""
    text = json.dumps(HPARAMS | hparams)
    return ["--data-dir", str(data_dir), "--model-name", model, "--hparams", text, *more]


def finetune_here(data_dir, **hparams):
    """Runs it in this process; returns (results, what was printed)."""
    from finetune.run.finetune import finetune

    with contextlib.redirect_stderr(io.StringIO()) as shown:
        results = finetune(configure(data_dir, **hparams))
    return results, shown.getvalue()


def start(data_dir, **hparams):
    """Starts it in a process of its own; its stderr is piped."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments(data_dir, **hparams)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finetune_on_devices(trial, data_dir, devices, stop_at=None, **hparams):
    """Runs it in a process with so many devices.

    Args:
        trial: name of the trial's folder.
        data_dir: the data folder.
        devices: how many the CPU is split into.
        stop_at: step after which the process gets a SIGTERM.
        **hparams: beside `HPARAMS`.

    Returns:
        Its exit code, and the newest weights of the trial.
    """
    stop = {"STOP_AT": str(stop_at)} if stop_at else {}
    done = run_python(
        "tests/on_devices.py", *arguments(data_dir, **hparams),
        check=False, timeout=1800, PROGRAM="run_finetuning", VIRTUAL_DEVICES=str(devices), **stop,
    )  # fmt: skip
    store = CheckpointStore(str(model_of(data_dir) / "finetuning_models" / trial))
    newest = store.latest()
    assert newest is not None, done.stderr[-3000:]
    return done.returncode, store.load(newest).weights
