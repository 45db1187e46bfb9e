"""The workers of a run: what its processes tell each other while they train."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.training.cluster import Cluster

# Words in TensorFlow's errors on the other workers when one is lost.
_LOST = re.compile(
    "collective|coordination|heartbeat|socket closed|connect|unavailable|RecvBuf", re.IGNORECASE
)

T = TypeVar("T")


class WorkerLost(UserError):
    """Another worker of the run is gone, so that this one can't continue."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
    # TensorFlow would wait for the lost worker on its way out.
    leave_at_once = True


class Workers:
    """The processes of a run. One that runs alone is the chief, and talks to nobody.

    Every method has to be called by all workers, in the same order.

    Args:
        strategy: on whose devices they compute together; None for a single process.
        cluster: their addresses; None for a single process.

    Attributes:
        count: how many there are.
        index: which one this is.
        is_chief: whether this is the one that writes files.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None
    ):
        self._strategy = strategy
        self._addresses = ("",) if cluster is None else cluster.addresses
        self.count = len(self._addresses)
        self.index = 0 if cluster is None else cluster.index
        self.is_chief = self.index == 0

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

    @functools.cached_property
    def _all_rows(self) -> Callable[[tf.Tensor], tf.Tensor]:
        strategy = self._strategy
        assert strategy is not None  # there are several workers

        def gather_of_replica(row):
            # Its copy is on the replica's device, which tells the strategy where to gather.
            return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

        def gather(row):
            return strategy.experimental_local_results(strategy.run(gather_of_replica, (row,)))[0]

        return tf.function(
            gather, input_signature=[tf.TensorSpec([1, None], tf.int64)], autograph=False
        )

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
            UserError: the function failed on another worker; tells its message.
            Exception: the function failed on this worker.
        """
        if self.count == 1:
            return function()
        try:
            result = function()
        except Exception as error:
            self.gather_texts(str(error) or type(error).__name__)
            raise
        for index, message in enumerate(self.gather_texts("")):
            if message:
                raise UserError(
                    f"Worker {index} can't take part.",
                    where=self._addresses[index],
                    received=message,
                    remedy="Fix it there, then start all workers again.",
                )
        return result

    def on_chief(self, function: Callable[[], object]) -> None:
        """Lets the chief do something alone; all continue when it is done.

        Raises:
            UserError: the function failed on the chief.
        """
        self.together(function if self.is_chief else lambda: None)

    def check_same_view(self, what: str, seen: str) -> None:
        """Refuses workers that see different files where they should share them.

        Raises:
            UserError: another one sees something else.
        """
        views = self.gather_texts(seen)
        for index, view in enumerate(views):
            if view != views[0]:
                raise UserError(
                    "The workers don't see the same files.",
                    where=f"worker {index}, {self._addresses[index]}",
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
                where=f"worker {self.index}, {self._addresses[self.index]}",
                received=lines[0].strip()[:300],
                remedy="Look at the other workers' messages, then run the same command on all "
                "hosts again: training resumes from its last checkpoint.",
            ) from error
