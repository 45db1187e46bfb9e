"""Multiple choice: rows, files of SWAG and RACE, the loss, training and predictions."""

import json
import random
import re

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax

from electra_tf2.errors import UserError
from finetune.definitions import read_definition
from finetune.feature_tables import FeatureTable, TaskData
from finetune.fine_tuned import FineTuned
from finetune.model import FinetuningModel
from finetune.sentences.choice import ChoiceHead
from tests.finetune import tiny_tasks
from tests.finetune.sentences.sentence_samples import PAIRS, make_task, write_lines

SWAG = {
    "kind": "choice",
    "text": "sent1",
    "text_b": "sent2",
    "choices": ["ending0", "ending1", "ending2", "ending3"],
    "label": "label",
}
RACE = {
    "kind": "choice",
    "text": "article",
    "text_b": "questions",
    "choices": "options",
    "label": "answers",
    "id": "id",
}
LISTS = {"kind": "choice", "text": "context", "choices": "choices", "label": "label"}
PASSAGE = {
    "article": "the old ship",
    "questions": ["a town", "the sea"],
    "options": [["a", "the", "in"], ["ship", "harbour"]],
    "answers": ["C", "A"],
    "id": "high1.txt",
}


def read(task, path, split="dev"):
    return task.read_examples(str(path), split)


def test_swag_s_csv(tmp_path):
    path = tmp_path / "dev.csv"
    path.write_text(
        ",video-id,sent1,sent2,ending0,ending1,ending2,ending3,label\n"
        '0,a,"The ship, old.",It,sails.,sinks.,"is, well.",,2\n'
        "1,b,A town.,She,runs.,sits.,eats.,sleeps.,3\n"
    )
    first, second = read(make_task(tmp_path, SWAG), path)
    assert (first.context, first.question) == ("The ship, old.", "It")
    assert first.choices == ("sails.", "sinks.", "is, well.") and first.label == 2
    assert len(second.choices) == 4 and second.label == 3
    (predicted,) = read(make_task(tmp_path, SWAG), path, "predict")[1:]
    assert predicted.label is None


def test_race_s_questions_are_examples(tmp_path):
    write_lines(tmp_path / "dev.jsonl", [PASSAGE, PASSAGE])
    examples = read(make_task(tmp_path, RACE), tmp_path / "dev.jsonl")
    assert [e.eid for e in examples] == [0, 1, 2, 3]
    assert [e.id for e in examples[:2]] == ["high1.txt-0", "high1.txt-1"]
    assert [e.label for e in examples[:2]] == [2, 0]
    assert [e.question for e in examples[:2]] == PASSAGE["questions"]
    assert examples[1].choices == ("ship", "harbour") and examples[1].context == "the old ship"


def test_rows_are_numbered_past_those_that_can_t_be_used(tmp_path):
    row = {"context": "a", "choices": ["x", "y"], "label": 0}
    write_lines(tmp_path / "dev.jsonl", [row] * 9 + [{**row, "choices": ["x"]}] + [row] * 30)
    examples = read(make_task(tmp_path, LISTS), tmp_path / "dev.jsonl")
    assert [e.eid for e in examples] == [*range(9), *range(10, 40)]


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"options": [["a", "the", "in"], ["ship", ""]]}, "question 2 of 2: a choice is empty"),
        ({"options": [["a", "the", "in"], "ship"]}, "question 2 of 2: a question needs two"),
        ({"answers": ["C", "E"]}, "question 2 of 2: the label 'E' is beyond"),
        ({"answers": ["C", None]}, "question 2 of 2: None is not text"),
        ({"questions": ["a town", ["the", "sea"]]}, r"question 2 of 2: \['the', 'sea'\] is not"),
    ],
)
def test_a_bad_question_leaves_the_others_of_its_passage(tmp_path, change, problem, caplog):
    write_lines(tmp_path / "dev.jsonl", [PASSAGE, {**PASSAGE, **change}, PASSAGE])
    with caplog.at_level("WARNING", "absl"):
        examples = read(make_task(tmp_path, RACE), tmp_path / "dev.jsonl")
    assert [e.eid for e in examples] == [0, 1, 2, 4, 5]
    assert [e.id for e in examples[1:4]] == ["high1.txt-1", "high1.txt-0", "high1.txt-0"]
    assert re.search(rf"dev.jsonl: 1 of 6 questions are skipped \(line 2: {problem}", caplog.text)


