"""Regression (GLUE's STS, tables): a score for a text or pair, scaled to [0, 1] and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import RegressionScorer
from finetune.classification.tasks import InputExample, SingleOutputHead, SingleOutputTask
from finetune.task import (
    TEACHER,
    FeatureSpec,
    HeadOutput,
    Scorer,
    Seed,
    SoftTargets,
    TaskHead,
    Tensors,
    other_kind,
    softened_binary_divergence,
    unlike_model,
)

_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+\s*")
# Numbers with points between thousands, and those that may have one or be a decimal fraction.
_POINTS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2}((\.[0-9]{3})+,[0-9]+|(\.[0-9]{3}){2,})\s*")
_POINT = re.compile(r"\s*[+-]?[1-9][0-9]{0,2}\.[0-9]{3}\s*")


class ScoreScaling(NamedTuple):
    """How the scores of the data become what the network learns, and back.

    Attributes:
        low: the lowest score; the network learns 0 for it.
        divisor: a score's distance from the lowest is divided by this.
    """

    low: float
    divisor: float

    def normalized(self, score: Any) -> Any:
        """Returns what the network learns for a score (a number, array or tensor)."""
        return (score - self.low) / self.divisor

    def restored(self, output: Any) -> Any:
        """Returns the score that an output of the network (number, array or tensor) stands for."""
        return output * self.divisor + self.low


def trained_scaling(
    name: str, state: Mapping[str, Any], hparams: Mapping[str, Any]
) -> ScoreScaling:
    """Returns the scaling of a trained model's task, whose class may not be at hand.

    Args:
        name: the task's name.
        state: from `get_state` of the task when the model was trained.
        hparams: those of the training. A task that they define is scaled to [0, 1], all others
            as in `RegressionTask`.

    Raises:
        UserError: it is not the state of a regression task.
    """
    low, high = saved_range(name, state)
    return ScoreScaling(low, high - low if name in hparams.get("tasks", {}) else high)


def saved_range(name: str, state: Mapping[str, Any]) -> tuple[float, float]:
    """Returns the lowest and the highest score of a trained model's task.

    Args:
        name: the task's name, for messages.
        state: from `get_state` of the task when the model was trained.

    Raises:
        UserError: it is not the state of a regression task.
    """
    found = []
    for value in (state.get("min"), state.get("max")):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) < 1e300  # an integer may be larger than any float
        ):
            raise other_kind(name, "regression", state)
        found.append(float(value))
    low, high = found
    return low, high


Loss = Literal["squared", "logistic"]


class RegressionHead(SingleOutputHead):
    """One number.

    Args:
        dropout_prob: see the base class.
        loss: "squared": the number is the prediction, the loss its squared distance from the
            target; "logistic": the prediction is its sigmoid, the loss the cross-entropy with the
            target, a probability.
    """

    def __init__(self, dropout_prob: float, loss: Loss = "squared", **kwargs):
        super().__init__(1, dropout_prob, **kwargs)
        self.loss = loss

    def call(
        self, states: tf.Tensor, features: Tensors, training: bool = False, seed: Seed = None
    ) -> HeadOutput:
        """Computes loss, predictions and targets, all float32 [batch]; see `TaskHead.call`.

        With the logistic loss there are `logits`, too. The feature `queries` is handed on, if there
        is one.
        """
        predictions = self.project(states, training, seed)[:, 0]
        outputs = {"targets": features["targets"]}
        if self.loss == "logistic":
            losses = tf.nn.sigmoid_cross_entropy_with_logits(outputs["targets"], predictions)
            outputs["logits"] = predictions
            predictions = tf.sigmoid(predictions)
        else:
            losses = tf.square(predictions - outputs["targets"])
        outputs |= {"loss": losses, "predictions": predictions}
        if "queries" in features:
            outputs["queries"] = features["queries"]
        return HeadOutput(losses, outputs)

    def soft_losses(self, outputs: Tensors, features: Tensors, temperature: float) -> tf.Tensor:
        """Computes the squared distance from the teacher's number, which has no temperature.

        With the logistic loss it is the divergence from the teacher's probability.
        """
        if self.loss == "logistic":
            teacher = features[f"{TEACHER}logits"]
            return softened_binary_divergence(outputs["logits"], teacher, temperature)
        return tf.square(outputs["predictions"] - features[f"{TEACHER}predictions"])


class RegressionTask(SingleOutputTask):
    """A task whose output is a score.

    The network is trained on `(score - min_value) / max_value`, as in the official program.

    Args:
        config, name, tokenizer: see `Task`.
        min_value: the lowest score.
        max_value: the highest score, above 0.

    Attributes:
        loss: see `RegressionHead`.
    """

    main_metric = "spearman"
    loss: Loss = "squared"
    joined_output = "predictions"

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        min_value: float,
        max_value: float,
    ):
        super().__init__(config, name, tokenizer)
        self._min_value = min_value
        self._max_value = max_value

    def score_range(self) -> tuple[float, float]:
        """Returns the lowest and the highest score."""
        return self._min_value, self._max_value

    @property
    def scaling(self) -> ScoreScaling:
        """How scores become what the network learns, and back."""
        low, high = self.score_range()
        return ScoreScaling(low, high)

    def parse_label(self, text: str) -> float:
        """Returns the score; raises ValueError if it is not a number or out of range."""
        return parse_score(text, *self.score_range())

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the spec of `targets`."""
        return [FeatureSpec("targets", is_int_feature=False)]

    def label_feature(self, example: InputExample) -> dict[str, Any]:
        """Returns `targets`, the normalized score."""
        if example.label is None:
            return {"targets": 0.0}
        return {"targets": self.scaling.normalized(float(example.label))}

    def make_head(self, encoder: TransformerConfig, dtype: str) -> TaskHead:
        """Builds a head with one output."""
        return RegressionHead(self.config.head_dropout_prob, self.loss, dtype=dtype)

    def soft_targets(self) -> SoftTargets:
        """Returns the normalized score, or the logit of the logistic loss."""
        logistic = self.loss == "logistic"
        spec = FeatureSpec("logits" if logistic else "predictions", is_int_feature=False)
        meaning = {"lowest score and scale": list(self.scaling), "loss": self.loss}
        return self._soft_targets(spec, meaning)

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of correlations."""
        return RegressionScorer()

    def with_output(self, output: Mapping[str, Any], joined: np.ndarray) -> dict[str, Any]:
        """Returns an example's outputs with another prediction."""
        target = output["targets"]
        if self.loss == "logistic":
            # A sigmoid in float32 is 1 from a logit of 17 on.
            known = np.clip(np.float64(joined), 1e-7, 1 - 1e-7)
            loss = -(target * np.log(known) + (1 - target) * np.log1p(-known))
        else:
            loss = np.square(joined - target)
        return {**output, "predictions": joined, "loss": loss}

    def prediction(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the "score", on the scale of the data."""
        normalized = np.asarray(output["predictions"], np.float64).item()
        return {"score": self.scaling.restored(normalized)}

    def feature_settings(self) -> dict[str, Any]:
        return {
            **super().feature_settings(),
            "score_range": list(self.score_range()),
            "scale": self.scaling.divisor,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns the range of scores, and the loss if it is another than the squared error."""
        low, high = self.score_range()
        return {"min": low, "max": high, **({} if self.loss == "squared" else {"loss": self.loss})}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Checks that a model has the task's loss and range of scores; an empty state passes.

        Raises:
            UserError: the model has another range or none, or another loss.
        """
        self.check_loss(state)
        trained = saved_range(self.name, state) if state else self.score_range()
        if trained != self.score_range():
            given = list(self.score_range())
            raise unlike_model(self.name, "lowest and highest score", given, list(trained))

    def check_loss(self, state: Mapping[str, Any]) -> None:
        """Refuses a model that was trained with another loss: its numbers mean something else.

        Raises:
            UserError: names both losses.
        """
        trained = state.get("loss", "squared")
        if trained != self.loss:
            raise unlike_model(self.name, "scores", self.loss, trained).with_(
                where=f"task {self.name}, loss",
                remedy=f"Give the task the loss {trained!r}, or train a new model.",
            )


def parse_score(text: str, low: float | None = None, high: float | None = None) -> float:
    """Returns the number that a text states.

    Args:
        text: the text of the score.
        low: the lowest score allowed; None if there is no limit.
        high: the highest score allowed; None if there is no limit.

    Raises:
        ValueError: it is not a number, not finite, or out of range.
    """
    try:
        score = float(text.replace("_", "?"))  # 1_000 is a number in Python, but not in data
    except ValueError:
        raise ValueError(f"the score {text!r} is not a number{_comma_hint(text)}") from None
    if not math.isfinite(score):
        raise ValueError(f"the score {text!r} is not finite")
    if low is not None and score < low:
        raise ValueError(f"the score {text!r} is below {low:g}")
    if high is not None and score > high:
        raise ValueError(f"the score {text!r} is above {high:g}")
    return score


def check_points(path: str, texts: Mapping[int, Any]) -> None:
    """Checks that points between thousands don't make other scores a thousandth of what they are.

    Args:
        texts: line -> what stands there for a score.

    Raises:
        UserError: a score has points between its thousands, and another may have one.
    """
    cells = [(line, text) for line, text in texts.items() if isinstance(text, str)]
    whole = next(((line, text) for line, text in cells if _POINTS.fullmatch(text)), None)
    other = next(((line, text) for line, text in cells if _POINT.fullmatch(text)), None)
    if whole and other:
        raise UserError(
            "Points stand between the thousands of scores.",
            where=f"{path}, line {whole[0]}",
            received=f"{whole[1]!r}; what {other[1]!r} on line {other[0]} is, is not certain then",
            remedy="Write the scores of the file without points between thousands, and with a "
            "point before decimals.",
        )


def _comma_hint(text: str) -> str:
    if _POINTS.fullmatch(text):
        return ": write it without points between thousands, and with a point before decimals"
    if _THOUSANDS.fullmatch(text):
        return (
            ": write it without a comma between thousands, or with a point if the comma is the "
            "decimal mark"
        )
    return ": write a point before the decimals" if _DECIMAL_COMMA.fullmatch(text) else ""
