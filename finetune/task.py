"""What fine-tuning asks of a task: its data, its head and its scores.

To add a task, inherit from `ClassificationTask`, `RegressionTask`, `QATask` or `TaggingTask` (or
from `Task` itself) and register the class in `finetune.task_builder`.
"""

from __future__ import annotations

import abc
import dataclasses
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from finetune.classification.class_report import ClassScores

Tensors = Mapping[str, tf.Tensor]
Seed = tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """One feature of an example.

    Attributes:
        name: its name within the task; tasks trained together may use the same one.
        per_token: a row of values, at most as many as the example has tokens, padded with 0 to the
            length of the batch (True), or a single value (False).
        is_int_feature: int32 (True) or float32 (False).
        size: number of values of an example, or of a token; -1: as many as all examples of a split
            have; None: a single one without an axis of its own.
        several: an example has a list of rows, of a feature that is `per_token`; all examples of a
            split have equally many rows, and none may be longer than the longest text of a batch.
    """

    name: str
    per_token: bool = False
    is_int_feature: bool = True
    size: int | None = None
    several: bool = False

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of the values."""
        return np.dtype(np.int32 if self.is_int_feature else np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example's value, or of a token's."""
        return () if self.size is None else (self.size,)


SHARED_SPECS = (
    FeatureSpec("input_ids", per_token=True),
    FeatureSpec("segment_ids", per_token=True),
    FeatureSpec("eid"),
)
"""The features of every example: token ids, as many segment ids, and its number, which is unique
within its task and split. The mask of tokens follows from their number.
"""

TEACHER = "teacher_"
"""Begins the names of the features that hold a teacher's outputs, see `SoftTargets`."""

MORE_IDS, MORE_SEGMENTS, MORE_MASK = "more_ids", "more_segments", "more_mask"
MORE_TEXTS = (
    FeatureSpec(MORE_IDS, per_token=True, several=True),
    FeatureSpec(MORE_SEGMENTS, per_token=True, several=True),
)
"""The features of tasks whose examples have several texts: token and segment ids of all texts but
the first, whose ids are the shared features. A text that an example lacks is an empty row. Batches
have their mask of tokens as `MORE_MASK`, int32 [batch, texts, length], too.
"""

MORE_STATES = "more_states"
"""What heads get for these texts: the encoder's states, [batch, texts, length, hidden_size]."""

CUT = "cut"
"""What `Task.featurize` may give besides: how many of an example's tokens don't fit into its row,
to be told to the user. Not a feature.
"""


class Scorer(abc.ABC):
    """Computes metrics from a model's outputs, which it takes one by one, in any order."""

    @abc.abstractmethod
    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example.

        Args:
            results: output name -> this example's value (a NumPy array or scalar), as the task's
                head gives them, and "eid", the example's number.
        """

    @abc.abstractmethod
    def get_loss(self) -> float:
        """Returns the mean loss over the examples so far."""

    @abc.abstractmethod
    def get_results(self) -> list[tuple[str, float]]:
        """Returns (metric name, figure) pairs in the order they are reported in.

        Shares are in percent, as is a correlation.
        """

    def stuck_at(self) -> str | None:
        """Says what a model that has learned nothing predicts for every example.

        Returns:
            For example "the class 'entailment'", or None if the predictions vary.
        """
        return None

    def write_files(self) -> list[str]:
        """Writes the files that the hparams ask for besides scores; returns their paths."""
        return []

    def class_scores(self) -> ClassScores | None:
        """Returns the figures of every class, label or type of span; None if there are none."""
        return None

    def tuned(self) -> dict[str, float]:
        """Returns what was chosen to suit the examples taken: a "threshold", or nothing."""
        return {}


class HeadOutput(NamedTuple):
    """The losses and outputs of a head.

    Attributes:
        losses: float32 [batch], the loss of each example.
        outputs: name -> tensor whose first axis is the example; what scorers and predictions need.
    """

    losses: tf.Tensor
    outputs: Tensors


class SoftTargets(NamedTuple):
    """The outputs of a task's head that the head of another model can learn from.

    Attributes:
        specs: of these outputs, by their names.
        meaning: what they stand for; JSON values, which teacher and student must have in common.
        along: the feature that says what the values of a row belong to: a student's row must begin
            the teacher's. None where all of a row has one output.
    """

    specs: Sequence[FeatureSpec]
    meaning: Mapping[str, Any]
    along: str | None = None


class TaskHead(keras.layers.Layer):
    """The layers that a task puts on top of the encoder."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Computes losses and outputs.

        Args:
            states: [batch, length, hidden_size], the encoder's last states.
            features: `input_ids`, `input_mask`, `segment_ids` (int32 [batch, length]) and the
                task's own features by the names of its specs. Rows without an example are all 0.
                `MORE_STATES` is there if the task's examples have several texts.
            training: whether dropout is on.
            seed: int64 [2] for dropout, or None.

        Returns:
            Losses and outputs.
        """
        raise NotImplementedError

    def teach(self, states: tf.Tensor, features: Tensors) -> Tensors:
        """Returns the outputs for a student to learn from; arguments as `call`."""
        return self(states, features).outputs

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes how far the outputs are from a teacher's.

        Args:
            outputs: of `call` in training.
            features: as in `call`; also the teacher's outputs, `TEACHER` before their names.
            temperature: what logits are divided by, see `finetune.run.distillation`.

        Returns:
            float32 [batch], in the unit of the head's own loss.
        """
        raise NotImplementedError(f"{type(self).__name__} learns from no teacher.")

    def official_names(self) -> dict[str, str]:
        """Returns own variable path -> official name, both below the task's scope."""
        raise NotImplementedError


