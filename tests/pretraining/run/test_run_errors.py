"""Bad input to run_pretraining.py: a clear error, a non-zero exit code, nothing changed."""

import os
import shutil

import pytest
import tensorflow as tf

from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.conftest import serialize
from tests.data.small_corpus import content
from tests.pretraining import tiny
from tests.program_errors import error_of

SHARD = "pretrain_tfrecords/pretrain_data.tfrecord-{}-of-2"
NEWEST = "models/three/checkpoints/step-00000003"


def remove(*names):
    def change(root):
        for name in names:
            (root / name).unlink()

    return change


def cut(name, n_bytes):
    def change(root):
        path = root / name
        os.truncate(path, path.stat().st_size - n_bytes)

    return change


def flip(name, offset):
    def change(root):
        data = bytearray((root / name).read_bytes())
        data[offset] ^= 1
        (root / name).write_bytes(data)

    return change


def rewrite(name, old, new):
    def change(root):
        path = root / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def records_without_metadata(length, ids=7, bad_index=0, count=12):
    """Replaces the data by official-style files in which one record is different."""

    def change(root):
        shutil.rmtree(root / "pretrain_tfrecords")
        (root / "pretrain_tfrecords").mkdir()
        with tf.io.TFRecordWriter(str(root / SHARD.format(0))) as writer:
            for index in range(count):
                n, token = (length, ids) if index == bad_index else (tiny.LENGTH, 7)
                values = {"input_ids": token, "input_mask": 1, "segment_ids": 0}
                writer.write(serialize({name: [value] * n for name, value in values.items()}))

    return change


def without(name):
    """Leaves a variable out of the newest checkpoint."""

    def change(root):
        store = CheckpointStore(str(root / "models" / "three"))
        saved = store.load(store.latest())
        weights = {n: array for n, array in saved.weights.items() if n != name}
        store.save(saved.step, weights, saved.optimizer, saved.state)

    return change


# What is changed, the hparams, and what the message must hold: what, where, received, what to do.
DATA_CASES = {
    "no file matches": (
        None, {"pretrain_tfrecords": "{root}/nowhere/*.tfrecord"},
        ["No TFRecord file matches", "{root}/nowhere/*.tfrecord", "there is no folder", "Build"],
    ),
    "no held-out file matches": (
        None, {"eval_tfrecords": "{root}/held_out/*.rec", "do_eval": True},
        ["No TFRecord file matches", "{root}/held_out/*.rec", "other names", "eval_tfrecords"],
    ),
    "no vocabulary": (
        remove("vocab.txt"), {},
        ["no vocabulary file", "{root}/vocab.txt", "no such file", "build_vocabulary.py"],
    ),
    "a vocabulary without a special token": (
        rewrite("vocab.txt", "[MASK]", "[mask]"), {},
        ["lacks [MASK]", "{root}/vocab.txt", "pieces", "needs a line"],
    ),
    "a vocabulary with a duplicate": (
        rewrite("vocab.txt", "bread", "ship"), {},
        ["twice", "{root}/vocab.txt, lines 10 and 11", "'ship'", "Rename"],
    ),
    "a vocabulary of another size": (
        None, {"vocab_size": len(tiny.PIECES) - 1},
        ["more pieces", "{root}/vocab.txt", str(len(tiny.PIECES)), "vocab_size"],
    ),
    "records of another length": (
        None, {"max_seq_length": 16},
        ["another max_seq_length", "{root}/pretrain_tfrecords/metadata.json", "is 32 in the",
         "Set max_seq_length"],
    ),
    "records of another vocabulary": (
        rewrite("vocab.txt", "bread", "toast"), {},
        ["another vocab_sha256", "{root}/pretrain_tfrecords/metadata.json", "vocab_sha256 is",
         "vocab.txt that the data was built with"],
    ),
    "records of another casing": (
        None, {"do_lower_case": False},
        ["another do_lower_case", "{root}/pretrain_tfrecords/metadata.json", "is True in the rec",
         "Set do_lower_case"],
    ),
    "records of other accents": (
        None, {"strip_accents": False},
        ["another strip_accents", "{root}/pretrain_tfrecords/metadata.json", "is True in the rec",
         "Set strip_accents"],
    ),
    "records of another length, without metadata": (
        records_without_metadata(16), {},
        ["another length", "{root}/pretrain_tfrecords", "has 16 values", "Set max_seq_length to 1"],
    ),
    "records with ids outside the vocabulary": (
        records_without_metadata(tiny.LENGTH, ids=99), {},
        ["ids outside the vocabulary", "{root}/pretrain_tfrecords", "id 99", "vocab.txt"],
    ),
    "a truncated shard": (
        cut(SHARD.format(0), 7), {},
        ["truncated", "{root}/" + SHARD.format(0), "bytes, while metadata", "Copy the shard"],
    ),
    "a truncated shard without metadata": (
        lambda root: (records_without_metadata(32)(root), cut(SHARD.format(0), 7)(root)), {},
        ["", "{root}/" + SHARD.format(0), "byte", "again"],
    ),
    "a corrupt shard": (
        flip(SHARD.format(1), -40), {},
        ["corrupt", "{root}/" + SHARD.format(1), "byte", "again"],
    ),
    "a corrupt held-out shard": (
        flip("held_out/pretrain_data.tfrecord-0-of-1", -40),
        {"eval_tfrecords": "{root}/held_out/*.tfrecord*", "do_eval": True},
        ["corrupt", "{root}/held_out/pretrain_data.tfrecord-0-of-1", "byte", "again"],
    ),
}  # fmt: skip

