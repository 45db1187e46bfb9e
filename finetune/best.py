"""Keeps the weights that scored best during training, in <model_dir>_<trial>/best."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.training.checkpoints import CheckpointStore
from electra_tf2.training.trainer import Trainer
from finetune.evaluation import DevSplit, Evaluation
from finetune.scoring import score_all


class BestWeights:
    """Scores the dev splits when called, and saves the weights if none before scored higher.

    The score is the main metric, or the mean of the tasks' main metrics.

    Args:
        folder: the trial's folder.
        trainer: has the weights.
        evaluation: runs the network.
        dev: what is scored.
        describe: writes the model's files (config, vocabulary, …) to a folder.
    """

    def __init__(
        self,
        folder: str,
        trainer: Trainer,
        evaluation: Evaluation,
        dev: list[DevSplit],
        describe: Callable[[str], None],
    ):
        self._folder = posixpath.join(folder, "best")
        self._trainer = trainer
        self._evaluation = evaluation
        self._dev = dev
        self._describe = describe
        self._store = CheckpointStore(self._folder, keep_max=1)
        trainer.workers.on_chief(self._remove_later_weights)
        newest = self._store.latest()
        self.found: dict[str, Any] | None = None
        if newest is not None:
            self.found = {**self._store.load(newest).state["best"], "checkpoint": newest}

    def _remove_later_weights(self) -> None:
        """Removes weights of a later step: the run goes on from before, maybe to other weights."""
        newest = self._store.latest()
        if newest and self._store.load(newest).state["best"]["step"] > self._trainer.step:
            tf.io.gfile.rmtree(self._folder)

    def __call__(self) -> None:
        step = self._trainer.step
        scores = score_all(self._evaluation, self._dev)
        self._trainer.log.write(step, scores.flat(), split="dev")
        score = scores.main_score()
        say(f"Step {step}, dev: " + ", ".join(f"{n} {v:.2f}" for n, v in scores.flat().items()))
        if self.found is not None and not score > self.found["score"]:
            return
        self.found = {"step": step, "score": score, "scores": scores.metrics}
        self._trainer.workers.on_chief(self._save)
        self.found = {**self.found, "checkpoint": self._store.latest()}

    def _save(self) -> None:
        self._describe(self._folder)
        weights = self._trainer.optimizer.variables.to_numpy()
        self._store.save(self._trainer.step, weights, {}, {"best": self.found})
