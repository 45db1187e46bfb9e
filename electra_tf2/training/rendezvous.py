"""Meeting the other workers before TensorFlow connects to them.

TensorFlow waits for an absent worker without a word, and trains with workers of other hparams until
something breaks. So the workers first show each other a card, over the ports that TensorFlow uses
afterwards. A worker goes on once it has seen all cards and has shown its own to all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from electra_tf2.errors import UserError
from electra_tf2.training.cluster import VARIABLE, Cluster

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
