"""Official TF1 checkpoints: every variable read by name, or an error that names it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.formats.official import (
    OFFICIAL_NAMES,
    Tf1Checkpoint,
    checkpoint_prefix,
    is_tf1_checkpoint,
    load_variables,
    official_name,
    our_path,
    read_tf1_checkpoint,
)

ROOT = Path(__file__).parents[2]
CARRIED = ROOT / "tests" / "conformance" / "cases"
# All the cases, where the repository lies in a workplace that has them.
SHARED = ROOT.parent / "shared" / "conformance"
CHECKPOINTS = sorted(
    index.parent
    for cases in ((SHARED,) if SHARED.is_dir() else (CARRIED,))
    for index in cases.glob("*/*/model.ckpt-*.index")
)
TRAINED = CARRIED / "electra_train" / "final"


@pytest.fixture
def copied(tmp_path):
    """A copy of a trained checkpoint, to be damaged; its folder."""
    return Path(shutil.copytree(TRAINED, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def trained():
    return read_tf1_checkpoint(str(TRAINED))


def all_wanted(checkpoint):
    """Our paths and shapes of everything in a checkpoint."""
    return {our_path(name): array.shape for name, array in checkpoint.variables.items()}


def data_file(folder):
    return next(folder.glob("*.data-*"))


def test_every_name_translates_there_and_back():
    names = [name.replace("{i}", "11") for name in OFFICIAL_NAMES]
    assert all(our_path(official_name(name)) == name for name in names)
    assert len(set(map(official_name, names))) == len(names)


def test_names_outside_the_table():
    assert official_name("electra/pooler/kernel") is None
    assert official_name("electra/layer_1/new/kernel") is None
    assert our_path("task_specific/cola/dense/kernel") is None
    assert our_path("electra/encoder/layer_x/output/dense/kernel") is None


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_variable_of_the_official_program_has_a_place(folder):
    """All that the official program wrote is read as TensorFlow reads it, nothing forgotten."""
    checkpoint = read_tf1_checkpoint(str(folder))
    stored = dict(tf.train.list_variables(str(folder)))
    unknown = {name for name in checkpoint.variables if our_path(name) is None}
    assert all(name.startswith("task_specific/") for name in unknown)
    wanted = {our_path(n): a.shape for n, a in checkpoint.variables.items() if n not in unknown}

    weights, slots, report = load_variables(checkpoint, wanted)
    assert set(report.left_over) == unknown and set(weights) == set(wanted)
    assert checkpoint.global_step == tf.train.load_variable(str(folder), "global_step")
    for path in ("electra/embeddings/word_embeddings", "electra/layer_1/layer_norm/beta"):
        expected = tf.train.load_variable(str(folder), official_name(path))
        np.testing.assert_array_equal(weights[path], expected)
    has_slots = all(f"{official_name(path)}/adam_m" in stored for path in wanted)
    assert (slots is not None) == has_slots
    if slots:
        name = "electra/embeddings/word_embeddings"
        for slot in ("adam_m", "adam_v"):
            expected = tf.train.load_variable(str(folder), f"{name}/{slot}")
            np.testing.assert_array_equal(slots[name][slot], expected)
    used = len(checkpoint.variables) + 2 * len(checkpoint.slots) + 1
    assert used == len(stored)


def test_a_checkpoint_is_found_by_prefix_index_or_folder(copied):
    prefix = str(copied / "model.ckpt-6")
    assert checkpoint_prefix(prefix) == checkpoint_prefix(prefix + ".index") == prefix
    assert checkpoint_prefix(str(copied)) == prefix
    (copied / "checkpoint").unlink()
    assert checkpoint_prefix(str(copied)) == prefix
    assert is_tf1_checkpoint(str(copied)) and is_tf1_checkpoint(prefix)


def test_several_checkpoints_and_none_named(copied):
    (copied / "checkpoint").unlink()
    shutil.copy(copied / "model.ckpt-6.index", copied / "model.ckpt-7.index")
    with pytest.raises(UserError, match="which official checkpoint is meant") as error:
        checkpoint_prefix(str(copied))
    assert "2 index files" in error.value.received


def test_a_named_checkpoint_that_is_not_there(copied):
    """The file that is there is another one: to take it would be to train from other weights."""
    (copied / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    with pytest.raises(UserError, match="names none that is there"):
        checkpoint_prefix(str(copied))
    assert is_tf1_checkpoint(str(copied))


def test_no_checkpoint_at_all(tmp_path):
    assert not is_tf1_checkpoint(str(tmp_path)) and not is_tf1_checkpoint(str(tmp_path / "x"))
    with pytest.raises(UserError, match="holds no official checkpoint"):
        read_tf1_checkpoint(str(tmp_path))
    with pytest.raises(UserError, match=r"no file .*model\.ckpt-1\.index"):
        read_tf1_checkpoint(str(tmp_path / "model.ckpt-1"))


def cut_data(folder):
    os.truncate(data_file(folder), 1000)


def cut_index(folder):
    os.truncate(folder / "model.ckpt-6.index", 4000)


def flip_a_byte(folder):
    content = bytearray(data_file(folder).read_bytes())
    content[5000] ^= 0xFF
    data_file(folder).write_bytes(bytes(content))


def remove_data(folder):
    data_file(folder).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_data, "truncated or corrupt"),
        (cut_index, "truncated or corrupt"),
        (flip_a_byte, "truncated or corrupt"),
        (remove_data, "has no data file"),
    ],
)
def test_damaged_files_are_named(copied, damage, message):
    damage(copied)
    with pytest.raises(UserError) as error:
        read_tf1_checkpoint(str(copied))
    assert message in error.value.what
    assert str(copied / "model.ckpt-6") in error.value.where
    assert error.value.received and error.value.remedy


def test_all_missing_and_misshapen_variables_are_named(trained):
    wanted = all_wanted(trained)
    wanted["electra/layer_2/output/kernel"] = (128, 32)
    wanted["electra/pooler/kernel"] = (32, 32)
    wanted["electra/embeddings/word_embeddings"] = (30522, 16)
    with pytest.raises(UserError) as error:
        load_variables(trained, wanted)
    message = str(error.value)
    assert "electra/layer_2/output/kernel (electra/encoder/layer_2/output/dense/kernel)" in message
    assert "electra/pooler/kernel (no official name)" in message
    assert "electra/embeddings/word_embeddings has shape (485, 16), not (30522, 16)" in message
    assert "generator_hidden_size" not in message


def test_a_larger_generator_is_hinted_at(trained):
    """As with the released small model and the default generator_hidden_size."""
    wanted = {
        path: tuple(max(1, size // 2) for size in shape) if path.startswith("generator/") else shape
        for path, shape in all_wanted(trained).items()
    }
    with pytest.raises(UserError) as error:
        load_variables(trained, wanted)
    assert '"generator_hidden_size": 1.0' in error.value.remedy


def test_a_modern_encoder_has_no_official_names():
    """No official file can start a run of one; the remedy names the encoder that has some."""
    checkpoint = Tf1Checkpoint("model.ckpt-1", 1, {}, {})
    for name in ("electra/layer_0/gate/kernel", "electra/final_layer_norm/gamma"):
        assert official_name(name) is None
    with pytest.raises(UserError, match="does not fit the model") as error:
        load_variables(checkpoint, {"electra/layer_0/gate/kernel": (2, 2)})
    assert '"encoder": "bert"' in str(error.value.remedy)


def test_left_over_variables_are_reported(trained):
    wanted = {p: s for p, s in all_wanted(trained).items() if p.startswith("electra/")}
    weights, slots, report = load_variables(trained, wanted)
    assert set(weights) == set(slots) == set(wanted)
    assert "generator_predictions/output_bias" in report.left_over
    assert "discriminator_predictions/dense_1/kernel" in report.left_over
    assert "Not used: " in str(report)


def test_without_slots_it_is_said(trained):
    """Released checkpoints hold the weights only."""
    released = type(trained)(trained.path, trained.global_step, trained.variables, {})
    weights, slots, report = load_variables(released, all_wanted(released))
    assert slots is None and set(report.without_slots) == set(weights)
    assert "no Adam moments" in str(report)
