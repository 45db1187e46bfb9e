"""The page about folders that hold only some of what a page shows."""

import json
import shutil
import sys
import zipfile

import pytest
import tensorflow as tf

import report
import run_pretraining
from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.loading.folder import WEIGHTS_ONLY
from electra_tf2.report.folder import open_folder, seconds_of
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.reports import RunLog
from finetune.report.write import reported, write_report
from tests.formats.huggingface_models import write_model
from tests.older_folders.test_version_0_1_0 import ARCHIVE
from tests.pretraining import tiny
from tests.program_errors import error_of, run_here
from tests.report.model_pages import TRAIN, Page, copy_data, write_pretrained, write_scores

pytest.importorskip("matplotlib")


@pytest.fixture
def data_dir(tiny_data, tmp_path):
    return copy_data(tiny_data, tmp_path)


def read(model_dir):
    return Page(tiny.pathlib.Path(write_report(str(model_dir))))


def test_a_stopped_run_that_was_not_evaluated(data_dir):
    page = read(write_pretrained(data_dir, reported=4, num_train_steps=10, eval_tfrecords=None))
    assert "of 10 that were planned" in page.text[""] and "in training" in page.text[""]
    assert "Not evaluated" in page.text["curves"]
    assert "Examples of text it was trained on" in page.text["discriminator"]
    assert "finetuning" not in page.text and "None are kept" in page.text["warnings"]


def test_scores_say_what_they_were_measured_on(data_dir):
    """By what was logged with each, whatever the hparams are by now."""
    model_dir = write_pretrained(data_dir, eval_tfrecords=None)  # resumed without
    log = RunLog(str(model_dir))
    for step, auc, text in (
        (6, 0.71, "text it was trained on"),
        (4, 0.62, "held-out text"),
        (6, 0.63, "held-out text"),
        (6, 0.54, "other text"),
    ):
        log.write(step, {"disc_auc": auc}, split="eval", evaluated_on=text)
    log.close()
    page = read(model_dir)
    assert "Discriminator AUC0.540other text" in page.text[""]
    header, rows = page.tables["curves"][0], page.tables["curves"][1:]
    kinds = ["held-out text", "text it was trained on", "other text"]  # by step
    assert header == ["last figure", "in training", *kinds]
    assert ["Discriminator: AUC", "0.6543", "0.63", "0.71", "0.54"] in rows
    # The first evaluation is of an older version, which logged no such thing.
    assert ["Generator: loss", "3.21", "", "3.45", ""] in rows
    drawn = "".join(page.attributes("aria-label"))
    assert "held-out text 0.62 at step 4, 0.63 at step 6; text it was trained on 0.5678" in drawn
    assert "held out" not in "".join(page.text["curves"].split("\n"))


def test_a_run_that_was_stopped_after_its_last_checkpoint(data_dir):
    model_dir = write_pretrained(data_dir, reported=4, num_train_steps=10, eval_tfrecords=None)
    log = RunLog(str(model_dir))
    log.write(6, TRAIN)
    log.close()
    page = read(model_dir)
    assert "Steps4of 10 that were planned" in "".join(page.text[""].split("\n"))
    assert f"tensorflow {tf.__version__}, keras " in page.text["training"]


def test_a_branch_with_ramps(data_dir):
    ramps = {"train_batch_size": [[0, 4], [3, 8]], "mask_prob": [[0, 0.3], [5, 0.1]]}
    ramps["disc_weight"] = [[0, 20.0], [9, 60.0]]
    origin = "/model/checkpoints/step-00000002"
    model_dir = write_pretrained(data_dir, branch_from=origin, **ramps)
    shown = read(model_dir).text["training"]
    for part in ("6 steps of 4 to 8 examples", "30% to 10% of the tokens", "20 to 60", origin):
        assert part in shown
    # Four steps of its own, one of 4 x 32 tokens and three of 8 x 32, at 4096 tokens a second.
    assert seconds_of(open_folder(str(model_dir), PretrainingConfig)) == pytest.approx(0.21875)


def test_a_log_that_begins_later_than_the_run(data_dir):
    model_dir = write_pretrained(data_dir, log_every_steps=2)
    lines = (model_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (model_dir / "metrics.jsonl").write_text("".join(lines[1:]))
    # Four of six steps of 8 x 32 tokens.
    assert seconds_of(open_folder(str(model_dir), PretrainingConfig)) == pytest.approx(0.25)


def test_the_last_step_is_one_of_training(data_dir):
    model_dir = write_pretrained(data_dir)
    reports = [json.loads(line) for line in (model_dir / "metrics.jsonl").open()]
    for own in reports:
        own["wall_time"] = 1e9 if own["split"] == "train" else 1.5e9
    (model_dir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reports))
    text = read(model_dir).text["training"]
    assert "2001-09-0" in text and "2017" not in text


