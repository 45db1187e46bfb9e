"""A fine-tuned model in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from configure_finetuning import FinetuningConfig
from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.loading.networks import WeightLoader
from electra_tf2.loading.source import Source, dtype_policy, open_source
from electra_tf2.text.rows import check_positive
from electra_tf2.training.devices import Precision, make_strategy
from finetune.features import Preprocessor
from finetune.model import FinetuningModel
from finetune.predictions import Prediction, kind_of
from finetune.scoring import Evaluation
from finetune.setup import stored_states
from finetune.task import Task
from finetune.task_builder import get_tasks

_ROWS = 32


class FineTuned:
    """A fine-tuned model: an encoder with the heads of the tasks that it was trained on.

    Args:
        source: the model's folder.
        config: the `FinetuningConfig` of its training.
        tasks: its tasks, which know their labels.
        network: encoder and heads, with their weights.
        strategy: where it runs.

    Attributes:
        source, config, tasks, network: as given; the tasks by name.

    Example:
        model = FineTuned.from_pretrained("data/models/my_electra/finetuning_models/cola_model_1")
        (prediction,) = model.predict(["They sailed the ship."])
        prediction.label, prediction.probabilities
    """

    def __init__(
        self,
        source: Source,
        config: FinetuningConfig,
        tasks: Sequence[Task],
        network: FinetuningModel,
        strategy: tf.distribute.Strategy,
    ):
        self.source = source
        self.config = config
        self.tasks = {task.name: task for task in tasks}
        self.network = network
        self._evaluation = Evaluation(config, network, strategy, fixed_weights=True)

    @classmethod
    def from_pretrained(cls, folder: str, *, precision: Precision = "float32") -> FineTuned:
        """Opens a fine-tuned model.

        Args:
            folder: of a trial (`…/finetuning_models/<tasks>_model_<trial>`), or its `best`.
            precision: in which the network computes.

        Raises:
            UserError: there is no fine-tuned model of this program, or parts of it are missing.
        """
        source = open_source(folder)
        states = stored_states(source.pretrained.folder)
        hparams = source.hparams()
        if not states or "task_names" not in hparams:
            raise UserError(
                "The model was not fine-tuned by this program.",
                where=source.pretrained.folder,
                received="nothing about tasks and their labels (tasks.json, config.json)",
                remedy="Give the folder of a trial, …/finetuning_models/<tasks>_model_<trial>.",
            )
        config = FinetuningConfig("model", source.pretrained.folder, **hparams)
        tasks = get_tasks(config, source.tokenizer)
        for task in tasks:
            task.set_state(states.get(task.name, {}))
        strategy = make_strategy("one_device")
        with strategy.scope():
            network = FinetuningModel(tasks, source.network, dtype=dtype_policy(precision))
            loader = WeightLoader(source.pretrained)
            loader.build("electra", network.encoder)
            network.build()
        for name, head in zip(network.task_names, network.heads, strict=True):
            loader.give(f"task_specific/{name}", head)
        loader.check()
        return cls(source, config, tasks, network, strategy)

    def task(self, name: str | None = None) -> Task:
        """Returns one of the model's tasks.

        Args:
            name: the task's name; None where there is only one.

        Raises:
            UserError: there is no such task, or there are several and none was named.
        """
        if name is None and len(self.tasks) == 1:
            (name,) = self.tasks
        if name not in self.tasks:
            raise UserError(
                "The model has several tasks." if name is None else "The model has no such task.",
                where="task",
                received=repr(name),
                remedy=f"Name one of them: {', '.join(self.tasks)}."
                if name is None
                else nearest_name_hint(str(name), self.tasks),
            )
        return self.tasks[name]

    def predict(
        self, inputs: Sequence[Any], *, task: str | None = None, batch_size: int = _ROWS
    ) -> list[Prediction]:
        """Predicts with one of the model's tasks.

        Args:
            inputs: for classification and regression, texts or pairs of texts; for tagging,
                sentences as lists of words or as texts whose words white space separates; for
                question answering, pairs of a question and a passage. What is longer than the
                model's max_seq_length is cut off; a long passage is read in several windows.
            task: the task's name; None where there is only one.
            batch_size: rows to a batch.

        Returns:
            For each input a `Label`, `Score`, `Tags` or `Answer`.

        Raises:
            UserError: an input is not of the task's kind, or the task is none of the model's.
        """
        check_positive("batch_size", batch_size)
        chosen = self.task(task)
        kind = kind_of(chosen)
        examples = kind.make_examples(inputs)
        if not examples:
            return []
        table = Preprocessor(self.config).make(chosen, examples, "predict")
        # Batches have all their rows, filled up; every other number of rows is another graph.
        most = max(_ROWS, 1 << (table.num_rows - 1).bit_length())
        outputs = list(self._evaluation.outputs(chosen, table, min(batch_size, most)))
        records = chosen.prediction_records("predict", outputs, examples)
        return [kind.make_prediction(record) for record in records]
