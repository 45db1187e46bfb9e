"""What the kinds of tasks take from Python, and what they give back."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from electra_tf2.console import say
from electra_tf2.errors import UserError
from electra_tf2.files import write_json_lines
from electra_tf2.text.normalization import is_dropped
from electra_tf2.text.rows import check_texts
from finetune.classification.tasks import ClassificationTask, InputExample, RegressionTask
from finetune.features import Preprocessor
from finetune.qa.examples import QAExample, split_words
from finetune.qa.tasks import QATask
from finetune.scoring import Evaluation, Outputs
from finetune.setup import Setup
from finetune.tagging.tasks import TaggingExample, TaggingTask
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


# Predictions in files: JSON lines for programs, and what evaluation servers take.


def predictions_path(config: Any, task: Task, split: str, trial: int) -> str:
    """Returns where a split's predictions go: the hparam test_predictions, .jsonl for .pkl."""
    return config.test_predictions.format(task.name, split, trial).removesuffix(".pkl") + ".jsonl"


def write_predictions(
    config: Any, task: Task, split: str, trial: int, outputs: Sequence[Outputs]
) -> list[dict[str, Any]]:
    """Writes a split's predictions as JSON lines and returns them."""
    records = task.prediction_records(split, outputs, task.get_examples(split))
    path = predictions_path(config, task, split, trial)
    write_json_lines(path, records)
    say(f"Predictions for {task.name}, {split}: {path}")
    return records


def write_test_outputs(setup: Setup, evaluation: Evaluation, trial: int) -> None:
    """Writes the predictions for all test splits, and the files for evaluation servers."""
    config, preprocessor = setup.config, Preprocessor(setup.config)
    folder = posixpath.join(
        posixpath.dirname(predictions_path(config, setup.tasks[0], "test", trial)),
        f"submission_{trial}",
    )
    for task in setup.tasks:
        for split in task.test_splits:
            table = preprocessor.features(task, split)
            outputs = list(evaluation.outputs(task, table, config.predict_batch_size))

            def write(task=task, split=split, outputs=outputs):
                records = write_predictions(config, task, split, trial, outputs)
                for path in task.write_submission(split, records, folder):
                    say(f"For the evaluation server: {path}")

            setup.workers.on_chief(write)


def predict_file(setup: Setup, evaluation: Evaluation, path: str, output: str) -> int:
    """Predicts the examples of a file without labels.

    Args:
        setup: its only task says how to read the file.
        evaluation: the network.
        path: the file.
        output: JSON lines go there.

    Returns:
        The number of predictions.
    """
    (task,) = setup.tasks
    examples = setup.workers.together(lambda: task.read_examples(path, "predict"))
    table = Preprocessor(setup.config).make(task, examples, "predict")
    outputs = evaluation.outputs(task, table, setup.config.predict_batch_size)
    records = task.prediction_records("predict", list(outputs), examples)
    setup.workers.on_chief(lambda: write_json_lines(output, records))
    return len(records)
