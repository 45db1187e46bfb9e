"""Stored files that were damaged, or are of another program, end in an error that names them.

Every stored file of a model, a data set and a run is replaced by things it should not be. Whatever
they are, opening ends in a `UserError` with the file's path, or opens (where what was changed does
not matter), in seconds and without taking the memory that a damaged size asks for.
"""

import functools
import json
import os
import resource
import shutil
import struct
import time

import pytest

from electra_tf2.data.quality import figures, warnings
from electra_tf2.data.shards import DatasetMetadata, Shard, read_metadata, write_metadata
from electra_tf2.errors import UserError
from electra_tf2.export.huggingface import ExportOptions
from electra_tf2.formats.huggingface_names import COPY_AGAIN
from electra_tf2.loading.pretrained import model_vocabulary, open_pretrained
from electra_tf2.stored_json import LARGEST
from electra_tf2.sweep.size_results import read_sweep
from electra_tf2.training.checkpoints import CheckpointStore
from finetune.export.huggingface import export_huggingface
from finetune.fine_tuned import FineTuned
from finetune.run.pretrained_model import pretraining_pfs_days
from finetune.run.results import read_results
from tests.finetune.fine_tuned_models import write_fine_tuned
from tests.formats.huggingface_models import write_model

STEP = "checkpoints/step-00000004"
FOLDER, PIPE = "a folder", "a pipe"
# JSON values that are of the wrong type, too large or too small for any field.
VALUES = [None, True, -1, 0, 1e308, 10**6, 10**9, LARGEST + 1, 10**400, "x\x1b[2J", [], [[]], {}]
CONTENTS = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "depth": b'{"a":' * 50_000,
    "depth of lists": b"[" * 100_000,
    "a list": b"[]",
    "text": b'"a"',
    "an object": b"{}",
    "NaN": b'{"step": NaN, "hparams": NaN, "network": Infinity}',
    "digits": b'{"step": ' + b"9" * 5000 + b"}",
    "zeros": bytes(1000),
}


def damage(path, how):
    """Puts something else in a file's place."""
    if isinstance(how, bytes):
        path.write_bytes(how)
        return
    os.remove(path)
    path.mkdir() if how == FOLDER else os.mkfifo(path)


def outcome(path, opens):
    """What opening ends in: None, or the error, which names the file and says what to do."""
    started = time.monotonic()
    try:
        opens()
        error = None
    except UserError as caught:
        error = caught
        assert str(path) in str(error.where), (error.where, error.received)
        assert error.received is not None and error.remedy
        assert "\x1b" not in str(error)
    assert time.monotonic() - started < 5
    return error


def paths_of(value, path=()):
    """Where values stand in JSON: keys and places of at most one element of each list."""
    if path:
        yield path
    if isinstance(value, list):
        value = dict(enumerate(value[:1]))
    for key, own in value.items() if isinstance(value, dict) else ():
        yield from paths_of(own, (*path, key))


def replaced(content, path, value):
    """A copy of JSON with another value at a path."""
    changed = json.loads(json.dumps(content))
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder, _, _ = write_fine_tuned(tmp_path_factory.mktemp("trial"), ["marks", "grades"])
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("huggingface")
    write_model(folder, "discriminator")
    return folder


@pytest.fixture
def copy_of(tmp_path):
    def copy(folder):
        shutil.copytree(folder, tmp_path / "model")
        return tmp_path / "model"

    return copy


def open_weights(model):
    """Opens a fine-tuned model as what other trainings may start from."""
    pretraining_pfs_days(open_pretrained(str(model)))


def open_everything(model):
    """Opens a fine-tuned model in all ways but the slow one, which builds the network."""
    open_weights(model)
    options = ExportOptions()
    export_huggingface(str(model), str(model.parent / f"{time.monotonic_ns()}"), options)


FILES = ["config.json", "casing.json", "tasks.json", f"{STEP}/state.json"]


@pytest.mark.parametrize("name", [*FILES, f"{STEP}/weights.safetensors"])
def test_a_trial_s_file_that_is_something_else(trial, copy_of, name):
    model = copy_of(trial)
    path, whole = model / name, (trial / name).read_bytes()
    for label, how in (CONTENTS | {FOLDER: FOLDER, PIPE: PIPE}).items():
        damage(path, how)
        error = outcome(path, lambda: open_everything(model))
        assert error is not None, label
        os.rmdir(path) if how == FOLDER else os.remove(path)
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_trial_s_file_with_another_value(trial, copy_of, name):
    model = copy_of(trial)
    path, whole = model / name, json.loads((trial / name).read_text("utf-8"))
    refused = 0
    for place in paths_of(whole):
        if name == "config.json" and place[0] == "hparams":
            continue  # below, where they are read
        # Opening a model with its tasks takes longer.
        for value in [None, 10**400, "x", [], ...] if name == "tasks.json" else [*VALUES, ...]:
            path.write_text(json.dumps(replaced(whole, place, value)))
            opens = open_everything if name == "tasks.json" else open_weights
            # Of a fingerprint it is the other file that differs.
            named = model if place[0] == "files" else path
            refused += outcome(named, functools.partial(opens, model)) is not None
    assert refused


