"""A run that resumes on other records, or without its configuration: noticed, said, refused."""

import json
import shutil

import pytest

from electra_tf2.data import position
from electra_tf2.errors import UserError
from electra_tf2.pretraining.run.open_run import open_data
from electra_tf2.training.checkpoints import CheckpointStore
from tests.data.small_corpus import PIECES
from tests.pretraining import tiny

RECORDS = "pretrain_tfrecords"
SHARDS = [f"pretrain_data.tfrecord-{number}-of-2" for number in range(2)]


@pytest.fixture
def resume(small_model):
    """Opens the data of a run that resumes the model of three steps."""
    data_dir, model_dir = small_model

    def open_(**hparams):
        config = tiny.configure(data_dir, model_dir.name, **tiny.UNIFORM, **hparams)
        return open_data(config, config.network(), "float32")

    return open_


@pytest.fixture
def root(small_model):
    return small_model[0]


@pytest.fixture
def model_dir(small_model):
    return small_model[1]


def rebuild(root, **options):
    """Builds the records again, of another text or with other flags."""
    shutil.rmtree(root / RECORDS)
    shutil.rmtree(root / f"{RECORDS}_corpus", ignore_errors=True)
    tiny.write_data(root, **options)


def swap(root):
    """Exchanges the names of the shards, and what metadata.json says of them."""
    one, other = (root / RECORDS / name for name in SHARDS)
    one.rename(one.with_name("x"))
    other.rename(one)
    one.with_name("x").rename(other)
    path = root / RECORDS / "metadata.json"
    metadata = json.loads(path.read_text())
    for shard, file in zip(metadata["shards"], (other, one), strict=True):
        shard["name"] = file.name
    path.write_text(json.dumps(metadata))


OTHERS = {
    "text": (lambda root: rebuild(root, seed=3), "contents"),
    "seed": (lambda root: rebuild(root, flags=("--seed", "7")), "seed: 0 before, 7 now"),
    "shards": (lambda root: rebuild(root, shards=3), "shards: 2 before, 3 now"),
    "swapped": (swap, "same shards in another order"),
}


@pytest.mark.parametrize("change, words", OTHERS.values(), ids=OTHERS)
def test_other_data_are_refused_unless_they_are_allowed(root, resume, change, words, capsys):
    change(root)
    with pytest.raises(UserError) as error:
        resume()
    assert str(root / RECORDS) in error.value.where
    assert words in error.value.received and "allow_other_data" in error.value.remedy
    capsys.readouterr()
    resume(allow_other_data=True)
    assert words in capsys.readouterr().err


def test_a_pattern_that_takes_fewer_shards(root, resume):
    with pytest.raises(UserError, match="shards: 2 before, 1 now") as error:
        resume(pretrain_tfrecords=str(root / RECORDS / "*-0-of-*"))
    assert "hparam pretrain_tfrecords" in error.value.where


def test_the_same_data_elsewhere(root, resume, capsys):
    """Of other names, and without the metadata: contents and order count."""
    (root / "moved").mkdir()
    for name, new in zip(SHARDS, ("a", "b"), strict=True):
        shutil.move(root / RECORDS / name, root / "moved" / new)
    capsys.readouterr()
    resume(pretrain_tfrecords=f"{root}/moved/b,{root}/moved/a", num_train_steps=9)
    assert "Warning" not in capsys.readouterr().err


def test_what_is_not_trained_on_may_differ(root, resume):
    rebuild(root, seed=3)
    resume(do_train=False, do_eval=True)
    resume(num_train_steps=3)  # nothing is left to train


def test_a_phase_that_has_not_begun_may_get_other_data(root, resume):
    other = str(tiny.write_data(root, seed=3, records="other") / tiny.GLOB)
    own = str(root / RECORDS / tiny.GLOB)
    begun, new = {"num_train_steps": 3}, {"num_train_steps": 3, "pretrain_tfrecords": other}
    resume(num_train_steps=6, phases=[{**begun, "pretrain_tfrecords": own}, new])
    with pytest.raises(UserError, match="contents"):
        resume(num_train_steps=6, phases=[{**new, "num_train_steps": 6}])


def test_large_data_are_told_apart_by_parts_of_them(root, resume, model_dir, monkeypatch):
    path = root / RECORDS / SHARDS[0]
    monkeypatch.setattr(position, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(position, "_WHOLLY_READ_BYTES", 0)
    before = position._digest(str(path), 1, False)
    content = bytearray(path.read_bytes())
    for place in (3, len(content) // 2, len(content) - 3):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert position._digest(str(path), 1, False) != before


def forget(model_dir, *names):
    """Takes what older versions did not write out of the newest checkpoint's state."""
    path = f"{CheckpointStore(str(model_dir)).latest()}/state.json"
    with open(path) as file:
        state = json.load(file)
    assert set(names) <= state.keys()
    with open(path, "w") as file:
        json.dump({name: value for name, value in state.items() if name not in names}, file)


def test_checkpoints_of_older_versions_say_nothing_of_data(root, resume, model_dir, capsys):
    forget(model_dir, "data", "config", "environment", "vocab_sha256", "casing")
    rebuild(root, seed=3)
    capsys.readouterr()
    resume()
    assert "Warning" not in capsys.readouterr().err


ACTIVATION = {"model_hparam_overrides": {**tiny.NETWORK, "hidden_act": "relu"}}


@pytest.mark.parametrize("changed", [{"learning_rate": 2e-3}, {"seed": 4}, ACTIVATION], ids=list)
def test_a_lost_configuration_lets_no_others_pass(resume, model_dir, changed):
    (model_dir / "config.json").unlink()
    resume()
    with pytest.raises(UserError, match="another configuration") as error:
        resume(**changed)
    assert error.value.where == str(model_dir / "checkpoints")


def test_nor_does_one_of_another_model(resume, model_dir):
    path = model_dir / "config.json"
    stored = json.loads(path.read_text())
    stored["hparams"]["learning_rate"] = 2e-3
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="learning_rate: the model has 0.001") as error:
        resume(learning_rate=2e-3)
    assert error.value.where == str(model_dir / "checkpoints")


def test_a_lost_configuration_that_no_checkpoint_knows(resume, model_dir):
    (model_dir / "config.json").unlink()
    forget(model_dir, "config")
    with pytest.raises(UserError, match="lost") as error:
        resume()
    assert error.value.where == str(model_dir / "config.json")


def test_a_lost_vocabulary_lets_no_other_pass(root, resume, model_dir):
    (model_dir / "vocab.txt").unlink()
    resume()
    (root / RECORDS / "metadata.json").unlink()
    (root / "vocab.txt").write_text("\n".join([*PIECES[:-2], PIECES[-1], PIECES[-2]]) + "\n")
    with pytest.raises(UserError, match="tokenized otherwise") as error:
        resume()
    assert error.value.where == str(model_dir / "vocab.txt")


def test_a_lost_casing_lets_no_other_pass(root, resume, model_dir):
    (model_dir / "casing.json").unlink()
    resume()
    (root / RECORDS / "metadata.json").unlink()
    with pytest.raises(UserError, match="tokenized otherwise") as error:
        resume(strip_accents=False)
    assert error.value.where == str(model_dir / "casing.json")
