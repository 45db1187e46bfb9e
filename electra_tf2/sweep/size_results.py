"""What a sweep over the generator's size found, kept as JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from electra_tf2.files import exists, write_json
from electra_tf2.pretraining.guards import FIRST_STEPS, learns_nothing
from electra_tf2.stored_json import read_record

_CLEARLY = 0.05  # AUCs of two short trainings differ by less for no reason


class SizeScore(NamedTuple):
    """What the model of a size reached on a task that it was fine-tuned on.

    Attributes:
        metric: the task's main one.
        trials: its figure in each trial.
    """

    metric: str
    trials: list[float]


@dataclasses.dataclass(frozen=True)
class SizeResult:
    """What became of one generator size.

    Attributes:
        size: the generator's hidden size as a share of the discriminator's.
        model_dir: the model's folder.
        hidden_size: of the generator.
        generator_parameters: its own, without the embeddings that it shares.
        parameters: of both networks.
        figures: of the evaluation after the last step.
        evaluated: what the figures are of: weights, data, batches.
        scores: task -> what was reached after fine-tuning.
    """

    size: float
    model_dir: str
    hidden_size: int
    generator_parameters: int
    parameters: int
    figures: dict[str, float]
    evaluated: dict[str, Any]
    scores: dict[str, SizeScore] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What the sizes have in common, and their results so far.

    Attributes:
        model_name: what the models' names begin with.
        hidden_size: of the discriminator.
        num_train_steps, num_warmup_steps: of each; of phases, all steps and the longest warm-up.
        batches: what its steps are of, see `describe_batches`; "" in files of older versions.
        evaluated_on: the records of the evaluation.
        electric: whether the models are Electric's, whose figures say little of a collapse.
        sizes: all sizes of the sweep, in rising order.
        results: of those that are done.
    """

    model_name: str
    hidden_size: int
    num_train_steps: int
    num_warmup_steps: int
    evaluated_on: str
    electric: bool
    sizes: list[float]
    results: list[SizeResult] = dataclasses.field(default_factory=list)
    batches: str = ""

    @property
    def tasks(self) -> dict[str, str]:
        """Task -> its metric, of the tasks that any size was fine-tuned on."""
        return {task: own.metric for result in self.results for task, own in result.scores.items()}

    @property
    def had_time(self) -> bool:
        """Whether every healthy discriminator would have learned within the budget."""
        return self.num_train_steps > max(FIRST_STEPS, self.num_warmup_steps)

    def reasons(self) -> list[str | None]:
        """Returns for each result by what it shows that nothing was learned, if it does."""
        if self.electric:
            return [None for _ in self.results]
        return [learns_nothing(result.figures) for result in self.results]

    def collapsed(self) -> list[str]:
        """Says of the discriminators that have collapsed which and why.

        One that has learned nothing has collapsed if it had the time to learn, or if that of
        another size did learn within the same budget, by more than the noise between the two.
        """
        reasons = self.reasons()
        pairs = list(zip(self.results, reasons, strict=True))
        best = max((_auc(result) for result, reason in pairs if reason is None), default=0.0)
        return [
            f"size {result.size:g} has collapsed: {reason}"
            for result, reason in pairs
            if reason and (self.had_time or best > _auc(result) + _CLEARLY)
        ]


def _auc(result: SizeResult) -> float:
    """The discriminator's AUC; 0 where it is not a number."""
    found = result.figures.get("disc_auc", 0.0)
    return 0.0 if math.isnan(found) else found


def read_sweep(path: str) -> Sweep | None:
    """Reads a sweep's JSON file; None if there is none.

    Raises:
        UserError: the file is not one of a sweep.
    """
    if not exists(path):
        return None
    return read_record(
        Sweep,
        path,
        "The sweep's results",
        "Move the file away: the sweep then evaluates its models again.",
    )


def write_sweep(sweep: Sweep, path: str) -> None:
    """Writes the JSON file in one step; what is not finite becomes null."""
    write_json(path, dataclasses.asdict(sweep))
