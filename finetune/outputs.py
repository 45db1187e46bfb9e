"""Predictions in files: JSON lines for programs, and what evaluation servers take."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from electra_tf2.console import say
from finetune.evaluation import Evaluation, Outputs
from finetune.json_files import write_json_lines
from finetune.preprocessing import Preprocessor
from finetune.setup import Setup
from finetune.task import Task


def predictions_path(config: Any, task: Task, split: str, trial: int) -> str:
    """Returns where a split's predictions go: the hparam test_predictions, .jsonl for .pkl."""
    return config.test_predictions.format(task.name, split, trial).removesuffix(".pkl") + ".jsonl"


def write_predictions(
    config: Any, task: Task, split: str, trial: int, outputs: Sequence[Outputs]
) -> list[dict[str, Any]]:
    """Writes a split's predictions as JSON lines and returns them."""
    records = task.prediction_records(split, outputs, task.get_examples(split))
    path = predictions_path(config, task, split, trial)
    write_json_lines(path, records)
    say(f"Predictions for {task.name}, {split}: {path}")
    return records


def write_test_outputs(setup: Setup, evaluation: Evaluation, trial: int) -> None:
    """Writes the predictions for all test splits, and the files for evaluation servers."""
    config, preprocessor = setup.config, Preprocessor(setup.config)
    folder = posixpath.join(
        posixpath.dirname(predictions_path(config, setup.tasks[0], "test", trial)),
        f"submission_{trial}",
    )
    for task in setup.tasks:
        for split in task.test_splits:
            table = preprocessor.features(task, split)
            outputs = list(evaluation.outputs(task, table, config.predict_batch_size))

            def write(task=task, split=split, outputs=outputs):
                records = write_predictions(config, task, split, trial, outputs)
                for path in task.write_submission(split, records, folder):
                    say(f"For the evaluation server: {path}")

            setup.workers.on_chief(write)


def predict_file(setup: Setup, evaluation: Evaluation, path: str, output: str) -> int:
    """Predicts the examples of a file without labels.

    Args:
        setup: its only task says how to read the file.
        evaluation: the network.
        path: the file.
        output: JSON lines go there.

    Returns:
        The number of predictions.
    """
    (task,) = setup.tasks
    examples = setup.workers.together(lambda: task.read_examples(path, "predict"))
    table = Preprocessor(setup.config).make(task, examples, "predict")
    outputs = evaluation.outputs(task, table, setup.config.predict_batch_size)
    records = task.prediction_records("predict", list(outputs), examples)
    setup.workers.on_chief(lambda: write_json_lines(output, records))
    return len(records)
