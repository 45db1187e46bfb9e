"""A thread that fills a queue: what ends it, and what is seen of its errors."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.data import background_producer
from electra_tf2.data.background_producer import (
    BackgroundProducer,
    stop_producers,
    take_failure,
)

SPECS = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]


def arrays(number):
    return np.full(2, number, np.int32), np.full(3, number, np.float32)


@pytest.fixture(autouse=True)
def none_left():
    yield
    stop_producers()
    assert take_failure() is None


def test_arrays_come_in_order():
    producer = BackgroundProducer(lambda: map(arrays, range(100)), SPECS)
    found = [int(first[0]) for first, _ in producer.dataset().take(100)]
    assert found == list(range(100))


def test_an_error_is_kept_for_the_reader(capfd):
    def failing():
        yield arrays(0)
        raise MemoryError("no room")

    iterator = iter(BackgroundProducer(failing, SPECS).dataset())
    assert int(next(iterator)[0][0]) == 0
    with pytest.raises(tf.errors.OpError):
        next(iterator)
    failure = take_failure()
    assert isinstance(failure, MemoryError) and str(failure) == "no room"
    assert "Traceback" not in capfd.readouterr().err


def test_stopping_ends_threads_that_wait_for_room():
    def endless():
        while True:
            yield arrays(0)

    producers = [BackgroundProducer(endless, SPECS) for _ in range(2)]
    next(iter(producers[0].dataset()))
    stop_producers()
    assert not any(producer._thread.is_alive() for producer in producers)
    assert background_producer._running == []
    with pytest.raises(tf.errors.OpError):
        list(producers[1].dataset())
