"""Workers that meet before TensorFlow connects them, each a thread here."""

import socket
import threading
import time

import pytest

from electra_tf2.errors import UserError
from electra_tf2.training.workers import Cluster, check_same, meet
from tests.distribution.clusters import free_ports


def addresses(count):
    return tuple(f"127.0.0.1:{port}" for port in free_ports(count))


def meet_all(cards, delays=None, timeout=20):
    """Lets workers with these cards meet; returns what each got, a list of cards or an error."""
    hosts = addresses(len(cards))
    found = [None] * len(cards)

    def work(index):
        time.sleep((delays or [0] * len(cards))[index])
        try:
            found[index] = meet(Cluster(hosts, index), cards[index], timeout=timeout)
        except UserError as error:
            found[index] = error

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, hosts


@pytest.mark.parametrize("delays", [None, [0, 0, 1.0], [1.0, 0.3, 0]])
def test_all_see_all_cards(delays):
    cards = [{"seed": 1, "name": f"worker {i}"} for i in range(3)]
    found, hosts = meet_all(cards, delays)
    assert found == [cards] * 3
    for host in hosts:  # the ports are free for TensorFlow
        with socket.create_server(("127.0.0.1", int(host.rpartition(":")[2]))):
            pass


def test_a_worker_that_does_not_come():
    hosts = addresses(3)
    found = {}

    def work(index):
        with pytest.raises(UserError) as info:
            meet(Cluster(hosts, index), {}, timeout=2)
        found[index] = info.value

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in (0, 2):
        assert found[index].what == "Workers did not come within 2 seconds."
        assert found[index].received.startswith(f"worker 1 ({hosts[1]}): ")
        assert "refused" in found[index].received and hosts[2 - index] not in found[index].received
        assert "worker_timeout" in found[index].remedy


def test_something_else_at_the_port():
    hosts = addresses(2)
    with socket.create_server(("127.0.0.1", int(hosts[1].rpartition(":")[2]))) as server:

        def answer():
            for _ in range(100):
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


def test_two_workers_with_the_same_index():
    hosts = addresses(2)
    swapped = (hosts[1], hosts[0])
    found = []

    def work(cluster):
        with pytest.raises(UserError) as info:
            meet(cluster, {}, timeout=4)
        found.append(info.value.received)

    threads = [threading.Thread(target=work, args=(Cluster(h, 0),)) for h in (hosts, swapped)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any("worker 0 answers at this address" in received for received in found)


def test_a_port_that_is_taken():
    (host,) = addresses(1)
    with (
        socket.create_server(("", int(host.rpartition(":")[2]))),
        pytest.raises(UserError) as info,
    ):
        meet(Cluster((host, "127.0.0.1:1"), 0), {}, timeout=5)
    assert info.value.what == "This worker's port can't be opened."
    assert host in info.value.received


def test_different_settings():
    cluster = Cluster(("a:1", "b:2", "c:3"), 1)
    same = {"seed": 0, "version": "1"}
    check_same(cluster, [same, same, same])
    with pytest.raises(UserError) as info:
        check_same(cluster, [same, same, {"seed": 5, "version": "1", "xla": True}])
    assert info.value.where == "worker 2, c:3"
    assert info.value.received == ("seed 5, the chief has 0; xla true, the chief has null")
