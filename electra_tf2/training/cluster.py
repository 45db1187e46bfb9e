"""The cluster of a run: which processes take part, and how they meet before they are connected.

The environment variable TF_CONFIG names them, for example

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                "task": {"type": "worker", "index": 0}}'

Every worker is started with the same command and the same "cluster"; "task" says which one it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from electra_tf2.console import say
from electra_tf2.errors import UserError

VARIABLE = "TF_CONFIG"
_ADDRESS = re.compile(r"(\[[^\]]+\]|[^:\s]+):(\d{1,5})")
_TYPES = ("chief", "worker")
_EXAMPLE = (
    """'{"cluster": {"worker": ["host1:2222", "host2:2222"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)

# How the workers meet: pause between rounds, limit for an answer, pause between reminders.
_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 5.0
_REMIND_SECONDS = 30.0
_MAX_LINE = 1 << 20


class Cluster(NamedTuple):
    """The workers of a run.

    Attributes:
        addresses: "host:port" of each, the chief first.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    def named(self, index: int) -> str:
        """Returns a worker's index and address, for messages."""
        return f"worker {index} ({self.addresses[index]})"


def read_cluster() -> Cluster:
    """Reads TF_CONFIG.

    Returns:
        The cluster.

    Raises:
        UserError: the variable is missing or malformed; says where.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        raise _malformed("no such environment variable")
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        spec, kind, index = resolver.cluster_spec(), resolver.task_type, resolver.task_id
    except (ValueError, TypeError) as error:
        raise _malformed(f"{text}: {error}") from error
    others = [job for job in spec.jobs if job not in _TYPES]
    if others:
        raise _malformed(f'"cluster" has {", ".join(others)}', 'Only "worker" and "chief" are used')
    chiefs, workers = (spec.job_tasks(job) if job in spec.jobs else [] for job in _TYPES)
    addresses = [*chiefs, *workers]
    if not addresses:
        raise _malformed('"cluster" without a "worker"')
    if len(chiefs) > 1:
        raise _malformed(f'{len(chiefs)} addresses in "chief"', "There is at most one chief")
    for address in addresses:
        match = _ADDRESS.fullmatch(address or "")
        if match is None or not 0 < int(match[2]) < 1 << 16:
            raise _malformed(f'{address!r} in "cluster"', "An address is host:port")
        if addresses.count(address) > 1:
            raise _malformed(f"{address} twice", "Each worker needs its own port")
    if kind not in _TYPES:
        raise _malformed(f'"task" has type {kind!r}', 'Give "worker", or "chief" if there is one')
    count = len(chiefs if kind == "chief" else workers)
    if index is None or not 0 <= index < count:
        raise _malformed(
            f'"task" has index {index}; "cluster" has {count} of type {kind}', "Count from 0"
        )
    return Cluster(tuple(addresses), index + (len(chiefs) if kind == "worker" else 0))


def _malformed(received: str, hint: str = "Set it on every host") -> UserError:
    return UserError(
        "The workers of the run are not known.",
        where=f"environment variable {VARIABLE}",
        received=received,
        remedy=f"{hint}: {VARIABLE}={_EXAMPLE}.",
    )


def meet(cluster: Cluster, card: Mapping[str, Any], *, timeout: float) -> None:
    """Waits until all workers are there, and checks that they were started alike.

    Says who is missing, at the start and from time to time.

    TensorFlow silently waits for an absent worker, and trains with workers of other hparams until
    something breaks. So before it connects them, every worker shows the others a card, at the port
    that TensorFlow uses afterwards. A worker leaves when it has seen all cards and all have seen
    its own, so that every pair has connected both ways.

    Args:
        card: what all workers must have in common, JSON values by name.
        timeout: seconds to wait.

    Raises:
        UserError: the port is taken; or workers did not come in time, or their cards differ: names
            them.
    """
    others = [i for i in range(len(cluster.addresses)) if i != cluster.index]
    cards = {cluster.index: dict(card)}
    seen_by: set[int] = set()
    problems: dict[int, str] = {}
    with _open_port(cluster) as server:
        shown = json.dumps({"index": cluster.index, "card": card}).encode() + b"\n"
        threading.Thread(target=_show, args=(server, shown, seen_by), daemon=True).start()
        say(f"Worker {cluster.index} waits for {len(others)} others.")
        start = reminded = time.monotonic()
        while True:
            for index in others:
                if index not in cards:
                    try:
                        cards[index] = _ask(cluster, index)
                        problems[index] = "it can't reach this worker"
                    except (OSError, ValueError) as error:
                        problems[index] = str(error)
            missing = [i for i in others if i not in cards or i not in seen_by]
            if not missing:
                break
            if time.monotonic() - start > timeout:
                raise _not_met(cluster, {i: problems[i] for i in missing}, timeout)
            if time.monotonic() - reminded > _REMIND_SECONDS:
                reminded = time.monotonic()
                say(f"Still waiting for {', '.join(map(cluster.named, missing))}.")
            time.sleep(_POLL_SECONDS)
    _check_same(cluster, cards)


@contextlib.contextmanager
def _open_port(cluster: Cluster) -> Iterator[socket.socket]:
    """Listens at this worker's port, by IPv6 and IPv4 where the machine has both."""
    address = cluster.addresses[cluster.index]
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(
            ("", int(address.rpartition(":")[2])), family=family, dualstack_ipv6=both
        )
    except OSError as error:
        raise UserError(
            "This worker's port can't be opened.",
            where=f"environment variable {VARIABLE}",
            received=f"{address}: {error.strerror or error}",
            remedy="End the program that uses it, or give all workers another port for it.",
        ) from error
    with server:
        try:
            yield server
        finally:
            with contextlib.suppress(OSError):  # wakes the thread that waits in `accept`
                server.shutdown(socket.SHUT_RDWR)


