"""A fine-tuned model in Python: what it takes, and what it predicts."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, errors_named_in, nearest_name_hint
from electra_tf2.loading.folder import CONFIG
from electra_tf2.loading.networks import WeightLoader
from electra_tf2.loading.source import Source, dtype_policy, open_source
from electra_tf2.text.normalization import is_dropped
from electra_tf2.text.rows import check_list, check_positive, check_texts
from electra_tf2.training.devices import Precision, make_strategy, set_arithmetic
from finetune.classification.multilabel import MultilabelTask
from finetune.classification.regression import RegressionTask
from finetune.classification.tasks import ClassificationTask, InputExample, SingleOutputTask
from finetune.evaluation import Evaluation
from finetune.feature_tables import FeatureTable
from finetune.features import Preprocessor
from finetune.model import FinetuningModel
from finetune.qa.annotations import split_words
from finetune.qa.examples import QAExample
from finetune.qa.tasks import QATask
from finetune.run.open_run import check_length
from finetune.sentences.choice import ChoiceExample, ChoiceTask
from finetune.sentences.embedding import EmbeddingTask
from finetune.tagging.tasks import TaggingExample, TaggingTask
from finetune.task import Task
from finetune.task_builder import get_tasks
from finetune.trial_folders import TASKS, restore_tuned, stored_states

_ROWS = 32


class Label(NamedTuple):
    """A predicted class.

    Attributes:
        label: the likeliest class.
        probabilities: of all classes, by name.
    """

    label: str
    probabilities: dict[str, float]


class Labels(NamedTuple):
    """The predicted labels of a text that may have several.

    Attributes:
        labels: those whose probability reaches the task's threshold.
        probabilities: of all labels, by name.
    """

    labels: list[str]
    probabilities: dict[str, float]


class Score(NamedTuple):
    """A predicted score.

    Attributes:
        score: on the scale of the training data.
    """

    score: float


class Embedding(NamedTuple):
    """The vector of a text.

    Attributes:
        embedding: [hidden_size], the mean of its tokens' states.
    """

    embedding: list[float]


class Choice(NamedTuple):
    """The choice that fits.

    Attributes:
        choice: its number, from 0.
        probabilities: of all choices.
    """

    choice: int
    probabilities: list[float]


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


Prediction = Label | Labels | Score | Embedding | Choice | Tags | Answer


class FineTuned:
    """A fine-tuned model: an encoder with the heads of the tasks that it was trained on.

    Args:
        source: the model's folder.
        config: the hparams of its training.
        tasks: its tasks, which know their labels.
        network: encoder and heads. Their weights should be final: a CPU's graphs hold those of the
            first prediction.
        strategy: where it runs.

    Attributes:
        source, config, tasks, network: as given; the tasks by name.

    Example:
        model = FineTuned.from_pretrained("data/models/my_electra/finetuning_models/cola_model_1")
        (prediction,) = model.predict(["They sailed the ship."])
        prediction.label, prediction.probabilities
    """

    def __init__(
        self,
        source: Source,
        config: FinetuningConfig,
        tasks: Sequence[Task],
        network: FinetuningModel,
        strategy: tf.distribute.Strategy,
    ):
        self.source = source
        self.config = config
        self.tasks = {task.name: task for task in tasks}
        self.network = network
        self._evaluation = Evaluation(config, network, strategy, fixed_weights=True)

    @classmethod
    def from_pretrained(cls, folder: str, *, precision: Precision = "float32") -> FineTuned:
        """Opens a fine-tuned model.

        Args:
            folder: of a trial (`…/finetuning_models/<tasks>_model_<trial>`), or its `best`.
            precision: compute type of the network.

        Raises:
            UserError: the folder has no fine-tuned model of this program, or not all of it.
        """
        source = open_source(folder, vocab_option="vocab.txt in that folder")
        states = stored_states(source.pretrained.folder)
        hparams = source.hparams()
        if not states or "task_names" not in hparams:
            raise UserError(
                "The model was not fine-tuned by this program.",
                where=posixpath.join(source.pretrained.folder, CONFIG if states else TASKS),
                received="nothing about tasks" if states else "no such file, or nothing in it",
                remedy="Give the folder of a trial, …/finetuning_models/<tasks>_model_<trial>.",
            )
        config = _stored_config(source, hparams)
        tasks = get_tasks(config, source.tokenizer)
        for task in tasks:
            with errors_named_in(posixpath.join(source.pretrained.folder, TASKS)):
                task.set_state(states.get(task.name, {}))
        restore_tuned(source.pretrained.folder, tasks)
        if precision in ("float32", "tf32"):
            set_arithmetic(precision)
        strategy = make_strategy("one_device")
        with strategy.scope():
            network = FinetuningModel(tasks, source.network, dtype=dtype_policy(precision))
            loader = WeightLoader(source.pretrained)
            loader.build("electra", network.encoder)
            network.build()
        for name, head in zip(network.task_names, network.heads, strict=True):
            loader.give(f"task_specific/{name}", head)
        loader.check()
        return cls(source, config, tasks, network, strategy)

    def task(self, name: str | None = None) -> Task:
        """Returns one of the model's tasks.

        Args:
            name: the task's name; None where there is only one.

        Raises:
            UserError: there is no such task, or there are several and none was named.
        """
        if name is None and len(self.tasks) == 1:
            (name,) = self.tasks
        if name not in tuple(self.tasks):
            raise UserError(
                "The model has several tasks." if name is None else "The model has no such task.",
                where="task",
                received=repr(name),
                remedy=f"Name one of them: {', '.join(self.tasks)}."
                if name is None
                else nearest_name_hint(str(name), self.tasks),
            )
        return self.tasks[name]

    def predict(
        self, inputs: Sequence[Any], *, task: str | None = None, batch_size: int = _ROWS
    ) -> list[Prediction]:
        """Predicts with one of the model's tasks.

        Args:
            inputs: for classification, multilabel and regression, texts or pairs of texts; for
                embeddings, texts, or pairs of which the cosine is asked; for multiple choice,
                (context, choices) or (context, question, choices); for tagging, sentences as
                lists of words or as texts whose words white space separates; for question
                answering, pairs of a question and a passage. What is longer than the model's
                max_seq_length is cut off; a long passage, and a long text of a task with windows,
                is read in several windows.
            task: the task's name; None where there is only one.
            batch_size: rows to a batch.

        Returns:
            For each input a `Label`, `Labels`, `Score`, `Embedding`, `Choice`, `Tags` or `Answer`.

        Raises:
            TypeError: an input is not of the task's type.
            ValueError: a question comes without a passage, a task with windows, or a model
                with one segment, is given a pair, or `batch_size` is below 1.
            UserError: the model has no such task.
        """
        chosen = self.task(task)
        kind = _kind_of(chosen)
        examples = kind.make_examples(check_list("inputs", inputs))
        if isinstance(chosen, TaggingTask):
            chosen.warn_of_texts(examples)
        outputs = self._outputs(chosen, examples, batch_size)
        if not outputs:
            return []
        records = chosen.prediction_records("predict", outputs, examples)
        return [kind.make_prediction(record) for record in records]

    def encode(
        self,
        texts: Sequence[str],
        *,
        task: str | None = None,
        batch_size: int = _ROWS,
        normalize: bool = False,
    ) -> np.ndarray:
        """Returns the vectors of texts, with a task of the kind "embedding".

        Args:
            texts: what is longer than the model's max_seq_length is cut.
            task: the task's name; None where there is only one.
            batch_size: texts to a batch.
            normalize: whether vectors get length 1, so that their products are cosines.

        Returns:
            float32 [texts, hidden_size].

        Raises:
            TypeError: `texts` is not a list of texts.
            ValueError: `batch_size` is below 1.
            UserError: the model has no such task, or it is of another kind.
        """
        chosen = self.task(task)
        if not isinstance(chosen, EmbeddingTask):
            kinds = [name for name, own in self.tasks.items() if isinstance(own, EmbeddingTask)]
            raise UserError(
                "The task gives no embeddings of texts.",
                where=f"task {chosen.name}",
                received=type(chosen).__name__,
                remedy=f"Name one of the kind embedding: {', '.join(kinds)}."
                if kinds
                else "Use predict, or fine-tune on a task of the kind embedding.",
            )
        examples = _text_examples(check_texts(texts))
        vectors = np.zeros((len(examples), self.source.network.hidden_size), np.float32)
        for output in self._outputs(chosen, examples, batch_size):
            vectors[output["eid"]] = output["embeddings"][0]
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _outputs(
        self, chosen: Task, examples: Sequence[Any], batch_size: int
    ) -> list[Mapping[str, np.ndarray]]:
        """Returns a task's outputs for examples, in any order."""
        check_positive("batch_size", batch_size)
        if not examples:
            return []
        table = Preprocessor(self.config).make(chosen, examples, "predict")
        segments, known = table.ragged["segment_ids"].values, self.source.network.type_vocab_size
        if isinstance(chosen, SingleOutputTask) and segments.max() >= known:
            raise ValueError(
                f"The inputs hold a pair, and the model knows single texts only (type_vocab_size "
                f"{known})."
            )
        return list(self._evaluation.outputs(chosen, table, batch_size))

    def teach(self, task: str, table: FeatureTable) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yields what a student learns from, see `finetune.task.SoftTargets`.

        Yields:
            Each row's number and output name -> array, in no particular order.
        """
        return self._evaluation.teach(self.task(task), table)


def _stored_config(source: Source, hparams: dict[str, Any]) -> FinetuningConfig:
    """Returns the hparams of a model's training; an error if they were damaged or edited."""
    folder = source.pretrained.folder
    # Older versions took empty texts for null.
    own = {
        name: value
        for name, value in hparams.items()
        if name not in ("model_name", "data_dir") and value != ""
    }
    with errors_named_in(posixpath.join(folder, CONFIG)):
        config = FinetuningConfig("model", folder, **own)
        check_length(config, source.network)
    return config