def test_the_corpora_of_a_mixture_keep_their_order(data_dir):
    """Another order is another training."""
    mixture = {str(data_dir / name / "*.tfrecord*"): 1.0 for name in ("b", "a")}
    model_dir = write_pretrained(data_dir, pretrain_tfrecords=mixture)
    folder = open_folder(str(model_dir), PretrainingConfig)
    assert list(folder.config.pretrain_tfrecords) == list(mixture)


def test_records_that_are_documents(data_dir):
    flags = ("--segmentation", "dynamic", "--overwrite")
    tiny.write_data(data_dir, length=None, flags=flags)
    page = read(write_pretrained(data_dir, segmentation="dynamic", eval_tfrecords=None))
    metadata = json.loads((data_dir / "pretrain_tfrecords" / "metadata.json").read_text())
    count = metadata["num_examples"]
    assert f" tokens, {count:,} records" in " ".join(page.text["training"].split())


def test_records_that_are_gone(data_dir):
    model_dir = write_pretrained(data_dir)
    shutil.rmtree(data_dir / "held_out")
    assert "held-out records can't be read" in read(model_dir).text["discriminator"]
    shutil.rmtree(data_dir / "pretrain_tfrecords")
    page = read(model_dir)
    assert "There are no examples" in page.text["examples"] and "curves" in page.text
    assert "discriminator" not in page.text


def test_a_data_folder_that_was_moved(data_dir, tmp_path_factory):
    globs = (data_dir / folder / "*.tfrecord*" for folder in ("held_out", "pretrain_tfrecords"))
    write_pretrained(data_dir, eval_tfrecords=", ".join(map(str, globs)))
    moved = tmp_path_factory.mktemp("elsewhere") / "data [1]"
    shutil.move(data_dir, moved)
    page = read(moved / "models" / "page")
    assert "Examples of held-out text" in page.text["discriminator"]
    assert "documents" in page.text["training"]


def test_only_fine_tuned(data_dir):
    page = read(write_scores(data_dir, "theirs"))
    assert page.text[""].lstrip().startswith("theirs")
    assert set(page.text) == {"", "finetuning", "warnings", "commands"}
    assert "learning rate of a large model" in page.text["warnings"]


def test_a_hugging_face_model_that_was_fine_tuned(data_dir):
    model_dir = write_scores(data_dir, "theirs")
    write_model(model_dir, "encoder")
    assert set(read(model_dir).text) == {"", "finetuning", "warnings", "commands"}
    (model_dir / "model.safetensors").unlink()
    (model_dir / "config.json").write_text("{}")  # nobody's, perhaps a damaged one of ours
    with pytest.raises(UserError, match="stored configuration can't be read"):
        read(model_dir)


@pytest.mark.parametrize(
    "hparams, missing",
    [
        ({"electra_objective": False}, "discriminator"),
        ({"uniform_generator": True}, "generator"),
        ({"electric_objective": True, "electra_objective": False}, None),
        ({"phases": [{"num_train_steps": 4}, {"num_train_steps": 2, "mask_prob": 0.3}]}, None),
    ],
    ids=["masked_lm", "uniform", "electric", "phases"],
)
def test_other_objectives(data_dir, hparams, missing):
    page = read(write_pretrained(data_dir, **hparams))
    sections = {"discriminator", "generator"} - {missing}
    assert sections <= set(page.text) and missing not in page.text
    assert "examples" not in page.text and "run_pretraining.py" in page.text["commands"]


def test_phases_on_other_records(data_dir):
    first, second = (
        str(data_dir / name / tiny.GLOB) for name in ("pretrain_tfrecords", "held_out")
    )
    phase = {"num_train_steps": 4, "pretrain_tfrecords": first}
    later = {"num_train_steps": 2, "pretrain_tfrecords": second, "mask_prob": 0.3}
    later |= {"learning_rate": 5e-4, "eval_tfrecords": second}
    given = {"phases": [phase, later], "eval_tfrecords": None, "pretrain_tfrecords": "nowhere/*"}
    page = read(write_pretrained(data_dir, **given))
    text = " ".join(page.text["training"].split())
    assert f"{first}; then {second}" in text and "nowhere" not in text
    assert text.count(" documents, ") == 2 and "15%; then 30% of the tokens" in text
    assert "0.001, after 4 steps of warm-up; then 0.0005, after" in text
    assert f"none; then {second}" in text and "held-out text" in page.text["curves"]
    phases = [{**phase, "pretrain_tfrecords": {first: 1, second: 3}}, later]
    page = read(
        write_pretrained(data_dir, "mixed", **{**given, "phases": phases, "do_eval": False})
    )
    assert "Text of held_out (75.0%; then 100.0%)" in " ".join(page.text["training"].split())


