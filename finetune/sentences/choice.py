"""Multiple choice (SWAG, RACE): which of several texts continues a context or answers a question.

Each choice is a row of its own, `[CLS] context [SEP] question choice [SEP]`, and gets one logit;
the softmax is over the choices of an example, as in SWAG's fine-tuning of BERT (arXiv:1810.04805,
section 4.4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from electra_tf2.modeling.config import TransformerConfig
from finetune.classification.class_report import ClassScores
from finetune.classification.metrics import AccuracyScorer
from finetune.classification.tasks import SingleOutputHead, SingleOutputTask
from finetune.data_files import whole_number
from finetune.sentences.texts import text_features
from finetune.task import (
    MORE_MASK,
    MORE_STATES,
    MORE_TEXTS,
    TEACHER,
    FeatureSpec,
    HeadOutput,
    Scorer,
    SoftTargets,
    TaskHead,
    other_kind,
    softened_divergence,
)

# The logit of a choice that is not there, to be divided by any temperature.
_NOWHERE = -1e9


@dataclasses.dataclass(frozen=True)
class ChoiceExample:
    """A context, and texts of which one fits.

    Attributes:
        eid: its number, unique in the split.
        context: what is read first.
        choices: two texts or more.
        question: what stands before every choice; None or empty if there is none.
        label: the number of the right choice, from 0; None where unknown.
        id: what predictions call it; None: its `eid`.
    """

    eid: int
    context: str
    choices: tuple[str, ...]
    question: str | None = None
    label: int | None = None
    id: str | float | None = None


class ChoiceHead(SingleOutputHead):
    """One logit for each choice, from its row's [CLS]; the loss is the cross-entropy in nats.

    Args:
        dropout_prob: see the base class.
    """

    def __init__(self, dropout_prob: float, **kwargs):
        super().__init__(1, dropout_prob, **kwargs)

    def call(
        self,
        states: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
        seed: tf.Tensor | None = None,
    ) -> HeadOutput:
        """Chooses.

        Args:
            states: [batch, length, hidden_size], of the first choices.
            features: `MORE_STATES` and `MORE_MASK` of the others, and `label_ids` (int32 [batch]).
            training: whether dropout is on.
            seed: int64 [2] for dropout, or None.

        Returns:
            Losses [batch], and the outputs loss, predictions, label_ids and num_choices [batch],
            and logits [batch, choices], the lowest number where an example has no such choice.
        """
        first = tf.concat([states[:, tf.newaxis, 0], features[MORE_STATES][:, :, 0]], axis=1)
        rows = tf.reshape(first, [-1, 1, first.shape[-1]])
        logits = tf.reshape(self.project(rows, training, seed), tf.shape(first)[:2])
        more = features[MORE_MASK][:, :, 0]
        there = tf.concat([tf.ones_like(more[:, :1]), more], axis=1)
        logits = tf.where(there > 0, logits, logits.dtype.min)
        labels = features["label_ids"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        outputs = {
            "loss": losses,
            "logits": logits,
            "predictions": tf.argmax(logits, axis=-1),
            "label_ids": labels,
            "num_choices": tf.reduce_sum(there, axis=1),
        }
        return HeadOutput(losses, outputs)

    def soft_losses(
        self,
        outputs: Mapping[str, tf.Tensor],
        features: Mapping[str, tf.Tensor],
        temperature: float,
    ) -> tf.Tensor:
        """Computes the divergence from the teacher's choices."""
        logits = outputs["logits"]
        there = tf.sequence_mask(outputs["num_choices"], tf.shape(logits)[1])
        student, teacher = (
            tf.where(there, x, _NOWHERE) for x in (logits, features[f"{TEACHER}logits"])
        )
        return softened_divergence(student, teacher, temperature)


class ChoiceScorer(AccuracyScorer):
    """Share of examples whose right choice is found."""

    def stuck_at(self) -> str | None:
        """Names the one place whose choice is always taken."""
        return super().stuck_at() and f"choice {self._predicted[0]}"

    def class_scores(self) -> ClassScores | None:
        """Returns nothing: places of choices are no classes."""
        return None


class ChoiceTask(SingleOutputTask):
    """A task whose output is one of several texts; see `Task` for the arguments.

    A class of your own defines `read_examples`, which returns `ChoiceExample`s.
    """

    main_metric = "accuracy"

    def parse_label(self, text: str) -> int:
        """Returns the number of the right choice, from 0; ValueError if it is not one."""
        number = whole_number(text)
        if number is None:
            raise ValueError(f"the label {text!r} is not the number of a choice")
        return number

    def label_feature(self, example: ChoiceExample) -> tuple[str, int]:
        """Returns `label_ids` and the number of the right choice."""
        return "label_ids", example.label or 0

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the specs of the further choices and of `label_ids`."""
        return [*MORE_TEXTS, FeatureSpec("label_ids")]

    def featurize(
        self, examples: Sequence[ChoiceExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `[CLS] context [SEP] question choice [SEP]` for each choice of an example.

        Args:
            examples: from `get_examples`.
            is_training: whether every example must have a label.

        Raises:
            UserError: `max_seq_length` leaves no room for two texts.
            ValueError: a label is missing: an error of the task.
        """
        self.check_room()
        most = max(len(example.choices) for example in examples)
        contexts = self.tokenizer.encode_lines([example.context for example in examples]).rows()
        texts = [f"{e.question or ''} {choice}" for e in examples for choice in e.choices]
        choices = iter(self.tokenizer.encode_lines(texts).rows())
        for example, context in zip(examples, contexts, strict=True):
            if is_training and example.label is None:
                raise ValueError(f"An example to train on has no label. Received: {example}")
            pairs = [(context, next(choices)) for _ in example.choices]
            missing = [None] * (most - len(pairs))
            name, value = self.label_feature(example)
            row = text_features([*pairs, *missing], self.tokenizer, self.config.max_seq_length)
            yield {"eid": example.eid, name: value, **row}

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds the head."""
        return ChoiceHead(self.config.head_dropout_prob, dtype=dtype)

    def soft_targets(self) -> SoftTargets:
        """Returns the logits, as many as the example with the most choices has."""
        spec = FeatureSpec("logits", is_int_feature=False, size=-1)
        return SoftTargets([spec], self.get_state())

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of accuracy."""
        return ChoiceScorer()

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the number of the likeliest "choice", from 0, and the "probabilities" of all."""
        logits = np.asarray(output["logits"], np.float64)[: int(output["num_choices"])]
        return {"choice": int(output["predictions"]), "probabilities": softmax(logits).tolist()}

    def get_state(self) -> dict[str, Any]:
        """Returns what tells this kind from others."""
        return {"choices": True}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a model was trained on a task of this kind.

        Raises:
            UserError: it was not.
        """
        if state != self.get_state():
            raise other_kind(self.name, "choice", state)
