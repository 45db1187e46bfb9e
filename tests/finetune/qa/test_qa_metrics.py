"""Exact match, F1 and the thresholds of SQuAD 2.0."""

import numpy as np
import pytest

from finetune.qa.metrics import (
    answer_units,
    best_threshold,
    exact_match,
    normalize_answer,
    score_answers,
    score_with_unanswerable,
    units_of,
    word_f1,
    word_f1_or_none,
)


@pytest.mark.parametrize(
    "text, normalized",
    [
        ("The Cat's  mat!", "cats mat"),
        ("a theatre, an Anna", "theatre anna"),
        ("$1,000.50", "100050"),
        # Only ASCII punctuation is dropped; an article is a whole word.
        ("«the» –cat", "« » –cat"),
        ("The", ""),
        # Punctuation goes first, so what it leaves may be an article.
        ("a.n mat", "mat"),
        ("", ""),
        # As in SQuAD's script, by the small letters of Unicode: of Turkish these are others.
        ("İstanbul ISPARTA", "i\u0307stanbul isparta"),
    ],
)
def test_normalization(text, normalized):
    assert normalize_answer(text) == normalized


def test_exact_match_and_f1():
    assert exact_match("The cat.", "cat") == 1
    assert exact_match("cats", "cat") == 0
    assert word_f1("the cat sat", "cat") == pytest.approx(2 / 3)
    # Words count as often as they occur in both.
    assert word_f1("cat cat", "cat mat cat") == pytest.approx(0.8)
    assert word_f1("dog", "cat") == 0


@pytest.mark.parametrize(
    "text, words, mixed, characters",
    [
        ("2003年，NBA", ["2003年，nba"], ["2003", "年", "nba"], [*"2003年nba"]),
        ("《红楼梦》 the", ["《红楼梦》"], ["红", "楼", "梦", "the"], [*"红楼梦the"]),
        ("กรุงเทพ", ["กรุงเทพ"], [*"กรุงเทพ"], [*"กรุงเทพ"]),
        ("서울 역에서", ["서울", "역에서"], ["서울", "역에서"], [*"서울역에서"]),
        ("한\u200b글".translate({ord("한"): "\u1112\u1161\u11ab"}), ["한글"], ["한글"], [*"한글"]),
        ("c\x07at\tsat", ["cat", "sat"], ["cat", "sat"], [*"catsat"]),
        ("co\u00adop cafe\u0301", ["coop", "café"], ["coop", "café"], [*"coopcafé"]),
    ],
)
def test_units(text, words, mixed, characters):
    assert answer_units(text) == words
    assert answer_units(text, "mixed") == mixed
    assert answer_units(text, "characters") == characters


def test_f1_by_units():
    assert word_f1("上海大学", "在上海大学教书") == 0
    assert word_f1("上海大学", "在上海大学教书", "mixed") == pytest.approx(8 / 11)
    assert word_f1("서울에서", "서울", "characters") == pytest.approx(2 / 3)
    assert exact_match("北京。", "北 京", "mixed") == 1
    assert exact_match("a b", "ab", "mixed") == 0
    assert word_f1_or_none("。", "", "mixed") == 1


@pytest.mark.parametrize(
    "passage, units",
    [
        ("我们使用TensorFlow和Keras训练BERT模型。", "mixed"),
        ("東京 は 日本 の 首都", "mixed"),
        ("ประเทศไทย", "mixed"),
        ("이순신(李舜臣)은 조선의 무신이다. 한성에서 태어났다.", "words"),
        ("The Yuan dynasty (元朝) was founded in 1271.", "words"),
        ("", "words"),
    ],
)
def test_the_passage_s_script_decides(passage, units):
    assert units_of(passage) == units


def test_units_of_each_question():
    gold, predicted = {"zh": ["上海"], "en": ["上海 x"]}, {"zh": "上", "en": "上 x"}
    odds = dict.fromkeys(gold, 0.0)
    by_words = score_answers(gold, predicted)
    assert by_words["f1"] == pytest.approx(25)
    assert score_answers(gold, predicted, {"zh": "mixed"})["f1"] == pytest.approx(175 / 3)
    both = score_with_unanswerable(gold, predicted, odds, 1.0, {"zh": "mixed"})
    assert both["best_f1"] == both["f1"] == pytest.approx(175 / 3)


