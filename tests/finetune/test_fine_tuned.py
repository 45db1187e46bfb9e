"""`FineTuned.predict`: what the program predicts for a file, from Python."""

import json
import pathlib
import re
import unittest.mock
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import finetune
from electra_tf2.errors import UserError
from finetune import evaluation
from finetune.classification.tasks import InputExample
from finetune.feature_tables import TaskData
from finetune.features import Preprocessor
from finetune.run.finetune import predict
from finetune.task import FeatureSpec
from tests.finetune import tiny_tasks
from tests.finetune.trials import (
    DOC_STRIDE,
    LABELS,
    LENGTH,
    TASKS,
    THRESHOLD,
    TOPICS,
    configure,
    conformance_texts,
    write_trial,
)

SENTENCES = ["The river crossed a town .", "an old market in Zürich", "unaffable winters !"]
QUESTIONS = [
    ("Where is the market?", "The old market in Zürich was sold twice in 1946."),
    ("Who crossed the river?", " ".join(["A horse crossed the river near the town."] * 8)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_trial(tmp_path_factory.mktemp("fine_tuned") / "trial")


@pytest.fixture(scope="module")
def model(folder):
    return finetune.FineTuned.from_pretrained(folder)


def table_of(model, texts):
    task = model.task("reviews")
    return Preprocessor(model.config).make(task, [InputExample(*t) for t in enumerate(texts)], "")


def predicted_by_the_program(folder, task, path, output):
    """The records that run_finetuning.py --predict writes."""
    place = output.parent / "run"
    config = configure(place, [task], do_train=False, do_eval=True, init_checkpoint=folder)
    predict(config, str(path), str(output))
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_classification(model, folder, tmp_path):
    texts = [text for text in conformance_texts()[100:160] if text.isprintable() and text.strip()]
    rows = [text.replace("\t", " ").replace('"', "'") for text in texts]
    tiny_tasks.write_table(tmp_path / "new.tsv", [(row,) for row in rows], header="text")
    records = predicted_by_the_program(
        folder, "reviews", tmp_path / "new.tsv", tmp_path / "out.jsonl"
    )
    found = model.predict(rows, task="reviews", batch_size=7)
    assert [p.label for p in found] == [r["label"] for r in records]
    assert len({p.label for p in found}) > 1
    for prediction, record in zip(found, records, strict=True):
        assert list(prediction.probabilities) == LABELS
        assert prediction.probabilities == pytest.approx(record["probabilities"], abs=1e-5)


def test_texts_that_the_vocabulary_cannot_spell(model, caplog):
    model.predict(["the old market"], task="reviews")
    assert "[UNK]" not in caplog.text
    model.predict(["\u10d0\u10d1 \u10d2"], task="reviews")
    assert "reviews, predict: 100 % of the tokens are [UNK] (2 of 2)" in caplog.text


def test_questions(model, folder, tmp_path):
    paragraphs = [
        {"context": passage, "qas": [{"id": str(i), "question": question}]}
        for i, (question, passage) in enumerate(QUESTIONS)
    ]
    path = tmp_path / "new.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    records = predicted_by_the_program(folder, "manuals", path, tmp_path / "out.jsonl")
    found = model.predict(QUESTIONS, task="manuals")
    assert [p.answer for p in found] == [r["answer"] for r in records]
    assert [p.n_best[0]["text"] for p in found] == [r["n_best"][0]["text"] for r in records]
    for prediction, record in zip(found, records, strict=True):
        assert prediction.null_odds == pytest.approx(record["null_odds"], abs=1e-4)


def test_scores_and_pairs(model):
    pairs = [("the river", "a town"), ("the river", "an old market")]
    first, second, alone = model.predict([*pairs, "the river"], task="points")
    assert len({first.score, second.score, alone.score}) == 3
    assert model.predict([("the river", "")], task="points")[0].score == pytest.approx(alone.score)


def test_several_labels_of_long_texts(model, folder, tmp_path):
    """A text in windows has the mean of its windows' logits."""
    words = "the river crossed an old market in a town and horses were sold by farmers".split()
    texts = [" ".join(words[i:] * 12) for i in range(6)] + ["the river", "an old market"]
    tiny_tasks.write_table(tmp_path / "new.tsv", [(text,) for text in texts], header="text")
    records = predicted_by_the_program(
        folder, "topics", tmp_path / "new.tsv", tmp_path / "out.jsonl"
    )
    found = model.predict(texts, task="topics", batch_size=5)
    assert [p.labels for p in found] == [r["labels"] for r in records]
    assert len({tuple(p.labels) for p in found}) > 1
    for prediction, record in zip(found, records, strict=True):
        assert prediction.probabilities == pytest.approx(record["probabilities"], abs=1e-5)
        chosen = [name for name, p in prediction.probabilities.items() if p >= THRESHOLD]
        assert prediction.labels == chosen and list(prediction.probabilities) == TOPICS
    ids = model.source.tokenizer.encode(texts[0])
    assert len(ids) > 2 * LENGTH
    logits = [window_logits(model, ids[i : i + LENGTH - 2]) for i in window_starts(len(ids))]
    wanted = 1 / (1 + np.exp(-np.mean(logits, axis=0)))
    np.testing.assert_allclose(list(found[0].probabilities.values()), wanted, atol=1e-5)
    with pytest.raises(ValueError, match="single texts"):
        model.predict([("a", "b")], task="topics")


def window_starts(count):
    """One every `DOC_STRIDE` tokens, until the last token is in one."""
    starts = [0]
    while starts[-1] + LENGTH - 2 < count:
        starts.append(starts[-1] + DOC_STRIDE)
    return starts


def window_logits(model, ids):
    vocabulary = model.source.tokenizer.vocabulary
    row = np.array([[vocabulary.cls_id, *ids, vocabulary.sep_id]], np.int32)
    states = model.network.encoder(row, np.ones_like(row), np.zeros_like(row))
    head = model.network.heads[model.network.task_names.index("topics")]
    return head.project(states, False, None).numpy()[0]


def test_tags(model):
    found = model.predict(SENTENCES, task="places")
    assert [tags.words for tags in found] == [text.split() for text in SENTENCES]
    as_words = model.predict([text.split() for text in SENTENCES], task="places")
    assert [tags.tags for tags in as_words] == [tags.tags for tags in found]
    for tags in found:
        assert len(tags.tags) == len(tags.probabilities) == len(tags.words)
        assert all(0 < p <= 1 for p in tags.probabilities)
        assert all(set(span) == {"start", "end", "type", "text"} for span in tags.spans)
    (cut,) = model.predict([["river"] * 100], task="places")
    assert cut.tags[-1] == "O" and cut.probabilities[-1] is None
    assert model.predict([[]], task="places")[0].words == []


def test_no_inputs(model):
    for task in TASKS:
        assert model.predict([], task=task) == []
    with pytest.raises(ValueError, match="batch_size"):
        model.predict([], task="reviews", batch_size=0)


@pytest.mark.parametrize(
    "task, inputs, where",
    [
        (None, ["a"], "task"),
        ("review", ["a"], "task"),
        (["reviews"], ["a"], "task"),
        ("reviews", "a", "inputs must be a list"),
        ("reviews", 5, "inputs must be a list"),
        ("points", None, "inputs must be a list"),
        ("topics", {"a": "b"}, "inputs must be a list"),
        ("reviews", [None], "inputs[0]"),
        ("reviews", [1, 2], "inputs[0]"),
        ("topics", [float("nan")], "inputs[0]"),
        ("manuals", [float("nan")], "inputs[0]"),
        ("places", [float("nan")], "inputs[0]"),
        ("points", [("a", 1)], "inputs[0]"),
        ("places", "a", "inputs must be a list"),
        ("places", 5, "inputs must be a list"),
        ("manuals", 5, "inputs must be a list"),
        ("manuals", [("Where?", "\u200b\u00a0")], "inputs[0]"),
        ("places", [["a", 1]], "inputs[0]"),
        ("manuals", ["a question alone" * 99], "inputs[0]"),
        ("places", [b"words " * 99], "inputs[0]"),
        ("manuals", [("a question", " ")], "inputs[0]"),
    ],
)
def test_wrong_inputs(model, task, inputs, where):
    with pytest.raises((UserError, TypeError, ValueError), match=re.escape(where)) as error:
        model.predict(inputs, task=task)
    assert len(str(error.value)) < 400


def test_batches_are_no_larger_than_the_inputs_need(model):
    """A batch of 10**9 rows would be more than memory holds."""
    (one,), (other,) = (
        model.predict(["the river"], task="reviews", batch_size=size) for size in (10**9, 32)
    )
    assert one == other


def test_one_batch_needs_no_input_pipeline(model, monkeypatch):
    """A pipeline takes longer to make than a small network's outputs, which stay the same."""
    inputs = {"points": [("the river", "a town"), "an old market"], "manuals": QUESTIONS}
    inputs |= dict.fromkeys(("reviews", "topics", "places"), [*SENTENCES, "the river " * 30])
    assert inputs.keys() == set(model.tasks)
    number = re.compile(r"\d+\.\d+(e-\d+)?")
    several = {task: model.predict(own, task=task, batch_size=1) for task, own in inputs.items()}
    monkeypatch.setattr(evaluation, "scoring_dataset", None)
    for task, own in inputs.items():
        shown = [repr(found) for found in (model.predict(own, task=task), several[task])]
        assert number.sub("", shown[0]) == number.sub("", shown[1])
        first, second = ([float(n[0]) for n in number.finditer(text)] for text in shown)
        assert first and first == pytest.approx(second, rel=1e-5, abs=1e-6)
    with pytest.raises(TypeError, match="not callable"):
        model.predict(SENTENCES, task="reviews", batch_size=2)


def test_a_text_alone_and_among_others_is_what_the_network_computes(folder):
    """And what it was when first asked: a small encoder's weights are constants of the graphs."""
    model = finetune.FineTuned.from_pretrained(folder)
    data = TaskData(["reviews"], [table_of(model, SENTENCES)], [[FeatureSpec("label_ids")]])

    def computed():
        batch = {name: tf.constant(own) for name, own in data.batch(np.arange(3), 60).items()}
        return model.network(batch, only="reviews")["reviews"].outputs["logits"].numpy()

    def predicted():
        for texts in ([SENTENCES], [[sentence] for sentence in SENTENCES]):
            found = [label for own in texts for label in model.predict(own, task="reviews")]
            probabilities = np.array([[*label.probabilities.values()] for label in found])
            yield np.log(probabilities) - np.log(probabilities).mean(1, keepdims=True)

    logits = computed()
    expected = logits - logits.mean(1, keepdims=True)
    for found in predicted():
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(logits).max())
    for block in model.network.encoder.blocks:
        block.intermediate.kernel.assign(3 * block.intermediate.kernel.value)
    assert np.abs(computed() - logits).max() > 1e-3
    for found in predicted():
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(logits).max())


