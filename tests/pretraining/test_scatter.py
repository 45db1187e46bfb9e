"""Writing at positions, with the official program's rule for doubles."""

import numpy as np
import tensorflow as tf

from electra_tf2.pretraining.masking import scatter_positions

SEQUENCE = [[2, 10, 11, 12, 3], [2, 20, 21, 3, 0]]


def scatter(updates, positions, sequence=SEQUENCE, chosen=None):
    """All slots but those at position 0, unless told."""
    chosen = np.not_equal(positions, 0) if chosen is None else chosen
    arguments = (sequence, updates, positions, chosen)
    changed, written = scatter_positions(*map(tf.constant, arguments))
    assert changed.dtype == written.dtype == tf.int32
    return changed.numpy().tolist(), written.numpy().tolist()


def test_values_go_to_their_positions_and_rows():
    changed, written = scatter([[50, 51], [60, 61]], [[3, 1], [2, 1]])
    assert changed == [[2, 51, 11, 50, 3], [2, 61, 60, 3, 0]]
    assert written == [[0, 1, 0, 1, 0], [0, 1, 1, 0, 0]]


def test_slots_that_are_not_chosen_are_ignored():
    changed, written = scatter([[50, 51], [60, 61]], [[0, 1], [0, 0]])
    assert changed == [[2, 51, 11, 12, 3], SEQUENCE[1]]
    assert written == [[0, 1, 0, 0, 0], [0] * 5]
    chosen = [[False, True], [True, False]]
    changed, written = scatter([[50, 51], [60, 61]], [[0, 1], [0, 3]], chosen=chosen)
    assert changed == [[2, 51, 11, 12, 3], [60, 20, 21, 3, 0]]
    assert written == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_doubles_give_the_floor_of_the_mean():
    changed, written = scatter([[50, 53, 7, 9], [60, 61, 63, 60]], [[1, 1, 2, 0], [2, 2, 2, 1]])
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
    signature.append(tf.TensorSpec([2, None], tf.bool))
    function = tf.function(scatter_positions, autograph=False, input_signature=signature)
    changed, written = function.get_concrete_function().structured_outputs
    assert changed.shape == written.shape == [2, 5]