class _Kind(NamedTuple):
    """How a kind of task is used from Python: what the user gave, and what the user gets."""

    make_examples: Callable[[Sequence[Any]], list[Any]]
    make_prediction: Callable[[Mapping[str, Any]], Prediction]


def _kind_of(task: Task) -> _Kind:
    """Returns how a task is used from Python; an error if it is of no known kind."""
    for base, kind in _KINDS.items():
        if isinstance(task, base):
            return kind
    raise UserError(
        f"The task {task.name!r} can't be used from Python.",
        where=f"{type(task).__module__}.{type(task).__qualname__}",
        received="a kind of its own",
        remedy="Inherit from ClassificationTask, MultilabelTask, RegressionTask, EmbeddingTask, "
        "ChoiceTask, TaggingTask or QATask, or write the examples to a file and use "
        "run_finetuning.py --predict.",
    )


def _text_examples(inputs: Sequence[Any]) -> list[InputExample]:
    texts = check_texts(inputs, pairs=True, name="inputs")
    pairs = ((text, None) if isinstance(text, str) else tuple(text) for text in texts)
    return [InputExample(i, first, second) for i, (first, second) in enumerate(pairs)]


def _texts_to_embed(inputs: Sequence[Any]) -> list[InputExample]:
    examples = _text_examples(inputs)
    if len({example.text_b is None for example in examples}) > 1:
        raise ValueError("inputs must be texts or pairs of texts, not both.")
    return examples


