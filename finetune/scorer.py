"""Base class of evaluation metrics."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any


class Scorer(abc.ABC):
    """Takes a model's outputs example by example, in any order, and computes their metrics."""

    @abc.abstractmethod
    def update(self, results: Mapping[str, Any]) -> None:
        """Takes one example.

        Args:
            results: output name -> this example's value (a NumPy array or scalar), as the task's
                head gives them, and "eid", the example's number.
        """

    @abc.abstractmethod
    def get_loss(self) -> float:
        """Returns the mean loss over what was taken so far."""

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
        """Writes what the hparams ask for besides scores; returns the files' paths."""
        return []

    def results_str(self) -> str:
        """Returns the figures on one line, two decimals each."""
        return " - ".join(f"{name}: {value:.2f}" for name, value in self.get_results())
