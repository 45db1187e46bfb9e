"""Fixtures of several folders."""

import pathlib
import shutil

import pytest

from electra_tf2.console import quiet_libraries

with quiet_libraries():  # a second less in each process, and less garbage to look through
    import tensorflow  # noqa: F401

# The files that take longest, longest first. Two processes that get whole files end at about the
# same time if the long ones come first.
LONG_FILES = (
    "distribution/test_two_workers.py",
    "faults/test_kill_campaign.py",
    "examples/test_quickstart.py",
    "examples/test_own_pairs.py",
    "faults/test_full_disk.py",
    "finetune/run/test_resuming.py",
    "faults/test_damaged_data.py",
    "pretraining/run/test_phases_run.py",
    "docs/test_readme.py",
    "sweep/test_sweep_run.py",
    "finetune/run/test_run_finetuning.py",
    "conformance/test_pretraining.py",
    "conformance/test_finetuning.py",
    "faults/test_killed_and_stopped.py",
    "pretraining/run/test_dynamic_run.py",
    "distribution/test_two_workers_refused.py",
    "distribution/test_documents_on_devices.py",
    "export/test_saved_model.py",
    "pretraining/run/test_run_modes.py",
    "docs/test_python_api_examples.py",
    "pretraining/test_keras_model.py",
    "training/test_replicas.py",
    "finetune/test_evaluation.py",
    "pretraining/run/test_run_errors.py",
    "older_folders/test_version_0_1_0.py",
)


def pytest_collection_modifyitems(items):
    folder = pathlib.Path(__file__).parent
    missing = [name for name in LONG_FILES if not (folder / name).exists()]
    if missing:
        raise pytest.UsageError(f"LONG_FILES in {__file__} names files that are gone: {missing}")
    rank = {folder / name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


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
