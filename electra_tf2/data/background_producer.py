"""Arrays that a Python thread makes, as a dataset.

The threads of tf.data must not call Python (`tf.numpy_function`, `from_generator`): when an
iterator is deleted it waits for their calls, and it holds Python's lock, which the calls wait for.
So a thread of our own puts the arrays into a queue of TensorFlow's, and tf.data only takes them.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

_CAPACITY = 4
_SECONDS_TO_STOP = 30
_running: list[BackgroundProducer] = []
_failures: list[Exception] = []


def take_failure() -> Exception | None:
    """Returns the error that has ended a producer, once; None if none did.

    The error that its dataset ends in says only that a queue is closed.
    """
    return _failures.pop(0) if _failures else None


# Python must not end while a thread is in TensorFlow.
@atexit.register
def stop_producers() -> None:
    """Stops all producers; their datasets end in an error. Until then each holds its queue."""
    while _running:
        _running.pop().stop()


class BackgroundProducer:
    """A thread that fills a queue.

    Args:
        make_arrays: Called in the thread; yields tuples of arrays without an end.
        specs: What the arrays are, two or more.
    """

    def __init__(
        self,
        make_arrays: Callable[[], Iterator[tuple[np.ndarray, ...]]],
        specs: Sequence[tf.TensorSpec],
    ):
        self._make_arrays, self._specs = make_arrays, tuple(specs)
        with tf.device("CPU"):
            self._queue = tf.queue.FIFOQueue(_CAPACITY, [spec.dtype for spec in specs])
        self._stopped = False
        self._thread = threading.Thread(target=self._produce, daemon=True)
        _running.append(self)
        self._thread.start()

    def dataset(self) -> tf.data.Dataset:
        """Returns the arrays in order, to be iterated once; ends in an error where they do."""

        def take(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            parts = self._queue.dequeue()
            shapes = [spec.shape for spec in self._specs]
            return tuple(map(tf.ensure_shape, parts, shapes))

        return tf.data.Dataset.range(tf.int64.max).map(take)

    def stop(self) -> None:
        """Ends the thread, and the dataset."""
        self._stopped = True
        self._close(cancel_pending_enqueues=True)
        self._thread.join(_SECONDS_TO_STOP)

    def _close(self, **options: bool) -> None:
        with contextlib.suppress(tf.errors.CancelledError):  # it was closed before
            self._queue.close(**options)

    def _produce(self) -> None:
        try:
            for arrays in self._make_arrays():
                if self._stopped:
                    return
                self._queue.enqueue([tf.convert_to_tensor(array) for array in arrays])
        except tf.errors.CancelledError:
            return  # closed while it waited for room
        except Exception as error:
            _failures.append(error)
        finally:
            if not self._stopped:
                # Whoever takes from it gets an error, and asks for the cause (`take_failure`).
                self._close()
