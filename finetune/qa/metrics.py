"""Exact match and F1 of answers, by the definitions of SQuAD 1.1, SQuAD 2.0, MRQA and MLQA.

Sources: the evaluation scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018), of the
MRQA 2019 shared task, which scores as SQuAD 1.1 does, and of MLQA (Lewis et al., 2020), whose rule
for Chinese is applied to all scripts without spaces between words. All figures are percentages.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from electra_tf2.files import write_json
from electra_tf2.text.normalization import UNSPACED, is_dropped
from finetune.qa.decoding import Decoding, WindowOutputs, best_text
from finetune.qa.examples import QAExample
from finetune.qa.limits import long_gold
from finetune.task import Scorer

if TYPE_CHECKING:
    from finetune.qa.tasks import QATask

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


Units = Literal["words", "mixed", "characters"]
"""What answers are compared by.

"words": lower-cased, without ASCII punctuation and English articles. "mixed", for scripts without
spaces: lower-cased, without any punctuation; their characters stand alone, other words are words.
"characters", as in KorQuAD: the same, but every character stands alone.
"""


def answer_units(text: str, units: Units = "words") -> list[str]:
    """Splits an answer into what is compared.

    Accents and Hangul are composed (NFC), and invisible characters are dropped.
    """
    text = unicodedata.normalize("NFC", text.lower())
    if not (text.isascii() and text.isprintable()):
        text = "".join(char for char in text if char.isspace() or not is_dropped(char))
    bare = text.translate(_NO_PUNCTUATION)
    if units == "words":
        return _ARTICLES.sub(" ", bare).split()
    bare = "".join(char for char in bare if unicodedata.category(char)[0] != "P")
    if units == "characters":
        return [char for char in bare if not char.isspace()]
    return UNSPACED.sub(r" \g<0> ", bare).split()


def normalize_answer(text: str, units: Units = "words") -> str:
    """Returns an answer as it is compared for exact match: see `answer_units`."""
    return ("" if units == "characters" else " ").join(answer_units(text, units))


def exact_match(predicted: str, gold: str, units: Units = "words") -> float:
    """Returns 1 if the normalized texts are equal, else 0."""
    return float(normalize_answer(predicted, units) == normalize_answer(gold, units))


def word_f1(predicted: str, gold: str, units: Units = "words") -> float:
    """Returns the F1 of the normalized texts as bags of words; 0 if they share none."""
    predicted_words, gold_words = answer_units(predicted, units), answer_units(gold, units)
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted_words), shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def word_f1_or_none(predicted: str, gold: str, units: Units = "words") -> float:
    """Returns the F1 of SQuAD 2.0: as `word_f1`, but 1 if neither text has a word."""
    if not answer_units(predicted, units) and not answer_units(gold, units):
        return 1.0
    return word_f1(predicted, gold, units)


def units_of(passage: str) -> Units:
    """Returns what answers from a passage are compared by, judged by its script.

    It is "mixed" where characters of scripts without spaces are more than what spaces separate, so
    not for a Chinese name in an English passage.
    """
    unspaced = UNSPACED.findall(passage)
    return "mixed" if len(unspaced) > len(passage.split()) else "words"


_ALL_WORDS: Mapping[str, Units] = {}


def score_answers(
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
    units: Mapping[str, Units] = _ALL_WORDS,
) -> dict[str, float]:
    """Scores answers as SQuAD 1.1 and MRQA do: the best match with any right answer counts.

    Args:
        gold: question -> its right answers, at least one.
        predicted: question -> answer, for every question in `gold`.
        units: question -> what its answers are compared by; by default words.

    Returns:
        `exact_match` and `f1`, means over the questions.
    """
    return {
        "exact_match": _percent(_best_matches(exact_match, gold, predicted, units).values()),
        "f1": _percent(_best_matches(word_f1, gold, predicted, units).values()),
    }


def score_with_unanswerable(
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
    null_odds: Mapping[str, float],
    threshold: float,
    units: Mapping[str, Units] = _ALL_WORDS,
) -> dict[str, float]:
    """Scores answers as SQuAD 2.0 does.

    Args:
        gold: question -> its right answers, none if it is unanswerable.
        predicted: question -> the best answer, whether it is given or not.
        null_odds: question -> the odds of "no answer".
        threshold: "no answer" is given where the null odds are above it.
        units: question -> what its answers are compared by; by default words.

    Returns:
        `exact`, `f1` and `total` (a count); the same over the answerable questions, if any, with
        the prefix `HasAns_`, and over the others, if any, with `NoAns_`; `best_exact` and
        `best_f1`, the figures at the best thresholds, which are `best_exact_thresh` and
        `best_f1_thresh`.
    """
    texts = {
        id_: [text for text in gold[id_] if answer_units(text, units.get(id_, "words"))] or [""]
        for id_ in gold
    }
    raw = {
        "exact": _best_matches(exact_match, texts, predicted, units),
        "f1": _best_matches(word_f1_or_none, texts, predicted, units),
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
    gains its score, answering an unanswerable one loses 1. As in the official script, the threshold
    may fall between questions with equal null odds.

    Args:
        scores: question -> score of its predicted answer.
        gold: question -> right answers, none if it is unanswerable.
        predicted: question -> answer.
        null_odds: question -> the odds of "no answer".

    Returns:
        The best mean score in percent, and its threshold: the null odds of the last question that
        is answered, 0 if it is best to answer none.
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
    metric: Callable[[str, str, Units], float],
    gold: Mapping[str, Sequence[str]],
    predicted: Mapping[str, str],
    units: Mapping[str, Units],
) -> dict[str, float]:
    return {
        id_: max(metric(predicted[id_], answer, units.get(id_, "words")) for answer in answers)
        for id_, answers in gold.items()
    }


def _percent(scores: Collection[float]) -> float:
    return 100.0 * sum(scores) / len(scores)


class SpanBasedQAScorer(Scorer):
    """Scores answers by the definition of the task: SQuAD 1.1 and MRQA, or SQuAD 2.0.

    Args:
        task: the task; with `task.v2` the definition of SQuAD 2.0 applies.
        split: the split of the windows; its answers are read when results are asked for.
    """

    def __init__(self, task: QATask, split: str = "dev"):
        self._task = task
        self._split = split
        self._outputs = WindowOutputs(task, split)
        self._total_loss = 0.0
        self._decoded: list[tuple[QAExample, Decoding]] | None = None

    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one window; see `Scorer.update`."""
        self._outputs.add(results)
        self._total_loss += float(results["loss"])
        self._decoded = None

    def get_loss(self) -> float:
        """Returns the mean loss of the windows taken so far."""
        return self._total_loss / max(len(self._outputs), 1)

    def get_results(self) -> list[tuple[str, float]]:
        """Returns the metrics by name, sorted.

        Raises:
            UserError: the split's file has other windows than those taken: it was changed.
        """
        gold = {example.id: example.gold for example, _ in self._answered()}
        answers, units = self.answers(), self._units()
        if not self._task.v2:
            results = score_answers(gold, answers, units)
        else:
            threshold = self._task.config.qa_na_threshold
            results = score_with_unanswerable(gold, answers, self.null_odds(), threshold, units)
        return sorted(results.items())

    def _units(self) -> Mapping[str, Units]:
        """Returns what the answers to each question are compared by, and says so."""
        chosen = self._task.config.qa_score_units
        examples = [example for example, _ in self._answered()]
        if chosen != "auto":
            return {example.id: chosen for example in examples}
        passages = {example.passage for example in examples}
        by_passage: dict[str, Units] = {passage: units_of(passage) for passage in passages}
        units: dict[str, Units] = {example.id: by_passage[example.passage] for example in examples}
        mixed = sum(unit == "mixed" for unit in units.values())
        if mixed:
            self._task.say_once(
                f"{self._task.name}, {self._split}: the answers to {mixed} of {len(units)} "
                "questions are compared by characters, as in MLQA: spaces don't separate the words "
                'of their passages. "qa_score_units": "words" compares as in English.'
            )
        return units

    def answers(self) -> dict[str, str]:
        """Returns the best answer to each question, by the question's name.

        With `task.v2` that is the best text that is not empty, whatever the null odds are.
        """
        return {
            example.id: (best_text(found.answers) if self._task.v2 else found.answers[0]).text
            for example, found in self._answered()
        }

    def null_odds(self) -> dict[str, float]:
        """Returns the odds of "no answer" to each question, by the question's name."""
        return {example.id: found.null_odds for example, found in self._answered()}

    def stuck_at(self) -> str | None:
        """Says so if all questions get the same answer or none at all."""
        answers = self.answers()
        if self._task.v2:
            threshold = self._task.config.qa_na_threshold
            if all(odds > threshold for odds in self.null_odds().values()):
                return "no answer"
        if len(answers) > 1 and len(set(answers.values())) == 1:
            return f"the answer {next(iter(answers.values()))!r}"
        return None

    def write_files(self) -> list[str]:
        """Writes answers, scores and, with `task.v2`, null odds as JSON.

        The paths are the hparams qa_preds_file, qa_eval_file and qa_na_file.

        Returns:
            The files written.
        """
        config = self._task.config
        contents: dict[str, Mapping[str, Any]] = {config.qa_preds_file: self.answers()}
        if self._task.v2:
            contents[config.qa_na_file] = self.null_odds()
        contents[config.qa_eval_file] = dict(self.get_results())
        paths = []
        for pattern, content in contents.items():
            path = pattern.format(self._task.name)
            write_json(path, content)
            paths.append(path)
        return paths

    def _answered(self) -> list[tuple[QAExample, Decoding]]:
        if self._decoded is None:
            examples = self._task.get_examples(self._split)
            # The scores need only the best text, and finding texts takes most of the time.
            self._decoded = list(self._outputs.decode(examples, n_best=1))
            limit = self._task.config.max_answer_length
            where = f"{self._task.name}, {self._split}"
            warning = long_gold(where, examples, self._task.tokenizer, limit)
            if warning:
                self._task.say_once(warning)
        return self._decoded