@pytest.mark.slow
def test_hparams_of_a_trial_with_another_value(trial, copy_of):
    model = copy_of(trial)
    path = model / "config.json"
    whole = json.loads(path.read_text("utf-8"))
    for name in ("task_names", "tasks", "max_seq_length", "model_hparam_overrides", "precision"):
        for value in ([], 10**9, "x", [1], {"marks": 1}):
            path.write_text(json.dumps(replaced(whole, ("hparams", name), value)))
            outcome(path, lambda: FineTuned.from_pretrained(str(model)))
    path.write_text(json.dumps(replaced(whole, ("hparams", "max_seq_length"), 10**9)))
    error = outcome(path, lambda: FineTuned.from_pretrained(str(model)))
    assert error is not None and "hparam max_seq_length" in error.where
    for name in ("model_name", "data_dir"):  # not hparams, and passed over
        path.write_text(json.dumps(replaced(whole, ("hparams", name), "x")))
        FineTuned.from_pretrained(str(model))


def test_sizes_are_held_against_the_weights(trial, copy_of):
    model = copy_of(trial)
    path = model / "config.json"
    whole = json.loads(path.read_text("utf-8"))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings"):
        for value in (10**6, 10**9, 2**63):
            path.write_text(json.dumps(replaced(whole, ("network", name), value)))
            error = outcome(path, lambda: open_pretrained(str(model)))
            assert error is not None and name in str(error.received)
    path.write_text(json.dumps(replaced(whole, ("network", "num_hidden_layers"), 2)))
    error = outcome(path, lambda: open_pretrained(str(model)))
    assert error is not None and "num_hidden_layers: 2 there, 1 in the weights" in error.received
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 200_000  # KiB