def test_few_inputs_are_few_rows(folder):
    """A single text doesn't take as long as 32, and any number of them takes two graphs."""
    model = finetune.FineTuned.from_pretrained(folder)
    predictor = model._evaluation._predictor(model.task("points"))
    with unittest.mock.patch.object(predictor, "batch", wraps=predictor.batch) as batch:
        for count in (1, 2, 9, 33, 70):
            assert len(model.predict(["the river"] * count, task="points", batch_size=100)) == count
            assert len(batch.call_args.args[0]["row"]) == count
    assert len(predictor._graphs) == 2


def test_threads_share_a_model(folder):
    expected = finetune.FineTuned.from_pretrained(folder).predict(SENTENCES, task="reviews")
    model = finetune.FineTuned.from_pretrained(folder)
    with ThreadPoolExecutor(6) as threads:
        found = threads.map(lambda i: model.predict([SENTENCES[i % 3]], task="reviews"), range(24))
        for i, (label,) in enumerate(found):
            assert label.label == expected[i % 3].label
            assert label.probabilities == pytest.approx(expected[i % 3].probabilities, rel=1e-5)


def test_the_only_task_needs_no_name(tmp_path):
    model = finetune.FineTuned.from_pretrained(write_trial(tmp_path / "one", ["reviews"]))
    (prediction,) = model.predict(["the river"])
    assert prediction.label in LABELS


def test_a_model_that_was_trained_with_empty_hparams(tmp_path):
    """Older versions took them for null."""
    trial = pathlib.Path(write_trial(tmp_path / "one", ["reviews"]))
    stored = json.loads((trial / "config.json").read_text())
    stored["hparams"] |= {"teacher": "", "init_checkpoint": ""}
    (trial / "config.json").write_text(json.dumps(stored))
    assert finetune.FineTuned.from_pretrained(str(trial)).config.teacher is None


def test_folders_without_a_fine_tuned_model(folder, tmp_path):
    with pytest.raises(UserError, match="no pre-trained model"):
        finetune.FineTuned.from_pretrained(str(tmp_path / "nothing"))
    pretrained = tiny_tasks.write_model(tmp_path)
    with pytest.raises(UserError, match="not fine-tuned by this program"):
        finetune.FineTuned.from_pretrained(str(pretrained))
