"""Folders with a tiny pre-trained model, tiny tasks and what was trained on them."""

import shutil

import pytest

from tests.finetune import tiny_tasks


@pytest.fixture
def data_dir(tiny_finetuning, tmp_path):
    """A test's own copy of the folder without fine-tuned models."""
    shutil.copytree(tiny_finetuning, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="session")
def trained(tiny_finetuning, tmp_path_factory):
    """(data folder, results, what was printed) of two trials that learn; tests leave it alone."""
    folder = tmp_path_factory.mktemp("trained") / "data"
    shutil.copytree(tiny_finetuning, folder)
    hparams = tiny_tasks.LEARN | {"num_trials": 2, "eval_every_steps": 45}
    results, shown = tiny_tasks.finetune_here(folder, **hparams)
    return folder, results, shown


@pytest.fixture
def copy_of_trained(trained, tmp_path):
    """A test's own copy of that folder."""
    shutil.copytree(trained[0], tmp_path / "trained")
    return tmp_path / "trained"


@pytest.fixture(scope="session")
def trained_briefly(tiny_finetuning, tmp_path_factory):
    """(data folder, result) of one trial of six steps; tests leave it alone."""
    folder = tmp_path_factory.mktemp("trained_briefly") / "data"
    shutil.copytree(tiny_finetuning, folder)
    (result,), _ = tiny_tasks.finetune_here(folder, **tiny_tasks.SHORT)
    return folder, result


@pytest.fixture
def copy_of_trained_briefly(trained_briefly, tmp_path):
    """A test's own copy of that folder."""
    shutil.copytree(trained_briefly[0], tmp_path / "trained_briefly")
    return tmp_path / "trained_briefly"
