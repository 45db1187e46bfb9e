import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.training.devices import ReplicaVariables


def doubled(variable, jit_compile):
    """Assigns in a graph, as an optimizer does."""
    double = tf.function(lambda value: 2.0 * value, jit_compile=jit_compile)
    tf.function(lambda: variable.assign(double(variable.read_value())))()


CHANGES = {
    "assign": lambda v: v.assign(tf.fill([3], 7.0)),
    "assign_add": lambda v: v.assign_add(tf.ones([3])),
    "graph": lambda v: doubled(v, False),
    "XLA": lambda v: doubled(v, True),
    "XLA in place": lambda v: tf.function(lambda: v.assign_add(v), jit_compile=True)(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_snapshot_stays_as_it_is(change):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0, 3.0])
    variables = ReplicaVariables(strategy, {"v": variable})
    taken = variables.snapshot()
    for _ in range(3):
        change(variable)
    assert variable.numpy().tolist() != [1.0, 2.0, 3.0]
    assert taken["v"].tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        taken["v"][0] = 0.0
    variables.assign(taken)
    np.testing.assert_array_equal(variable.numpy(), taken["v"])
