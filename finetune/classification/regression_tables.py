"""Regression without code: scores in a column of a TSV, CSV or JSON file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError
from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.metrics import RankingScorer
from finetune.classification.regression import (
    RegressionTask,
    ScoreScaling,
    check_points,
    parse_score,
    saved_range,
)
from finetune.classification.table_tasks import LABELLED, TableTask
from finetune.classification.tables import TableRow
from finetune.classification.tasks import InputExample
from finetune.definitions import RegressionDefinition
from finetune.task import FeatureSpec, Scorer


class TableRegression(TableTask, RegressionTask):
    """A regression task over the columns of a file.

    The network is trained on scores scaled to [0, 1].

    Args:
        config, name, tokenizer: see `Task`.
        definition: its columns and files. Without min or max, the training file's lowest or
            highest score is taken; scores of other files may then lie beyond.
    """

    definition: RegressionDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: RegressionDefinition,
    ):
        super().__init__(config, name, tokenizer, definition, math.nan, math.nan)
        self.loss = definition.loss
        self.main_metric = "mrr_at_10" if definition.ranking else type(self).main_metric
        self._range: tuple[float, float] | None = None

    def score_range(self) -> tuple[float, float]:
        if self._range is None:
            self._range = self._inferred_range()
        return self._range

    @property
    def scaling(self) -> ScoreScaling:
        """How scores are scaled to [0, 1], and back."""
        low, high = self.score_range()
        return ScoreScaling(low, high - low)

    def _inferred_range(self) -> tuple[float, float]:
        low, high = self.definition.min, self.definition.max
        problems = ""
        if low is None or high is None:
            scores, problems = self._training_scores()
            low = min(scores) if low is None else low
            high = max(scores) if high is None else high
        if not low < high:
            raise UserError(
                "The training data's scores span no range.",
                where=self.data_file("train"),
                received=f"from {low:g} to {high:g}{problems}",
                remedy=f"Name the column of the scores in the hparam tasks.{self.name}.label or, "
                "if all scores are meant to be equal, give min and max there.",
            )
        if not math.isfinite(high - low):
            raise UserError(
                "The range of the training data's scores is too wide.",
                where=self.data_file("train"),
                received=f"from {low:g} to {high:g}",
                remedy=f"Give min and max in the hparam tasks.{self.name}: rows with scores "
                "beyond them are then left out.",
            )
        return low, high

    def _training_scores(self) -> tuple[list[float], str]:
        """Returns the training file's usable scores, at least one, and problems of other rows."""
        training, scores = self._training_labels(), []
        for text in training.texts:
            try:
                scores.append(self.parse_label(text))
            except ValueError as error:
                training.problems.append(str(error))
        if not scores:
            raise UserError(
                "The training data have no score.",
                where=self.data_file("train"),
                received="no score" + training.shown_problems,
                remedy=f"Check the column of scores in the hparam tasks.{self.name}.label.",
            )
        return scores, training.shown_problems

    def _read(self, path: str, split: str) -> list[TableRow]:
        rows = super()._read(path, split)
        if split in LABELLED:
            check_points(path, {row.line: row.cells.get(self.definition.label) for row in rows})
        return rows

    def read_examples(self, path: str, split: str) -> list[InputExample]:
        """Reads a file; see `Task`. Warns of scores to be predicted that are all the same."""
        examples = super().read_examples(path, split)
        if split == "dev" and len({example.label for example in examples}) == 1:
            logging.warning(
                f"{path}: all scores are {examples[0].label}, so no correlation with them is "
                "defined: 0 is reported."
            )
        return examples

    def parse_label(self, text: str) -> float:
        """Returns the score; raises ValueError if it is not a number, or outside a given range."""
        return parse_score(text, self.definition.min, self.definition.max)

    def get_feature_specs(self) -> list[FeatureSpec]:
        """Returns the spec of `targets` and, with a ranking, that of the queries' numbers."""
        queries = [FeatureSpec("queries")] if self.definition.ranking else []
        return [*super().get_feature_specs(), *queries]

    def label_features(
        self, examples: Sequence[InputExample], is_training: bool
    ) -> Iterator[dict[str, Any]]:
        """Yields `targets` and, with a ranking, `queries`: one number for equal first texts."""
        numbers: dict[str, int] = {}
        labels = super().label_features(examples, is_training)
        for example, own in zip(examples, labels, strict=True):
            query = numbers.setdefault(example.text_a, len(numbers))
            yield {**own, **({"queries": query} if self.definition.ranking else {})}

    def get_scorer(self, split: str = "dev") -> Scorer:
        """Returns a fresh scorer of correlations and, with a ranking, of MRR and MAP."""
        return RankingScorer() if self.definition.ranking else super().get_scorer(split)

    def feature_settings(self) -> dict[str, Any]:
        ranking = {"ranking": True} if self.definition.ranking else {}
        return {**super().feature_settings(), **ranking}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes a trained model's range of scores."""
        trained = saved_range(self.name, state)
        self.check_loss(state)
        for key, value in zip(("min", "max"), trained, strict=True):
            given = getattr(self.definition, key)
            if given not in (None, value):
                raise self._unlike_model(key, "lowest and highest score", given, value)
        self._range = trained
