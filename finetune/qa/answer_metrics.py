"""Exact match and F1 of answers, by the definitions of SQuAD 1.1, SQuAD 2.0 and MRQA.

Sources: the evaluation scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018) and of the
MRQA 2019 shared task, which scores as SQuAD 1.1 does. All figures are in percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower-cases a text, drops ASCII punctuation, then the articles, then extra white space."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(predicted: str, gold: str) -> float:
    """Returns 1 if both texts are the same when normalized, else 0."""
    return float(normalize_answer(predicted) == normalize_answer(gold))


def word_f1(predicted: str, gold: str) -> float:
    """Returns the F1 of the normalized texts' words as bags; 0 if none is shared."""
    predicted_words = normalize_answer(predicted).split()
    gold_words = normalize_answer(gold).split()
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted_words), shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def word_f1_or_none(predicted: str, gold: str) -> float:
    """SQuAD 2.0's F1: as `word_f1`, but 1 where neither text has a word."""
    if not normalize_answer(predicted) and not normalize_answer(gold):
        return 1.0
    return word_f1(predicted, gold)


def score_answers(
    gold: Mapping[str, Sequence[str]], predicted: Mapping[str, str]
) -> dict[str, float]:
    """Scores answers as SQuAD 1.1 and MRQA do: the best match of all right answers counts.

    Args:
        gold: question -> its right answers, at least one each.
        predicted: question -> answer, for every question of `gold`.

    Returns:
        `exact_match` and `f1`, the means over the questions.
    """
    return {
        "exact_match": _percent(_best_matches(exact_match, gold, predicted).values()),
        "f1": _percent(_best_matches(word_f1, gold, predicted).values()),
    }


def score_with_unanswerable(
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
    null_odds: Mapping[str, float],
    threshold: float,
) -> dict[str, float]:
    """Scores answers as SQuAD 2.0 does.

    Args:
        gold: question -> its right answers, none if it is unanswerable.
        predicted: question -> the best answer, whether it will be given or not.
        null_odds: question -> what speaks for "no answer".
        threshold: "no answer" is given where the null odds are above.

    Returns:
        `exact`, `f1` and `total` (a count); the same over answerable questions with the prefix
        `HasAns_` and over the others with `NoAns_`, where there are any; `best_exact` and `best_f1`
        at the thresholds for which they are best, and these, `best_exact_thresh` and
        `best_f1_thresh`.
    """
    texts = {id_: [text for text in gold[id_] if normalize_answer(text)] or [""] for id_ in gold}
    raw = {
        "exact": _best_matches(exact_match, texts, predicted),
        "f1": _best_matches(word_f1_or_none, texts, predicted),
    }
    given = {
        name: {
            id_: score if null_odds[id_] <= threshold else float(not gold[id_])
            for id_, score in scores.items()
        }
        for name, scores in raw.items()
    }
    results = {}
    answerable = [id_ for id_ in gold if gold[id_]]
    unanswerable = [id_ for id_ in gold if not gold[id_]]
    for prefix, ids in (("", list(gold)), ("HasAns_", answerable), ("NoAns_", unanswerable)):
        if ids:
            for name, scores in given.items():
                results[prefix + name] = _percent([scores[id_] for id_ in ids])
            results[f"{prefix}total"] = float(len(ids))
    for name, scores in raw.items():
        best, at = best_threshold(scores, gold, predicted, null_odds)
        results[f"best_{name}"], results[f"best_{name}_thresh"] = best, at
    return results


def best_threshold(
    scores: Mapping[str, float],
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
    null_odds: Mapping[str, float],
) -> tuple[float, float]:
    """Finds the threshold of the null odds at which the mean score is best.

    Questions are answered one by one in the order of rising null odds. Answering an answerable one
    gains its score, answering an unanswerable one loses 1. As officially, the threshold may fall
    between questions of equal null odds.

    Args:
        scores: question -> score of its predicted answer.
        gold: question -> right answers, none if it is unanswerable.
        predicted: question -> answer.
        null_odds: question -> what speaks for "no answer".

    Returns:
        The best mean score in percent, and its threshold: the null odds of the last question to
        answer, 0 if it is best to answer none.
    """
    current = best = float(sum(not answers for answers in gold.values()))
    threshold = 0.0
    for id_ in sorted(null_odds, key=null_odds.__getitem__):
        if gold[id_]:
            current += scores[id_]
        elif predicted[id_]:
            current -= 1.0
        if current > best:
            best, threshold = current, null_odds[id_]
    return 100.0 * best / len(scores), threshold


def _best_matches(
    metric: Callable[[str, str], float],
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
) -> dict[str, float]:
    return {
        id_: max(metric(predicted[id_], answer) for answer in answers)
        for id_, answers in gold.items()
    }


def _percent(scores: Collection[float]) -> float:
    return 100.0 * sum(scores) / len(scores)