def softened_divergence(student: tf.Tensor, teacher: tf.Tensor, temperature: float) -> tf.Tensor:
    """The divergence of a student's distribution from its teacher's, both softened.

    T² KL(softmax(teacher / T) ‖ softmax(student / T)), in nats (Hinton et al. 2015,
    arXiv:1503.02531, section 2). T² keeps the size of the gradients, which fall with it.

    Args:
        student: logits, float32 [..., classes].
        teacher: logits of the same shape.
        temperature: T, above 0.

    Returns:
        float32 [...], 0 where both agree.
    """
    log_teacher = tf.nn.log_softmax(teacher / temperature)
    difference = log_teacher - tf.nn.log_softmax(student / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(log_teacher) * difference, axis=-1)


def softened_binary_divergence(
    student: tf.Tensor, teacher: tf.Tensor, temperature: float
) -> tf.Tensor:
    """`softened_divergence` of yes-or-no questions with one logit each; of the logits' shape."""
    yes = tf.sigmoid(teacher / temperature)
    crossed, own = (
        tf.nn.sigmoid_cross_entropy_with_logits(labels=yes, logits=logits / temperature)
        for logits in (student, teacher)
    )
    return temperature**2 * (crossed - own)


class Task(abc.ABC):
    """A supervised task: files, examples, features, head and scores.

    Args:
        config: the run's hparams.
        name: the task's name, which its folder of data has too.
        tokenizer: text -> ids.

    Attributes:
        main_metric: the metric by which models are compared.
        compares_examples: whether an example's loss depends on the others of its batch, so that
            replicas exchange what their heads compute.
        dev_splits: splits to score, with the prefix of the names of their metrics.
        test_splits: splits without labels to write predictions for.
        sort_by_length: whether to train on batches of examples of about the same length. Every
            batch makes a step of about the same size (the gradient of the summed loss is clipped):
            fair where an example has one loss, but not where its loss is a sum over its words, for
            then the words of short examples would count more.
        features_version: raised when features come out otherwise, so that cached ones are
            rebuilt.
    """

    main_metric: str
    dev_splits: Mapping[str, str] = {"dev": ""}
    test_splits: Sequence[str] = ("test",)
    compares_examples: bool = False
    sort_by_length: bool = True
    features_version: int = 1

    def __init__(self, config: FinetuningConfig, name: str, tokenizer: Tokenizer):
        self.config = config
        self.name = name
        self.tokenizer = tokenizer

    def get_examples(self, split: str) -> list[Any]:
        """Reads the examples of a split.

        Args:
            split: "train", or one of `dev_splits` or `test_splits`.

        Raises:
            UserError: a file is missing or can't be understood; names the file and the line.
        """
        return self.read_examples(self.data_file(split), split)

    @abc.abstractmethod
    def data_file(self, split: str) -> str:
        """Returns the path of a split's file, whether it exists or not."""

    @abc.abstractmethod
    def read_examples(self, path: str, split: str) -> list[Any]:
        """Reads the examples in a file.

        Args:
            split: how to read it; labels are needed in "train" and `dev_splits` only. "predict" is
                a file of the user's own without labels.

        Raises:
            UserError: see `get_examples`.
        """

    @abc.abstractmethod
    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the task's own features, without `SHARED_SPECS`."""

    @abc.abstractmethod
    def featurize(self, examples: Sequence[Any], is_training: bool) -> Iterable[dict[str, Any]]:
        """Turns examples into features.

        Args:
            examples: from `get_examples`; all of a split at once, so that tokenizing is fast.
            is_training: whether labels are needed.

        Yields:
            Feature name -> value for each row: a list or array for `per_token` features, a number
            for the others, and perhaps `CUT`. There may be several rows an example, or none.
        """

    def num_examples(self, eids: np.ndarray) -> int:
        """Returns of how many examples some rows are.

        Args:
            eids: int32 [rows], the numbers of the rows.
        """
        return len(np.unique(eids))

    @abc.abstractmethod
    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds the head.

        Args:
            encoder: the encoder's sizes.
            dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16".
        """

    def soft_targets(self) -> SoftTargets | None:
        """Returns what a student can learn from the task's head; None if it can't."""
        return None

    @abc.abstractmethod
    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer for a split."""

    @abc.abstractmethod
    def prediction_records(
        self, split: str, outputs: Iterable[Mapping[str, Any]], examples: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Turns a model's outputs into what is written to a predictions file.

        Args:
            split: where the examples are from.
            outputs: one mapping per row, as `Scorer.update` takes them, in any order.
            examples: from `get_examples` or `read_examples`.

        Returns:
            A JSON object per example, in the order of the examples: an "id", the prediction, and
            probabilities where there are any.
        """

    def check_test_split(self, split: str) -> None:
        """Refuses a test split for which `write_submission` would fail, before anything is trained.

        Raises:
            UserError: names the file and the rows.
        """
        del split  # a task with a submission file overrides this

    def write_submission(
        self, split: str, records: Sequence[Mapping[str, Any]], folder: str
    ) -> list[str]:
        """Writes a test split's predictions in the form that the task's evaluation server takes.

        Args:
            split: one of `test_splits`.
            records: from `prediction_records`.
            folder: where the files are written; made if need be.

        Returns:
            The files written; none if the task has no such form.
        """
        return []

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on besides data files and tokenizer; JSON values.

        Features are read from the cache only where these are unchanged.
        """
        return {"max_seq_length": self.config.max_seq_length, "debug": self.config.debug}

    def feature_state(self) -> dict[str, Any]:
        """Returns what of the state the features depend on, to compare stored trials by."""
        return self.get_state()

    def head_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what of a state decides what the head's outputs mean.

        Args:
            state: this task's, or a trained model's.
        """
        return state

    def get_state(self) -> dict[str, Any]:
        """Returns what was inferred from the training data, such as labels, to save with a model.

        JSON values; empty if all is known beforehand.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` returned when the model was trained, in place of the data's."""
        del state  # a task that infers something overrides this

    def set_tuned(self, tuned: Mapping[str, float]) -> None:
        """Takes what was tuned on the dev split for a model, such as a threshold.

        Unlike the state it belongs to one model, and neither features nor weights depend on it.

        Args:
            tuned: from `Scorer.tuned`; empty if nothing was tuned.
        """
        del tuned  # a task that tunes something overrides this

    def join_rows(self, outputs: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
        """Joins the outputs of rows that are one example before they are scored or written.

        Args:
            outputs: one mapping per row, as `Scorer.update` takes them, in any order.
        """
        return outputs

    def folder(self) -> str:
        """Returns the folder of the task's data files."""
        return self.config.raw_data_folder(self.name)

    def path(self, name: str) -> str:
        """Returns the path of one of the task's data files."""
        return posixpath.join(self.folder(), name)

    def __repr__(self) -> str:
        return f"Task({self.name})"


def other_kind(name: str, kind: str, state: Mapping[str, Any]) -> UserError:
    """Returns the error for a model that was trained on a task of another kind.

    Args:
        name: the task's name.
        kind: what the task is here.
        state: what the model has instead.
    """
    shown = repr(dict(state))
    return UserError(
        "The model was trained on a task of another kind.",
        where=f"task {name}",
        received=f"{kind} here; with the model " + shown[:200] + "…" * (len(shown) > 200),
        remedy="Describe the task as it was in training, or train a new model.",
    )


def unlike_model(name: str, what: str, given: object, trained: object) -> UserError:
    """Returns the error for a task whose code contradicts what a model was trained with.

    Args:
        name: the task's name.
        what: what differs, in the plural or as a list.
        given: the task's.
        trained: the model's.
    """
    return UserError(
        f"The {what} of the task {name!r} are not those that the model was trained with.",
        where=f"task {name}",
        received=f"{given!r}; the model was trained with {trained!r}",
        remedy="Give the task the model's, in the same order, or train a new model.",
    )
