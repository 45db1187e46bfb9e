"""Windows of long passages, their labels and contexts."""

import numpy as np
import pytest

from electra_tf2.errors import UserError
from finetune.qa.passages import tokenize_questions
from finetune.windows import Window, cut_windows
from tests.finetune.qa.qa_samples import VOCABULARY, config, example, make_task, tokenizer, tokens


def tokenized(passage, **fields):
    settings = {k: fields.pop(k) for k in ("max_seq_length", "doc_stride") if k in fields}
    (result,) = tokenize_questions([example(passage, **fields)], tokenizer(), config(**settings))
    return result


def answer_text(question):
    first, last = question.answer_pieces
    return [VOCABULARY.tokens[i] for i in question.pieces[first : last + 1]]


@pytest.mark.parametrize(
    "num_pieces, room, stride, windows",
    [
        (0, 5, 2, []),
        (5, 5, 2, [(0, 5)]),
        (6, 5, 2, [(0, 5), (2, 4)]),
        (12, 5, 3, [(0, 5), (3, 5), (6, 5), (9, 3)]),
        # A stride longer than the window: windows side by side, nothing is left out.
        (12, 5, 100, [(0, 5), (5, 5), (10, 2)]),
        (3, 1, 1, [(0, 1), (1, 1), (2, 1)]),
    ],
)
def test_windows(num_pieces, room, stride, windows):
    assert cut_windows(num_pieces, room, stride) == [Window(*w) for w in windows]


def naive_window_with_most_context(windows, position):
    """The rule as BERT's authors give it, piece by piece."""
    scores = []
    for start, length in windows:
        end = start + length - 1
        if start <= position <= end:
            scores.append(min(position - start, end - position) + 0.01 * length)
        else:
            scores.append(-np.inf)
    return int(np.argmax(scores))


@pytest.mark.parametrize("num_letters", [5, 23, 24, 41, 60])
@pytest.mark.parametrize("stride", [1, 7, 8, 50])
def test_max_context_is_the_naive_rule(num_letters, stride):
    question = tokenized(" ".join("x" * num_letters), max_seq_length=24, doc_stride=stride)
    found = question.max_context()
    for number, (start, length) in enumerate(question.windows):
        expected = [
            naive_window_with_most_context(question.windows, position) == number
            for position in range(start, start + length)
        ]
        assert found[number].tolist() == expected


def test_each_piece_has_most_context_in_one_window():
    question = tokenized("x " * 100, max_seq_length=20, doc_stride=5)
    count = np.zeros(100, int)
    for (start, length), most in zip(question.windows, question.max_context(), strict=True):
        count[start : start + length] += most
    assert len(question.windows) > 10
    assert count.tolist() == [1] * 100


@pytest.mark.parametrize(
    "passage, answer, pieces",
    [
        # The annotated text inside of a whitespace word.
        ("paris (1895-1943).", "1895", ["18", "##95"]),
        ("paris (1895-1843).", "1843", ["18", "##43"]),
        # Not to be had: the piece holds more than the answer.
        ("in the whoa mat", "the wh", ["the", "who"]),
        # The first of several places.
        ("cat-cat-cat", "cat", ["cat"]),
        ("cat-cat-cat", "cat-cat", ["cat", "-", "cat"]),
        # Accents and case as the tokenizer has them.
        ("Párìs, Steve's", "Steve", ["steve"]),
        # A word that cleans to nothing within the answer.
        ("the \u200b cat", "the \u200b cat", ["the", "cat"]),
        # An answer of a mark alone has no pieces of its own: that of its letter.
        ("the cafe\u0301", "\u0301", ["##e"]),
    ],
)
def test_answers_are_tightened(passage, answer, pieces):
    assert answer_text(tokenized(passage, answer=answer)) == pieces


@pytest.mark.parametrize(
    "passage, answer, place, pieces",
    [
        ("mat cat-cat-cat", "cat-cat-cat", 4, (1, 5)),
        ("mat cat-cat-cat", "cat", 4, (1, 1)),
        ("mat cat-cat-cat", "cat", 8, (3, 3)),
        ("mat cat-cat-cat", "cat-cat", 8, (3, 5)),
        # The answer's own pieces stand elsewhere in the word, not where it is annotated.
        ("who,anna,whoann", "ann", 12, (5, 7)),
    ],
)
def test_of_equal_places_the_annotated_one_counts(passage, answer, place, pieces):
    assert tokenized(passage, answer=answer, start=place).answer_pieces == pieces


