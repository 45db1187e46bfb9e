"""A student learns from a teacher: its outputs as features, the loss, and what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, rel_entr, softmax

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.randomness import StepRandomness
from electra_tf2.training.devices import open_devices
from finetune.classification.multilabel import MultilabelHead
from finetune.classification.regression import RegressionHead
from finetune.classification.tasks import ClassificationHead
from finetune.feature_tables import TaskData
from finetune.fine_tuned import FineTuned
from finetune.model import Distillation, FinetuningObjective
from finetune.qa.head import QAHead
from finetune.run.distillation import open_training_data
from finetune.run.open_run import open_run
from finetune.run.trial import build_model
from finetune.sentences.choice import ChoiceHead
from finetune.tagging.head import TaggingHead
from tests.data.small_corpus import PIECES
from tests.docs.pages import DOCS, block_with, run_shell
from tests.finetune import tiny_tasks
from tests.finetune.fine_tuned_models import TABLES, write_fine_tuned
from tests.finetune.sentences.sentence_samples import write_lines
from tests.finetune.tiny_tasks import SHORT, model_of

NAMES = ["marks", "grades", "topics", "chunk", "squad"]
STATES = {
    "marks": {"labels": ["bad", "good"]},
    "chunk": {"labels": ["O", "S-NP"], "is_token_level": False, "separate_ideographs": True},
    "squad": {},
}
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
STILL = dataclasses.replace(tiny_tasks.NETWORK, **WITHOUT_DROPOUT)
T = 2.0


def write_teacher(folder, names=("marks",), network=STILL, states=None, **hparams):
    """Writes a fine-tuned model with random weights; returns its folder."""
    given = {"head_dropout_prob": 0.0, **hparams}
    written, _, _ = write_fine_tuned(
        folder, list(names), network, states={**STATES, **(states or {})}, **given
    )
    return str(written)


def open_student(data_dir, names, **hparams):
    """The run of a student, opened."""
    config = tiny_tasks.configure(
        data_dir,
        task_names=list(names),
        tasks={name: TABLES[name] for name in names if name in TABLES},
        head_dropout_prob=0.0,
        model_hparam_overrides=WITHOUT_DROPOUT,
        **hparams,
    )
    return open_run(config, open_devices(config))


def taught_data(data_dir, names, **hparams):
    return open_training_data(open_student(data_dir, names, **hparams))


def refusal(data_dir, names, **hparams):
    with pytest.raises(UserError) as error:
        taught_data(data_dir, names, **hparams)
    assert error.value.where.startswith("hparam teacher")
    return error.value


@pytest.fixture(scope="module")
def all_tasks(tiny_finetuning, tmp_path_factory):
    """(data folder, teacher, run, its data with the teacher's outputs), of tasks of all kinds."""
    data_dir = tmp_path_factory.mktemp("distillation") / "data"
    shutil.copytree(tiny_finetuning, data_dir)
    texts = [text for text, _ in tiny_tasks.sentences(12)]
    tasks = data_dir / "finetuning_data"
    for name, labels in (("grades", "2.5 4 6".split()), ("topics", ["air", "sea", "air,sea"])):
        rows = [(text, labels[i % 3]) for i, text in enumerate(texts)]
        for split in ("train", "dev"):
            tiny_tasks.write_table(tasks / name / f"{split}.tsv", rows)
    teacher = write_teacher(data_dir / "teacher", NAMES)
    run = open_student(data_dir, NAMES, teacher=teacher)
    return data_dir, FineTuned.from_pretrained(teacher), run, open_training_data(run)


def losses_of(model, distillation, batch):
    objective = FinetuningObjective(model, distillation)
    randomness = StepRandomness(0, tf.constant(0, tf.int64), tf.constant(0, tf.int64), 0)
    losses, sums = objective.compute(batch, randomness, True)
    sums = {name: np.asarray(value) for name, value in sums.items()}
    return {name: float(loss) for name, loss in losses.items()}, objective.summarize(sums)


def some_of_each(data):
    """A batch of three examples of each task, and a row without an example."""
    first = np.cumsum([0, *(table.num_rows for table in data.tables)])[:-1]
    rows = np.concatenate([*(np.arange(start, start + 3) for start in first), [-1]])
    return data.batch(rows, 32)


def test_the_features_are_the_teacher_s_outputs_row_by_row(all_tasks):
    _, teacher, _, data = all_tasks
    per_token = {"chunk": ["logits"], "squad": ["start_logits", "end_logits"]}
    single = {"marks": "logits", "grades": "predictions", "topics": "logits"}
    single["squad"] = "answerable_logit"
    for name, table in zip(NAMES, data.train.tables, strict=True):
        specs = teacher.tasks[name].get_feature_specs()
        alone = TaskData([name], [table], [specs])
        for row in (0, table.num_rows - 1):
            batch = alone.batch(np.array([row]), int(table.lengths[row]))
            # The end of an answer is learned given the true start.
            found = teacher.network(batch, only=name, training=name == "squad", seed=None)
            outputs = {n: np.asarray(v)[0] for n, v in found[name].outputs.items()}
            if name in single:
                own = table.scalars[f"teacher_{single[name]}"]
                assert own.dtype == np.float32
                np.testing.assert_allclose(own[row], outputs[single[name]], atol=1e-5)
            for output in per_token.get(name, []):
                values, splits = table.ragged[f"teacher_{output}"]
                own = values[splits[row] : splits[row + 1]]
                size = len(own)
                assert size and values.dtype == np.float32
                np.testing.assert_allclose(own, outputs[output][:size], rtol=1e-4, atol=1e-4)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it(all_tasks):
    _, teacher, _, data = all_tasks
    batch, network = some_of_each(data.train), teacher.network
    losses, sums = losses_of(network, Distillation(1.0, T), batch)
    assert losses == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-4)
    labels, _ = losses_of(network, None, batch)
    halves, more = losses_of(network, Distillation(0.5, T), batch)
    for name in (f"{task}_loss" for task in NAMES):
        assert labels[name] > 1e-3
        assert halves[name] == pytest.approx(labels[name] / 2, rel=1e-3, abs=1e-4)
    assert abs(sums["mean_teacher_loss"]) < 1e-4 < more["mean_loss"]


