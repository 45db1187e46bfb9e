"""A predictor whose graph has kernels as constants."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.training import predictor
from electra_tf2.training.predictor import Predictor, constant_kernels

IDS = np.arange(1, 25, dtype=np.int32).reshape(4, 6)


@pytest.fixture
def strategy():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.fixture
def encoder(strategy):
    with strategy.scope():
        config = TransformerConfig(
            30, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, embedding_size=16
        )
        encoder = Encoder(config, name="electra", dtype="mixed_bfloat16")
        encoder.build()
    return encoder


def states(strategy, encoder, constants):
    made = Predictor(strategy, lambda ids: {"states": encoder(ids)}, constants)
    batches = made.batches(lambda _: tf.data.Dataset.from_tensor_slices(IDS).batch(2), 2)
    return np.concatenate([batch["states"] for batch in batches])


@pytest.mark.parametrize("devices", [["/cpu:0"], ["/cpu:0", "/cpu:1"]])
def test_the_data_s_functions_are_not_rewritten(devices):
    """Rewriting them for autograph takes a second: a Python branch on a tensor stays one."""
    strategy = tf.distribute.MirroredStrategy(devices)
    made = Predictor(strategy, lambda ids: {"ids": ids})

    def data(_):
        return tf.data.Dataset.range(4).map(lambda number: 1 if number > 0 else 0).batch(1)

    with pytest.raises(TypeError, match="Python `bool`"):
        next(made.batches(data, 1))


def test_many_predictors_are_no_reason_to_warn(strategy, caplog):
    for width in range(1, 13):
        made = Predictor(strategy, lambda ids: {"ids": ids})
        ids = tf.data.Dataset.from_tensors(tf.zeros((1, width)))
        next(made.batches(lambda _, ids=ids: ids, 1))
    assert not caplog.records


def test_constants_are_the_kernels_in_the_compute_type(strategy, encoder):
    constants = constant_kernels(strategy, encoder)
    assert len(constants) == 1 + 2 * 6  # the projection of the embeddings, and a block's products
    assert {tf.as_dtype(value.dtype) for _, value in constants} == {tf.bfloat16}
    for kernel, value in constants:
        assert kernel.path.endswith("/kernel")
        np.testing.assert_array_equal(tf.cast(kernel.value, tf.bfloat16).numpy(), value)


def test_a_graph_with_constants_gives_the_same_and_keeps_its_values(strategy, encoder):
    constants = constant_kernels(strategy, encoder)
    expected = states(strategy, encoder, ())
    np.testing.assert_array_equal(states(strategy, encoder, constants), expected)
    for kernel, _ in constants:
        kernel.assign(2 * kernel.value)
    np.testing.assert_array_equal(states(strategy, encoder, constants), expected)
    assert np.abs(states(strategy, encoder, ()) - expected).max() > 0.1


def test_large_kernels_stay_variables(strategy, encoder, monkeypatch):
    monkeypatch.setattr(predictor, "_MAX_CONSTANT_BYTES", 1 << 10)
    assert constant_kernels(strategy, encoder) == []
