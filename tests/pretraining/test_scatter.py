"""Writing at positions, with the official program's rules for doubles and position 0."""

import numpy as np
import tensorflow as tf

from electra_tf2.pretraining.scatter import scatter_positions

SEQUENCE = [[2, 10, 11, 12, 3], [2, 20, 21, 3, 0]]


def scatter(updates, positions, sequence=SEQUENCE):
    changed, written = scatter_positions(*map(tf.constant, (sequence, updates, positions)))
    assert changed.dtype == written.dtype == tf.int32
    return changed.numpy().tolist(), written.numpy().tolist()


def test_values_go_to_their_positions_and_rows():
    changed, written = scatter([[50, 51], [60, 61]], [[3, 1], [2, 1]])
    assert changed == [[2, 51, 11, 50, 3], [2, 61, 60, 3, 0]]
    assert written == [[0, 1, 0, 1, 0], [0, 1, 1, 0, 0]]


def test_position_0_is_ignored():
    changed, written = scatter([[50, 51], [60, 61]], [[0, 1], [0, 0]])
    assert changed == [[2, 51, 11, 12, 3], SEQUENCE[1]]
    assert written == [[0, 1, 0, 0, 0], [0] * 5]


def test_doubles_give_the_floor_of_the_mean():
    changed, written = scatter(
        [[50, 53, 7, 9], [60, 61, 63, 60]], [[1, 1, 2, 0], [2, 2, 2, 1]]
    )
    assert changed == [[2, 51, 7, 12, 3], [2, 60, 61, 3, 0]]  # 103 // 2; 60; 184 // 3
    assert written == [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0]]


def test_equal_doubles_stay_what_they_are():
    changed, _ = scatter([[30522, 30522, 30522]], [[1, 1, 1]], [[2, 5, 3]])
    assert changed == [[2, 30522, 3]]


def test_no_slots_change_nothing():
    empty = np.zeros((2, 0), np.int32)
    assert scatter(empty, empty) == (SEQUENCE, [[0] * 5] * 2)


def test_shapes_stay_known_in_a_graph():
    signature = [tf.TensorSpec([2, 5], tf.int32)] + [tf.TensorSpec([2, None], tf.int32)] * 2
    function = tf.function(scatter_positions, autograph=False, input_signature=signature)
    changed, written = function.get_concrete_function().structured_outputs
    assert changed.shape == written.shape == [2, 5]
