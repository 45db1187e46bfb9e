"""TF_CONFIG, and workers that meet before TensorFlow connects them, each a thread here."""

import concurrent.futures
import json
import signal
import socket
import threading
import time

import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.cluster import VARIABLE, Cluster, meet, read_cluster, time_limit
from tests.distribution.clusters import free_ports
from tests.programs import run_python

HOSTS = ["a:1", "b:2", "[::1]:3"]


def config(cluster=None, task=None):
    return json.dumps(
        {
            "cluster": {"worker": HOSTS} if cluster is None else cluster,
            "task": {"type": "worker", "index": 1} if task is None else task,
        }
    )


@pytest.fixture
def read(monkeypatch):
    """Reads a text as TF_CONFIG."""

    def read(text):
        monkeypatch.setenv(VARIABLE, text)
        return read_cluster()

    return read


def test_workers(read):
    assert read(config()) == Cluster(tuple(HOSTS), 1)
    assert read(config(task={"type": "worker", "index": "0"})).index == 0  # as TensorFlow has it


def test_a_chief_comes_first(read):
    cluster = {"worker": HOSTS, "chief": ["c:4"]}
    assert read(config(cluster)) == Cluster(("c:4", *HOSTS), 2)
    assert read(config(cluster, {"type": "chief", "index": 0})).index == 0


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "no such environment variable"),
        ("{cluster", "line 1 column 2"),
        ("[]", '"cluster" without a "worker"'),
        ("3", "3: "),
        (json.dumps({"cluster": {"worker": HOSTS}}), '"task" has type None'),
        (config({}), '"cluster" without a "worker"'),
        (config([1]), "`cluster` must be a dictionary"),
        (config({"worker": HOSTS, "ps": ["d:5"]}), '"cluster" has ps'),
        (config({"worker": "a:1,b:2"}), "job 'worker' must be a list"),
        (config({"worker": {"0": "a:1", "2": "b:2"}}), 'None in "cluster"'),
        (config({"worker": ["a"]}), "'a' in \"cluster\""),
        (config({"worker": ["a:70000"]}), "'a:70000' in \"cluster\""),
        (config({"worker": [["a", 1]]}), "['a', 1]"),
        (config({"worker": ["a:1", "a:1"]}), "a:1 twice"),
        (config({"worker": HOSTS, "chief": ["c:4", "d:5"]}), '2 addresses in "chief"'),
        (config(task={"index": 1}), '"task" has type None'),
        (config(task={"type": "evaluator", "index": 0}), "\"task\" has type 'evaluator'"),
        (config(task={"type": "worker"}), "index None"),
        (config(task={"type": "worker", "index": 3}), 'index 3; "cluster" has 3 of type worker'),
        (config(task={"type": "worker", "index": -1}), "index -1"),
        (config(task={"type": "worker", "index": "x"}), "'x'"),
        (config(task={"type": "chief", "index": 0}), '"cluster" has 0 of type chief'),
    ],
)
def test_refused(read, text, said):
    with pytest.raises(UserError) as info:
        read(text)
    assert said in info.value.received
    assert info.value.where == "environment variable TF_CONFIG"
    assert 'TF_CONFIG=\'{"cluster"' in info.value.remedy


def addresses(count):
    return tuple(f"127.0.0.1:{port}" for port in free_ports(count))


def meet_all(cards, delays=(), timeout=20, clusters=None):
    """Lets workers meet; returns what each got, None or an error, and their addresses.

    Args:
        cards: of each worker; None for one that does not come.
        delays: seconds after which each comes; 0 if there are none.
        timeout: seconds that they wait.
        clusters: of each; by default they all have the same addresses.
    """
    hosts = addresses(len(cards))
    clusters = clusters or [Cluster(hosts, index) for index in range(len(cards))]

    def work(cluster, card, delay):
        time.sleep(delay)
        try:
            return card is not None and meet(cluster, card, timeout=timeout)
        except UserError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(cards)) as pool:
        return list(pool.map(work, clusters, cards, delays or [0] * len(cards))), hosts


@pytest.mark.parametrize("delays", [(), (0, 0, 1.0), (1.0, 0.3, 0)])
def test_all_meet(delays):
    found, hosts = meet_all([{"seed": 1}] * 3, delays)
    assert found == [None] * 3
    for host in hosts:  # the ports are free for TensorFlow
        with socket.create_server(("127.0.0.1", int(host.rpartition(":")[2]))):
            pass


def test_a_worker_that_does_not_come():
    found, hosts = meet_all([{}, None, {}], timeout=2)
    for index in (0, 2):
        assert "within 2 seconds" in found[index].what
        assert found[index].received.startswith(f"worker 1 ({hosts[1]}): ")
        assert "refused" in found[index].received and hosts[2 - index] not in found[index].received
        assert "worker_timeout" in found[index].remedy


def test_different_settings():
    """All refuse, and name the first one that differs."""
    same = {"seed": 0, "version": "1"}
    found, hosts = meet_all([same, same, {"seed": 5, "version": "1", "xla": True}])
    for error in found:
        assert error.where == f"worker 2, {hosts[2]}"
        assert error.received == "seed 5, the chief has 0; xla true, the chief has null"


def test_something_else_at_the_port():
    hosts = addresses(2)
    with socket.create_server(("127.0.0.1", int(hosts[1].rpartition(":")[2]))) as server:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UserError, match="something else answers at this port"):
            meet(Cluster(hosts, 0), {}, timeout=1)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_somebody_else_at_our_port():
    """Who connects and says nothing, or nonsense, doesn't keep the workers apart."""
    hosts = addresses(2)
    ready = threading.Event()

    def disturb():
        while not ready.is_set():
            for port in (int(host.rpartition(":")[2]) for host in hosts):
                try:
                    with socket.create_connection(("127.0.0.1", port), 1) as connection:
                        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                except OSError:
                    pass

    thread = threading.Thread(target=disturb)
    thread.start()
    found, _ = meet_all([{}, {}], clusters=[Cluster(hosts, 0), Cluster(hosts, 1)])
    ready.set()
    thread.join()
    assert found == [None, None]


def test_two_workers_with_the_same_index():
    hosts = addresses(2)
    clusters = [Cluster(hosts, 0), Cluster(hosts[::-1], 0)]
    found, _ = meet_all([{}, {}], timeout=4, clusters=clusters)
    assert any("worker 0 answers at this address" in error.received for error in found)


def test_a_port_that_is_taken():
    (host,) = addresses(1)
    with (
        socket.create_server(("", int(host.rpartition(":")[2]))),
        pytest.raises(UserError, match="port can't be opened") as info,
    ):
        meet(Cluster((host, "127.0.0.1:1"), 0), {}, timeout=5)
    assert host in info.value.received


# A regular expression that takes ages holds the interpreter's lock, as TensorFlow does.
STUCK = """
import re, signal
from electra_tf2.errors import UserError
from electra_tf2.training.cluster import time_limit

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with time_limit(1.0, UserError("It took too long.", where="here")):
    re.match("(a*)*b", "a" * 40)
"""


def test_a_call_that_holds_the_lock_is_ended():
    start = time.monotonic()
    done = run_python("-c", STUCK, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.endswith("error: It took too long.\n  where: here\n")
    assert time.monotonic() - start < 60


def test_a_call_that_ends_in_time(capfd):
    with time_limit(0.3, UserError("Too long.")):
        pass
    with pytest.raises(ValueError), time_limit(0.3, UserError("Too long.")):
        raise ValueError
    time.sleep(0.5)
    assert capfd.readouterr().err == ""
