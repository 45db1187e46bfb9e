"""Our side of `finetuning.py`: ELECTRA-small fine-tuned and predicting with the engine."""

from __future__ import annotations

import itertools

import numpy as np
from harness import rate

from configure_finetuning import FinetuningConfig
from electra_tf2.training.devices import DTYPE_POLICIES, make_strategy
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep
from finetune.batches import Batching, training_dataset
from finetune.classification.tasks import ClassificationTask
from finetune.evaluation import Evaluation
from finetune.feature_tables import FeatureTable, TaskData
from finetune.model import FinetuningModel, FinetuningObjective, learning_rate_factors

PREDICTED = 1024  # sentences
_STEPS_PER_CALL = 8


class Sentences(ClassificationTask):
    """Sentences of random tokens, with random labels."""

    def read_examples(self, path, split):
        return []


def measure_ours(
    lengths: np.ndarray, *, precision: str, seconds: float, pad_to_max_length: bool
) -> dict[str, float]:
    """Trains and predicts for a while, by the loops that `run_finetuning.py` uses.

    Args:
        lengths: tokens of each sentence.
        precision: "float32" or "bfloat16".
        seconds: how long to measure each, after a part (prediction: a pass) that doesn't count.
        pad_to_max_length: whether batches are all padded to 128 tokens.

    Returns:
        "training" and "prediction" in examples/s.
    """
    config = FinetuningConfig(
        "benchmark",
        "unused",
        task_names=["sentences"],
        tasks={"sentences": {}},
        pad_to_max_length=pad_to_max_length,
    )
    task = Sentences(config, "sentences", None, ["0", "1"])
    random = np.random.default_rng(0)
    rows = (
        {
            "eid": i,
            "input_ids": random.integers(1000, config.vocab_size, n),
            "segment_ids": np.zeros(n),
            "label_ids": random.integers(2),
        }
        for i, n in enumerate(lengths)
    )
    table = FeatureTable.from_rows(rows, task.get_feature_specs())
    strategy = make_strategy("one_device")
    with strategy.scope():
        model = FinetuningModel([task], config.network(), dtype=DTYPE_POLICIES[precision])
        model.build()
    return {
        "prediction": _prediction(config, task, table, model, strategy, seconds),
        "training": _training(config, task, table, model, strategy, seconds),
    }


def _training(config, task, table, model, strategy, seconds) -> float:
    objective = FinetuningObjective(model)
    variables = objective.named_variables()
    factors = learning_rate_factors(
        variables, num_hidden_layers=12, decay=config.layerwise_lr_decay
    )
    step = ReplicaStep(objective, AdamW(strategy, variables, OptimizerSettings(), factors))
    schedule = PolynomialDecay(config.learning_rate, 10_000)
    loop = StepLoop(strategy, step.train, schedule, stop_at_nonfinite=True)
    data = TaskData([task.name], [table], [task.get_feature_specs()])
    batching = Batching(config.train_batch_size, config.max_seq_length, config.pad_to_max_length)
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda context: training_dataset(
                data, batching, seed=0, position=0, num_steps=20_000, input_context=context
            )
        )
    )
    steps = itertools.count(0, _STEPS_PER_CALL)

    def train() -> int:
        window = loop(iterator, next(steps), _STEPS_PER_CALL)
        if int(window.updates) != _STEPS_PER_CALL:
            raise FloatingPointError(f"Our loss is {float(window.last.loss)}.")
        return _STEPS_PER_CALL * config.train_batch_size

    for _ in range(2):  # the first calls build the graph
        train()
    return rate(train, seconds)


def _prediction(config, task, table, model, strategy, seconds) -> float:
    evaluation = Evaluation(config, model, strategy, fixed_weights=True)
    table = table.head(PREDICTED)

    def predict() -> int:  # a whole pass: long and short sentences alike
        return sum(1 for _ in evaluation.outputs(task, table, config.predict_batch_size))

    predict()  # builds the graph
    return rate(predict, seconds)