HPARAM_CASES = {
    "an unknown hparam": (
        {"lerning_rate": 1e-3},
        ["Unknown hparam 'lerning_rate'", "hparam lerning_rate", "0.001", "'learning_rate'"],
    ),
    "a number as text": (
        {"train_batch_size": "8"}, ["train_batch_size", "hparam", "'8'", "Give an integer"],
    ),
    "a value out of range": (
        {"learning_rate": -1.0}, ["learning_rate", "hparam", "-1.0", "0"],
    ),
    "an unknown choice": (
        {"on_nonfinite": "ignore"}, ["on_nonfinite", "hparam", "'ignore'", 'or "skip"'],
    ),
    "an unknown key of the network": (
        {"model_hparam_overrides": {"hiden_size": 4}},
        ["hiden_size", "model_hparam_overrides", "4", "'hidden_size'"],
    ),
    "heads that don't divide the width": (
        {"model_hparam_overrides": tiny.NETWORK | {"num_attention_heads": 3}},
        ["heads", "model_hparam_overrides", "num_attention_heads 3", "divides"],
    ),
    "micro-batches that don't divide the batch": (
        {"gradient_accumulation_steps": 3},
        ["micro-batches", "hparams", "train_batch_size = 8", "multiple"],
    ),
    "nothing to do": (
        {"do_train": False}, ["nothing to do", "hparams", "do_eval = False", "Set do_train"],
    ),
    "no model to evaluate": (
        {"do_train": False, "do_eval": True},
        ["no trained model", "{root}/models/new", "no checkpoint", "Train first"],
    ),
    "no checkpoint to start from": (
        {"init_checkpoint": "{root}/nowhere"},
        ["no checkpoint to start from", "init_checkpoint", "{root}/nowhere", "model's folder"],
    ),
    "a checkpoint of another network to start from": (
        {"init_checkpoint": "{root}/models/three", "uniform_generator": False},
        ["another network", "{root}/" + NEWEST, "generator/", "Use the hparams"],
    ),
    "a model folder that is a file": (
        {"model_dir": "{root}/vocab.txt"},
        ["folder can't be made", "{root}/vocab.txt", "a file", "Give a model_dir"],
    ),
}  # fmt: skip