def test_the_weight_is_the_teacher_s_share_of_the_loss(all_tasks):
    _, _, run, data = all_tasks
    batch, model = some_of_each(data.train), build_model(run, 0, need_heads=False)
    labels, plain = losses_of(model, None, batch)
    soft, only = losses_of(model, Distillation(1.0, T), batch)
    mixed, sums = losses_of(model, Distillation(0.25, T), batch)
    for name, loss in mixed.items():
        assert soft[name] > 1e-4
        assert loss == pytest.approx(0.75 * labels[name] + 0.25 * soft[name], rel=1e-5)
    assert list(plain) == ["mean_loss"]
    assert only["mean_loss"] == pytest.approx(only["mean_teacher_loss"], rel=1e-5)
    assert sums["mean_teacher_loss"] == pytest.approx(only["mean_teacher_loss"], rel=1e-5)


def test_the_outputs_are_kept_beside_the_features(all_tasks, capsys, monkeypatch):
    _, _, run, data = all_tasks
    again = open_training_data(run)
    assert "Computing" not in capsys.readouterr().err
    for old, new in zip(data.train.tables, again.train.tables, strict=True):
        arrays = new.to_arrays()
        for name, array in old.to_arrays().items():
            np.testing.assert_array_equal(array, arrays[name])
    assert again.origin["teacher"] == data.origin["teacher"]
    # Features of a later version may be of other examples.
    monkeypatch.setattr(run.tasks[0], "features_version", 99)
    open_training_data(run)
    assert capsys.readouterr().err.count("Computing the teacher's outputs") == 1


def test_the_page_s_commands(tmp_path):
    calls = run_shell(block_with(DOCS / "beyond_electra.md", '"teacher"'), tmp_path)
    hparams = [json.loads(call[call.index("--hparams") + 1]) for call in calls]
    first, second = (FinetuningConfig("base", "data", **given) for given in hparams)
    assert second.teacher == f"{first.model_dir}_1"


def divergence(student, teacher):
    return T**2 * rel_entr(softmax(teacher / T, -1), softmax(student / T, -1)).sum(-1)


def binary_divergence(student, teacher):
    yes, other = expit(teacher / T), expit(student / T)
    return T**2 * (rel_entr(yes, other) + rel_entr(1 - yes, 1 - other))


