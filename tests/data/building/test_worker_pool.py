"""The worker pool, with workers that make up their parts (so they need no TensorFlow)."""

import functools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from electra_tf2.data.building import worker_pool
from electra_tf2.data.building.builders import Counts, Part
from electra_tf2.data.building.worker_pool import WorkerPool
from electra_tf2.data.tfrecords import Records
from electra_tf2.errors import UserError


def make_parts(task):
    """Yields as many parts as the task says, after a pause."""
    number, count, size, pause = task
    for index in range(count):
        time.sleep(pause)
        data = b"%d.%d" % (number, index) + bytes(size)
        yield Part(Records(data, np.array([len(data)])), Counts(examples=1, tokens=number))


def make_maker():
    return make_parts


def failing(error, task):
    if task == 3:
        raise error
    yield Part(Records(b"x", np.array([1])), Counts())


def make_failing_maker(error):
    return functools.partial(failing, error)


def killing(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    yield Part(Records(b"x", np.array([1])), Counts())


def make_killing_maker():
    return killing


def make_no_maker():
    raise ImportError("no tokenizer here")


def labels(parts):
    return [part.records.data.rstrip(b"\0").decode() for part in parts]


@pytest.mark.parametrize("waiting_bytes", [1, 1 << 28])
def test_parts_come_in_the_order_of_the_tasks(monkeypatch, waiting_bytes):
    # With little room for waiting parts the pool must not stall: the part that is due is read.
    monkeypatch.setattr(worker_pool, "_WAITING_BYTES", waiting_bytes)
    # The first tasks take longest; some have no part at all; sizes are beyond a pipe's buffer.
    tasks = [(n, (n * 7) % 4, 300_000, 0.05 if n < 3 else 0.0) for n in range(60)]

    with WorkerPool(make_maker, 3) as pool:
        parts = list(pool.parts(iter(tasks)))

    expected = [f"{n}.{i}" for n, count, *_ in tasks for i in range(count)]
    assert labels(parts) == expected
    assert sum(part.counts.tokens for part in parts) == sum(n * c for n, c, *_ in tasks)
    assert all(part.records.sizes.tolist() == [len(part.records.data)] for part in parts)


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for number in range(200):
            taken.append(number)
            yield (number, 1, 0, 0.0)

    with WorkerPool(make_maker, 2) as pool:
        parts = pool.parts(tasks())
        next(parts)
        assert len(taken) < 50
        assert len(list(parts)) == 199


def test_no_tasks():
    with WorkerPool(make_maker, 1) as pool:
        assert list(pool.parts([])) == []


def test_user_error_of_a_worker_keeps_its_fields():
    error = UserError("Bad text.", where="a.txt, line 3", received="\\xff", remedy="Fix it.")

    with pytest.raises(UserError) as caught:
        with WorkerPool(functools.partial(make_failing_maker, error), 2) as pool:
            list(pool.parts(range(10)))

    assert str(caught.value) == str(error)
    assert caught.value.where == "a.txt, line 3"


def test_bug_in_a_worker_keeps_its_traceback():
    maker = functools.partial(make_failing_maker, ZeroDivisionError())
    with pytest.raises(RuntimeError, match="(?s)worker-[01] failed:.*in failing.*ZeroDivision"):
        with WorkerPool(maker, 2) as pool:
            list(pool.parts(range(10)))


def test_worker_without_memory():
    maker = functools.partial(make_failing_maker, MemoryError("Unable to allocate 9 GiB"))
    with pytest.raises(UserError, match="not enough memory") as caught:
        with WorkerPool(maker, 2) as pool:
            list(pool.parts(range(10)))
    assert caught.value.received == "Unable to allocate 9 GiB"


def test_worker_that_can_not_start():
    with pytest.raises(RuntimeError, match="no tokenizer here"):
        with WorkerPool(make_no_maker, 2) as pool:
            list(pool.parts(range(10)))


def test_killed_worker_is_an_error_and_none_is_left():
    with pytest.raises(UserError, match="ended before its work was done") as caught:
        with WorkerPool(make_killing_maker, 2) as pool:
            processes = [worker.process for worker in pool._workers]
            list(pool.parts(range(10)))

    assert caught.value.received == "killed by signal 9 (SIGKILL)"
    assert "--num-processes" in caught.value.remedy
    assert not any(process.is_alive() for process in processes)


def test_workers_end_with_their_parent():
    code = (
        "import os\n"
        "from electra_tf2.data.building.worker_pool import WorkerPool\n"
        "from tests.data.building.test_worker_pool import make_maker\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(make_maker, 2)\n"
        "    next(pool.parts((n, 5, 10**6, 0.1) for n in range(1000)))\n"
        "    print(*[worker.process.pid for worker in pool._workers], flush=True)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=True, text=True
    )
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_running, pids))


def _is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:  # where there is one: zombies don't count
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc")