def test_f1_where_a_text_has_no_word():
    assert word_f1("the", "a") == 0
    assert word_f1_or_none("the", "a") == 1
    assert word_f1_or_none("", "cat") == 0
    assert word_f1_or_none("cat", "") == 0
    assert word_f1_or_none("", "") == 1


def test_the_best_of_the_right_answers_counts():
    gold = {"1": ["dog", "the cat sat"], "2": ["mat"]}
    assert score_answers(gold, {"1": "cat", "2": "mat!"}) == {
        "exact_match": 50.0,
        "f1": pytest.approx((200 / 3 + 100) / 2),
    }


GOLD = {"has": ["cat"], "miss": ["the cat sat"], "none": [], "none_too": []}
PREDICTED = {"has": "the cat", "miss": "cat", "none": "dog", "none_too": "mat"}
ODDS = {"has": -4.0, "miss": -3.0, "none": -2.0, "none_too": 1.0}


@pytest.mark.parametrize(
    "threshold, exact, f1, has_exact, has_f1, no_exact",
    [
        # Nothing is answered.
        (-5.0, 50, 50, 0, 0, 100),
        # The odds of an answered question may equal the threshold.
        (-4.0, 75, 75, 50, 50, 100),
        (-3.5, 75, 75, 50, 50, 100),
        (-3.0, 75, 75 + 100 / 6, 50, 50 + 100 / 3, 100),
        (-2.0, 50, 50 + 100 / 6, 50, 50 + 100 / 3, 50),
        (1.0, 25, 25 + 100 / 6, 50, 50 + 100 / 3, 0),
    ],
)
def test_questions_around_the_threshold(threshold, exact, f1, has_exact, has_f1, no_exact):
    assert score_with_unanswerable(GOLD, PREDICTED, ODDS, threshold) == {
        "exact": pytest.approx(exact),
        "f1": pytest.approx(f1),
        "total": 4,
        "HasAns_exact": pytest.approx(has_exact),
        "HasAns_f1": pytest.approx(has_f1),
        "HasAns_total": 2,
        "NoAns_exact": pytest.approx(no_exact),
        "NoAns_f1": pytest.approx(no_exact),
        "NoAns_total": 2,
        "best_exact": 75.0,
        "best_exact_thresh": -4.0,
        "best_f1": pytest.approx(75 + 100 / 6),
        "best_f1_thresh": -3.0,
    }


def test_without_questions_of_one_kind():
    only = score_with_unanswerable({"has": ["cat"]}, {"has": "cat"}, {"has": 0.0}, 1.0)
    assert not [name for name in only if name.startswith("NoAns")]
    assert only["HasAns_exact"] == 100.0
    none = score_with_unanswerable({"none": []}, {"none": "cat"}, {"none": 0.0}, -1.0)
    assert not [name for name in none if name.startswith("HasAns")]
    assert (none["exact"], none["best_exact"], none["best_exact_thresh"]) == (100.0, 100.0, 0.0)


def test_right_answers_without_words_count_as_none():
    # Answerable by its list, yet only "" matches.
    results = score_with_unanswerable({"1": ["the"]}, {"1": ""}, {"1": 0.0}, 1.0)
    assert results["exact"] == results["HasAns_f1"] == 100.0


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_that_of_a_brute_force_search(seed):
    rng = np.random.default_rng(seed)
    names = [str(i) for i in range(30)]
    gold = {name: ["cat"] if rng.random() < 0.6 else [] for name in names}
    predicted = {name: "cat" if rng.random() < 0.9 else "" for name in names}
    odds = dict(zip(names, rng.normal(size=30).tolist(), strict=True))
    scores = {name: rng.random() if gold[name] else float(not predicted[name]) for name in names}

    def at(threshold):
        given = [
            scores[name] if odds[name] <= threshold else float(not gold[name]) for name in names
        ]
        return 100.0 * sum(given) / len(given)

    best, threshold = best_threshold(scores, gold, predicted, odds)
    candidates = [-np.inf, *odds.values()]
    assert best == pytest.approx(max(map(at, candidates)))
    if any(at(t) > at(-np.inf) + 1e-9 for t in candidates):
        assert at(threshold) == pytest.approx(best)
    else:
        assert threshold == 0.0
