"""From outputs to answers, and from word pieces back to the passage's characters."""

import numpy as np
import pytest

from electra_tf2.text.normalization import Casing
from finetune.qa.decoding import NO_ANSWER_LEFT, Aligner, Decoder, join_pieces, probabilities
from finetune.qa.passages import tokenize_questions
from tests.finetune.qa.qa_samples import config, example, make_task, outputs, tokenizer

# [CLS] who ? [SEP], so the passage begins at 4.
PASSAGE = "The cat sat on Steve's mat, in Paris."


def decode(candidates, passage=PASSAGE, n_best=None, null=0.0, **settings):
    """`candidates`: for each window a list of (start, end, score)."""
    values = config(**settings)
    (question,) = tokenize_questions([example(passage)], tokenizer(), values)
    decoder = Decoder(values, tokenizer())
    nulls = null if isinstance(null, list) else [null] * len(candidates)
    windows = [
        decoder.candidates(outputs(i, own, null=nulls[i])) for i, own in enumerate(candidates)
    ]
    return decoder.decode(question, windows, n_best)


def texts(candidates, **settings):
    return [answer.text for answer in decode(candidates, **settings).answers]


def test_answers_are_ranked_and_spelled_as_in_the_passage():
    # the cat sat on steve ' s mat , in paris .
    found = decode([[(8, 8, -0.5), (4, 5, -0.1), (14, 14, -0.2)]])
    assert [answer.text for answer in found.answers] == ["The cat", "Paris", "Steve"]
    assert [answer.score for answer in found.answers] == pytest.approx([-0.1, -0.2, -0.5])


@pytest.mark.parametrize(
    "candidate, why",
    [
        ((0, 0), "[CLS]"),
        ((1, 5), "starts in the question"),
        ((3, 5), "starts at the question's [SEP]"),
        ((14, 16), "ends at the closing [SEP]"),
        ((16, 16), "is the closing [SEP]"),
        ((14, 30), "ends in the padding"),
        ((30, 30), "lies in the padding"),
        ((6, 5), "ends before it starts"),
        ((4, 8), "has five pieces"),
    ],
)
def test_what_is_no_answer(candidate, why):
    found = texts([[(*candidate, -0.1), (5, 8, -0.9)]], max_answer_length=4)
    assert found == ["cat sat on Steve"], why


def test_answers_must_start_where_the_context_is_largest():
    settings = {"max_seq_length": 16, "doc_stride": 4}  # windows of 10, 10 and 4 pieces
    passage = "cat sat on the mat in paris when steve smith sat who anna where in on cat mat"
    (question,) = tokenize_questions([example(passage)], tokenizer(), config(**settings))
    assert [w.start for w in question.windows] == [0, 4, 8]
    most = question.max_context()
    # "in" (piece 5) is the second of window 1 and has more context in window 0.
    assert most[0][5] and not most[1][1]
    assert texts([[], [(5, 5, -0.1)], []], passage=passage, **settings) == [NO_ANSWER_LEFT]
    # It may end where another window has more context: piece 8 of window 0.
    assert most[1][4] and not most[0][8]
    assert texts([[(9, 12, -0.1)], [], []], passage=passage, **settings) == ["in paris when steve"]


def test_the_first_of_equal_scores_wins():
    assert texts([[(5, 5, -0.5), (4, 4, -0.5), (4, 5, -0.5)]]) == ["cat", "The", "The cat"]


def test_scores_are_added_in_float32():
    # Apart in float64, equal in float32: the order of the outputs decides.
    found = texts([[(5, 5, -1000.00001), (4, 4, -1000.00002)]])
    assert found == ["cat", "The"]


def test_texts_that_occur_twice_count_once_with_the_better_score():
    found = decode([[(4, 4, -0.1), (8, 8, -0.5), (5, 5, -0.7)]], passage="cat sat on the cat mat")
    assert [tuple(a) for a in found.answers] == [
        ("cat", pytest.approx(-0.1)),
        ("sat", pytest.approx(-0.7)),
    ]


def test_n_best():
    candidates = [[(4, 4, -0.1), (4, 5, -0.2), (4, 6, -0.3), (5, 6, -0.4)]]
    assert texts(candidates, n_best_size=2) == ["The", "The cat"]
    assert texts(candidates, n_best=3, n_best_size=2) == ["The", "The cat", "The cat sat"]


