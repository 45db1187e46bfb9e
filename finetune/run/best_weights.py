"""The best weights of a trial by a metric, and how long training waits for better ones."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from electra_tf2.console import say
from electra_tf2.files import remove_tree
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Trainer
from finetune.evaluation import DevSplit, Evaluation, is_better, score_all
from finetune.run.results import Best
from finetune.trial_folders import write_tuned

# Checkpoints' states and the log have the count under this name.
WITHOUT_GAIN = "evaluations_without_gain"


@dataclasses.dataclass
class Patience:
    """Counts the evaluations in a row without a better score.

    Attributes:
        limit: evaluations at which training ends; 0: never.
        without_gain: evaluations since the best one.
    """

    limit: int
    without_gain: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether training is to end."""
        return 0 < self.limit <= self.without_gain

    def totals(self, step: int) -> dict[str, float]:
        """Returns the count that a resumed run starts from; see `TrainingRun.totals`."""
        del step
        return {WITHOUT_GAIN: self.without_gain}


class BestWeights:
    """Scores the dev splits when called, and saves the weights if none before scored higher.

    The score is the hparam best_metric: the main metric, or the mean of the tasks' main metrics,
    where it is null. The weights are kept in the folder `best` of the trial's folder: the best and,
    until the training is done, those that were the best when its newest checkpoint was saved, so
    that a run that resumes there continues as it would have.

    Args:
        folder: the trial's folder.
        trainer: has the weights.
        evaluation: runs the network.
        dev: what is scored.
        describe: writes the model's files (config, vocabulary, …) to a folder.
        metric: the hparam best_metric.
        patience: counts the evaluations without a better score.

    Attributes:
        found: the best so far.
        patience: as given.
    """

    def __init__(
        self,
        folder: str,
        trainer: Trainer,
        evaluation: Evaluation,
        dev: Sequence[DevSplit],
        describe: Callable[[str], None],
        metric: str | None,
        patience: Patience,
    ):
        self._folder = posixpath.join(folder, "best")
        self._trainer = trainer
        self._evaluation = evaluation
        self._dev = dev
        self._describe = describe
        self._metric = metric
        self.patience = patience
        self._store = CheckpointStore(self._folder)
        trainer.run.workers.on_chief(self._remove_later_weights)
        newest = self._store.latest()
        self.found: Best | None = None
        if newest is not None:
            self.found = self._stored(newest)
            tuned = self._store.load(newest).part(_StoredBest).tuned
            trainer.run.workers.on_chief(lambda: write_tuned(self._folder, tuned))

    def _remove_later_weights(self) -> None:
        """Removes weights of a later step: the run resumes before it, maybe to other weights."""
        earlier = [step for step in self._store.steps() if step <= self._trainer.step]
        if not earlier:
            remove_tree(self._folder)
        else:
            self._store.keep_only(earlier)

    def _stored(self, path: str) -> Best:
        checkpoint = self._store.load(path)
        best = checkpoint.part(_StoredBest).best
        return dataclasses.replace(checkpoint.part(Best, best), checkpoint=path)

    def check_metric(self) -> None:
        """Refuses a metric that is none of the tasks', before anything is trained.

        Which others than the main metrics there are is only seen by scoring once: question
        answering, for example, has no loss.

        Raises:
            UserError: there is no such metric.
        """
        tasks = {split.task.name: split.task.main_metric for split in self._dev}
        usual = {main if len(tasks) == 1 else f"{task}/{main}" for task, main in tasks.items()}
        if self._metric is not None and self._metric not in usual:
            score_all(self._evaluation, self._dev).score_by(self._metric)

    def __call__(self) -> bool:
        """Scores; returns whether training is to end, as patience is exhausted."""
        step, workers = self._trainer.step, self._trainer.run.workers
        scores = score_all(self._evaluation, self._dev)
        self._trainer.run.log.write(step, scores.flat(), split="dev")
        score = scores.score_by(self._metric)
        say(f"Step {step}, dev: " + ", ".join(f"{n} {v:.2f}" for n, v in scores.flat().items()))
        if self.found is not None and not is_better(score, self.found.score, self._metric):
            self.patience.without_gain += 1
        else:
            self.patience.without_gain = 0
            best = {"step": step, "score": score, "scores": scores.metrics}
            workers.on_chief(lambda: self._save(best, scores.tuned()))
            self.found = Best(**best, checkpoint=self._store.latest())
        return bool(workers.gather([self.patience.is_exhausted])[0, 0])  # as the chief sees it

    def finish(self) -> None:
        """Removes weights that were kept for a run that resumes."""
        if self.found is not None:
            self._store.keep_only([self.found.step])

    def _save(self, best: dict[str, Any], tuned: dict[str, Any]) -> None:
        self._describe(self._folder)
        write_tuned(self._folder, tuned)
        weights = self._trainer.run.optimizer.variables.to_numpy()
        state = {**self._trainer.run.identity, "best": best, "tuned": tuned}
        self._store.save(self._trainer.step, weights, {}, state)
        self._store.keep_only(self._needed())

    def _needed(self) -> set[int]:
        """The steps of the best weights now, and of those when the last checkpoints were saved."""
        run, now = self._trainer.run, self._trainer.step
        every = run.settings.save_every
        # The newest one on the disk, and one that may still be on its way there.
        saved = [*run.store.steps()[-1:], (now - 1) // every * every]
        steps = self._store.steps()
        return {now, *(max((s for s in steps if s <= at), default=now) for at in saved)}


class _StoredBest(NamedTuple):
    best: dict[str, Any]
    tuned: dict[str, dict[str, float]] = {}  # noqa: RUF012 # never changed
