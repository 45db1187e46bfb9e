"""Worker processes that turn tasks into parts, handed out in the order of the tasks.

The processes are started afresh ("spawn"): TensorFlow's threads don't survive a fork. Each is
handed two tasks at a time, so that it never waits for the next one, and sends the parts of a task
as they come. What arrives before its turn waits in memory up to a limit; a worker that is too far
ahead then waits in its write.

`concurrent.futures.ProcessPoolExecutor` can't do this. It returns the result of a task as a whole,
and a task may be a large archive, which has one random stream and so can't be divided. When the
program is stopped it waits for the running tasks; when the program is killed, its workers stay
alive.
"""

from __future__ import annotations

import collections
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from electra_tf2.console import quiet_libraries
from electra_tf2.data.building.builders import Counts, Part
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError, as_user_error

PartMaker = Callable[[Any], Iterator[Part]]

_TASKS_PER_WORKER = 2
_TASKS_AHEAD = 8  # per worker: how far the tasks handed out may be ahead of the one that is due
_WAITING_BYTES = 256 << 20


class _Worker:
    """The parent's side of a process."""

    def __init__(self, make_maker: Callable[[], PartMaker], number: int):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.tasks: collections.deque[int] = collections.deque()  # handed out and not done
        self.process = context.Process(
            target=_work, args=(theirs, make_maker), name=f"worker-{number}", daemon=True
        )
        self.process.start()
        theirs.close()

    def died(self) -> UserError:
        """The error for a process that ended too early."""
        self.process.join(timeout=10)
        code = self.process.exitcode
        ended = f"exit code {code}"
        if code is not None and code < 0:
            ended = f"killed by signal {-code} ({signal.Signals(-code).name})"
        return UserError(
            "A worker process ended before its work was done.",
            where=f"{self.process.name}, process {self.process.pid}",
            received=ended,
            remedy="If the system ran out of memory, use fewer --num-processes; then run the same "
            "command again.",
        )


class WorkerPool:
    """A context with running worker processes.

    Args:
        make_maker: called once in each process; returns the function that makes the parts of a
            task. Must be picklable.
        num_workers: number of processes.
    """

    def __init__(self, make_maker: Callable[[], PartMaker], num_workers: int):
        self._workers: list[_Worker] = []
        try:
            for number in range(num_workers):
                self._workers.append(_Worker(make_maker, number))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def parts(self, tasks: Iterable[Any]) -> Iterator[Part]:
        """Yields the parts of all tasks, in the order of the tasks.

        Args:
            tasks: the tasks; taken as workers become free.

        Raises:
            UserError: a worker raised it, had not enough memory or disk, or was killed.
            RuntimeError: a worker raised anything else; the message holds its traceback.
        """
        remaining = enumerate(tasks)
        arrived: dict[int, collections.deque[Part]] = {}
        waiting_bytes = 0
        due = 0
        self._hand_out(remaining, arrived, due)
        while arrived:
            readable = [
                worker.connection
                for worker in self._workers
                if worker.tasks and (worker.tasks[0] == due or waiting_bytes < _WAITING_BYTES)
            ]
            ready = multiprocessing.connection.wait(readable)
            for worker in self._workers:
                if worker.connection in ready:
                    task = worker.tasks[0]
                    part = self._receive(worker)
                    if part is not None:
                        arrived[task].append(part)
                        waiting_bytes += len(part.records.data)
            while due in arrived:
                while arrived[due]:
                    part = arrived[due].popleft()
                    waiting_bytes -= len(part.records.data)
                    yield part
                if any(due in worker.tasks for worker in self._workers):
                    break
                del arrived[due]
                due += 1
            self._hand_out(remaining, arrived, due)

    def _hand_out(
        self,
        remaining: Iterator[tuple[int, Any]],
        arrived: dict[int, collections.deque[Part]],
        due: int,
    ) -> None:
        """Gives every worker what it may have, the least busy first."""
        for _ in range(_TASKS_PER_WORKER * len(self._workers)):
            worker = min(self._workers, key=lambda worker: len(worker.tasks))
            newest = max(arrived, default=due)
            if len(worker.tasks) >= _TASKS_PER_WORKER or newest - due >= _TASKS_AHEAD * len(
                self._workers
            ):
                return
            index, task = next(remaining, (None, None))
            if index is None:
                return
            arrived[index] = collections.deque()
            worker.tasks.append(index)
            try:
                worker.connection.send(task)
            except OSError as error:
                raise worker.died() from error

    @staticmethod
    def _receive(worker: _Worker) -> Part | None:
        """Takes one message; returns a part, or None at the end of a task."""
        try:
            kind, *content = worker.connection.recv()
            if kind == "part":
                counts, sizes = content
                data = worker.connection.recv_bytes()
                return Part(Records(data, np.frombuffer(sizes, np.int64)), Counts(**counts))
        except (EOFError, OSError) as error:
            raise worker.died() from error
        if kind == "error":
            raise content[0]
        if kind == "crash":
            raise RuntimeError(f"{worker.process.name} failed:\n{content[0]}")
        worker.tasks.popleft()
        return None


def _work(connection: Connection, make_maker: Callable[[], PartMaker]) -> None:
    """The process: takes tasks until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends its workers
    # Workers tokenize: they need no accelerator, and would each take a share of its memory.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # Tasks are received while parts are sent, or both sides could wait for the other to read.
    threading.Thread(target=_receive_tasks, args=(connection, tasks), daemon=True).start()
    try:
        with quiet_libraries():
            make_parts = make_maker()
        while True:
            for part in make_parts(tasks.get()):
                sizes = part.records.sizes.astype(np.int64).tobytes()
                connection.send(("part", vars(part.counts), sizes))
                connection.send_bytes(part.records.data)
            connection.send(("end",))
    except (BrokenPipeError, ConnectionResetError):
        return  # the parent has ended
    except Exception as error:
        known = as_user_error(error)
        connection.send(("error", known) if known else ("crash", traceback.format_exc()))


def _receive_tasks(connection: Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Queues tasks as they come; ends the process when the parent has ended."""
    while True:
        try:
            tasks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)