def test_nothing_left():
    found = decode([[(0, 0, -0.1)]], null=3.0)
    assert (found.answers, found.null_odds) == ([("empty", 0.0)], 3.0)
    assert decode([], passage="").null_odds == 1e6
    assert decode([], passage="").answers == [("empty", 0.0)]


def test_null_odds_are_the_lowest_of_all_windows():
    settings = {"max_seq_length": 12, "doc_stride": 4}
    (question,) = tokenize_questions([example(PASSAGE)], tokenizer(), config(**settings))
    assert len(question.windows) == 3
    assert decode([[], [], []], null=[0.5, -1.5, 2.0], **settings).null_odds == -1.5


def logits(length, start, end, **fields):
    """Outputs without joint prediction; `start` and `end`: place -> logit, elsewhere -9."""
    result = {"eid": 0, "loss": 0.0, "answerable_logit": np.float32(0.0), **fields}
    for name, values in (("start_logits", start), ("end_logits", end)):
        result[name] = np.full(length, -9, np.float32)
        result[name][list(values)] = list(values.values())
    return result


def test_without_joint_prediction_starts_and_ends_are_combined():
    settings = config(joint_prediction=False, n_best_size=3)
    (question,) = tokenize_questions([example(PASSAGE)], tokenizer(), settings)
    decoder = Decoder(settings, tokenizer())
    results = logits(20, {0: 5, 4: 3, 14: 2, 5: 1}, {5: 4, 14: 3, 6: 2.5, 4: 2})
    found = decoder.decode(question, [decoder.candidates(results)])
    # The three best starts are 0, 4 and 14, the three best ends 5, 14 and 6.
    assert [(a.text, a.score) for a in found.answers] == [
        ("The cat", 7.0),
        ("The cat sat on Steve's mat, in Paris", 6.0),
        ("The cat sat", 5.5),
    ]
    assert found.null_odds == 0.0


@pytest.mark.parametrize("joint", [True, False])
def test_without_classifier_the_null_score_is_compared_with_the_best_answer(joint):
    settings = config(joint_prediction=joint, answerable_classifier=False)
    (question,) = tokenize_questions([example(PASSAGE)], tokenizer(), settings)
    decoder = Decoder(settings, tokenizer())
    results = logits(20, {0: 5, 4: 3}, {0: 1, 5: 4})
    if joint:
        results |= {k: v for k, v in outputs(0, [(4, 5, -0.25)]).items() if "top" in k}
    found = decoder.decode(question, [decoder.candidates(results)])
    assert found.answers[0].text == "The cat"
    assert found.null_odds == pytest.approx(6 - (-0.25 if joint else 7))


