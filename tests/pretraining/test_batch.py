"""Batches as users have them."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.batch import as_inputs

IDS = np.array([[5, 6, 0, 0], [7, 8, 9, 0]])


@pytest.mark.parametrize("make", [np.asarray, np.uint16, tf.constant, lambda ids: ids.tolist()])
def test_ids_alone(make):
    inputs = as_inputs(make(IDS), pad_id=0)
    assert {tensor.dtype for tensor in inputs} == {tf.int32}
    np.testing.assert_array_equal(inputs.input_ids, IDS)
    np.testing.assert_array_equal(inputs.input_mask, IDS != 0)
    np.testing.assert_array_equal(inputs.segment_ids, np.zeros((2, 4)))


def test_another_padding():
    np.testing.assert_array_equal(as_inputs(IDS, pad_id=9).input_mask, IDS != 9)


def test_what_is_given_is_taken():
    mask, segments = np.ones_like(IDS, bool), np.eye(2, 4, dtype=int)
    batch = {"segment_ids": segments, "input_ids": IDS, "input_mask": mask}
    inputs = as_inputs(batch, pad_id=0)
    np.testing.assert_array_equal(inputs.input_mask, mask)
    np.testing.assert_array_equal(inputs.segment_ids, segments)
    assert inputs.input_mask.dtype == tf.int32


WRONG = {
    "floats": (np.ones((2, 3)), "float64, shape (2, 3)"),
    "one row": (IDS[0], "shape (4,)"),
    "text": (["the", "cat"], "string"),
    "ragged": ([[1, 2], [3]], "list"),
    "an object": (object(), "object"),
    "no ids": ({"input_mask": IDS}, "input_mask"),
    "another part": ({"input_ids": IDS, "labels": IDS}, "input_ids, labels"),
    "another shape": ({"input_ids": IDS, "input_mask": IDS[:, :3]}, "(2, 3) beside (2, 4)"),
}


@pytest.mark.parametrize("row", WRONG)
def test_batches_that_are_refused(row):
    batch, received = WRONG[row]
    with pytest.raises(UserError) as error:
        as_inputs(batch, pad_id=0)
    assert received in error.value.received
    assert "batch" in error.value.where and "[batch, length]" in error.value.remedy


def test_a_length_that_is_not_known_in_a_graph_is_refused():
    function = tf.function(lambda ids: as_inputs(ids, 0), autograph=False)
    with pytest.raises(UserError, match="length of the rows isn't known") as error:
        function.get_concrete_function(tf.TensorSpec([None, None], tf.int64))
    assert "padded_batch" in error.value.remedy
    found = function.get_concrete_function(tf.TensorSpec([None, 4], tf.int64))
    assert found.structured_outputs.input_mask.shape.as_list() == [None, 4]
