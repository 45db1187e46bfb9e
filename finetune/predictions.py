"""What the kinds of tasks take from Python, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.errors import UserError
from electra_tf2.inference.texts import check_texts
from electra_tf2.text.normalization import is_dropped
from finetune.classification.classification_tasks import (
    ClassificationTask,
    InputExample,
    RegressionTask,
)
from finetune.qa.examples import QAExample
from finetune.qa.passage import split_words
from finetune.qa.qa_tasks import QATask
from finetune.tagging.tagging_tasks import TaggingExample, TaggingTask
from finetune.task import Task


class Label(NamedTuple):
    """A predicted class.

    Attributes:
        label: the likeliest class.
        probabilities: of all classes, by name.
    """

    label: str
    probabilities: dict[str, float]


class Score(NamedTuple):
    """A predicted score.

    Attributes:
        score: on the scale of the training data.
    """

    score: float


class Tags(NamedTuple):
    """The tags of a sentence's words.

    Attributes:
        words: the words.
        tags: one a word; for a word that was cut off, O where tags mark spans, else None.
        probabilities: of these tags; None for words that were cut off.
        spans: where tags mark spans, `start` (number of the first word), `end` (of the word after
            the last), `type` and `text` of each; None where tags stand for themselves.
    """

    words: list[str]
    tags: list[str | None]
    probabilities: list[float | None]
    spans: list[dict[str, Any]] | None


class Answer(NamedTuple):
    """The answer to a question.

    Attributes:
        answer: its text; "" where there is none.
        n_best: the best texts with their "probability", their shares among these.
        null_odds: log-odds that there is no answer; None where there always is one.
    """

    answer: str
    n_best: list[dict[str, Any]]
    null_odds: float | None


Prediction = Label | Score | Tags | Answer


class Kind(NamedTuple):
    """How a kind of task is used from Python.

    Attributes:
        make_examples: what the user gave -> examples, numbered from 0.
        make_prediction: a record, see `Task.prediction_records` -> what the user gets.
    """

    make_examples: Callable[[Sequence[Any]], list[Any]]
    make_prediction: Callable[[Mapping[str, Any]], Prediction]


def kind_of(task: Task) -> Kind:
    """Returns how a task is used from Python.

    Raises:
        UserError: the task is of no kind that this knows.
    """
    for base, kind in _KINDS.items():
        if isinstance(task, base):
            return kind
    raise UserError(
        f"The task {task.name!r} can't be used from Python.",
        where=f"{type(task).__module__}.{type(task).__qualname__}",
        received="a kind of its own",
        remedy="Inherit from ClassificationTask, RegressionTask, TaggingTask or QATask, or write "
        "the examples to a file and use run_finetuning.py --predict.",
    )


def _text_examples(inputs: Sequence[Any]) -> list[InputExample]:
    pairs = (
        (text, None) if isinstance(text, str) else tuple(text)
        for text in check_texts(inputs, pairs=True)
    )
    return [InputExample(i, first, second) for i, (first, second) in enumerate(pairs)]


def _tagging_examples(inputs: Sequence[Any]) -> list[TaggingExample]:
    if isinstance(inputs, str | Mapping) or not hasattr(inputs, "__iter__"):
        check_texts(inputs)
    examples = []
    for i, sentence in enumerate(inputs):
        words = sentence.split() if isinstance(sentence, str) else sentence
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
            raise UserError(
                "What is to be tagged is no sentence.",
                where=f"inputs[{i}]",
                received=f"{type(sentence).__name__} {sentence!r}"[:80],
                remedy="Give each sentence as a list of words, or as a text.",
            )
        examples.append(TaggingExample(i, tuple(words), ()))
    return examples


def _question_examples(inputs: Sequence[Any]) -> list[QAExample]:
    examples = []
    for i, pair in enumerate(check_texts(inputs, pairs=True)):
        if isinstance(pair, str) or not _has_content(pair[1]):
            raise UserError(
                "A question comes with the passage that has the answer.",
                where=f"inputs[{i}]",
                received=repr(pair)[:80],
                remedy="Give pairs: (question, passage).",
            )
        examples.append(QAExample(eid=i, id=str(i), question=pair[0], passage=pair[1]))
    return examples


def _has_content(passage: str) -> bool:
    """Whether anything is left once control characters, invisible ones and spaces are dropped."""
    words = split_words("".join(char for char in passage if not is_dropped(char)))
    return any(not word.isspace() for word in words)


def _label(record: Mapping[str, Any]) -> Label:
    return Label(record["label"], record["probabilities"])


def _score(record: Mapping[str, Any]) -> Score:
    return Score(record["score"])


def _tags(record: Mapping[str, Any]) -> Tags:
    return Tags(record["words"], record["tags"], record["probabilities"], record.get("spans"))


def _answer(record: Mapping[str, Any]) -> Answer:
    return Answer(record["answer"], record["n_best"], record.get("null_odds"))


_KINDS: dict[type[Task], Kind] = {
    ClassificationTask: Kind(_text_examples, _label),
    RegressionTask: Kind(_text_examples, _score),
    TaggingTask: Kind(_tagging_examples, _tags),
    QATask: Kind(_question_examples, _answer),
}