def test_settings_beyond_electra(data_dir):
    page = read(write_pretrained(data_dir, masking="span", embedding_sharing="gdes"))
    text = " ".join(page.text["training"].split())
    assert "15% of the tokens, in spans of whole words" in text
    assert "which the discriminator adds to" in text


def test_a_generator_that_is_not_trained(data_dir):
    given = {"train_generator": False, "init_generator": "a/masked_lm"}
    page = read(write_pretrained(data_dir, **given, generator_embedding_size=4))
    text = " ".join(page.text["training"].split())
    assert "embeddings of 4; not trained" in text and "(weights: 50 discriminator)" in text
    assert "random weights; generator: a/masked_lm" in text and "of them trained" in text


def test_a_grown_model_that_was_not_trained_yet(data_dir):
    model_dir = write_pretrained(data_dir, "grown", reported=0)
    store = CheckpointStore(str(model_dir))
    store.save(0, store.load(str(store.latest())).weights, {}, {WEIGHTS_ONLY: True})
    page = read(model_dir)
    assert "none since it was grown; before, 6 steps" in page.text["training"]
    assert "commands" not in page.text  # the stored hparams are those of the smaller model


def test_a_modern_pair(data_dir):
    page = read(write_pretrained(data_dir, encoder="modern"))
    assert "1 modern layer of 16" in page.text["training"]


def test_a_folder_of_version_0_1_0(tmp_path, monkeypatch):
    zipfile.ZipFile(ARCHIVE).extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    page = read(tiny.pathlib.Path("data/models/model"))
    assert {"training", "curves", "discriminator", "generator", "commands"} <= set(page.text)


def test_a_trial_is_not_a_model(tmp_path):
    trial = tmp_path / "models" / "some" / "finetuning_models" / "marks_model_1"
    trial.mkdir(parents=True)
    (trial / "tasks.json").write_text("{}")
    with pytest.raises(UserError, match="a trial") as error:
        write_report(str(trial))
    assert error.value.where == str(trial) and str(tmp_path / "models/some") in error.value.remedy


def test_nothing_to_report_on(tmp_path):
    for folder, keyword in ((tmp_path / "none", "no such folder"), (tmp_path, "without checkp")):
        error = error_of(*run_here(report.main, ["--model-dir", str(folder)]))
        assert keyword in error and str(folder) in error
    error = error_of(*run_here(report.main, ["--data-dir", str(tmp_path)]))
    assert "--model-name" in error
    (tmp_path / "page").mkdir()
    flags = ["--model-dir", str(tmp_path), "--output", str(tmp_path / "page")]
    assert "--output" in error_of(*run_here(report.main, flags))


def test_without_matplotlib(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="matplotlib") as error:
        write_report(str(write_pretrained(data_dir)))
    assert "pip install" in error.value.remedy
    code, shown = tiny.main_here(tiny.arguments(data_dir, "new", report=True))
    assert "matplotlib" in shown and code == 2
    assert not (data_dir / "models" / "new").exists()


def test_a_run_writes_it_at_its_end_if_asked(data_dir, monkeypatch):
    model_dir = write_pretrained(data_dir)
    monkeypatch.setattr("electra_tf2.pretraining.run.pretrain.pretrain", lambda config: None)
    for asked in (False, True):
        code, shown = run_here(run_pretraining.main, tiny.arguments(data_dir, "page", report=asked))
        assert code == 0 and (f"Page written to {model_dir}/report.html" in shown) == asked
        assert (model_dir / "report.html").exists() == asked


def test_of_several_workers_the_chief_writes_it(data_dir, monkeypatch):
    model_dir = write_pretrained(data_dir)
    config = tiny.configure(data_dir, "page", report=True, distribution="multi_worker")
    hosts = {"worker": ["localhost:1234", "localhost:1235"]}
    for index in (1, 0):
        task = {"cluster": hosts, "task": {"type": "worker", "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(task))
        with reported(config, str(model_dir)):
            pass
        assert (model_dir / "report.html").exists() == (index == 0)