def test_distances_from_the_teacher():
    stream = np.random.default_rng(0)
    one, two = stream.normal(scale=3, size=(2, 4, 3)).astype(np.float32)
    single = {"logits": one}, {"teacher_logits": two}
    found = ClassificationHead(3, 0.0).soft_losses(*single, T)
    np.testing.assert_allclose(found, divergence(one, two), rtol=1e-4)
    found = MultilabelHead(3, 0.0).soft_losses(*single, T)
    np.testing.assert_allclose(found, binary_divergence(one, two).mean(-1), rtol=1e-4)
    scores = {"predictions": one[:, 0]}, {"teacher_predictions": two[:, 0]}
    found = RegressionHead(0.0).soft_losses(*scores, T)
    np.testing.assert_allclose(found, (one[:, 0] - two[:, 0]) ** 2, rtol=1e-5)
    logits = {"logits": one[:, 0]}, {"teacher_logits": two[:, 0]}
    found = RegressionHead(0.0, "logistic").soft_losses(*logits, T)
    np.testing.assert_allclose(found, binary_divergence(one[:, 0], two[:, 0]), rtol=1e-4)


@pytest.mark.parametrize("temperature", [T, 0.01])
def test_distances_of_choices_are_of_those_that_are_there(temperature):
    one, two = np.random.default_rng(3).normal(size=(2, 2, 3)).astype(np.float32)
    one[1, 2] = two[1, 2] = np.finfo(np.float32).min
    outputs = {"logits": one, "num_choices": np.array([3, 2], np.int32)}
    found = ChoiceHead(0.0).soft_losses(outputs, {"teacher_logits": two}, temperature).numpy()
    expected = [divergence(one[0], two[0]), divergence(one[1, :2], two[1, :2])]
    assert np.isfinite(found).all()
    if temperature == T:
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_teacher_of_choices_and_of_a_reranker(tiny_finetuning, tmp_path):
    """Beside a task with one text an example; some examples have fewer choices."""
    data_dir, names = tmp_path / "data", ["endings", "marks", "pages"]
    shutil.copytree(tiny_finetuning, data_dir)
    tasks = data_dir / "finetuning_data"
    choices = [["a", "the ship"], ["the sea", "in", "a town"]]
    rows = [{"start": "the", "question": "old", "endings": c, "label": 1} for c in choices * 4]
    pages = [{"query": "the ship", "page": f"a {p}", "label": i % 2} for i, p in enumerate("abc")]
    for name, own in (("endings", rows), ("pages", pages)):
        write_lines(tasks / name / "train.jsonl", own)
        write_lines(tasks / name / "dev.jsonl", own)
    folder = write_teacher(tmp_path / "teacher", names)
    data, teacher = taught_data(data_dir, names, teacher=folder), FineTuned.from_pretrained(folder)
    chosen = teacher.predict([("the", "old", c) for c in choices], task="endings")
    logits = data.train.tables[0].scalars["teacher_logits"]
    assert logits.shape == (8, 3)
    for row, choice in zip(logits, chosen, strict=False):
        there = len(choice.probabilities)
        np.testing.assert_allclose(softmax(row[:there]), choice.probabilities, atol=1e-5)
    found = expit(data.train.tables[2].scalars["teacher_logits"])
    scores = teacher.predict([(p["query"], p["page"]) for p in pages], task="pages")
    np.testing.assert_allclose(found, [s.score for s in scores], atol=1e-5)
    batch = data.train.batch(np.array([0, 1, 9, data.train.num_rows - 1, -1]), 32)
    losses, sums = losses_of(teacher.network, Distillation(1.0, T), batch)
    assert losses == pytest.approx(dict.fromkeys(losses, 0.0), abs=1e-4)
    halves, _ = losses_of(teacher.network, Distillation(0.5, T), batch)
    labels, _ = losses_of(teacher.network, None, batch)
    for name in labels:
        assert halves[name] == pytest.approx(labels[name] / 2, rel=1e-3, abs=1e-4)
    assert np.isfinite(sums["mean_teacher_loss"])


