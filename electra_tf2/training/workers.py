"""What the processes of a run tell each other while it goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from electra_tf2.errors import UserError

# Which processes a run consists of, as TF_CONFIG says.
#
#     TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
#                 "task": {"type": "worker", "index": 0}}'
#
# Every worker is started with the same command and the same "cluster"; "task" says which one it is.


VARIABLE = "TF_CONFIG"
_ADDRESS = re.compile(r"(\[[^\]]+\]|[^:\s]+):(\d{1,5})")
_TYPES = ("chief", "worker")
_EXAMPLE = (
    """'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)


class Cluster(NamedTuple):
    """The workers of a run.

    Attributes:
        addresses: "host:port" of each, the chief first.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.index == 0


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Reads TF_CONFIG.

    Args:
        environment: environment variables by name.

    Returns:
        The cluster.

    Raises:
        UserError: the variable is missing or malformed; says where.
    """
    text = environment.get(VARIABLE)
    if not text:
        raise _malformed("no such environment variable")
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(f"{text!r}: no JSON, {error.msg} at character {error.pos + 1}") from error
    cluster, task = (_object(config, key) for key in ("cluster", "task"))
    others = sorted(set(cluster) - set(_TYPES))
    if others:
        raise _malformed(f'"cluster" has {", ".join(others)}', 'Only "worker" and "chief" are used')
    addresses = [_addresses(cluster, kind) for kind in _TYPES]
    if len(addresses[0]) > 1:
        raise _malformed(f'{len(addresses[0])} addresses in "chief"', "There is one chief at most")
    both = [*addresses[0], *addresses[1]]
    if not both:
        raise _malformed('"cluster" without a "worker"')
    double = sorted({address for address in both if both.count(address) > 1})
    if double:
        raise _malformed(f"{', '.join(double)} twice", "Each worker needs a port of its own")
    return Cluster(tuple(both), _index(task, [len(a) for a in addresses]))


def _object(config: Any, key: str) -> dict[str, Any]:
    value = config.get(key) if isinstance(config, dict) else None
    if not isinstance(value, dict):
        raise _malformed(f'no object "{key}"')
    return value


def _addresses(cluster: dict[str, Any], kind: str) -> list[str]:
    addresses = cluster.get(kind, [])
    if not isinstance(addresses, list):
        raise _malformed(f'"{kind}" is {addresses!r}', "Give a list of addresses")
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if match is None or not 0 < int(match[2]) < 1 << 16:
            raise _malformed(f'{address!r} in "{kind}"', "An address is host:port")
    return addresses


def _index(task: dict[str, Any], counts: list[int]) -> int:
    kind, index = task.get("type"), task.get("index")
    if kind not in _TYPES:
        raise _malformed(f'"task" has type {kind!r}', 'Give "worker", or "chief" if there is one')
    count = counts[_TYPES.index(kind)]
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise _malformed(
            f'"task" has index {index!r}; "cluster" has {count} of type {kind}',
            "Count from 0",
        )
    return index + (counts[0] if kind == "worker" else 0)


def _malformed(received: str, hint: str = "") -> UserError:
    return UserError(
        "The workers of the run are not known.",
        where=f"environment variable {VARIABLE}",
        received=received,
        remedy=f"{hint}{': ' if hint else 'Set it on every host: '}{VARIABLE}={_EXAMPLE}.",
    )


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


# Meeting the other workers before TensorFlow connects to them.
#
# TensorFlow waits for an absent worker without a word, and trains with workers of other hparams
# until something breaks. So the workers first show each other a card, over the ports that
# TensorFlow uses afterwards. A worker goes on once it has seen all cards and has shown its own to
# all.


_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 5.0
_REMIND_SECONDS = 30.0


