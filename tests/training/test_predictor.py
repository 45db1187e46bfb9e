"""A predictor whose graph has weights as constants."""

import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.training import predictor
from electra_tf2.training.predictor import Predictor, constant_weights

IDS = np.arange(1, 25, dtype=np.int32).reshape(4, 6)


@pytest.fixture
def strategy():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def built(strategy, dtype="mixed_bfloat16"):
    with strategy.scope():
        config = TransformerConfig(
            30, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, embedding_size=16
        )
        encoder = Encoder(config, name="electra", dtype=dtype)
        encoder.build()
    return encoder


@pytest.fixture
def encoder(strategy):
    return built(strategy)


def states(strategy, encoder, constants):
    made = Predictor(strategy, lambda ids: {"states": encoder(ids)}, constants)
    batches = made.batches(lambda _: tf.data.Dataset.from_tensor_slices(IDS).batch(2), 2)
    return np.concatenate([batch["states"].astype(np.float32) for batch in batches])


def test_a_batch_s_graph_is_built_once_for_all_lengths(strategy, encoder):
    traced = []

    def forward(batch):
        traced.append(batch["ids"].shape)
        return {"states": encoder(batch["ids"])}

    made = Predictor(strategy, forward)
    for length in (3, 6, 3):
        signature = {"ids": tf.TensorSpec([1, None], tf.int32)}
        found = made.batch({"ids": IDS[:1, :length]}, signature)["states"]
        assert found.shape == (1, length, 64)
    assert len(traced) == 1


def test_threads_do_not_optimize_a_graph_at_the_same_time(strategy):
    """Each would need several times the memory of the weights."""
    calls = []

    def graph(inputs):
        calls.append("begins")
        time.sleep(0.05)
        calls.append("ends")
        return [inputs]

    made = Predictor(strategy, lambda batch: batch)
    made._one = types.SimpleNamespace(get_concrete_function=lambda signature: graph)
    signature = {"ids": tf.TensorSpec([None, 6], tf.int32)}
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: made.batch({"ids": IDS}, signature)["ids"], range(4)))
    assert calls[:2] == ["begins", "ends"] and len(calls) == 2 * 5
    np.testing.assert_array_equal(found, [IDS] * 4)


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


def test_constants_are_all_weights_but_the_tables(strategy, encoder):
    """Kernels in the compute type, and vectors, whose arithmetic is float32, as they are."""
    constants = constant_weights(strategy, encoder)
    chosen = {weight.path for weight, _ in constants}
    rest = {variable.path for variable in encoder.trainable_variables} - chosen
    tables = ("word", "position", "token_type")
    assert rest == {f"electra/embeddings/{table}_embeddings" for table in tables}
    kernels = {path for path in chosen if path.endswith("/kernel")}
    assert len(kernels) == 1 + 2 * 6  # the projection of the embeddings, and a block's products
    for weight, value in constants:
        dtype = tf.bfloat16 if weight.path in kernels else tf.float32
        expected = tf.cast(weight.value, dtype).numpy()
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("dtype, relative", [("float32", 1e-6), ("mixed_bfloat16", 2.0**-7)])
def test_a_graph_with_constants_gives_the_same_and_keeps_its_values(strategy, dtype, relative):
    encoder = built(strategy, dtype)
    constants = constant_weights(strategy, encoder)
    expected = states(strategy, encoder, ())
    within = {"rtol": 0, "atol": relative * np.abs(expected).max()}
    found = states(strategy, encoder, constants)
    np.testing.assert_allclose(found, expected, **within)
    for weight, _ in constants:
        weight.assign(2 * weight.value)
    np.testing.assert_array_equal(states(strategy, encoder, constants), found)
    assert np.abs(states(strategy, encoder, ()) - expected).max() > 0.1


def test_large_kernels_stay_variables(strategy, encoder, monkeypatch):
    monkeypatch.setattr(predictor, "_MAX_CONSTANT_BYTES", 1 << 10)
    assert constant_weights(strategy, encoder) == []
