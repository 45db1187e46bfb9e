"""What a run writes, where it refuses to write, and what it keeps of the settings."""

import json
import shutil

import pytest

from electra_tf2.errors import UserError
from electra_tf2.outputs import folder_lock
from electra_tf2.pretraining.run import phase_trainers
from tests.data.small_corpus import content
from tests.pretraining import tiny
from tests.program_errors import error_of


def refused(data_dir, **hparams):
    """The error of a run that must leave everything as it was."""
    before = content(data_dir)
    error = error_of(*tiny.main_here(tiny.arguments(data_dir, **{**tiny.UNIFORM, **hparams})))
    assert content(data_dir) == before
    return error


@pytest.fixture
def data(tiny_data, tmp_path):
    shutil.copytree(tiny_data / "pretrain_tfrecords", tmp_path / "pretrain_tfrecords")
    shutil.copy(tiny_data / "vocab.txt", tmp_path)
    return tmp_path


def test_folder_of_records_instead_of_a_pattern(data):
    error = refused(data, pretrain_tfrecords=str(data / "pretrain_tfrecords"))
    assert "names a folder" in error
    assert "pretrain_tfrecords/*.tfrecord*" in error


@pytest.mark.parametrize("path", ["", "pretrain_tfrecords", "vocab.txt/x/results.txt"])
def test_results_that_could_not_be_written_are_refused_at_the_start(data, path):
    where = str(data / path) if path else ""
    assert "results_txt" in refused(data, do_eval=True, results_txt=where)


def test_both_results_in_one_file_are_refused(data):
    both = {"results_txt": str(data / "r.json"), "results_pkl": str(data / "r.pkl")}
    assert "same path" in refused(data, do_eval=True, **both)


@pytest.mark.parametrize("name", ["casing.json", "tokenizer.json", "vocab.txt"])
def test_a_folder_with_files_of_something_else_is_left_alone(data, name):
    (data / "foreign").mkdir()
    (data / "foreign" / name).write_text("{}")
    assert name in refused(data, model_dir=str(data / "foreign"))


@pytest.mark.parametrize(
    "hparams",
    [
        {"model_dir": ""},
        {"seed": 1 << 32},
        {"self": 1},
        {"learning_rate": 10**400},
        {"gen_weight": 0, "disc_weight": 0},
    ],
    ids=lambda hparams: next(iter(hparams)),
)
def test_impossible_hparams(data, hparams):
    refused(data, **hparams)


def test_evaluation_leaves_the_stored_configuration_alone(small_model):
    data_dir, model_dir = small_model
    before = (model_dir / "config.json").read_bytes()
    main_arguments = tiny.arguments(
        data_dir, model_dir.name, **tiny.UNIFORM, do_train=False, do_eval=True, num_eval_steps=1
    )
    code, shown = tiny.main_here(main_arguments)
    assert code == 0, shown
    assert (model_dir / "config.json").read_bytes() == before
    assert tiny.lines(model_dir, "eval")[-1]["evaluated_on"] == "text it was trained on"


@pytest.mark.parametrize(
    "hparam, text", [("eval_tfrecords", "held-out text"), ("pretrain_tfrecords", "other text")]
)
def test_the_log_says_what_an_evaluation_scored(small_model, hparam, text):
    data_dir, model_dir = small_model
    run = {**tiny.UNIFORM, "do_train": False, "do_eval": True, "num_eval_steps": 1}
    run[hparam] = str(data_dir / "held_out" / tiny.GLOB)
    _, shown = tiny.pretrain_here(data_dir, model_dir.name, **run)
    assert tiny.lines(model_dir, "eval")[-1]["evaluated_on"] == text
    assert "Evaluating step 3 on " + run[hparam] in shown


def test_a_model_that_is_only_read_is_evaluated(small_model, monkeypatch):
    data_dir, model_dir = small_model
    (model_dir / "results").write_text("")  # in the way of the folder
    monkeypatch.setattr(phase_trainers, "folder_problem", lambda path: "read-only")
    before = sorted(model_dir.rglob("*"))
    run = {**tiny.UNIFORM, "do_train": False, "do_eval": True, "num_eval_steps": 1}
    code, shown = tiny.main_here(tiny.arguments(data_dir, model_dir.name, **run))
    assert code == 0, shown
    assert "disc_loss = " in shown and "Warning: the results are not written" in shown
    assert sorted(model_dir.rglob("*")) == before
    named = {"results_txt": str(model_dir / "results" / "x.txt")}
    code, shown = tiny.main_here(tiny.arguments(data_dir, model_dir.name, **run, **named))
    assert code == 2 and "hparam results_txt" in shown


def test_a_data_folder_is_not_a_pattern(tmp_path):
    names = ["q?x [v2],a\udcff\\*", "qax v,a\udcffb"]
    for name in names:
        (tmp_path / name).mkdir()
    data_dir = tmp_path / names[0]
    run = tiny.arguments(data_dir, **tiny.UNIFORM, num_train_steps=1, do_eval=True)
    tiny.write_data(tmp_path / names[1])
    code, shown = tiny.main_here(run)
    assert code == 2 and "vocab.txt" in shown  # not the neighbour's
    tiny.write_data(data_dir)
    code, shown = tiny.main_here(run)
    assert code == 0, shown
    assert (data_dir / "models" / "model" / "results" / "unsup_results.txt").exists()
    assert (data_dir / "models" / "model" / "metrics.jsonl").exists()


def test_accents_are_taken_from_the_data_whatever_the_pattern_and_stored(tmp_path):
    tiny.write_data(tmp_path, flags=("--no-strip-accents",))
    pattern = str(tmp_path / "pretrain_tf[r]ecords" / "*tfrecord*")
    run = {**tiny.UNIFORM, "num_train_steps": 1, "pretrain_tfrecords": pattern}
    assert tiny.main_here(tiny.arguments(tmp_path, **run))[0] == 0
    model_dir = tmp_path / "models" / "model"
    stored = json.loads((model_dir / "config.json").read_text())["hparams"]
    assert stored["strip_accents"] is False
    assert stored["precision"] == "float32"
    assert json.loads((model_dir / "casing.json").read_text())["strip_accents"] is False
    said = {**run, "strip_accents": False}  # what the data says is what the model has
    assert tiny.main_here(tiny.arguments(tmp_path, **said))[0] == 0


def test_two_runs_do_not_share_a_folder(tmp_path):
    with folder_lock(str(tmp_path)):
        with pytest.raises(UserError, match="Another run is writing"):
            folder_lock(str(tmp_path)).__enter__()
    with folder_lock(str(tmp_path)):
        pass


def test_a_folder_that_can_not_be_written_to(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="can't be written to"):
        folder_lock(str(tmp_path)).__enter__()


def test_training_holds_the_lock(data):
    model_dir = data / "models" / "model"
    model_dir.mkdir(parents=True)
    with folder_lock(str(model_dir)):
        assert "Another run is writing" in refused(data)
