"""Bad input to run_finetuning.py: a clear error, a non-zero exit code, nothing existing changed."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import run_finetuning
from electra_tf2.outputs import folder_lock
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import content
from tests.finetune import tiny_tasks
from tests.program_errors import error_of, run_here

MARKS = "finetuning_data/marks"
PRETRAINED = f"models/{tiny_tasks.MODEL}"
TRIAL = f"{PRETRAINED}/finetuning_models/marks_model_1"
RESULTS = f"{PRETRAINED}/results/marks_results.json"


def write(name, text):
    def change(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def remove(name):
    return lambda root: (root / name).unlink()


def edit_json(name, edit):
    def change(root):
        path = root / name
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


def append_rows(name, row, count):
    return lambda root: (root / name).write_text((root / name).read_text() + row * count)


def test_a_training_without_an_end(data_dir):
    arguments = tiny_tasks.arguments(data_dir, num_train_epochs=1e6)
    error = error_of(*run_here(run_finetuning.main, arguments))
    assert "hparam num_train_epochs" in error and "at most 333333" in error


def nothing(root):
    pass


def one_segment(root):
    shutil.rmtree(root / PRETRAINED)
    network = dataclasses.replace(tiny_tasks.NETWORK, type_vocab_size=1)
    tiny_tasks.write_model(root, network)
    tiny_tasks.write_chunk(root)


def edit_weights(edit):
    """Writes the pre-trained model's checkpoint again, with other arrays."""

    def change(root):
        store = CheckpointStore(str(root / PRETRAINED))
        checkpoint = store.load(store.latest())
        weights = dict(checkpoint.weights)
        edit(weights)
        store.save(checkpoint.step, weights, {}, {})

    return change


def fake_trial(root):
    """A trained model where the first trial's would be, as far as the checks look."""
    shutil.copytree(root / PRETRAINED / "checkpoints", root / TRIAL / "checkpoints")
    for name in ("vocab.txt", "casing.json"):
        shutil.copy(root / PRETRAINED / name, root / TRIAL)
    hparams = tiny_tasks.configure(root).to_dict() | {"precision": "float32"}
    stored = {"hparams": hparams, "network": tiny_tasks.NETWORK.to_dict()}
    (root / TRIAL / "config.json").write_text(json.dumps(stored))
    (root / TRIAL / "finished.json").write_text("{}")


SQUAD = {"task_names": ["squad"], "tasks": {}}
CHUNK = {"task_names": ["chunk"], "tasks": {}}