def header(arrays, length=None, body=b""):
    text = json.dumps(arrays).encode() if isinstance(arrays, dict) else arrays
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def array(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS = {
    "a header longer than the file": header({}, 1 << 40),
    "a header longer than any": header({}, (1 << 64) - 1),
    "a body longer than the file": header({"a": array([1 << 30], [0, 1 << 32])}, body=bytes(8)),
    "a body of 2^63 bytes": header({"a": array([1 << 61], [0, 1 << 63])}, body=bytes(8)),
    "a shape without bytes": header({"a": array([0, 1 << 62], [0, 0])}),
    "a negative size": header({"a": array([-1], [0, -4])}),
    "a size that is no integer": header({"a": array([1.0], [0, 4])}, body=bytes(4)),
    "a truth value as a size": header({"a": array([True], [0, 4])}, body=bytes(4)),
    "many dimensions": header({"a": array([1] * 100, [0, 4])}, body=bytes(4)),
    "a dtype of another kind": header({"a": array([1], [0, 4], ["F32"])}, body=bytes(4)),
    "depth": header(b'{"a":' * 50_000),
    "a list": header(b"[]"),
    "not UTF-8": header(b'{"\xff": 1}'),
    "an entry that is a number": header({"a": 1}),
    "overlapping arrays": header({"a": array([1], [0, 4]), "b": array([1], [0, 4])}, body=bytes(4)),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_weights_with_another_header(theirs, copy_of, content):
    path = copy_of(theirs) / "model.safetensors"
    path.write_bytes(content)
    assert outcome(path, lambda: open_pretrained(str(path.parent)))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_hugging_face_file_with_another_value(theirs, copy_of, name):
    model = copy_of(theirs)
    path = model / name
    if name == "tokenizer_config.json":
        path.write_text('{"do_lower_case": true, "strip_accents": true}')
    whole, content = path.read_bytes(), json.loads(path.read_bytes())
    os.remove(model / "vocab.txt") if (model / "vocab.txt").exists() else None

    def opens():
        pretrained = open_pretrained(str(model))
        assert pretrained.network is not None
        model_vocabulary(pretrained, pretrained.network.vocab_size, None, "--vocab-file")

    for place in list(paths_of(content))[:40]:
        for value in [*VALUES, ...]:
            path.write_text(json.dumps(replaced(content, place, value)))
            outcome(model, opens)  # a size that differs may show in another of the files
    for how in [*CONTENTS.values(), FOLDER, PIPE]:
        path.write_bytes(whole)
        damage(path, how)
        outcome(model, opens)
        os.rmdir(path) if how == FOLDER else os.remove(path)


RESULTS = {
    "model_name": "m", "task_names": ["a"], "main_metrics": {"a": "f1"}, "hparams": {},
    "origin": {"x": "y"}, "pretraining_pfs_days": 0.5, "evaluations": [],
    "trials": [{"trial": 1, "seed": 0, "checkpoint": "c", "step": 3, "seconds": 1.0,
                "scores": {"a": {"f1": None}}, "stuck": {"a": "x"}, "files": {"a": ["f"]},
                "best": {"step": 1, "score": 2, "scores": {"a": {"f1": 3}}, "checkpoint": None}}],
}  # fmt: skip
SWEEP = {
    "model_name": "m", "hidden_size": 8, "num_train_steps": 1, "num_warmup_steps": 1,
    "train_batch_size": 1, "max_seq_length": 8, "evaluated_on": "x", "electric": False,
    "sizes": [0.5],
    "results": [{"size": 0.5, "model_dir": "m", "hidden_size": 4, "generator_parameters": 1,
                 "parameters": 2, "figures": {"disc_auc": None}, "evaluated": {},
                 "scores": {"a": ["f1", [1.0, None]]}}],
}  # fmt: skip


@pytest.mark.parametrize(
    "read, whole", [(read_results, RESULTS), (read_sweep, SWEEP)], ids=["results", "sweep"]
)
def test_results_with_another_value(tmp_path, read, whole):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(whole))
    assert read(str(path)) is not None
    for place in paths_of(whole):
        for value in [*VALUES, ...]:
            path.write_text(json.dumps(replaced(whole, place, value)))
            outcome(path, lambda: read(str(path)))
    path.write_text(json.dumps(replaced(whole, (*list(whole)[-1:], 0), "x")))
    error = outcome(path, lambda: read(str(path)))
    assert error is not None and f"{list(whole)[-1]}[0]" in error.where
    for how in (*CONTENTS.values(), FOLDER, PIPE):
        path.write_bytes(b"")
        damage(path, how)
        assert outcome(path, lambda: read(str(path)))
        os.rmdir(path) if how == FOLDER else os.remove(path)


def test_metadata_of_data_with_another_value(tmp_path):
    counts = {"documents": 1, "tokens": 9, "characters": 30, "unknown_characters": 1}
    write_metadata(
        str(tmp_path),
        DatasetMetadata(
            vocab_sha256="ab", vocab_size=9, max_seq_length=8, do_lower_case=True,
            strip_accents=True, blanks_separate_docs=True, sampling="chunked", seed=0,
            num_examples=2, shards=(Shard("a", 2, 99),), counts=counts, electra_tf2_version="0",
        ),
    )  # fmt: skip
    path = tmp_path / "metadata.json"
    whole = json.loads(path.read_text("utf-8"))

    def reads():
        metadata = read_metadata(str(tmp_path))
        assert metadata is not None
        figures(metadata)
        warnings(metadata)

    for place in paths_of(whole):
        for value in [*VALUES, ...]:
            path.write_text(json.dumps(replaced(whole, place, value)))
            outcome(path, reads)
    for how in (*CONTENTS.values(), FOLDER, PIPE):
        path.write_bytes(b"")
        damage(path, how)
        assert outcome(path, reads)
        os.rmdir(path) if how == FOLDER else os.remove(path)


def test_a_file_too_large_to_be_one_of_ours(trial, copy_of):
    path = copy_of(trial) / "config.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # of which the disk has nothing
    error = outcome(path, lambda: open_pretrained(str(path.parent)))
    assert error is not None and "more than" in error.received


@pytest.mark.parametrize("how", [FOLDER, PIPE, b"\xff", b"", b'model_checkpoint_path: "elsewhere"'])
def test_an_official_checkpoint_s_file_that_is_something_else(tmp_path, how):
    for name in ("checkpoint", "model.ckpt-1.index", "model.ckpt-1.data-00000-of-00001"):
        (tmp_path / name).write_bytes(b'model_checkpoint_path: "model.ckpt-1"')
    for name in ("checkpoint", "model.ckpt-1.index"):
        whole = (tmp_path / name).read_bytes()
        damage(tmp_path / name, how)
        assert outcome(tmp_path, lambda: open_pretrained(str(tmp_path)))
        shutil.rmtree(tmp_path / name) if how == FOLDER else os.remove(tmp_path / name)
        (tmp_path / name).write_bytes(whole)


def test_a_position_that_is_none(trial, copy_of):
    model = copy_of(trial)
    path = model / STEP / "state.json"
    state = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(state | {"step": "4"}))
    store = CheckpointStore(str(model))
    error = outcome(path, lambda: store.load(str(model / STEP)))
    assert error is not None and error.where.endswith("field step")


def test_what_to_do_is_said(theirs, copy_of):
    model = copy_of(theirs)
    (model / "config.json").write_text('{"model_type": "electra", "hidden_size": 1000000000}')
    error = outcome(model, lambda: open_pretrained(str(model)))
    assert error is not None and (COPY_AGAIN in error.remedy or "config.json" in error.remedy)