def _choice_examples(inputs: Sequence[Any]) -> list[ChoiceExample]:
    examples = []
    for i, given in enumerate(inputs):
        *texts, choices = given if isinstance(given, tuple | list) and given else ("",)
        if (
            len(texts) not in (1, 2)
            or not isinstance(choices, tuple | list)
            or len(choices) < 2
            or not all(isinstance(text, str) for text in (*texts, *choices))
        ):
            raise TypeError(
                f"inputs[{i}] must be (context, choices) or (context, question, choices), with two "
                f"choices or more. Received: {given!r:.100}"
            )
        question = texts[1] if len(texts) > 1 else None
        examples.append(ChoiceExample(i, texts[0], tuple(choices), question))
    return examples


def _tagging_examples(inputs: Sequence[Any]) -> list[TaggingExample]:
    examples = []
    for i, sentence in enumerate(inputs):
        words = sentence.split() if isinstance(sentence, str) else sentence
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) for w in words):
            raise TypeError(
                f"inputs[{i}] must be a text or a list of words. Received: {sentence!r:.100}"
            )
        examples.append(TaggingExample(i, tuple(words), ()))
    return examples


def _question_examples(inputs: Sequence[Any]) -> list[QAExample]:
    examples = []
    for i, pair in enumerate(check_texts(inputs, pairs=True, name="inputs")):
        if isinstance(pair, str) or not _has_content(pair[1]):
            raise ValueError(
                f"inputs[{i}] must be a question and a passage. Received: {pair!r:.100}"
            )
        examples.append(QAExample(eid=i, id=str(i), question=pair[0], passage=pair[1]))
    return examples


def _has_content(passage: str) -> bool:
    """Whether anything is left once control characters, invisible ones and spaces are dropped."""
    words = split_words("".join(char for char in passage if not is_dropped(char)))
    return any(not word.isspace() for word in words)


def _made(prediction: Any, record: Mapping[str, Any]) -> Prediction:
    """Makes a prediction of a record, in which what there is none of is missing."""
    return prediction(*map(record.get, prediction._fields))


def _embedding(record: Mapping[str, Any]) -> Prediction:
    return _made(Embedding if "embedding" in record else Score, record)


_KINDS: dict[type[Task], _Kind] = {
    ClassificationTask: _Kind(_text_examples, functools.partial(_made, Label)),
    MultilabelTask: _Kind(_text_examples, functools.partial(_made, Labels)),
    RegressionTask: _Kind(_text_examples, functools.partial(_made, Score)),
    EmbeddingTask: _Kind(_texts_to_embed, _embedding),
    ChoiceTask: _Kind(_choice_examples, functools.partial(_made, Choice)),
    TaggingTask: _Kind(_tagging_examples, functools.partial(_made, Tags)),
    QATask: _Kind(_question_examples, functools.partial(_made, Answer)),
}
