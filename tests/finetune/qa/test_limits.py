"""What limits on lengths cost is counted and said."""

import logging as python_logging

import pytest

from electra_tf2.errors import UserError
from tests.finetune.qa.qa_samples import example, make_task, outputs, question, write_squad

CONTEXT = "the cat sat on the mat in paris when steve sat"


@pytest.fixture
def warnings(caplog):
    """What is logged as a warning."""
    python_logging.getLogger("absl").propagate = True
    return caplog


def featurize(examples, is_training=True, **settings):
    return list(make_task(**settings).featurize(examples, is_training))


def test_nothing_is_said_where_nothing_is_lost(warnings):
    featurize([example(CONTEXT, answer="cat sat on"), example(CONTEXT, is_impossible=True)])
    featurize([example(CONTEXT)], is_training=False)
    assert warnings.text == ""


def test_answers_longer_than_max_answer_length(warnings):
    answers = ["cat", "cat sat on the", "cat sat on the mat"]
    examples = [example(CONTEXT, answer=answer) for answer in answers]
    featurize([*examples, example(CONTEXT, is_impossible=True)], max_answer_length=3)
    for part in ("squadv1, training: 2 of 3 answers", "max_answer_length = 3", "longest has 5"):
        assert part in warnings.text


def test_answers_that_no_window_contains(warnings):
    settings = {"max_seq_length": 12, "doc_stride": 7}  # seven pieces a window
    examples = [example(CONTEXT, answer=text) for text in ("in paris when", "the cat", "sat on")]
    rows = featurize(examples, **settings)
    assert [(r["start_positions"], r["end_positions"]) for r in rows[:2]] == [(0, 0), (0, 0)]
    assert "1 of 3 answers are cut" in warnings.text
    assert "Lower doc_stride to 5," in warnings.text
    warnings.clear()
    # What the message says works.
    rows = featurize(examples, **{**settings, "doc_stride": 5})
    assert warnings.text == ""
    assert any(row["start_positions"] for row in rows[:2])


def test_answers_longer_than_any_window(warnings):
    featurize([example(CONTEXT, answer="sat on the mat in paris when steve")], max_seq_length=12)
    assert "Raise max_seq_length." in warnings.text
    assert "doc_stride to" not in warnings.text


def test_answers_that_no_pieces_spell(warnings):
    featurize([example(CONTEXT, answer="cat"), example("the whoa 서울에서", answer="서울")])
    assert "1 of 2 answers begin or end within a word piece" in warnings.text


def test_answers_in_words_over_the_limit(warnings):
    for passage in ("the " + "cat" * 70, "the (" + "cat" * 70 + ")"):
        warnings.clear()
        featurize([example(passage, answer="cat"), example("the cat", answer="cat")])
        for part in ("1 of 2 answers", "more than 200 characters", "--max-word-characters"):
            assert part in warnings.text
        assert "A vocabulary" not in warnings.text


@pytest.mark.parametrize("is_training", [True, False])
def test_questions_that_are_cut(warnings, is_training):
    examples = [example(CONTEXT, question="who " * n) for n in (16, 17, 30)]
    featurize(examples, is_training=is_training)
    assert "2 of 3 questions are cut to max_query_length = 16" in warnings.text


def test_right_answers_that_can_t_be_predicted(tmp_path, capsys):
    questions = [
        question("a", answers=[("the cat sat", 0), ("cat", 4)]),
        question("b", answers=[("the cat sat", 0), ("the cat sat on", 0)]),
        question("c", answers=[("the cat sat on the", 0)]),
        question("d"),
    ]
    write_squad(tmp_path, "dev", (CONTEXT, questions))
    task = make_task(tmp_path, "squad", max_answer_length=2)
    for _ in range(2):  # scores are computed several times, and the warning is given once
        scorer = task.get_scorer("dev")
        for i in range(4):
            scorer.update(outputs(1000 * i, [(5, 5, -0.1)]))
        scorer.get_results()
    said = capsys.readouterr().err
    assert said.count("2 of 3 questions can't be answered right") == 1
    assert "max_answer_length = 2" in said and "needs 5" in said


def test_a_passage_without_room_is_still_an_error():
    with pytest.raises(UserError, match="no room"):
        featurize([example(CONTEXT, question="who " * 9, answer="cat")], max_seq_length=12)
