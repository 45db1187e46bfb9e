"""What a run starts from: its own checkpoint, an official one, or other weights."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.formats.official import official_name
from electra_tf2.loading.folder import stored_config
from electra_tf2.pretraining.run import pretrain
from electra_tf2.pretraining.run.open_run import open_data
from electra_tf2.training.checkpoints import CheckpointStore
from tests.pretraining import tiny

CASE = tiny.ROOT / "tests" / "conformance" / "cases" / "electra_train"
OFFICIAL_STEP = 6
# Those of the case, whose data has 485 pieces and 32 tokens.
OFFICIAL = {
    "model_hparam_overrides": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "embedding_size": 16,
    "vocab_size": 485,
    "train_batch_size": 4,
    "num_train_steps": 20,
}


@pytest.fixture
def started(monkeypatch):
    """Starts a run up to the first step; returns the trainer and what was printed."""

    def start(data_dir, name, **hparams):
        found = []
        monkeypatch.setattr(pretrain, "train", lambda opened, trainers: found.append(trainers))
        _, shown = tiny.pretrain_here(data_dir, name, **hparams)
        monkeypatch.undo()
        return found[0].trainer, shown

    return start


@pytest.fixture(scope="module")
def official_data(tmp_path_factory):
    """A data folder with the vocabulary of the official cases."""
    folder = tmp_path_factory.mktemp("official")
    shutil.copy(CASE.parent / "vocab.txt", folder)
    tiny.write_data(folder)
    return folder


def official_model(data_dir, name):
    """Puts the trained official checkpoint into a model folder; returns the folder."""
    return shutil.copytree(CASE / "final", data_dir / "models" / name)


def official_arrays(trainer, folder):
    """(weights, slots) that our variables should have, read by TensorFlow itself."""
    reader = tf.train.load_checkpoint(str(folder))
    names = trainer.run.optimizer.variables.names
    weights = {name: reader.get_tensor(official_name(name)) for name in names}
    slots = {
        f"{name}/{slot}": reader.get_tensor(f"{official_name(name)}/{slot}")
        for name in names
        for slot in ("adam_m", "adam_v")
    }
    return weights, slots


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_fresh_slots(trainer):
    assert all(not array.any() for array in trainer.run.optimizer.slots.to_numpy().values())


def test_official_checkpoint_is_resumed_with_its_slots(official_data, started):
    folder = official_model(official_data, "official")
    trainer, shown = started(official_data, "official", **OFFICIAL)
    assert trainer.step == OFFICIAL_STEP
    assert trainer.examples_seen == OFFICIAL_STEP * 4
    weights, slots = official_arrays(trainer, CASE / "final")
    assert_same(trainer.run.optimizer.variables.to_numpy(), weights)
    assert_same(trainer.run.optimizer.slots.to_numpy(), slots)
    assert f"Resuming the official checkpoint in {folder} at step 6" in shown
    assert "afresh" not in shown


@pytest.mark.slow
def test_official_checkpoint_is_trained_on(official_data, started):
    folder = official_model(official_data, "goes_on")
    hparams = OFFICIAL | {"num_train_steps": 8, "log_every_steps": 1}
    _, shown = tiny.pretrain_here(official_data, "goes_on", **hparams)
    assert "Training from step 6 to 8" in shown
    lines = tiny.lines(folder)
    assert [line["step"] for line in lines] == [7, 8]
    assert lines[0]["learning_rate"] == pytest.approx(1e-3 / 8, rel=1e-5)
    # The case's own losses fall from 41 to some 25 in its six steps.
    assert max(line["loss"] for line in lines) < 36

    trainer, shown = started(official_data, "goes_on", **hparams | {"num_train_steps": 9})
    assert f"Resuming at step 8 from {folder}/checkpoints/step-00000008" in shown
    assert trainer.step == 8
    weights, slots = official_arrays(trainer, CASE / "final")
    found = trainer.run.optimizer.slots.to_numpy()
    for name, before in slots.items():
        if name.endswith("adam_v"):  # two updates on top of the six
            assert (found[name] >= before * 0.998 * (1 - 1e-5)).all(), name
            assert before.max() == 0 or found[name].max() > 0
    for name, after in trainer.run.optimizer.variables.to_numpy().items():
        assert np.abs(after - weights[name]).max() < 2e-3, name


def test_official_checkpoint_without_slots(official_data, started):
    """Like Google's released ones."""
    reader = tf.train.load_checkpoint(str(CASE / "final"))
    names = [n for n in reader.get_variable_to_shape_map() if "/adam_" not in n]
    folder = official_data / "models" / "released"
    folder.mkdir(parents=True)
    prefix = str(folder / "model.ckpt-6")
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(reader.get_tensor(name)) for name in names],
    )
    trainer, shown = started(official_data, "released", **OFFICIAL)
    assert trainer.step == OFFICIAL_STEP
    weights, _ = official_arrays(trainer, CASE / "final")
    assert_same(trainer.run.optimizer.variables.to_numpy(), weights)
    assert_fresh_slots(trainer)
    assert shown.count("It has no Adam moments") == 1
    assert "the optimizer starts afresh" in shown