MODEL_CASES = {
    "a model of another width": (
        None, {"model_hparam_overrides": tiny.NETWORK | {"hidden_size": 32}},
        ["another configuration", "{root}/models/three/config.json",
         "hidden_size: the model has 16, this run 32", "--model-name"],
    ),
    "another learning rate": (
        None, {"learning_rate": 5e-3},
        ["another configuration", "{root}/models/three/config.json",
         "learning_rate: the model has 0.001, this run 0.005", "--model-name"],
    ),
    "another vocabulary of the same size": (
        lambda root: [rewrite("vocab.txt", "bread", "toast")(root),
                      records_without_metadata(tiny.LENGTH)(root)],
        {},
        ["tokenized otherwise", "{root}/models/three/vocab.txt",
         "line 11 differs: 'bread' there, 'toast' here", "--model-name"],
    ),
    "other accents in the data": (
        rewrite("pretrain_tfrecords/metadata.json",
                '"strip_accents": true', '"strip_accents": false'),
        {},
        ["tokenized otherwise", "{root}/models/three/casing.json",
         '"strip_accents": true', '"strip_accents": false', "--model-name"],
    ),
    "a stored configuration that is damaged": (
        cut("models/three/config.json", 3), {},
        ["stored configuration", "{root}/models/three/config.json", "Expecting", "line", "Restore"],
    ),
    "a stored configuration that is something else": (
        lambda root: (root / "models/three/config.json").write_text("[1]"), {},
        ["stored configuration", "{root}/models/three/config.json", "list", "Restore"],
    ),
    "a checkpoint that lacks a variable": (
        without("electra/layer_0/attention/query/kernel"), {},
        ["another network", "{root}/" + NEWEST,
         "electra/layer_0/attention/query/kernel is missing", "Use the hparams"],
    ),
    "truncated weights": (
        cut(NEWEST + "/weights.safetensors", 1), {},
        ["truncated or corrupt", "{root}/" + NEWEST + "/weights.safetensors", "bytes instead of",
         "move the folder step-00000003 away"],
    ),
    "corrupt slots": (
        flip(NEWEST + "/optimizer.safetensors", -1), {},
        ["truncated or corrupt", "{root}/" + NEWEST + "/optimizer.safetensors", "checksum",
         "move the folder step-00000003 away"],
    ),
    "a log that someone wrote into": (
        lambda root: (root / "models/three/metrics.jsonl").write_text("loss?\n{}\n"), {},
        ["did not write", "{root}/models/three/metrics.jsonl, line 1", "loss?", "Remove the line"],
    ),
}  # fmt: skip


def check_failure(root, name, hparams, expected):
    hparams = {
        key: value.format(root=root) if isinstance(value, str) else value
        for key, value in hparams.items()
    }
    before = content(root)
    error = error_of(*tiny.main_here(tiny.arguments(root, name, **(tiny.UNIFORM | hparams))))
    for part in expected:
        assert part.format(root=root) in error
    assert content(root) == before


@pytest.mark.parametrize("change, hparams, expected", DATA_CASES.values(), ids=DATA_CASES.keys())
def test_data(small_model, change, hparams, expected):
    root, _ = small_model
    if change:
        change(root)
    check_failure(root, "new", hparams, expected)


@pytest.mark.parametrize("hparams, expected", HPARAM_CASES.values(), ids=HPARAM_CASES.keys())
def test_hparams(small_model, hparams, expected):
    check_failure(small_model[0], "new", hparams, expected)


@pytest.mark.parametrize("change, hparams, expected", MODEL_CASES.values(), ids=MODEL_CASES.keys())
def test_model_folder(small_model, change, hparams, expected):
    root, _ = small_model
    if change:
        change(root)
    check_failure(root, "three", {"num_train_steps": 9} | hparams, expected)


@pytest.mark.parametrize(
    "flags, expected",
    [
        (
            ["--hparams", '{"seed": 1,}'],
            ["not valid JSON", "--hparams, line 1 column 12", '{"seed": 1,}', "JSON object"],
        ),
        (["--model-name", "a/b"], ["folder name", "--model-name", "a/b", "model_dir"]),
        (["--model-name", "\udcc3\udcb6"], ["folder name", "not UTF-8", "PYTHONUTF8", "model_dir"]),
        (["--hparams", "model_name=x"], ["flag of its own", "--hparams", "'x'", "--model-name"]),
    ],
    ids=["bad JSON", "a slash in a model name", "bytes in a model name", "a flag as a hparam"],
)
def test_flags(tmp_path, flags, expected):
    error = error_of(*tiny.main_here(["--data-dir", str(tmp_path), "--model-name", "m", *flags]))
    assert all(part in error for part in expected), error
    assert list(tmp_path.iterdir()) == []


def test_gpu_that_is_not_there(small_model, monkeypatch):
    listed = tf.config.list_physical_devices
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else listed("CPU")
    )
    expected = ["No GPU", "require_gpu", "devices: CPU", "nvidia-smi"]
    check_failure(small_model[0], "new", {"require_gpu": True}, expected)


@pytest.mark.parametrize(
    "hparams, expected",
    [({"pretrain_tfrecords": "nowhere*"}, "No TFRecord file"), ({"sed": 1}, "Did you mean 'seed'")],
    ids=["data", "hparams"],
)
def test_as_a_process(small_model, hparams, expected):
    root, _ = small_model
    before = content(root)
    error = error_of(*tiny.run(root, "new", **hparams))
    assert expected in error
    assert content(root) == before