def test_distances_of_tags_are_summed_over_words():
    """The teacher's rows are padded to the length in tokens, the words to the most words."""
    stream = np.random.default_rng(1)
    own, teacher = (stream.normal(size=(2, n, 4)).astype(np.float32) for n in (3, 6))
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.float32)
    outputs = {"logits": own, "labels_mask": mask}
    found = TaggingHead(4, 8).soft_losses(outputs, {"teacher_logits": teacher}, T)
    expected = (divergence(own, teacher[:, :3]) * mask).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("classifies", [True, False])
def test_distances_of_answers_ignore_padding(classifies):
    stream = np.random.default_rng(2)
    mask = np.array([[1, 1, 1, 0, 0]], np.int32)
    outside = -1000.0 * (1 - mask)
    student, teacher = (
        {n: stream.normal(size=(1, 5)).astype(np.float32) for n in ("start", "end")} for _ in "ab"
    )
    logit, others = np.float32([0.3]), np.float32([-1.2])
    outputs = {f"{n}_logits": (v + outside).astype(np.float32) for n, v in student.items()}
    outputs |= {"answerable_logit": logit, "loss": np.zeros(1, np.float32)}
    features = {f"teacher_{n}_logits": (v * mask).astype(np.float32) for n, v in teacher.items()}
    features |= {"teacher_answerable_logit": others, "input_mask": mask}
    config = FinetuningConfig("m", "d", answerable_classifier=classifies, answerable_weight=0.75)
    found = QAHead(config, STILL).soft_losses(outputs, features, T)
    parts = [divergence(student[n][0, :3], teacher[n][0, :3]) for n in ("start", "end")]
    expected = sum(parts) / 2 + classifies * 0.75 * binary_divergence(logit, others)[0]
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_a_classifier_may_have_another_vocabulary(tiny_finetuning, tmp_path):
    data_dir = tmp_path / "data"
    shutil.copytree(tiny_finetuning, data_dir)
    pieces = [*PIECES[:5], *reversed(PIECES[5:])]
    folder, _, _ = write_fine_tuned(
        tmp_path / "other", ["marks"], states=STATES, pieces=pieces, max_seq_length=8
    )
    data = taught_data(data_dir, ["marks"], teacher=str(folder))
    (table,) = data.train.tables
    teacher = FineTuned.from_pretrained(str(folder))
    texts = [text for text, _ in tiny_tasks.sentences(240)[:5]]
    for row, prediction in enumerate(teacher.predict(texts)):
        expected = list(prediction.probabilities.values())
        found = softmax(table.scalars["teacher_logits"][row])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_tagger_may_read_more_of_a_sentence_than_its_student(all_tasks):
    data_dir, *_ = all_tasks
    longer = write_teacher(data_dir / "longer", ["chunk"], max_seq_length=32)
    data = taught_data(data_dir, ["chunk"], teacher=longer, max_seq_length=8)
    (table,) = data.train.tables
    labels, logits = table.ragged["labels"], table.ragged["teacher_logits"]
    np.testing.assert_array_equal(labels.splits, logits.splits)
    assert logits.values.shape == (len(labels.values), 2) and labels.lengths.max() == 6


def test_teachers_that_do_not_fit(all_tasks, tmp_path):
    data_dir, *_ = all_tasks
    pretrained = refusal(data_dir, ["marks"], teacher=str(model_of(data_dir)))
    assert "not fine-tuned" in pretrained.what
    marks = write_teacher(tmp_path / "marks")
    other = refusal(data_dir, ["chunk"], teacher=marks)
    assert "'chunk'" in other.received and "marks" in other.received
    turned = {"marks": {"labels": ["good", "bad"]}}
    folder = write_teacher(tmp_path / "turned", states=turned)
    labels = refusal(data_dir, ["marks"], teacher=folder)
    assert '["good", "bad"]' in labels.received and '["bad", "good"]' in labels.received
    one_segment = dataclasses.replace(STILL, type_vocab_size=1)
    folder = write_teacher(tmp_path / "one_segment", ["chunk"], one_segment)
    assert "type_vocab_size 1" in refusal(data_dir, ["chunk"], teacher=folder).where
    texts = data_dir / "finetuning_data/texts/train.jsonl"
    write_lines(texts, [{"anchor": "a ship", "positive": "the ship"}])
    folder = write_teacher(tmp_path / "texts", ["texts"])
    assert "TableEmbedding" in refusal(data_dir, ["texts"], teacher=folder).received
    both = str(data_dir / "teacher/model_1")
    joint = refusal(data_dir, ["squad"], teacher=both, joint_prediction=False)
    assert "joint_prediction" in joint.received