def test_officially_the_first_of_equal_places_counts():
    question = tokenized("mat cat-cat-cat", answer="cat", start=12, official=True)
    assert question.answer_pieces == (1, 1)
    whole = tokenized("in the whoa mat", answer="the wh", official=True)
    assert answer_text(whole) == ["the", "who", "##a"]


def rows(passage, is_training=True, **fields):
    settings = {k: fields.pop(k) for k in ("max_seq_length", "doc_stride") if k in fields}
    return list(make_task(**settings).featurize([example(passage, **fields)], is_training))


def test_labels_of_windows():
    passage = "the cat sat on the mat in paris when steve sat"
    found = rows(passage, answer="mat in paris", max_seq_length=12, doc_stride=3, eid=7)
    # [CLS] who ? [SEP] and seven pieces of the passage, then [SEP]
    assert [tokens(row)[4:-1] for row in found] == [
        "the cat sat on the mat in".split(),
        "on the mat in paris when steve".split(),
        "in paris when steve sat".split(),
    ]
    assert [row["eid"] for row in found] == [7000, 7001, 7002]
    assert [(row["start_positions"], row["end_positions"]) for row in found] == [
        (0, 0), (6, 8), (0, 0),
    ]  # fmt: skip
    assert tokens(found[1])[6:9] == ["mat", "in", "paris"]
    for row in found:
        assert tokens(row)[:4] == ["[CLS]", "who", "?", "[SEP]"]
        assert tokens(row)[-1] == "[SEP]"
        assert row["segment_ids"].tolist() == [0] * 4 + [1] * (len(row["input_ids"]) - 4)
        assert len(row["input_ids"]) <= 12
        assert row["is_impossible"] == 0


def test_an_answer_that_touches_both_ends_of_a_window_is_in_it():
    passage = "the cat sat on the mat in paris"
    (first, second) = rows(passage, answer="the cat sat on the mat in", max_seq_length=12)
    assert (first["start_positions"], first["end_positions"]) == (4, 10)
    assert (second["start_positions"], second["end_positions"]) == (0, 0)


def test_impossible_questions_and_those_to_be_scored_have_no_position():
    (row,) = rows("the cat", is_impossible=True)
    assert (row["start_positions"], row["end_positions"], row["is_impossible"]) == (0, 0, 1)
    (row,) = rows("the cat", is_training=False, answer="cat")
    assert (row["start_positions"], row["end_positions"], row["is_impossible"]) == (0, 0, 0)
    (row,) = rows("the cat", is_training=False, is_impossible=True)
    assert row["is_impossible"] == 0


def test_a_long_question_is_cut():
    (row,) = rows("the cat", question="who " * 50)
    assert tokens(row) == ["[CLS]", *["who"] * 16, "[SEP]", "the", "cat", "[SEP]"]


def test_a_question_that_leaves_no_room():
    with pytest.raises(UserError, match="no room") as error:
        rows("the cat", question="who " * 9, max_seq_length=12)
    assert "'q0'" in error.value.where
    for part in ("9 tokens", "max_seq_length = 12", "max_query_length = 16"):
        assert part in error.value.received


def test_one_piece_of_room_is_enough():
    found = rows("the cat sat", question="who " * 9, max_seq_length=13)
    assert [tokens(row)[11] for row in found] == ["the", "cat", "sat"]


def test_passages_without_pieces_have_no_window():
    for passage in ("", "  \n", "\u200b"):
        assert rows(passage, is_impossible=True) == []


def test_too_many_windows():
    settings = {"max_seq_length": 6, "doc_stride": 1}
    passage = "cat " * 1001
    assert len(rows(passage[: 4 * 1000], is_training=False, **settings)) == 1000
    with pytest.raises(UserError, match="more than 1000 windows") as error:
        rows(passage, is_training=False, **settings)
    assert "1001 windows" in error.value.received
    with pytest.raises(UserError, match="too many questions"):
        rows("cat", is_training=False, eid=2_147_484)


def test_questions_keep_their_order_over_blocks(monkeypatch):
    monkeypatch.setattr("finetune.qa.passages._BLOCK", 3)
    examples = [example(f"{'cat ' * (i % 4)}mat", eid=i) for i in range(10)]
    found = list(tokenize_questions(examples, tokenizer(), config()))
    assert [question.example for question in found] == examples
    assert [len(question.pieces) for question in found] == [i % 4 + 1 for i in range(10)]
