"""What fine-tuning asks of a task: its data and its head.

To add a task, inherit from `ClassificationTask`, `RegressionTask`, `QATask` or `TaggingTask` (or
from `Task` itself) and register the class in `finetune.task_builder`.
"""

from __future__ import annotations

import abc
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.feature_spec import FeatureSpec
from finetune.scorer import Scorer


class HeadOutput(NamedTuple):
    """What a head computes.

    Attributes:
        losses: float32 [batch], the loss of each example.
        outputs: name -> tensor whose first axis is the example; what scorers and predictions need.
    """

    losses: tf.Tensor
    outputs: dict[str, tf.Tensor]


class TaskHead(keras.layers.Layer):
    """The layers that a task puts on top of the encoder."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(
        self,
        states: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> HeadOutput:
        """Computes losses and outputs.

        Args:
            states: [batch, length, hidden_size], the encoder's last states.
            features: `input_ids`, `input_mask`, `segment_ids` (int32 [batch, length]) and the
                task's own features by the names of its specs. Rows without an example are all 0.
            training: whether dropout is on.
            seed: int64 [2] for dropout, or None.

        Returns:
            Losses and outputs.
        """
        raise NotImplementedError

    def official_names(self) -> dict[str, str]:
        """Returns own variable path -> official name, both below the task's scope."""
        raise NotImplementedError


class Task(abc.ABC):
    """A supervised task: files, examples, features, head and scores.

    Args:
        config: a `FinetuningConfig`.
        name: the task's name, which its folder of data has too.
        tokenizer: text -> ids.

    Attributes:
        main_metric: the metric by which models are compared.
        dev_splits: splits to score, with the prefix of the names of their metrics.
        test_splits: splits without labels to write predictions for.
        sort_by_length: whether to train on batches of examples of about the same length. Every
            batch makes a step of about the same size (the gradient of the summed loss is clipped):
            fair where an example has one loss, but not where its loss is a sum over its words, for
            then the words of short examples would count more.
    """

    main_metric: str
    dev_splits: Mapping[str, str] = {"dev": ""}
    test_splits: Sequence[str] = ("test",)
    sort_by_length: bool = True

    def __init__(self, config: Any, name: str, tokenizer: Tokenizer):
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
            path: the file.
            split: how to read it; labels are needed in "train" and `dev_splits` only. "predict" is
                a file of the user's own without labels.

        Raises:
            UserError: see `get_examples`.
        """

    @abc.abstractmethod
    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the task's own features, beside `SHARED_SPECS`."""

    @abc.abstractmethod
    def featurize(self, examples: Sequence[Any], is_training: bool) -> Iterable[dict[str, Any]]:
        """Turns examples into features.

        Args:
            examples: from `get_examples`; all of a split at once, so that tokenizing is fast.
            is_training: whether labels are needed.

        Yields:
            Feature name -> value for each row: a list or array for `per_token` features, a number
            for the others. There may be several rows an example, or none.
        """

    @abc.abstractmethod
    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds the head.

        Args:
            encoder: the encoder's sizes.
            dtype: Keras dtype policy, such as "float32" or "mixed_bfloat16".
        """

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
            folder: where to, made if need be.

        Returns:
            The files written; none if the task has no such form.
        """
        return []

    def feature_settings(self) -> dict[str, Any]:
        """Returns what the features depend on beside data files and tokenizer; JSON values.

        Features are read from the cache only where these are unchanged.
        """
        return {"max_seq_length": self.config.max_seq_length, "debug": self.config.debug}

    def get_state(self) -> dict[str, Any]:
        """Returns what was inferred from the training data, such as labels, to save with a model.

        JSON values; an empty dict if all is known beforehand.
        """
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes what `get_state` returned when the model was trained, in place of the data's."""
        del state  # a task that infers something overrides this

    def folder(self) -> str:
        """Returns the folder of the task's data files."""
        return self.config.raw_data_folder(self.name)

    def path(self, name: str) -> str:
        """Returns the path of one of the task's data files."""
        return posixpath.join(self.folder(), name)

    def __repr__(self) -> str:
        return f"Task({self.name})"