@pytest.mark.parametrize("name", ["chunk", pytest.param("squad", marks=pytest.mark.slow)])
def test_words_and_tokens_have_to_be_the_teacher_s(name, all_tasks, tmp_path):
    data_dir, *_ = all_tasks
    short = write_teacher(tmp_path / "short", [name], max_seq_length=12, max_query_length=4)
    error = refusal(data_dir, [name], teacher=short)
    assert "max_seq_length 12, here 32" in error.received and "max_seq_length" in error.remedy
    # The remedy works.
    data = taught_data(
        data_dir, [name], teacher=short, max_seq_length=12, max_query_length=4, doc_stride=128
    )
    assert f"{name}/teacher_" in " ".join(data.train.batch(np.array([0]), 12))


@pytest.fixture(scope="module")
def distilled(tiny_finetuning, tmp_path_factory):
    """(data folder, teacher's folder) after a trial of six steps; tests copy it."""
    data_dir = tmp_path_factory.mktemp("distilled") / "data"
    shutil.copytree(tiny_finetuning, data_dir)
    teacher = write_teacher(data_dir / "teacher")
    tiny_tasks.finetune_here(data_dir, **SHORT, teacher=teacher, log_every_steps=2)
    return data_dir, teacher


def test_a_trial_with_a_teacher(distilled):
    data_dir, teacher = distilled
    trial = model_of(data_dir) / "finetuning_models/marks_model_1"
    lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    assert all(line["mean_teacher_loss"] > 0 for line in lines if "mean_loss" in line)
    assert json.loads((trial / "config.json").read_text())["hparams"]["teacher"] == teacher
    FineTuned.from_pretrained(str(trial))


def test_what_was_distilled_stands_with_the_same_teacher_only(distilled, tmp_path):
    data_dir = tmp_path / "data"
    shutil.copytree(distilled[0], data_dir)
    moved = str(data_dir / "teacher/model_1")
    _, shown = tiny_tasks.finetune_here(data_dir, **SHORT, teacher=moved)
    assert "its results stand" in shown
    with pytest.raises(UserError, match="teacher"):
        tiny_tasks.finetune_here(data_dir, **SHORT)
    network = dataclasses.replace(STILL, intermediate_size=48)
    other = write_teacher(tmp_path / "other", network=network)
    with pytest.raises(UserError, match="changed since then: teacher"):
        tiny_tasks.finetune_here(data_dir, **SHORT, teacher=other)
    trial = str(model_of(data_dir) / "finetuning_models/marks_model_1")
    with pytest.raises(UserError) as error:
        tiny_tasks.finetune_here(data_dir, **SHORT, teacher=trial, overwrite=True)
    assert error.value.where == "hparam teacher" and "overwritten" in error.value.what


def train_on(data_dir, devices, **hparams):
    """See `finetune_on_devices`."""
    given = {**SHORT, "num_train_epochs": 0.4, "save_checkpoints_steps": 100, **hparams}
    return tiny_tasks.finetune_on_devices("marks_model_1", data_dir, devices, **given)


@pytest.mark.slow
def test_resumed_and_on_two_devices_it_is_the_same_training(tiny_finetuning, tmp_path):
    folders = [tmp_path / name for name in ("whole", "stopped", "two")]
    teacher = write_teacher(tmp_path / "teacher")
    for folder in folders:
        shutil.copytree(tiny_finetuning, folder)
    still = {"model_hparam_overrides": WITHOUT_DROPOUT, "head_dropout_prob": 0.0}
    still["teacher"] = teacher
    code, whole = train_on(folders[0], 1, **still)
    assert code == 0
    code, _ = train_on(folders[1], 1, **still, stop_at=5)
    assert code != 0
    code, resumed = train_on(folders[1], 1, **still)
    assert code == 0 and resumed.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name])
    code, two = train_on(folders[2], 2, **still, distribution="mirrored")
    assert code == 0
    for name, array in whole.items():
        np.testing.assert_allclose(two[name], array, rtol=1e-3, atol=1e-5)