def naive(question, windows, settings):
    """Candidates one by one, in plain Python; returns (text span, score) best first."""
    found = []
    for window, most, results in zip(
        question.windows, question.max_context(), windows, strict=True
    ):
        for i, start in enumerate(results["start_top_index"]):
            for j, end in enumerate(results["end_top_index"][i]):
                first, last = start - question.offset, end - question.offset
                if not (0 <= first <= last < window.length and most[first]):
                    continue
                if last - first + 1 > settings.max_answer_length:
                    continue
                score = results["start_top_log_probs"][i] + results["end_top_log_probs"][i, j]
                found.append((first + window.start, last + window.start, score))
    return sorted(found, key=lambda c: c[2], reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_filtering_by_arrays_is_filtering_one_by_one(seed):
    rng = np.random.default_rng(seed)
    settings = config(max_seq_length=24, doc_stride=5, max_answer_length=6, n_best_size=1000)
    letters = "abcdefghijklmnopqrstuvwxyz"
    passage = " ".join(a + b for a in letters[:5] for b in letters[:5])
    (question,) = tokenize_questions([example(passage)], tokenizer(), settings)
    windows = []
    for number in range(len(question.windows)):
        windows.append(
            {
                "eid": number,
                "answerable_logit": np.float32(rng.normal()),
                "start_top_index": rng.permutation(24)[:8].astype(np.int32),
                # Few distinct values: many ties.
                "start_top_log_probs": -rng.integers(0, 3, 8).astype(np.float32),
                "end_top_index": rng.integers(0, 24, (8, 8)).astype(np.int32),
                "end_top_log_probs": -rng.integers(0, 3, (8, 8)).astype(np.float32),
            }
        )
    decoder = Decoder(settings, tokenizer())
    found = decoder.decode(question, list(map(decoder.candidates, windows)))
    expected = {}
    for first, last, score in naive(question, windows, settings):
        expected.setdefault(decoder._text(question, first, last), float(score))
    assert len(expected) > 20
    assert [tuple(answer) for answer in found.answers] == list(expected.items())


def test_probabilities():
    found = decode([[(4, 4, np.log(0.6)), (5, 5, np.log(0.2))]])
    assert probabilities(found.answers) == pytest.approx([0.75, 0.25])


def test_the_tokens_of_rows_are_those_that_are_decoded():
    """A row's place `start`, decoded, is the word that the row has there."""
    (row,) = make_task().featurize([example(PASSAGE)], is_training=False)
    assert len(row["input_ids"]) == 17
    for place, word in ((4, "The"), (5, "cat"), (14, "Paris"), (15, ".")):
        assert texts([[(place, place, -0.1)]]) == [word]


@pytest.mark.parametrize(
    "pieces, text",
    [
        (["the", "cat", "##ly"], "the catly"),
        (["##ly", "cat"], "ly cat"),
        (["18", "##95", "-", "18", "##43"], "1895 - 1843"),
        (["#", "#", "cat"], "# # cat"),
        ([], ""),
    ],
)
def test_pieces_are_joined(pieces, text):
    assert join_pieces(pieces) == text


@pytest.mark.parametrize(
    "predicted, words, place, text",
    [
        ("steve smith", ["Steve", "Smith's"], (0, 0), "Steve Smith"),
        ("1895", ["(1895-1943)."], (1, 2), "1895"),
        ("1895 - 1943", ["(1895-1943)."], (1, 4), "1895-1943"),
        ("zoe", ["«Zoë»,"], (1, 3), "Zoë"),
        ("zoe )", ["(ZOË)!"], (1, 4), "ZOË)"),
        # A no-break space separates words for the tokenizer only: the lengths differ.
        ("cat", ["the\u00a0cat."], (1, 1), "cat"),
        # Beside a space the official answer stays: English pages have such spaces.
        ("cat", ["cat.\u00a0"], (0, 0), "cat.\u00a0"),
        # Predicted from the middle of a word.
        ("ly", ["catly"], (1, 1), "ly"),
        # The first place counts, even within a word.
        ("a", ["cat", "a"], (0, 0), "a"),
        ("cat", ["catly", "cat"], (0, 0), "cat"),
        # Characters that are dropped.
        ("cat", ["c\u200bat,"], (0, 0), "c\u200bat"),
        # An accent of its own is a character the normalized text lacks.
        ("cafe", ["cafe\u0301,"], (0, 3), "cafe\u0301"),
        ("北 京", ["我们参观了北京大学\u200b"], (5, 6), "北京"),
        # Unknown words.
        ("北 京 [UNK] 学", ["我们参观了北京龘学。"], (5, 8), "北京龘学"),
        # Not there at all.
        ("dog", ["字\u200b,", "x"], (0, 0), "字\u200b, x"),
        # Lower-casing that lengthens a word.
        ("i", ["İ,"], (0, 0), "İ"),
        ("", ["cat"], (0, 0), "cat"),
        # The official quirk: the first letter s of the word, not the predicted one.
        ("s", ["Steve's"], (2, 2), "S"),
        # Of two places that differ in accents the predicted one counts.
        ("cafe", ["cafe/café"], (5, 8), "café"),
        ("[UNK]", ["字,"], (0, 0), "字"),
        ("[UNK] ,", ["a.字,"], (2, 3), "字,"),
        ("[UNK] x", ["字,字", "x"], (2, 0), "字 x"),
    ],
)
def test_alignment(predicted, words, place, text):
    assert Aligner(tokenizer()).align(predicted, words, place) == text


@pytest.mark.parametrize("word", ["the\u00a0cat.", "c\u200bat,", "cafe\u0301,", "北京龘,"])
def test_the_official_program_gives_whole_words(word):
    aligner = Aligner(tokenizer(), official=True)
    assert aligner.align("cat", [word], (0, 0)) == word


@pytest.mark.parametrize(
    "casing, found, lost",
    [(Casing(lower_case=False), "Zoë", "zoe"), (Casing(strip_accents=False), "zoë", "zoe")],
)
def test_the_tokenizer_s_casing_counts(casing, found, lost):
    aligner = Aligner(tokenizer(casing), official=True)
    assert aligner.align(found, ["(Zoë)"], (1, 1)) == "Zoë"
    assert aligner.align(lost, ["(Zoë)"], (1, 1)) == "(Zoë)"