def test_the_questions_of_a_passage_without_use_count(tmp_path, caplog):
    bad = {**PASSAGE, "answers": ["C"]}
    write_lines(tmp_path / "dev.jsonl", [PASSAGE, bad, PASSAGE])
    with caplog.at_level("WARNING", "absl"):
        examples = read(make_task(tmp_path, RACE), tmp_path / "dev.jsonl")
    assert [e.eid for e in examples] == [0, 1, 4, 5]
    assert "2 of 6 questions are skipped (line 2: 'answers' is not a list of 2" in caplog.text
    write_lines(tmp_path / "dev.jsonl", [PASSAGE] * 300 + [bad] * 15)  # by passages it is 4.8 %
    with pytest.raises(UserError, match="30 of 630 questions"):
        read(make_task(tmp_path, RACE), tmp_path / "dev.jsonl")


def test_a_bad_first_question_leaves_the_others_of_its_passage(tmp_path):
    change = {"options": [None, ["ship", "harbour"]]}
    write_lines(tmp_path / "dev.jsonl", [{**PASSAGE, **change}])
    (example,) = read(make_task(tmp_path, RACE), tmp_path / "dev.jsonl")
    assert (example.eid, example.id, example.label) == (1, "high1.txt-1", 0)


@pytest.mark.parametrize(
    "label, first, number",
    [(1, 0, 1), ("1", 1, 0), ("b", 0, 1), ("B", 1, 1), ("Ｂ", 0, 1), ("１", 0, 1)]
    + [(1.0, 0, 1), ("1.0", 1, 0), (" 1 ", 0, 1), ("01", 0, 1), ("1.00e+00", 0, 1)],
)
def test_labels_are_numbers_or_letters(tmp_path, label, first, number):
    write_lines(tmp_path / "dev.jsonl", [{"context": "a", "choices": ["x", "y"], "label": label}])
    (example,) = read(make_task(tmp_path, {**LISTS, "first_number": first}), tmp_path / "dev.jsonl")
    assert example.label == number


def test_labels_that_count_from_one_are_not_taken_for_the_next_choice(tmp_path):
    rows = [{"context": "a", "choices": ["x", "y"], "label": label} for label in (1, 1, "2", 1)]
    write_lines(tmp_path / "dev.jsonl", rows)
    with pytest.raises(UserError, match="another number") as error:
        read(make_task(tmp_path, LISTS), tmp_path / "dev.jsonl")
    assert "'2' is beyond the 2 choices, and no label is the first one" in error.value.received
    assert "first_number to 1" in error.value.remedy
    write_lines(tmp_path / "dev.jsonl", [{**rows[0], "label": label} for label in (0, 1, 0)])
    with pytest.raises(UserError, match="another number") as error:
        read(make_task(tmp_path, {**LISTS, "first_number": 1}), tmp_path / "dev.jsonl")
    assert "'0' is beyond the 2 choices, and no label is the last one" in error.value.received
    assert "first_number to 0" in error.value.remedy
    write_lines(tmp_path / "dev.jsonl", rows)
    examples = read(make_task(tmp_path, {**LISTS, "first_number": 1}), tmp_path / "dev.jsonl")
    assert [example.label for example in examples] == [0, 0, 1, 0]
    write_lines(tmp_path / "dev.jsonl", [*rows, {**rows[0], "label": 0}])
    assert len(read(make_task(tmp_path, LISTS), tmp_path / "dev.jsonl")) == 4
    write_lines(tmp_path / "dev.jsonl", [{**rows[0], "label": label} for label in "BCB"])
    assert len(read(make_task(tmp_path, LISTS), tmp_path / "dev.jsonl")) == 2