def meet(
    cluster: Cluster,
    card: Mapping[str, Any],
    *,
    timeout: float,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Waits until all workers are there.

    Args:
        cluster: of the run.
        card: what the others are to know of this worker, anything JSON can say.
        timeout: seconds to wait.
        say: told at the start, and from time to time, whom it waits for.

    Returns:
        The cards of all workers in the cluster's order, this one's too.

    Raises:
        UserError: the port is taken, or workers can't be reached in time: names them.
    """
    with _Card(cluster, card) as shown:
        cards: dict[int, dict[str, Any]] = {cluster.index: dict(card)}
        reasons: dict[int, str] = {}
        start = reminded = time.monotonic()
        say(f"Worker {cluster.index} waits for {len(cluster.addresses) - 1} others.")
        while True:
            for index in _absent(cluster, cards):
                try:
                    cards[index] = _ask(cluster, index)
                except (OSError, ValueError) as error:
                    reasons[index] = str(error)
            waiting = _absent(cluster, cards) or shown.not_asked()
            if not waiting:
                return [cards[index] for index in range(len(cluster.addresses))]
            now = time.monotonic()
            if now - start > timeout:
                raise _unreachable(cluster, waiting, reasons, timeout)
            if now - reminded > _REMIND_SECONDS:
                reminded = now
                say("Still waiting for " + _listed(cluster, waiting))
            time.sleep(_POLL_SECONDS)


def check_same(
    cluster: Cluster, cards: list[dict[str, Any]], say_value: Callable[[Any], str] = json.dumps
) -> None:
    """Refuses workers that were started differently.

    Args:
        cluster: of the run.
        cards: name -> value, from `meet`.
        say_value: how a value is shown.

    Raises:
        UserError: names the first worker that differs from the chief, and in what.
    """
    chief = cards[0]
    for index, card in enumerate(cards):
        names = [n for n in {**chief, **card} if chief.get(n) != card.get(n)]
        if names:
            raise UserError(
                "The workers were started with different settings.",
                where=f"worker {index}, {cluster.addresses[index]}",
                received="; ".join(
                    f"{n} {say_value(card.get(n))}, the chief has {say_value(chief.get(n))}"
                    for n in names[:5]
                ),
                remedy="Start all workers with the same command and the same version.",
            )


class _Card:
    """Shows the card to whoever asks, while it is entered."""

    def __init__(self, cluster: Cluster, card: Mapping[str, Any]):
        self._cluster = cluster
        self._answer = json.dumps({"index": cluster.index, "card": card}).encode() + b"\n"
        self._asked: set[int] = {cluster.index}
        self._socket: socket.socket | None = None

    def not_asked(self) -> list[int]:
        """Returns the workers that have not seen the card yet."""
        return [i for i in range(len(self._cluster.addresses)) if i not in self._asked]

    def __enter__(self) -> _Card:
        address = self._cluster.addresses[self._cluster.index]
        port = int(address.rpartition(":")[2])
        try:
            self._socket = _listen(port)
        except OSError as error:
            raise UserError(
                "This worker's port can't be opened.",
                where=f"environment variable {VARIABLE}",
                received=f"{address}: {error.strerror or error}",
                remedy="End the program that uses it, or give all workers another port for it.",
            ) from error
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # wakes the thread that waits in `accept`
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, ValueError):
                connection.settimeout(_ANSWER_SECONDS)
                file = connection.makefile("rwb")
                index = int(file.readline())
                file.write(self._answer)
                file.flush()
                if file.readline():  # "seen": the answer has arrived
                    self._asked.add(index)


def _listen(port: int) -> socket.socket:
    """Opens a port for IPv6 and IPv4, or for IPv4 alone where the machine has no other."""
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise
        return socket.create_server(("", port))


def _ask(cluster: Cluster, index: int) -> dict[str, Any]:
    host, _, port = cluster.addresses[index].rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection:
        file = connection.makefile("rwb")
        file.write(f"{cluster.index}\n".encode())
        file.flush()
        line = file.readline()
        try:
            answer = json.loads(line)
            card = answer["card"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("something else answers at this port") from error
        if answer.get("index") != index:
            raise ValueError(f"worker {answer.get('index')} answers at this address")
        file.write(b"seen\n")
        file.flush()
        return card


def _absent(cluster: Cluster, cards: Mapping[int, Any]) -> list[int]:
    return [index for index in range(len(cluster.addresses)) if index not in cards]


def _listed(cluster: Cluster, workers: list[int]) -> str:
    return ", ".join(f"worker {index} ({cluster.addresses[index]})" for index in workers)


def _unreachable(
    cluster: Cluster, waiting: list[int], reasons: Mapping[int, str], timeout: float
) -> UserError:
    said = [f"{_listed(cluster, [i])}: {reasons.get(i, 'does not reach us')}" for i in waiting]
    return UserError(
        f"Workers did not come within {timeout:g} seconds.",
        where=f"environment variable {VARIABLE}",
        received="; ".join(said),
        remedy="Start the same command on all hosts, check the addresses and that firewalls let "
        "the ports through, or raise the hparam worker_timeout.",
    )


# A time limit for a call that nothing inside the process can end.


# Runs beside the process; ends when told to, or when the process is gone.
_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    print(sys.argv[3], file=sys.stderr, flush=True)
    os.kill(int(sys.argv[1]), signal.SIGKILL)
"""


@contextlib.contextmanager
def time_limit(seconds: float, error: UserError) -> Iterator[None]:
    """Prints an error and kills this process if the body takes too long.

    While TensorFlow connects to other workers it holds Python's interpreter lock and ignores
    SIGTERM: no thread, timer or signal of this process ends it. So a process beside it does.

    Args:
        seconds: that the body may take.
        error: what is printed.
    """
    command = [sys.executable, "-c", _WATCH, str(os.getpid()), str(seconds), f"error: {error}"]
    # Closing its standard input, which the end of this process does too, tells it to go.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watcher.stdin.close()
        watcher.wait()