@pytest.mark.parametrize("form", ["folder", "prefix"])
def test_new_run_from_an_official_checkpoint(official_data, started, form):
    path = CASE / "final" if form == "folder" else CASE / "final" / f"model.ckpt-{OFFICIAL_STEP}"
    trainer, shown = started(official_data, f"from_{form}", init_checkpoint=str(path), **OFFICIAL)
    assert (trainer.step, trainer.examples_seen) == (0, 0)
    weights, _ = official_arrays(trainer, CASE / "final")
    assert_same(trainer.run.optimizer.variables.to_numpy(), weights)
    assert_fresh_slots(trainer)


def test_embeddings_to_add_to_begin_as_the_shared_ones(official_data, started, tmp_path):
    """From an official pair, and from a pair of that kind, whose sums are taken apart again."""
    hparams = OFFICIAL | {"embedding_sharing": "gdes"}
    trainer, _ = started(official_data, "gdes", init_checkpoint=str(CASE / "final"), **hparams)
    reader = tf.train.load_checkpoint(str(CASE / "final"))
    variables = trainer.run.optimizer.variables.to_numpy()
    for name, array in variables.items():
        if name.endswith("_delta"):
            assert not array.any(), name
        else:
            shared = name.replace("generator/embeddings/", "electra/embeddings/")
            np.testing.assert_array_equal(array, reader.get_tensor(official_name(shared)))
    added = {n: a + (0.01 if n.endswith("_delta") else 0) for n, a in variables.items()}
    network = tiny.configure(official_data, **tiny.HPARAMS | hparams).network()
    state = {"config": stored_config({}, network)}
    CheckpointStore(str(tmp_path)).save(1, added, {}, state)
    trainer, _ = started(official_data, "from_gdes", init_checkpoint=str(tmp_path), **hparams)
    for name, array in trainer.run.optimizer.variables.to_numpy().items():
        np.testing.assert_allclose(array, added[name], atol=1e-7, err_msg=name)
    assert_fresh_slots(trainer)
    with pytest.raises(UserError, match="another network") as error:
        started(official_data, "shared", init_checkpoint=str(tmp_path), **OFFICIAL)
    assert "generator/embeddings" in error.value.received


@pytest.mark.parametrize("form", ["model folder", "checkpoint folder"])
def test_new_run_from_a_model_of_ours(small_model, started, form):
    data_dir, model_dir = small_model
    store = CheckpointStore(str(model_dir))
    path = str(model_dir) if form == "model folder" else store.latest()
    hparams = tiny.UNIFORM | {"learning_rate": 5e-4, "init_checkpoint": path}
    trainer, shown = started(data_dir, f"from_{form.split()[0]}", **hparams)
    assert (trainer.step, trainer.examples_seen) == (0, 0)
    assert_same(trainer.run.optimizer.variables.to_numpy(), store.load(store.latest()).weights)
    assert_fresh_slots(trainer)
    assert f"Starting from the weights in {store.latest()}" in shown


def test_own_checkpoint_comes_before_init_checkpoint(small_model, started):
    data_dir, model_dir = small_model
    name = model_dir.name
    trainer, shown = started(data_dir, name, init_checkpoint="/nowhere", **tiny.UNIFORM)
    store = CheckpointStore(str(model_dir))
    saved = store.load(store.latest())
    assert (trainer.step, trainer.examples_seen) == (3, 24)
    assert_same(trainer.run.optimizer.variables.to_numpy(), saved.weights)
    assert_same(trainer.run.optimizer.slots.to_numpy(), saved.optimizer)
    assert f"Resuming at step 3 from {store.latest()}" in shown


