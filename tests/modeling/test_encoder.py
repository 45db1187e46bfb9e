"""The encoder: what a position may depend on, dropout, recomputation, sizes."""

import collections
import dataclasses
import unittest.mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.modeling.attention import attention_mask
from electra_tf2.modeling.config import TransformerConfig, transformer_config
from electra_tf2.modeling.encoder import Encoder, TransformerBlock
from electra_tf2.modeling.fused import uses_onednn
from electra_tf2.modeling.layers import activation
from electra_tf2.randomness import StepRandomness
from electra_tf2.training.predictor import constant_weights
from tests.modeling.reference import encode, weights_of

VOCAB, LENGTH, TOKENS = 50, 8, 5
CONFIG = TransformerConfig(
    vocab_size=VOCAB,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    embedding_size=8,
    max_position_embeddings=12,
    initializer_range=0.2,
)
RNG = np.random.default_rng(5)
IDS = RNG.integers(5, VOCAB, (3, LENGTH)).astype(np.int32)
SEGMENTS = RNG.integers(0, 2, (3, LENGTH)).astype(np.int32)
MASK = (np.arange(LENGTH) < np.array([[LENGTH], [TOKENS], [TOKENS]])).astype(np.int32)
REAL = MASK.astype(bool)


def seed(step):
    zero = tf.constant(0, tf.int64)
    return StepRandomness(1, tf.constant(step, tf.int64), zero, zero).dropout_seed()


def build(**kwargs):
    encoder = Encoder(kwargs.pop("config", CONFIG), name="electra", **kwargs)
    encoder.build()
    return encoder


@pytest.fixture(scope="module")
def encoder():
    return build()


def test_it_computes_what_the_formulas_say(encoder):
    expected = encode(CONFIG, weights_of(encoder), IDS, MASK, SEGMENTS)
    states = encoder(IDS, MASK, SEGMENTS)
    np.testing.assert_allclose(states.numpy()[REAL], expected[REAL], atol=2e-5)


@pytest.mark.parametrize("hidden_act", ["relu", "tanh", "linear"])
def test_other_activations(hidden_act):
    config = dataclasses.replace(
        CONFIG, hidden_act=hidden_act, num_hidden_layers=1, embedding_size=16
    )
    encoder = build(config=config)
    assert encoder.embeddings_project is None
    expected = encode(config, weights_of(encoder), IDS, MASK, SEGMENTS)
    states = encoder(IDS, MASK, SEGMENTS)
    np.testing.assert_allclose(states.numpy()[REAL], expected[REAL], atol=2e-5)


def test_an_unknown_activation_is_refused():
    with pytest.raises(UserError, match="swish") as error:
        activation("swish")
    assert "gelu" in error.value.remedy


def test_padding_has_no_influence(encoder):
    changed = np.where(REAL, IDS, RNG.integers(5, VOCAB, IDS.shape))
    assert (changed != IDS).any()
    states = encoder(IDS, MASK, SEGMENTS).numpy()
    other = encoder(changed, MASK, np.where(REAL, SEGMENTS, 1 - SEGMENTS)).numpy()
    np.testing.assert_array_equal(states[REAL], other[REAL])
    alone = encoder(IDS[1:, :TOKENS], None, SEGMENTS[1:, :TOKENS]).numpy()
    np.testing.assert_allclose(states[1:, :TOKENS], alone, atol=1e-5)
    unmasked = encoder(changed, None, SEGMENTS).numpy()
    assert np.abs(unmasked[1:, :TOKENS] - alone).max() > 1e-2


def test_defaults_are_all_tokens_and_the_first_segment(encoder):
    ones, zeros = np.ones_like(IDS), np.zeros_like(IDS)
    np.testing.assert_allclose(encoder(IDS), encoder(IDS, ones, zeros), atol=1e-6)
    assert np.abs(encoder(IDS) - encoder(IDS, ones, ones)).max() > 1e-2


