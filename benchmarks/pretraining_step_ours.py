"""Our side of `pretraining_step.py`: one ELECTRA-small training step of the engine."""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining.build import build_pretraining
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizer import AdamW, AdamWSettings
from electra_tf2.training.replica_step import ReplicaStep
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.strategies import make_strategy

_STEPS_PER_CALL = 4


def measure_ours(
    *, precision: str, batch_size: int = 16, length: int = 128, seconds: float = 10.0
) -> float:
    """Trains on random batches for a while, by the loop that `run_pretraining.py` uses.

    Args:
        precision: "float32" or "bfloat16".
        batch_size: Rows per step.
        length: Tokens per row.
        seconds: How long to measure, after one call that doesn't count.

    Returns:
        Examples per second: from the median time of a graph call of a few steps.
    """
    config = PretrainingConfig("benchmark", "unused", max_seq_length=length)
    vocabulary = Vocabulary(
        (*SPECIAL_TOKENS, *(f"piece{i}" for i in range(config.vocab_size - len(SPECIAL_TOKENS))))
    )
    strategy = make_strategy("one_device")
    with strategy.scope():
        objective = build_pretraining(
            config, config.network(), vocabulary, precision=precision
        ).objective
    replica_step = ReplicaStep(
        objective,
        AdamW(strategy, objective.named_variables(), AdamWSettings()),
        PolynomialDecay(config.learning_rate, config.num_train_steps, 0, 1.0, 0.0),
        seed=0,
    )
    loop = StepLoop(strategy, replica_step.train, stop_at_nonfinite=True)
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda context: _random_batches(batch_size, length, config.vocab_size)
        )
    )
    times: list[float] = []
    step = 0
    while sum(times[1:]) < seconds:
        start = time.perf_counter()
        window = loop(iterator, step, _STEPS_PER_CALL)
        if int(window.updates) != _STEPS_PER_CALL:
            raise FloatingPointError(f"Our loss is {float(window.last.loss)}.")
        times.append(time.perf_counter() - start)
        step += _STEPS_PER_CALL
    return batch_size * _STEPS_PER_CALL / float(np.median(times[1:]))


def _random_batches(batch_size: int, length: int, vocab_size: int) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    ids = random.integers(1000, vocab_size, (64 * batch_size, length)).astype(np.int32)
    mask = np.ones_like(ids)
    segments = np.broadcast_to(np.arange(length) >= length // 2, ids.shape).astype(np.int32)
    rows = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    rows_dataset = tf.data.Dataset.from_tensor_slices(rows)
    return rows_dataset.repeat().batch(batch_size, drop_remainder=True).prefetch(2)