def test_letters_beside_numbers_are_warned_of(tmp_path, caplog):
    rows = [{"context": "a", "choices": ["x", "y"], "label": label} for label in ("B", "1")]
    write_lines(tmp_path / "dev.jsonl", rows)
    for first, labels in ((0, [1, 1]), (1, [1, 0])):
        caplog.clear()
        examples = read(
            make_task(tmp_path, {**LISTS, "first_number": first}), tmp_path / "dev.jsonl"
        )
        assert [example.label for example in examples] == labels
        assert ("first_number to 1" in caplog.text) is (first == 0)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"label": 2}, "beyond the 2 choices"),
        ({"label": "x y"}, "not the number or the letter"),
        ({"label": 1.5}, "'1.5' is not the number or the letter"),
        ({"label": "1_0"}, "'1_0' is not the number or the letter"),
        ({"label": True}, "'true' is not the number or the letter"),
        ({"choices": ["x"]}, "two choices or more"),
        ({"choices": "x"}, "not a list"),
        ({"choices": ["x", " "]}, "is empty"),
        ({"choices": ["x", ["y"]]}, "is not text"),
        ({"choices": [["x", "y"]]}, "'label' is not a list of 1"),
    ],
)
def test_bad_rows(tmp_path, change, word):
    row = {"context": "a", "choices": ["x", "y"], "label": 0}
    write_lines(tmp_path / "dev.jsonl", [{**row, **change}])
    with pytest.raises(UserError, match=word) as error:
        read(make_task(tmp_path, LISTS), tmp_path / "dev.jsonl")
    assert "line 1" in error.value.received


@pytest.mark.parametrize(
    "definition, key",
    [
        ({**LISTS, "choices": ""}, "choices"),
        ({**LISTS, "choices": ["a"]}, "choices"),
        ({**LISTS, "choices": ["a", "a"]}, "choices"),
        ({**LISTS, "choices": ["a", "context"]}, "choices"),
        ({**SWAG, "text": 0, "text_b": 1, "label": 2, "header": False}, "choices"),
        ({**LISTS, "windows": "max"}, "windows"),
        ({**LISTS, "label": ""}, "label"),
    ],
)
def test_bad_definitions(definition, key):
    with pytest.raises(UserError) as error:
        read_definition("endings", definition)
    assert error.value.where == f"hparam tasks.endings.{key}"


def test_every_choice_is_a_row_behind_its_context(tmp_path):
    task = make_task(tmp_path, RACE, "race")
    write_lines(tmp_path / "train.jsonl", [PASSAGE])
    examples = read(task, tmp_path / "train.jsonl", "train")
    specs = task.get_feature_specs()
    table = FeatureTable.from_rows(task.featurize(examples, True), specs)
    batch = TaskData(["race"], [table], [specs]).batch(np.arange(2), 12)
    ids = np.concatenate([batch["input_ids"][:, None], batch["race/more_ids"]], axis=1)
    segments = np.concatenate([batch["segment_ids"][:, None], batch["race/more_segments"]], axis=1)
    mask = np.concatenate([batch["input_mask"][:, None], batch["race/more_mask"]], axis=1)
    vocabulary = task.tokenizer.vocabulary
    for i, example in enumerate(examples):
        for j, choice in enumerate(example.choices):
            first = task.tokenizer.encode(example.context)
            second = task.tokenizer.encode(f"{example.question} {choice}")
            sep = vocabulary.sep_id
            expected = [vocabulary.cls_id, *first, sep, *second, sep]
            assert ids[i, j][mask[i, j] == 1].tolist() == expected
            ones = [0] * (len(first) + 2) + [1] * (len(second) + 1)
            assert segments[i, j][mask[i, j] == 1].tolist() == ones
    assert not mask[1, 2].any(), "the second question has two choices"
    model = FinetuningModel([task], tiny_tasks.NETWORK)
    model.build()
    outputs = model(batch)["race"].outputs
    states = model.encoder(ids[0], mask[0], segments[0])
    expected = model.heads[0].project(states, False, None)[:, 0]
    np.testing.assert_allclose(outputs["logits"][0], expected, atol=1e-5)
    assert task.prediction({n: v.numpy()[1] for n, v in outputs.items()})["probabilities"] == (
        pytest.approx(softmax(outputs["logits"][1, :2].numpy().astype(float)))
    )