@pytest.mark.parametrize("direction", ["both", "left_to_right", "right_to_left"])
def test_attention_mask(direction):
    mask = attention_mask(tf.constant(MASK), direction).numpy()
    seen = np.broadcast_to(mask, (3, 1, LENGTH, LENGTH))[:, 0]
    from_, to = np.indices((LENGTH, LENGTH))
    allowed = {"both": to >= 0, "left_to_right": to <= from_, "right_to_left": to >= from_}
    expected = np.where(allowed[direction] & REAL[:, None, :], 0.0, -10000.0)
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("direction, sees", [("left_to_right", -1), ("right_to_left", 1)])
def test_a_directed_encoder_sees_one_side(direction, sees):
    """Row r differs from the original in token r only."""
    encoder = build(direction=direction)
    original = np.repeat(IDS[:1], LENGTH, axis=0)
    changed = original.copy()
    np.fill_diagonal(changed, 5 + (np.diag(changed) - 4) % (VOCAB - 5))
    moved = np.abs(encoder(changed) - encoder(original)).max(-1) > 1e-6
    token, position = np.indices((LENGTH, LENGTH))
    np.testing.assert_array_equal(moved, (position - token) * -sees >= 0)


CONFIGS = {
    "bert": {},
    "albert": {"encoder": "albert"},
    "modern": {"encoder": "modern", "global_attention_every": 3, "local_attention": 4},
}


def graph_of(encoder, rows, training=False):
    """The graph for so many rows, None for any number, and the types of its operations."""

    def run(ids, mask, segments):
        drops = {"training": True, "seed": seed(1)} if training else {}
        return encoder(ids, mask, segments, **drops)

    signature = [tf.TensorSpec([rows, None], tf.int32)] * 3
    graph = tf.function(run, input_signature=signature, autograph=False).get_concrete_function()
    return graph, collections.Counter(node.type for node in graph.graph.get_operations())


