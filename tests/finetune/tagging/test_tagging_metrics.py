"""Scores of tagged sentences, worked out by hand."""

import pytest

from finetune.tagging.metrics import SpanScorer, WordAccuracyScorer
from tests.finetune.tagging.tagging_samples import outputs

LABELS = sorted(["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "AB")])


def _scored(scorer_class, gold, predicted, losses=None, labels=LABELS):
    scorer = scorer_class(labels, [tags.split() for tags in gold])
    for eid, tags in reversed(list(enumerate(predicted))):
        loss = 1.0 if losses is None else losses[eid]
        scorer.update(outputs(eid, tags.split(), labels=labels, loss=loss))
    return scorer


def test_spans():
    scorer = _scored(
        SpanScorer,
        gold=["B-A E-A O S-B", "O S-A", "S-B S-B"],
        # Right; wrong type, and one too many; one of two.
        predicted=["B-A E-A O S-B", "S-A S-B", "S-B O"],
        losses=[1.0, 2.0, 0.5],
    )
    results = scorer.get_results()
    assert [name for name, _ in results] == ["precision", "recall", "f1", "loss", "seqeval_f1"]
    # 5 gold spans, 5 predicted, 3 right; 3.5 / 8 words.
    assert dict(results) == pytest.approx(
        {"precision": 60.0, "recall": 60.0, "f1": 60.0, "loss": 0.4375, "seqeval_f1": 60.0}
    )
    assert {name: own for name, *own in scorer.class_scores().figures} == {
        "A": pytest.approx([50.0, 50.0, 50.0, 2]),
        "B": pytest.approx([200 / 3, 200 / 3, 200 / 3, 3]),
    }


def test_the_two_rules_differ_on_tags_out_of_order():
    # Official: one span (0-2, B): wrong. seqeval: A (0-0) and B (1-2): one of them right.
    scorer = _scored(SpanScorer, ["O B-B E-B"], ["S-A I-B E-B"])
    results = dict(scorer.get_results())
    assert results["f1"] == 0
    assert results["seqeval_f1"] == pytest.approx(200 / 3)  # precision 1/2, recall 1


def test_words_that_were_cut_off_count():
    # 3 gold spans, of which 1 lies in the part that was seen; the second is cut in two.
    gold = ["S-A O B-B E-B S-A"]
    results = dict(_scored(SpanScorer, gold, ["S-A O B-B"], losses=[6.0]).get_results())
    assert results["precision"] == 50 and results["recall"] == pytest.approx(100 / 3)
    assert results["loss"] == 2.0  # of the words that were seen
    assert dict(_scored(WordAccuracyScorer, gold, ["S-A O O"]).get_results())["accuracy"] == 40


def test_nothing_predicted():
    for predicted in (["O O", "O"], ["", ""]):
        scorer = _scored(SpanScorer, ["S-A O", "S-B"], predicted, losses=[0.0, 0.0])
        assert dict(scorer.get_results()) == dict.fromkeys(
            ("precision", "recall", "f1", "loss", "seqeval_f1"), 0.0
        )
        accuracy = _scored(WordAccuracyScorer, ["S-A O", "S-B"], predicted, losses=[0.0, 0.0])
        assert dict(accuracy.get_results())["loss"] == 0


@pytest.mark.parametrize("scorer_class", [SpanScorer, WordAccuracyScorer])
@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        (["O O"], "2 sentences, and outputs of 1"),
        (["O O", "O", "O"], "2 sentences, and outputs of number 3"),
        (["O O O", "O"], "sentence 1 of 2 words, and outputs of 3"),
    ],
)
def test_outputs_of_other_sentences(scorer_class, predicted, said):
    with pytest.raises(ValueError, match=said):
        _scored(scorer_class, ["S-A O", "S-B"], predicted).get_results()


def test_no_spans_in_gold():
    assert dict(_scored(SpanScorer, ["O O"], ["S-A O"]).get_results())["f1"] == 0


def test_accuracy():
    tags = ["DT", "NN", "O"]
    scorer = _scored(WordAccuracyScorer, ["DT NN", "NN O"], ["DT DT", "NN O"], [1.0, 2.0], tags)
    assert scorer.get_results() == [("accuracy", 75.0), ("loss", 0.75)]


@pytest.mark.parametrize(
    ("scorer_class", "predicted", "expected"),
    [
        (SpanScorer, ["O O", "O"], "the tag 'O'"),
        (SpanScorer, ["O O", "S-A"], None),
        (SpanScorer, ["S-A S-A", "S-A"], None),
        (SpanScorer, [], None),
        (WordAccuracyScorer, ["S-A S-A", "S-A"], "the tag 'S-A'"),
        (WordAccuracyScorer, ["S-A O", "O"], None),
    ],
)
def test_stuck(scorer_class, predicted, expected):
    assert _scored(scorer_class, ["S-A O", "S-B"], predicted).stuck_at() == expected