@pytest.mark.parametrize("definition", [LISTS, PAIRS])
def test_rows_without_room_for_text_are_refused(definition, tmp_path):
    task = make_task(tmp_path, definition, max_seq_length=4)
    row = {"context": "a", "choices": ["the", "in"], "label": 0, "anchor": "a", "positive": "the"}
    write_lines(tmp_path / "dev.jsonl", [row])
    with pytest.raises(UserError, match="no room") as error:
        list(task.featurize(read(task, tmp_path / "dev.jsonl"), False))
    assert "max_seq_length" in error.value.received


def test_the_loss_is_a_softmax_over_the_choices():
    head = ChoiceHead(0.5)
    head.build((None, None, 4))
    states = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    mask = np.ones((2, 2, 5), np.int32)
    mask[1, 1] = 0
    labels = np.array([2, 1], np.int32)
    features = {"more_states": states[:, 1:], "more_mask": mask, "label_ids": labels}
    kernel, bias = (np.asarray(v) for v in head.trainable_variables)
    logits = (states[:, :, 0] @ kernel + bias)[..., 0]
    result = head(states[:, 0], features)
    expected = [logsumexp(logits[0]) - logits[0, 2], logsumexp(logits[1, :2]) - logits[1, 1]]
    np.testing.assert_allclose(result.losses, expected, atol=1e-5)
    assert result.outputs["num_choices"].numpy().tolist() == [3, 2]
    seeds = [tf.constant([1, i], tf.int64) for i in (0, 0, 1)]
    same, again, other = (
        head(states[:, 0], features, training=True, seed=seed).losses.numpy() for seed in seeds
    )
    assert (same == again).all() and (same != other).any()


def questions(count, seed):
    """The right choice is the one with a mark."""
    stream = random.Random(seed)
    marked = [text for text, label in tiny_tasks.sentences(200, seed) if label == "good"]
    plain = [text for text, label in tiny_tasks.sentences(200, seed) if label == "bad"]
    rows = []
    for _ in range(count):
        number = stream.randrange(3)
        choices = stream.sample(plain, 3)
        choices[number] = stream.choice(marked)
        rows.append({"context": "the old town", "choices": choices, "label": number})
    return rows


def test_training_scores_and_predictions(data_dir):
    folder = data_dir / "finetuning_data" / "endings"
    write_lines(folder / "train.jsonl", questions(96, 0))
    write_lines(folder / "dev.jsonl", questions(20, 1))
    hparams = {**tiny_tasks.LEARN, "num_train_epochs": 4.0, "tasks": {"endings": LISTS}}
    hparams["pad_to_max_length"] = True  # one program for training, in place of ten
    (result,), _ = tiny_tasks.finetune_here(data_dir, task_names=["endings"], **hparams)
    assert result.scores["endings"]["accuracy"] > 60
    model = tiny_tasks.model_of(data_dir)
    lines = (model / "test_predictions" / "endings_dev_1_predictions.jsonl").read_text()
    records = [json.loads(line) for line in lines.splitlines()]
    fine_tuned = FineTuned.from_pretrained(str(model / "finetuning_models" / "endings_model_1"))
    inputs = [(row["context"], row["choices"]) for row in questions(20, 1)]
    for record, choice in zip(records, fine_tuned.predict(inputs), strict=True):
        assert record["choice"] == choice.choice == int(np.argmax(choice.probabilities))
        assert record["probabilities"] == pytest.approx(choice.probabilities, abs=1e-5)
    with pytest.raises(TypeError, match=r"inputs\[1\]"):
        fine_tuned.predict([inputs[0], ("a context", ["one choice"])])
