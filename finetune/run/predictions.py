"""Files of predictions: JSON lines for programs, and what evaluation servers take."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from configure_finetuning import FinetuningConfig
from electra_tf2.console import say
from electra_tf2.files import write_json_lines
from finetune.evaluation import Evaluation, Outputs
from finetune.features import Preprocessor
from finetune.run.open_run import Run
from finetune.task import Task


def predictions_path(config: FinetuningConfig, task: Task, split: str, trial: int) -> str:
    """Returns where a split's predictions go: the hparam test_predictions, .jsonl for .pkl."""
    return config.test_predictions.format(task.name, split, trial).removesuffix(".pkl") + ".jsonl"


def write_predictions(
    config: FinetuningConfig, task: Task, split: str, trial: int, outputs: Sequence[Outputs]
) -> list[dict[str, Any]]:
    """Writes a split's predictions as JSON lines and returns them."""
    records = task.prediction_records(split, outputs, task.get_examples(split))
    path = predictions_path(config, task, split, trial)
    write_json_lines(path, records)
    say(f"Predictions for {task.name}, {split}: {path}")
    return records


def write_test_outputs(run: Run, evaluation: Evaluation, trial: int) -> None:
    """Writes the predictions for all test splits, and the files for evaluation servers."""
    config, preprocessor = run.config, Preprocessor(run.config)
    folder = posixpath.join(
        posixpath.dirname(predictions_path(config, run.tasks[0], "test", trial)),
        f"submission_{trial}",
    )
    for task in run.tasks:
        for split in task.test_splits:
            table = preprocessor.features(task, split)
            outputs = list(evaluation.outputs(task, table, config.predict_batch_size))

            def write(task=task, split=split, outputs=outputs):
                records = write_predictions(config, task, split, trial, outputs)
                for path in task.write_submission(split, records, folder):
                    say(f"For the evaluation server: {path}")

            run.workers.on_chief(write)


def predict_examples(run: Run, evaluation: Evaluation, path: str) -> list[dict[str, Any]]:
    """Predicts the examples of a file without labels.

    Returns:
        A record of each example, see `Task.prediction_records`.
    """
    (task,) = run.tasks
    examples = run.workers.together(lambda: task.read_examples(path, "predict"))
    table = Preprocessor(run.config).make(task, examples, "predict", path)
    outputs = evaluation.outputs(task, table, run.config.predict_batch_size)
    return task.prediction_records("predict", list(outputs), examples)