def _show(server: socket.socket, shown: bytes, seen_by: set[int]) -> None:
    """Answers whoever tells its index, until the port is closed."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(_ANSWER_SECONDS)
            with connection.makefile("rb") as file:
                index = int(file.readline(_MAX_LINE))
            connection.sendall(shown)
            seen_by.add(index)


def _ask(cluster: Cluster, index: int) -> dict[str, Any]:
    """Returns another worker's card; OSError if it can't be reached, ValueError if it isn't one."""
    host, _, port = cluster.addresses[index].rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection:
        connection.sendall(f"{cluster.index}\n".encode())
        with connection.makefile("rb") as file:
            line = file.readline(_MAX_LINE)
    try:
        answer = json.loads(line)
        found, card = answer["index"], answer["card"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("something else answers at this port") from error
    if found != index:
        raise ValueError(f"worker {found} answers at this address")
    return card


def _not_met(cluster: Cluster, reasons: Mapping[int, str], timeout: float) -> UserError:
    return UserError(
        f"Workers did not come within {timeout:g} seconds.",
        where=f"environment variable {VARIABLE}",
        received="; ".join(f"{cluster.named(i)}: {reason}" for i, reason in reasons.items()),
        remedy="Start the same command on all hosts, check the addresses and that firewalls let "
        "the ports through, or raise the hparam worker_timeout.",
    )


def _check_same(cluster: Cluster, cards: Mapping[int, Mapping[str, Any]]) -> None:
    """Refuses workers that were started differently from the chief."""
    chief = cards[0]
    for index, card in sorted(cards.items()):
        names = [n for n in {**chief, **card} if chief.get(n) != card.get(n)]
        if names:
            raise UserError(
                "The workers were started with different settings.",
                where=f"worker {index}, {cluster.addresses[index]}",
                received="; ".join(
                    f"{n} {json.dumps(card.get(n))}, the chief has {json.dumps(chief.get(n))}"
                    for n in names[:5]
                ),
                remedy="Start all workers with the same command and the same version.",
            )


# Runs beside the process; ends when it is told to or when the process ends.
_WATCH = """
import os, select, signal, sys
if not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    print(sys.argv[3], file=sys.stderr, flush=True)
    os.kill(int(sys.argv[1]), signal.SIGKILL)
"""


@contextlib.contextmanager
def time_limit(seconds: float, error: UserError) -> Iterator[None]:
    """Prints an error and kills this process if the body takes too long.

    It is for the moment when TensorFlow connects the workers. `meet` can't bound that: a worker may
    end after it, and TensorFlow then waits for an hour. Meanwhile it holds Python's interpreter
    lock and ignores SIGTERM, so that no thread, timer or signal of this process ends the wait. A
    second process does.
    """
    command = [sys.executable, "-c", _WATCH, str(os.getpid()), str(seconds), f"error: {error}"]
    # Closing its standard input, as the end of this process also does, tells it to go.
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        watcher.communicate()
