"""A thread that fills a queue: what ends it, and what is seen of its errors."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data.document_input import BackgroundProducer
from tests.programs import run_python

SPECS = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]


def arrays(number):
    return np.full(2, number, np.int32), np.full(3, number, np.float32)


def endless():
    while True:
        yield arrays(0)


def test_arrays_come_in_order():
    producer = BackgroundProducer(lambda: map(arrays, range(100)), SPECS)
    found = [int(first[0]) for first, _ in producer.dataset().take(100)]
    assert found == list(range(100))
    assert producer.failure is None
    producer.stop()


def test_a_gpu_is_left_to_training():
    """Without a device of the thread's own, TensorFlow would choose a GPU where there is one."""
    from tensorflow.python.eager import context

    chosen = []

    def note_and_make():
        chosen.append(context.context().device_name)
        yield arrays(0)

    producer = BackgroundProducer(note_and_make, SPECS)
    next(iter(producer.dataset()))
    producer.stop()
    assert [str(name)[-5:] for name in chosen] == ["CPU:0"]


def test_an_error_is_kept_for_the_reader(capfd):
    def failing():
        yield arrays(0)
        raise MemoryError("no room")

    healthy = BackgroundProducer(endless, SPECS)
    producer = BackgroundProducer(failing, SPECS)
    iterator = iter(producer.dataset())
    assert int(next(iterator)[0][0]) == 0
    with pytest.raises(tf.errors.OpError):
        next(iterator)
    assert isinstance(producer.failure, MemoryError) and str(producer.failure) == "no room"
    assert healthy.failure is None, "each has its own"
    for each in (producer, healthy):
        each.stop()
    assert "Traceback" not in capfd.readouterr().err


def test_stopping_ends_a_thread_that_waits_for_room():
    producer = BackgroundProducer(endless, SPECS)
    next(iter(producer.dataset()))
    producer.stop()
    assert not producer._thread.is_alive() and producer.failure is None
    with pytest.raises(tf.errors.OpError):
        list(producer.dataset())


@pytest.mark.slow
def test_a_program_ends_while_one_is_running():
    code = (
        "from tests.data.test_background_producer import *\n"
        "next(iter(BackgroundProducer(endless, SPECS).dataset()))\n"
        "print('done')\n"
    )
    assert run_python("-c", code, timeout=120).stdout == "done\n"