def test_a_resumed_model_keeps_what_it_began_as(small_model, capsys):
    """More than a note: positions beyond its examples may be trained then (grow_model.py)."""
    data_dir, model_dir = small_model
    model = data_dir / "a model"
    model.mkdir()
    began = {"init_checkpoint": str(model), "branch_from": None}
    copied = shutil.copytree(model_dir, data_dir / "models" / "began")
    stored = json.loads((copied / "config.json").read_text())
    stored["hparams"] |= began
    (copied / "config.json").write_text(json.dumps(stored))
    for given in ("", f"{model}/", "another", "moved"):
        if given == "moved":
            model.rename(data_dir / given)
        given = {"init_checkpoint": given} if given else {}
        config = tiny.configure(data_dir, "began", **tiny.UNIFORM | given, num_train_steps=9)
        hparams = open_data(config, config.network(), "float32").hparams
        assert hparams.items() >= began.items() and hparams["num_train_steps"] == 9
        shown = capsys.readouterr().err
        warns = given.get("init_checkpoint") == "another"
        assert ("init_checkpoint: only read for a new model" in shown) == warns
        assert (f"began as {model}" in shown) == warns


def test_without_a_checkpoint_hparams_may_change(tiny_data, started):
    """A run that was stopped before its first checkpoint has nothing to protect."""
    started(tiny_data, "typo", **tiny.UNIFORM | {"learning_rate": 5.0})
    trainer, _ = started(tiny_data, "typo", **tiny.UNIFORM | {"learning_rate": 5e-4})
    assert trainer.run.schedule.learning_rate == 5e-4


def test_every_difference_is_named(small_model):
    data_dir, model_dir = small_model
    network = tiny.NETWORK | {"hidden_size": 32, "num_hidden_layers": 2}
    changed = {"learning_rate": 2e-3, "model_hparam_overrides": network, "seed": 4}
    with pytest.raises(UserError, match="trained with another configuration") as info:
        tiny.pretrain_here(data_dir, model_dir.name, **tiny.UNIFORM | changed)
    assert info.value.where == str(model_dir / "config.json")
    for part in (
        "learning_rate: the model has 0.001, this run 0.002",
        "seed: the model has 0, this run 4",
        "hidden_size: the model has 16, this run 32",
        "num_hidden_layers: the model has 1, this run 2",
    ):
        assert part in info.value.received
    assert "--model-name" in info.value.remedy


def test_a_model_of_another_device_continues_in_its_precision(small_model, started):
    data_dir, model_dir = small_model
    stored = model_dir / "config.json"
    content = json.loads(stored.read_text())
    content["hparams"]["precision"] = "bfloat16"  # what "auto" is on a GPU
    stored.write_text(json.dumps(content))
    state = model_dir / "checkpoints" / "step-00000003" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"config": content}))
    hparams = tiny.UNIFORM | {"num_train_steps": 9}
    trainer, shown = started(data_dir, model_dir.name, **hparams)
    assert trainer.step == 3 and trainer.run.settings.precision == "bfloat16"
    assert "The model continues in bfloat16, as it began.\n" in shown
    assert "computing in bfloat16" in shown
    branch = {"branch_from": str(state.parent)}
    assert "continues in bfloat16" in started(data_dir, "branch", **hparams | branch)[1]
    with pytest.raises(UserError, match="trained with another configuration") as info:
        tiny.pretrain_here(data_dir, model_dir.name, **hparams, precision="float32")
    assert info.value.received == "precision: the model has 'bfloat16', this run 'float32'"
    only = {"do_train": False, "do_eval": True, "num_eval_steps": 1}
    _, shown = tiny.pretrain_here(data_dir, model_dir.name, **hparams, **only)
    assert "computing in float32" in shown and "Evaluating step 3" in shown


@pytest.mark.parametrize(
    "changed",
    [
        {"num_train_steps": 9, "save_checkpoints_steps": 2, "log_every_steps": 7},
        {"keep_checkpoint_max": 1, "distribution": "one_device", "xla": False},
        {"iterations_per_loop": 3, "eval_every_steps": 5, "eval_batch_size": 4},
    ],
)
def test_what_may_change(small_model, started, changed):
    data_dir, model_dir = small_model
    trainer, shown = started(data_dir, model_dir.name, **tiny.UNIFORM | changed)
    assert trainer.step == 3 and "Resuming at step 3" in shown