@pytest.mark.parametrize("changed", CONFIGS.values(), ids=CONFIGS)
def test_a_graph_for_one_text_gives_the_same_without_small_operations_of_onednn(changed):
    # Without a projection of the embeddings, whose layer transposes until the graph is optimized.
    encoder = build(config=dataclasses.replace(CONFIG, embedding_size=16, **changed))
    one, any_number = graph_of(encoder, 1), graph_of(encoder, None)
    for row in range(3):
        given = [tf.constant(x[row : row + 1]) for x in (IDS, MASK, SEGMENTS)]
        expected = any_number[0](*given).numpy()[REAL[row : row + 1]]
        found = one[0](*given).numpy()[REAL[row : row + 1]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    slow = ("Transpose", "BatchMatMulV2", "Softmax")
    assert all(any_number[1][operation] for operation in slow)
    assert not uses_onednn() or not any(one[1][operation] for operation in slow)
    assert all(graph_of(encoder, 1, training=True)[1][operation] for operation in slow)


def test_kernels_of_a_graph_are_joined_once_or_not_at_all():
    """Query, key and value have one product where weights are constants or train, else three."""
    encoder = build()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    values = constant_weights(strategy, encoder)
    given = [tf.constant(x) for x in (IDS, MASK, SEGMENTS)]
    expected, counts = encoder(*given).numpy(), {}
    for kind in ("variables", "constants", "training"):
        with keras.StatelessScope() as scope:
            for pair in values if kind == "constants" else ():
                scope.add_update(pair)
            graph, counts[kind] = graph_of(encoder, None, training=kind == "training")
        if kind != "training":
            np.testing.assert_allclose(graph(*given), expected, rtol=0, atol=1e-5)
    together = 1 + 2 * 4  # the projection of the embeddings, and a block's products
    apart = together + 2 * 2 * uses_onednn()
    products = {kind: own["MatMul"] for kind, own in counts.items()}
    assert products == {"variables": apart, "constants": together, "training": together}


def test_dropout_follows_from_the_seed(encoder):
    run = lambda **kwargs: encoder(IDS, MASK, SEGMENTS, **kwargs).numpy()  # noqa: E731
    plain = run()
    dropped = run(training=True, seed=seed(1))
    np.testing.assert_array_equal(dropped, run(training=True, seed=seed(1)))
    assert np.abs(dropped - plain).max() > 1e-2
    assert np.abs(dropped - run(training=True, seed=seed(2))).max() > 1e-2
    np.testing.assert_array_equal(plain, run(training=False, seed=seed(1)))
    np.testing.assert_array_equal(plain, run(training=True, seed=None))


def test_every_place_drops_by_itself():
    """Each rate alone changes the output, and two blocks with equal weights drop differently."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    x, mask = RNG.normal(size=(3, LENGTH, 16)).astype(np.float32), attention_mask(MASK)
    for name in off:
        encoder = build(config=dataclasses.replace(CONFIG, **{**off, name: 0.5}))
        states = encoder(IDS, training=True, seed=seed(1))
        assert np.abs(states - encoder(IDS)).max() > 1e-2, name
        with unittest.mock.patch.object(TransformerBlock, "call", autospec=True) as call:
            call.side_effect = lambda block, x, mask, seed: x
            encoder(IDS, training=True, seed=seed(1))
        first, second = (arguments.kwargs["seed"] for arguments in call.call_args_list)
        block = encoder.blocks[0]
        assert np.abs(block(x, mask, seed=first) - block(x, mask, seed=second)).max() > 1e-2, name


def test_recomputation_changes_nothing(encoder):
    """Outputs and gradients are equal bit for bit, with dropout on; only blocks run again."""
    frugal = build(recompute=True)
    frugal.set_weights(encoder.get_weights())
    weight = tf.constant(RNG.normal(size=(3, LENGTH, CONFIG.hidden_size)), tf.float32)

    def run(encoder):
        variables = [v.value for v in encoder.trainable_variables]

        @tf.function(autograph=False)
        def step():
            with tf.GradientTape() as tape:
                states = encoder(IDS, MASK, SEGMENTS, training=True, seed=seed(3))
                loss = tf.reduce_sum(states * weight)
            gradients = tape.gradient(loss, variables)
            return states, [tf.convert_to_tensor(g) for g in gradients]

        operations = step.get_concrete_function().graph.get_operations()
        return *step(), sum(node.type == "Softmax" for node in operations)

    states, gradients, softmaxes = run(encoder)
    other_states, other_gradients, other_softmaxes = run(frugal)
    assert (softmaxes, other_softmaxes) == (2, 4)  # of two blocks
    np.testing.assert_array_equal(states, other_states)
    assert len(gradients) == len(encoder.trainable_variables)
    for variable, one, other in zip(
        encoder.trainable_variables, gradients, other_gradients, strict=True
    ):
        assert np.abs(one).max() > 0, variable.path
        np.testing.assert_array_equal(one, other, err_msg=variable.path)


def test_a_sequence_longer_than_the_position_table_is_refused(encoder):
    assert encoder(np.ones((1, 12), np.int32)).shape == (1, 12, 16)
    with pytest.raises(UserError, match="length 13, max_position_embeddings 12"):
        encoder(np.ones((1, 13), np.int32))


def test_mixed_precision_keeps_float32_weights(encoder):
    mixed = build(dtype="mixed_bfloat16")
    mixed.set_weights(encoder.get_weights())
    states = mixed(IDS, MASK, SEGMENTS)
    assert states.dtype == tf.bfloat16
    assert {v.dtype for v in mixed.variables} == {"float32"}
    difference = tf.cast(states, tf.float32) - encoder(IDS, MASK, SEGMENTS)
    assert np.abs(difference).max() < 0.1


def test_initial_values():
    encoder = build(config=dataclasses.replace(CONFIG, initializer_range=0.02, vocab_size=2000))
    for variable in encoder.variables:
        values = variable.numpy()
        name = variable.path
        if name.endswith(("bias", "beta")):
            assert not values.any(), name
        elif name.endswith("gamma"):
            assert (values == 1).all(), name
        elif "embeddings_project" in name:
            limit = np.sqrt(6 / (8 + 16))  # Glorot uniform
            assert 0.8 * limit < np.abs(values).max() <= limit, name
        else:
            assert np.abs(values).max() <= 0.04 + 1e-6, name  # cut at two standard deviations
    table = encoder.embeddings.word_embeddings.numpy()
    assert table.std() == pytest.approx(0.02 * 0.88, rel=0.02)
    positions = encoder.embeddings.position_embeddings.numpy()
    assert not np.array_equal(positions, table[: len(positions)])  # drawn by itself


# Parameters of the encoder, without heads, as in the released checkpoints (14M, 110M and 335M in
# the paper, discriminator head included).
@pytest.mark.parametrize(
    "model_size, embedding_size, heads, parameters",
    [
        ("small", 128, 4, 13_483_008),
        ("base", None, 12, 108_891_648),
        ("large", None, 16, 334_092_288),
    ],
)
def test_published_sizes(model_size, embedding_size, heads, parameters):
    """All layers have the same size, so one is built and counted as often as there are layers."""
    config = transformer_config(
        model_size=model_size, vocab_size=30522, embedding_size=embedding_size, overrides={}
    )
    assert config.num_attention_heads == heads
    encoder = build(config=dataclasses.replace(config, num_hidden_layers=1))
    (block,) = encoder.blocks
    more_layers = (config.num_hidden_layers - 1) * block.count_params()
    assert encoder.count_params() + more_layers == parameters
