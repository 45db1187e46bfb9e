"""Figures of a pre-trained model on held-out records."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from electra_tf2.data.readers import READERS
from electra_tf2.data.records import RecordFiles, explain_data_loss, is_data_loss
from electra_tf2.training.evaluator import Evaluator
from electra_tf2.training.trainer import Trainer

# Keeps the masks and samples of evaluations apart from those of training.
_SEED_OFFSET = 1 << 32


class Evaluation:
    """Scores a trainer's present weights and reports the figures to its log.

    Calling it again at the same step gives the same figures without computing or reporting anew.

    Args:
        config: a `PretrainingConfig`; at most its `num_eval_steps` batches are scored.
        trainer: has the weights.
        files: the records.
    """

    def __init__(self, config: Any, trainer: Trainer, files: RecordFiles):
        self._config = config
        self._trainer = trainer
        self._files = files
        # One for all evaluations of a run, so that its graph is built once.
        self._evaluator = Evaluator(
            trainer.objective, trainer.strategy, seed=config.seed + _SEED_OFFSET
        )
        self._step: int | None = None
        self._figures: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        """Returns the figures by name, see `Evaluator.evaluate`.

        Raises:
            UserError: the records are no longer what they were when they were opened.
        """
        if self._step != self._trainer.step:
            try:
                figures = self._compute()
            except tf.errors.OpError as error:
                if not is_data_loss(self._files, error):
                    raise
                raise explain_data_loss(self._files, error) from error
            self._step, self._figures = self._trainer.step, figures
            self._trainer.log.write(self._step, self._figures, split="eval")
        return dict(self._figures)

    def _compute(self) -> dict[str, float]:
        config, files = self._config, self._files
        reader = READERS[config.segmentation]
        wanted = config.num_eval_steps * config.eval_batch_size
        n_examples = reader.num_examples(files, config.max_seq_length, wanted)
        n_batches = math.ceil(n_examples / config.eval_batch_size)
        return self._evaluator.evaluate(
            lambda context: reader.evaluation_dataset(
                files,
                max_seq_length=config.max_seq_length,
                global_batch_size=config.eval_batch_size,
                max_batches=n_batches,
                input_context=context,
            ),
            n_batches,
        )
