"""A network's outputs for every row of a data set."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from electra_tf2.training.devices import traced
from electra_tf2.training.loop import distributed_iterator

Batch = Mapping[str, tf.Tensor]

# How many batches one CPU computes at the same time. Between its matrix products a network runs one
# small operation after the other, which leaves cores idle: on two cores, two batches at a time of
# sentences of a dozen tokens take 2/3 of the time (bfloat16) and 4/5 (float32); four are no faster.
CPU_BATCHES_AT_ONCE = 2

# A graph's constants are copied several times while it is built: 10 s for 340 MB, a base model's.
_MAX_CONSTANT_BYTES = 1 << 26


class Predictor:
    """Runs a function over global batches and brings its outputs to the host.

    Args:
        strategy: where it runs; the networks' variables were made under its scope.
        forward: one replica's rows -> output name -> tensor whose first axis is the row.
        constants: pairs of a variable and its value in the compute type, see `constant_weights`;
            the predictor ignores later changes of these variables.

    Attributes:
        has_one_replica: whether `batch` can be called.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        forward: Callable[[Batch], dict[str, tf.Tensor]],
        constants: Sequence[tuple[keras.Variable, np.ndarray]] = (),
    ):
        self._strategy = strategy
        self.has_one_replica = strategy.num_replicas_in_sync == 1
        self._at_once = CPU_BATCHES_AT_ONCE if runs_on_one_cpu(strategy) else 1

        def gathered(outputs):
            """Brings rows of other hosts here: in the graph, as each call outside builds one."""
            has_others = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
            if self.has_one_replica or not has_others:
                return outputs
            return {name: strategy.gather(value, axis=0) for name, value in outputs.items()}

        def run(batches):
            with held_constant(constants):
                return [gathered(strategy.run(forward, args=(batch,))) for batch in batches]

        def step(iterator, count):
            return run(next(iterator) for _ in range(count))

        self._step = traced(step)
        self._one = tf.function(lambda batch: run([batch]), autograph=False)
        self._graphs = Graphs()

    def batch(
        self, batch: Mapping[str, np.ndarray], signature: Mapping[str, tf.TensorSpec]
    ) -> dict[str, np.ndarray]:
        """Computes the outputs of one batch, on the only replica.

        Without an input pipeline, which takes longer to make than a small network's outputs: 12 ms
        in place of 68 for a sentence (ELECTRA-small, two cores).

        Args:
            batch: input name -> array whose first axis is the row.
            signature: input name -> its shape, with None where later batches may differ; every
                other signature is another graph.

        Returns:
            Output name -> array whose first axis is the row.
        """
        inputs = {name: tf.constant(own) for name, own in batch.items()}
        # TensorFlow would take a millisecond to find it.
        graph = self._graphs.get(
            tuple(signature.items()), lambda: self._one.get_concrete_function(signature), inputs
        )
        (outputs,) = graph(inputs)
        return {name: value.numpy() for name, value in outputs.items()}

    def batches(
        self,
        make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        n_batches: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields the outputs of each global batch, the rows of its replicas one after the other.

        Args:
            make_dataset: returns the batches of one input pipeline.
            n_batches: number of global batches.

        Yields:
            Output name -> array whose first axis is the row.
        """
        if self.has_one_replica:
            # A plain iterator: it takes more than a second to destroy a distributed one.
            make_plain = tf.autograph.experimental.do_not_convert(make_dataset)
            iterator = iter(make_plain(tf.distribute.InputContext()))
        else:
            iterator = distributed_iterator(self._strategy, make_dataset)
        for first in range(0, n_batches, self._at_once):
            for outputs in self._step(iterator, min(self._at_once, n_batches - first)):
                yield {name: self._on_host(value) for name, value in outputs.items()}

    def _on_host(self, value) -> np.ndarray:
        here = self._strategy.experimental_local_results(value)
        return np.concatenate([own.numpy() for own in here])


class Graphs:
    """Graphs by their keys. Each is built, and called first, by one thread, whichever ask for it.

    A first call optimizes a graph, and so does every call that begins before the first one ends:
    each takes several times the memory of the graph's constants.
    """

    def __init__(self):
        self._graphs: dict[Hashable, Callable] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._graphs)

    def get(self, key: Hashable, build: Callable[[], Callable], *inputs: Any) -> Callable:
        """Returns the graph of a key.

        Args:
            key: of the graph.
            build: makes the graph.
            inputs: what to call a new one with.
        """
        with self._lock:
            graph = self._graphs.get(key)
            if graph is None:
                graph = build()
                graph(*inputs)
                self._graphs[key] = graph
        return graph


@contextlib.contextmanager
def held_constant(constants: Sequence[tuple[keras.Variable, np.ndarray]]) -> Iterator[None]:
    """While a graph is built, reads constants in place of variables, see `constant_weights`."""
    with keras.StatelessScope() as scope:
        for variable, value in constants:
            scope.add_update((variable, tf.constant(value)))
        yield


def runs_on_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy has one replica, on a CPU."""
    device = strategy.extended.worker_devices[0].upper()
    return strategy.num_replicas_in_sync == 1 and "CPU" in device


def constant_weights(
    strategy: tf.distribute.Strategy, encoder: keras.Model
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Returns an encoder's present weights, without its tables, for `Predictor`'s `constants`.

    A CPU's matrix products are faster with constants: oneDNN lays a constant out once, a variable
    at every product, and kernels that are multiplied together are joined once. On two cores and
    sentences of a dozen tokens a pass takes 7 % (float32) or 15 % (bfloat16) less time. The graph
    holds these values only, so they should be final.

    Args:
        strategy: where the predictor runs.
        encoder: has the weights; kernels are cast to its compute type.

    Returns:
        Pairs of a variable and its value; none where they are useless (several replicas, other
        devices) or too large.
    """
    if not runs_on_one_cpu(strategy):
        return []
    dtype = tf.as_dtype(encoder.compute_dtype)
    kernels = [v for v in encoder.trainable_variables if v.path.endswith("/kernel")]
    if sum(int(np.prod(kernel.shape)) for kernel in kernels) * dtype.size > _MAX_CONSTANT_BYTES:
        return []
    vectors = [v for v in encoder.trainable_variables if len(v.shape) == 1]
    return [
        *((kernel, tf.cast(kernel.value, dtype).numpy()) for kernel in kernels),
        *((vector, vector.value.numpy()) for vector in vectors),
    ]
