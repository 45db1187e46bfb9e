"""Our side of `pretraining_step.py`, `memory.py` and `gpu.py`: training steps of the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.pretraining.objective import PretrainingObjective
from electra_tf2.pretraining.run.build_pretraining import build_pretraining
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from electra_tf2.training.devices import make_strategy, resolve_xla
from electra_tf2.training.loop import StepLoop
from electra_tf2.training.optimizers import AdamW, OptimizerSettings
from electra_tf2.training.schedule import PolynomialDecay
from electra_tf2.training.step import ReplicaStep

_STEPS_PER_CALL = 4
_NO_OPERATION = ("Const", "Identity", "NoOp", "Placeholder", "_Arg", "_Retval")


class Training(NamedTuple):
    """Training on random batches without end.

    Attributes:
        loop: runs steps.
        iterator: over the batches.
        optimizer: has the weights.
    """

    loop: StepLoop
    iterator: Any
    optimizer: AdamW


def measure_ours(
    *,
    precision: str,
    batch_size: int = 16,
    length: int = 128,
    seconds: float = 10.0,
    **hparams: Any,
) -> float:
    """Trains on random batches for a while, by the loop that `run_pretraining.py` uses.

    Args:
        precision: "float32" or "bfloat16".
        batch_size: rows per step.
        length: tokens per row.
        seconds: how long to measure, after one call that doesn't count.
        hparams: those of the run that are not ELECTRA-small's.

    Returns:
        Examples per second: from the median time of a graph call of a few steps.
    """
    config = PretrainingConfig("benchmark", "unused", max_seq_length=length, **hparams)
    times: list[float] = []
    calls = training_calls(
        config, precision=precision, batch_size=batch_size, n_steps=_STEPS_PER_CALL
    )
    while sum(times[1:]) < seconds:
        times.append(next(calls))
    return batch_size * _STEPS_PER_CALL / float(np.median(times[1:]))


def training_calls(
    config: PretrainingConfig, *, precision: str, batch_size: int, n_steps: int
) -> Iterator[float]:
    """Trains on random batches without end, on one device.

    Args:
        config: says what is trained.
        precision: "float32" or "bfloat16".
        batch_size: rows per step.
        n_steps: steps of a graph call.

    Returns:
        The seconds of each graph call; the first one compiles.
    """
    strategy = make_strategy("one_device")
    training = make_training(
        strategy,
        config,
        precision=precision,
        batch_size=batch_size,
        jit_compile=resolve_xla(config.xla),
    )
    return time_calls(training, n_steps)


def make_training(
    strategy: tf.distribute.Strategy,
    config: PretrainingConfig,
    *,
    precision: str,
    batch_size: int,
    jit_compile: bool,
) -> Training:
    """Builds what a configuration describes, on one device.

    Args:
        strategy: of the device.
        config: says what is trained.
        precision: "float32" or "bfloat16".
        batch_size: rows per step.
        jit_compile: whether XLA compiles the step.
    """
    objective = make_objective(strategy, config, precision)
    optimizer = AdamW(strategy, objective.named_variables(), OptimizerSettings())
    loop = StepLoop(
        strategy,
        ReplicaStep(objective, optimizer, jit_compile=jit_compile).train,
        PolynomialDecay(config.learning_rate, config.num_train_steps, 0, 1.0, 0.0),
        stop_at_nonfinite=True,
        jit_compile=jit_compile,
    )
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda context: random_batches(batch_size, config.max_seq_length, config.vocab_size)
        )
    )
    return Training(loop, iterator, optimizer)


def time_calls(training: Training, n_steps: int) -> Iterator[float]:
    """Trains without end; yields the seconds of each graph call of `n_steps` steps."""
    step = 0
    while True:
        start = time.perf_counter()
        window = training.loop(training.iterator, step, n_steps)
        if int(window.updates) != n_steps:
            raise FloatingPointError(f"Our loss is {float(window.last.loss)}.")
        yield time.perf_counter() - start
        step += n_steps


def count_operations(training: Training) -> tuple[int, int]:
    """Returns how many compiled programs a step of the loop runs, and how many other operations."""
    call = tf.function(lambda: training.loop(training.iterator, 0, 1), autograph=False)
    graph = call.get_concrete_function().graph.as_graph_def()
    functions = {function.signature.name: function for function in graph.library.function}

    def count(nodes) -> tuple[int, int]:
        programs = operations = 0
        for node in nodes:
            called = functions.get(node.attr["f"].func.name) if "f" in node.attr else None
            if called is not None and called.attr["_XlaMustCompile"].b:
                programs += 1
            elif called is not None:
                inside = count(called.node_def)
                programs, operations = programs + inside[0], operations + inside[1]
            elif node.op not in _NO_OPERATION:
                operations += 1
        return programs, operations

    def find_loop(nodes):
        for node in nodes:
            if node.op == "While":
                return node
            called = functions.get(node.attr["f"].func.name) if "f" in node.attr else None
            if called is not None and (loop := find_loop(called.node_def)):
                return loop
        return None

    loop = find_loop(graph.node)
    if loop is None:
        raise ValueError("There is no loop over steps in the graph.")
    parts = [count(functions[loop.attr[part].func.name].node_def) for part in ("cond", "body")]
    return sum(programs for programs, _ in parts), sum(others for _, others in parts)


def make_objective(
    strategy: tf.distribute.Strategy, config: PretrainingConfig, precision: str
) -> PretrainingObjective:
    """Builds the networks that a configuration describes, and the objective over them."""
    vocabulary = Vocabulary(
        (*SPECIAL_TOKENS, *(f"piece{i}" for i in range(config.vocab_size - len(SPECIAL_TOKENS))))
    )
    with strategy.scope():
        return build_pretraining(
            config, config.network(), vocabulary, precision=precision
        ).objective


def random_batches(batch_size: int, length: int, vocab_size: int) -> tf.data.Dataset:
    """Batches without end of 64 different ones."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, vocab_size, (64 * batch_size, length)).astype(np.int32)
    mask = np.ones_like(ids)
    segments = np.broadcast_to(np.arange(length) >= length // 2, ids.shape).astype(np.int32)
    rows = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    rows_dataset = tf.data.Dataset.from_tensor_slices(rows)
    return rows_dataset.repeat().batch(batch_size, drop_remainder=True).prefetch(2)