# name: (what is done to the folder, hparams, words in the error)
CASES = {
    # the files of a task
    "no data": (remove(f"{MARKS}/train.tsv"), {}, ["train", "dev.tsv"]),
    "no dev split": (remove(f"{MARKS}/dev.tsv"), {}, ["dev", "train.tsv"]),
    "no folder": (nothing, {"task_names": ["rte"], "tasks": {}}, ["rte", "no folder"]),
    "no such column": (
        write(f"{MARKS}/dev.tsv", "text\ttag\nthe ship\tgood\n"),
        {},
        ["dev.tsv", "line 1", "label", "tag"],
    ),
    "unknown label in dev": (
        write(f"{MARKS}/dev.tsv", "text\tlabel\nthe ship\tgreat\n"),
        {},
        ["dev.tsv", "line 2", "great"],
    ),
    "empty file": (write(f"{MARKS}/train.tsv", ""), {}, ["train.tsv", "empty"]),
    "only a header": (write(f"{MARKS}/dev.tsv", "text\tlabel\n"), {}, ["dev.tsv", "header"]),
    "not UTF-8": (
        write(f"{MARKS}/train.tsv", "text\tlabel\nthe sh\xefp\tgood\n".encode("latin-1")),
        {},
        ["train.tsv", "line 2", "0xef", "iconv"],
    ),
    "too many bad rows": (
        append_rows(f"{MARKS}/train.tsv", "no label\n", 21),
        {},
        ["train.tsv", "21 of 261", "line 242"],
    ),
    "a word without a tag": (
        write("finetuning_data/chunk/train.txt", "the O\nship\n"),
        CHUNK,
        ["train.txt", "line 2", "ship"],
    ),
    "no JSON": (write("finetuning_data/squad/train.json", "{\n]"), SQUAD, ["train.json", "line 2"]),
    # the task itself
    "unknown task": (nothing, {"task_names": ["colla"]}, ["colla", "Did you mean 'cola'?"]),
    "task twice": (nothing, {"task_names": ["cola", "cola"]}, ["twice"]),
    "no task": (nothing, {"task_names": []}, ["task_names"]),
    "task with a slash": (nothing, {"task_names": ["a/b"]}, ["a/b"]),
    "no kind": (nothing, {"tasks": {"marks": {"text": "text"}}}, ["tasks.marks.kind", "no kind"]),
    "definition is not an object": (nothing, {"tasks": {"marks": "text"}}, ["tasks.marks"]),
    "unknown hparam": (nothing, {"learningrate": 1}, ["Did you mean 'learning_rate'?"]),
    "a rate that rises": (
        nothing,
        {"learning_rate": 1e-4, "end_learning_rate": 2e-4},
        ["end_learning_rate = 0.0002", "at most learning_rate"],
    ),
    "path without its parts": (nothing, {"test_predictions": "x.jsonl"}, ["test_predictions"]),
    # the model
    "no model": (nothing, {"init_checkpoint": "nowhere"}, ["nowhere", "no checkpoint"]),
    "another size": (
        nothing,
        {"model_size": "base"},
        ["hidden_size: the checkpoint has 16, the hparams say 768", "num_hidden_layers"],
    ),
    "another vocabulary size": (nothing, {"vocab_size": 99}, ["vocab_size", "99"]),
    "another vocabulary": (
        write("other.txt", "\n".join([*tiny_tasks.PIECES[:-1], "##est"])),
        {"vocab_file": "{root}/other.txt"},
        ["other.txt", f"line {len(tiny_tasks.PIECES)}"],
    ),
    "another casing": (nothing, {"do_lower_case": False}, ["do_lower_case", "True"]),
    "part of the encoder": (
        edit_weights(lambda weights: weights.pop("electra/layer_0/output/kernel")),
        {},
        ["electra/layer_0/output/kernel is missing", "allow_partial_init"],
    ),
    "a part of another shape": (
        edit_weights(lambda w: w.update({"electra/layer_0/output/bias": np.zeros(3)})),
        {},
        ["electra/layer_0/output/bias has shape (3,), not (16,)"],
    ),
    "longer than the position table": (
        nothing,
        {"max_seq_length": 65},
        ["max_seq_length 65", "max_position_embeddings 64", "grow_model.py --model-dir"],
    ),
    "a model of single texts": (
        one_segment,
        {"task_names": ["chunk"]},
        ["single texts", "type_vocab_size 1", "chunk"],
    ),
    "truncated checkpoint": (
        write(f"{PRETRAINED}/checkpoints/step-00000010/weights.safetensors", b"1234"),
        {},
        ["weights.safetensors"],
    ),
    # what is there already
    "a model of other hparams": (
        fake_trial,
        {"learning_rate": 0.5},
        ["learning_rate: the model has 0.001, this run 0.5"],
    ),
    "a model of the official program": (
        write(f"{TRIAL}/model.ckpt-5.index", ""),
        {},
        ["marks_model_1", "overwrite"],
    ),
    "a checkpoint without its configuration": (
        lambda root: (fake_trial(root), remove(f"{TRIAL}/config.json")(root)),
        {},
        ["marks_model_1", "no config.json", "overwrite"],
    ),
    "results that can't be read": (write(RESULTS, "{}"), {}, ["marks_results.json"]),
    "results in the way": (nothing, {"results_txt": "{root}"}, ["results_txt", "a folder"]),
    # evaluation
    "nothing trained": (
        nothing,
        {"do_train": False},
        ["no fine-tuned model", "finetuning_models/marks_model_1", "init_checkpoint"],
    ),
    "a model without the task's head": (
        nothing,
        {"do_train": False, "init_checkpoint": "{root}/" + PRETRAINED},
        ["tasks.json", "fine-tuned"],
    ),
    "a model of another task": (
        lambda root: (fake_trial(root), write(f"{TRIAL}/tasks.json", '{"other": {}}')(root)),
        {"do_train": False},
        ["task_specific/marks/classifier/kernel is missing"],
    ),
    "only a half-trained model": (
        lambda root: (fake_trial(root), remove(f"{TRIAL}/finished.json")(root)),
        {"do_train": False},
        ["no fine-tuned model", "not finished: 1"],
    ),
    "starting from what is overwritten": (
        fake_trial,
        {"overwrite": True, "init_checkpoint": "{root}/" + TRIAL},
        ["marks_model_1", "one of those to be overwritten"],
    ),
    "predictions below a file": (
        nothing,
        {"test_predictions": "{root}/vocab.txt/{:}_{:}_{:}.jsonl"},
        ["test_predictions", "vocab.txt is a file"],
    ),
    "predictions of two splits in one file": (
        nothing,
        {"test_predictions": "p_{:}.jsonl"},
        ["test_predictions", "3 times"],
    ),
    "nothing to do": (nothing, {"do_train": False, "do_eval": False}, ["nothing to do"]),
    "labels that can't be read": (
        lambda root: (fake_trial(root), write(f"{TRIAL}/tasks.json", "{")(root)),
        {"do_train": False},
        ["tasks.json"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, data_dir):
    change, hparams, expected = CASES[name]
    change(data_dir)
    before = content(data_dir)
    text = json.dumps(hparams).replace("{root}", str(data_dir))
    code, shown = run_here(run_finetuning.main, tiny_tasks.arguments(data_dir, **json.loads(text)))
    error = error_of(code, shown)
    for words in expected:
        assert words in error, error
    after = content(data_dir)
    assert {name: after.get(name) for name in before} == before
    added = {name for name in after.keys() - before.keys() if after[name] is not None}
    allowed = re.compile(r"finetuning_tfrecords|\.lock$")
    assert not {name for name in added if not allowed.search(name)}


def test_other_hparams_beside_finished_trials(copy_of_trained_briefly):
    data_dir = copy_of_trained_briefly
    before = content(data_dir / PRETRAINED)
    arguments = tiny_tasks.arguments(data_dir, **tiny_tasks.SHORT, learning_rate=0.5)
    error = error_of(*run_here(run_finetuning.main, arguments))
    assert "learning_rate: the trials had 0.001, this run has 0.5" in error
    assert content(data_dir / PRETRAINED) == before


def test_a_loss_that_is_not_finite(data_dir):
    """The earlier model that it would have replaced is still there."""
    fake_trial(data_dir)
    before = content(data_dir / TRIAL)
    edit_weights(lambda w: w["electra/layer_0/output/kernel"].fill(np.nan))(data_dir)
    error = error_of(*run_here(run_finetuning.main, tiny_tasks.arguments(data_dir, overwrite=True)))
    assert "not finite" in error and "step 1" in error
    assert ", examples: marks " in error
    assert content(data_dir / (TRIAL + ".replaced")) == before


def test_two_runs_at_once(data_dir):
    folder = data_dir / PRETRAINED / "finetuning_models"
    folder.mkdir()
    with folder_lock(str(folder), ".marks_model.lock"):
        error = error_of(*run_here(run_finetuning.main, tiny_tasks.arguments(data_dir)))
        assert "Another run" in error and "finetuning_models" in error
        tiny_tasks.finetune_here(data_dir, task_names=["cola"], num_train_epochs=0.1)


@pytest.mark.parametrize(
    "more, hparams, expected",
    [
        (["--predict", "x.tsv"], {}, ["--predict needs --output"]),
        (["--output", "x.jsonl"], {}, ["--output needs --predict"]),
        (
            ["--predict", "x.tsv", "--output", "y"],
            {"task_names": ["cola", "sst"]},
            ["task_names", "one task"],
        ),
        (["--predict", "x.tsv", "--output", "y"], {}, ["--predict", "x.tsv", "no file"]),
        (["--predict", "{root}/vocab.txt", "--output", "y"], {}, ["no fine-tuned model"]),
        (["--predict", "x.tsv", "--output", "{root}"], {}, ["--output", "folder"]),
        (
            ["--predict", "{root}/vocab.txt", "--output", "{root}/models/../vocab.txt"],
            {},
            ["--output", "replace"],
        ),
    ],
)
def test_bad_prediction(more, hparams, expected, data_dir):
    more = [text.replace("{root}", str(data_dir)) for text in more]
    arguments = tiny_tasks.arguments(data_dir, *more, **hparams)
    code, shown = run_here(run_finetuning.main, arguments)
    assert code == 2
    for words in expected:
        assert words in shown


def test_too_few_bad_rows_to_fail_are_named(data_dir, caplog):
    append_rows(f"{MARKS}/train.tsv", "no label\n", 20)(data_dir)
    tiny_tasks.finetune_here(data_dir, num_train_epochs=0.1, do_eval=False)
    assert "20 of 260 rows are skipped" in caplog.text and "line 242" in caplog.text
