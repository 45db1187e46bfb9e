"""A folder with a tiny pre-trained model and tiny tasks."""

import shutil

import pytest

from tests.finetune import tiny_tasks


@pytest.fixture(scope="session")
def tiny_finetuning(tmp_path_factory):
    """The data folder; tests leave it alone and write their models elsewhere or under names."""
    folder = tmp_path_factory.mktemp("finetuning")
    tiny_tasks.write_model(folder)
    tiny_tasks.write_marks(folder)
    tiny_tasks.write_cola(folder)
    tiny_tasks.write_chunk(folder)
    tiny_tasks.write_squad(folder)
    return folder


@pytest.fixture
def data_dir(tiny_finetuning, tmp_path):
    """A test's own copy of that folder."""
    shutil.copytree(tiny_finetuning, tmp_path / "data")
    return tmp_path / "data"
