"""What the processes of a run tell each other while it goes on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.cluster import Cluster

T = TypeVar("T")

# What TensorFlow's errors say in the others when a worker is gone.
_LOST = re.compile(
    "collective|coordination|heartbeat|socket closed|connect|unavailable|RecvBuf", re.IGNORECASE
)


class WorkerLost(UserError):
    """Another worker of the run is gone, so that this one can't go on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
    # TensorFlow would wait for the lost worker on its way out.
    leave_at_once = True


class Workers:
    """The processes of a run. One that runs alone is the chief, and tells nobody anything.

    Every method has to be called by all workers, in the same order.

    Args:
        strategy: on whose devices they compute together; None for a process of its own.
        cluster: their addresses; None for a process of its own.

    Attributes:
        count: how many there are.
        index: which one this is.
        is_chief: whether this is the one that writes files.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None
    ):
        self._strategy = strategy
        self._cluster = cluster
        self.count = 1 if cluster is None else len(cluster.addresses)
        self.index = 0 if cluster is None else cluster.index
        self.is_chief = self.index == 0
        self._all_rows = tf.function(
            self._gather_rows, input_signature=[tf.TensorSpec([1, None], tf.int64)], autograph=False
        )

    def gather(self, row: Sequence[int]) -> np.ndarray:
        """Tells all workers some numbers.

        Args:
            row: numbers, the same count on every worker.

        Returns:
            int64 [workers, numbers], the same on every worker.
        """
        if self.count == 1:
            return np.array([row], np.int64)
        rows = self._all_rows(tf.constant([list(row)], tf.int64)).numpy()
        return rows[:: len(rows) // self.count]  # one of each worker's replicas

    def _gather_rows(self, row):
        def gather(row):
            # Its copy is on the replica's device, which tells the strategy where to gather.
            return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

        gathered = self._strategy.run(gather, args=(row,))
        return self._strategy.experimental_local_results(gathered)[0]

    def gather_texts(self, text: str) -> list[str]:
        """Tells all workers a text; returns everybody's, in the workers' order."""
        if self.count == 1:
            return [text]
        content = text.encode("utf-8")
        lengths = self.gather([len(content)])[:, 0]
        rows = self.gather(list(content.ljust(max(int(lengths.max()), 1))))
        contents = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        return [bytes(content.tolist()).decode("utf-8") for content in contents]

    def together(self, function: Callable[[], T]) -> T:
        """Runs a function on every worker; an error on one of them ends the run on all.

        Args:
            function: may only talk to the other workers if it does so on all of them.

        Returns:
            This worker's result, once all have one.

        Raises:
            UserError: tells what another worker's error says.
            Exception: this worker's.
        """
        if self.count == 1:
            return function()
        result, own_error = None, None
        try:
            result = function()
        except Exception as error:
            own_error = error
        failed = own_error is not None
        messages = self.gather_texts(str(own_error) or type(own_error).__name__ if failed else "")
        if own_error is not None:
            raise own_error
        for index, message in enumerate(messages):
            if message:
                raise UserError(
                    f"Worker {index} can't take part.",
                    where=self._cluster.addresses[index],
                    received=message,
                    remedy="Mend it there, then start all workers again.",
                )
        return result

    def on_chief(self, function: Callable[[], object]) -> None:
        """Lets the chief do something alone; all go on when it is done.

        Raises:
            UserError: the chief's.
        """
        self.together(function if self.is_chief else lambda: None)

    def check_same_view(self, what: str, seen: str) -> None:
        """Refuses workers that see different files where they should share them.

        Args:
            what: a file, or what else they should all see.
            seen: what this worker sees.

        Raises:
            UserError: another one sees something else.
        """
        views = self.gather_texts(seen)
        for index, view in enumerate(views):
            if view != views[0]:
                raise UserError(
                    "The workers don't see the same files.",
                    where=f"worker {index}, {self._cluster.addresses[index]}",
                    received=f"{what}: {view}; the chief sees {views[0]}",
                    remedy="Give all hosts the same shared folders, under the same paths.",
                )

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns TensorFlow's errors about a lost worker into `WorkerLost`."""
        try:
            yield
        except tf.errors.OpError as error:
            lines = [line for line in error.message.splitlines() if _LOST.search(line)]
            if self.count == 1 or not lines:
                raise
            raise WorkerLost(
                "Another worker of the run is gone.",
                where=f"worker {self.index}, {self._cluster.addresses[self.index]}",
                received=lines[0].strip()[:300],
                remedy="Look at the other workers' messages, then run the same command on all "
                "hosts again: training goes on from its last checkpoint.",
            ) from error
