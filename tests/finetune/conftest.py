"""A test's own copy of a folder with a tiny pre-trained model and tiny tasks."""

import shutil

import pytest


@pytest.fixture
def data_dir(tiny_finetuning, tmp_path):
    """A test's own copy of that folder."""
    shutil.copytree(tiny_finetuning, tmp_path / "data")
    return tmp_path / "data"
