"""Fixtures of several folders."""

import shutil

import pytest


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with vocab.txt, pretrain_tfrecords (2 shards) and held_out (1 shard).

    Tests train models of their own in it and leave the data alone.
    """
    from tests.pretraining import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_data(folder)
    tiny.write_data(folder, sizes=(4000,), seed=1, shards=1, records="held_out")
    return folder


@pytest.fixture(scope="session")
def trained_for_three_steps(tiny_data):
    """The folder of a model without generator network that was trained for three steps."""
    from tests.pretraining import tiny

    tiny.pretrain_here(tiny_data, "three", **tiny.UNIFORM, num_train_steps=3)
    return tiny_data / "models" / "three"


@pytest.fixture
def small_model(tiny_data, trained_for_three_steps, tmp_path):
    """(data folder, model folder), a test's own copies, of that model and its data."""
    for name in ("pretrain_tfrecords", "held_out"):
        shutil.copytree(tiny_data / name, tmp_path / name)
    shutil.copy(tiny_data / "vocab.txt", tmp_path)
    model_dir = tmp_path / "models" / trained_for_three_steps.name
    shutil.copytree(trained_for_three_steps, model_dir)
    return tmp_path, model_dir


@pytest.fixture(scope="session")
def tiny_finetuning(tmp_path_factory):
    """A folder with a tiny pre-trained model and tiny tasks.

    Tests leave it alone and write their models elsewhere or under names.
    """
    from tests.finetune import tiny_tasks

    folder = tmp_path_factory.mktemp("finetuning")
    tiny_tasks.write_model(folder)
    tiny_tasks.write_marks(folder)
    tiny_tasks.write_cola(folder)
    tiny_tasks.write_chunk(folder)
    tiny_tasks.write_squad(folder)
    return folder
