"""A model in a place that can't be written to is scored and predicts; training is refused there."""

import shutil

import pytest

from electra_tf2.errors import UserError
from finetune.run.finetune import predict
from tests.finetune import tiny_tasks
from tests.finetune.fine_tuned_models import write_fine_tuned


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A model's folder where files stand in the way of every folder that a run makes."""
    folder = tmp_path_factory.mktemp("read_only")
    write_fine_tuned(folder, ["marks"])
    tiny_tasks.write_marks(folder, train=8, dev=4)
    model = folder / "models" / tiny_tasks.MODEL
    model.mkdir(parents=True)
    for name in ("results", "test_predictions", "finetuning_tfrecords", "finetuning_models"):
        (model / name).write_text("")
    return folder


def content(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def test_evaluation_and_prediction_leave_no_file(data_dir, tmp_path):
    before = content(data_dir)
    given = {"do_train": False, "init_checkpoint": str(data_dir / "model_1")}
    (result,), shown = tiny_tasks.finetune_here(data_dir, **given)
    assert result.scores["marks"]["accuracy"] >= 0
    assert "Warning: nothing is written" in shown and "results_txt" in shown
    assert "features are not kept" in shown and "Results written" not in shown
    texts = tmp_path / "texts.tsv"
    texts.write_text("text\na ship\n")
    count = predict(
        tiny_tasks.configure(data_dir, **given), str(texts), str(tmp_path / "out.jsonl")
    )
    assert count == 1 and (tmp_path / "out.jsonl").exists()
    assert content(data_dir) == before


def test_files_that_were_asked_for_have_to_be_possible(data_dir):
    given = {"do_train": False, "init_checkpoint": str(data_dir / "model_1")}
    with pytest.raises(UserError) as error:
        tiny_tasks.finetune_here(data_dir, results_txt="/proc/results.txt", **given)
    assert error.value.where == "hparam results_txt"


@pytest.mark.parametrize("name", ["results", "test_predictions", "finetuning_models"])
def test_training_is_refused_before_it_begins(data_dir, tmp_path, name):
    for other in ("vocab.txt", "finetuning_data"):
        (shutil.copytree if (data_dir / other).is_dir() else shutil.copy)(
            data_dir / other, tmp_path / other
        )
    tiny_tasks.write_model(tmp_path)
    (tmp_path / "models" / tiny_tasks.MODEL / name).write_text("")
    with pytest.raises(UserError) as error:
        tiny_tasks.finetune_here(tmp_path)
    assert "is a file" in error.value.received and "hparam" in error.value.where
