"""The modern encoder: what it computes, who sees whom, its pairs, sizes and settings."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from configure_finetuning import FinetuningConfig
from configure_pretraining import PretrainingConfig
from electra_tf2.errors import UserError
from electra_tf2.formats.huggingface_names import encoder_shapes
from electra_tf2.modeling.config import TransformerConfig
from electra_tf2.modeling.electra import build_pair, count_parameters
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.modeling.fused import gated_gelu, scaled_layer_norm
from electra_tf2.training.optimizers import NOT_DECAYED
from tests.modeling.reference import encode_modern, weights_of

PAGE = (Path(__file__).parents[2] / "docs" / "beyond_electra.md").read_text(encoding="utf-8")
LENGTH, TOKENS = 11, 8
CONFIG = TransformerConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=16,
    initializer_range=0.2,
    encoder="modern",
    global_attention_every=2,
    local_attention=4,
)
RNG = np.random.default_rng(5)
IDS = RNG.integers(5, 40, (3, LENGTH)).astype(np.int32)
MASK = (np.arange(LENGTH) < np.array([[LENGTH], [TOKENS], [TOKENS]])).astype(np.int32)
REAL = MASK.astype(bool)
SEED = np.array([11, 5 << 24], np.int64)


def built(config=CONFIG, **arguments):
    encoder = Encoder(config, name="electra", **arguments)
    encoder.build()
    for variable in encoder.trainable_variables:
        if variable.path.endswith("gamma"):
            variable.assign(RNG.normal(1, 0.2, variable.shape))
    return encoder


@pytest.fixture(scope="module")
def encoder():
    return built()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"embedding_size": 8, "hidden_act": "tanh"},
        {"global_attention_every": 3, "local_attention": 1, "local_rope_theta": 50.0},
        {"global_attention_every": 1, "global_rope_theta": 100.0},
    ],
    ids=str,
)
def test_it_computes_what_the_formulas_say(encoder, changed):
    config = dataclasses.replace(CONFIG, **changed)
    network = built(config) if changed else encoder
    expected = encode_modern(config, weights_of(network), IDS, MASK)
    np.testing.assert_allclose(network(IDS, MASK).numpy()[REAL], expected[REAL], atol=2e-5)


@pytest.mark.parametrize(
    "length, direction, way",
    [
        (24, "both", "recomputed"),
        (27, "both", "compiled"),
        (27, "left_to_right", ""),
        (27, "right_to_left", ""),
    ],
)
def test_attention_in_blocks_is_the_same(length, direction, way):
    """Texts as long as some blocks, and others; forward and backward."""
    config = dataclasses.replace(CONFIG, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    assert config.attends_in_blocks(length) and not config.attends_in_blocks(None)
    network = built(config, direction=direction)
    ids = RNG.integers(5, 40, (3, length)).astype(np.int32)
    mask = (np.arange(length) < np.array([[length], [9], [2]])).astype(np.int32)
    weights = tf.constant(RNG.normal(size=(*mask.shape, 16)) * mask[..., None], tf.float32)

    def run(ids, mask):
        with tf.GradientTape() as tape:
            states = network(ids, mask, training=True, seed=tf.constant(SEED))
            loss = tf.reduce_sum(weights * states)
        return states, tape.gradient(loss, [v.value for v in network.trainable_variables])

    unknown = [tf.TensorSpec([None, None], tf.int32)] * 2
    expected, theirs = tf.function(run, input_signature=unknown)(ids, mask)
    if direction == "both":
        formulas = encode_modern(config, weights_of(network), ids, mask)
        np.testing.assert_allclose(expected.numpy()[mask > 0], formulas[mask > 0], atol=2e-5)
    network.recompute = way == "recomputed"
    states, ours = tf.function(run, jit_compile=way == "compiled")(ids, mask)
    np.testing.assert_allclose(states.numpy()[mask > 0], expected.numpy()[mask > 0], atol=2e-5)
    for one, other in zip(ours, theirs, strict=True):
        one, other = (tf.convert_to_tensor(gradient) for gradient in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_its_variables(encoder):
    shapes = {v.path: tuple(v.shape) for v in encoder.trainable_variables}
    block = {f"attention/{name}/kernel": (16, 16) for name in ("query", "key", "value", "output")}
    block |= {"intermediate/kernel": (16, 24), "gate/kernel": (16, 24), "output/kernel": (24, 16)}
    block |= {"attention/layer_norm/gamma": (16,), "layer_norm/gamma": (16,)}
    expected = {f"layer_{i}/{name}": shape for i in range(3) for name, shape in block.items()}
    del expected["layer_0/attention/layer_norm/gamma"]
    expected |= {"embeddings/word_embeddings": (40, 16), "embeddings/layer_norm/gamma": (16,)}
    expected |= {"final_layer_norm/gamma": (16,)}
    assert shapes == {f"electra/{name}": shape for name, shape in expected.items()}
    spared = {path for path in shapes if NOT_DECAYED.search(path)}
    assert spared == {path for path in shapes if path.endswith("gamma")}


def test_it_needs_no_table_and_counts_from_any_position(encoder):
    """Attention knows distances alone: padding before a text changes nothing but its place."""
    longer = np.pad(IDS, [(0, 0), (600, 0)])
    mask = np.pad(np.ones_like(MASK), [(0, 0), (600, 0)])
    moved = encoder(longer, mask)[:, 600:]
    np.testing.assert_allclose(moved, encoder(IDS), atol=2e-4)


def test_padding_and_segments_have_no_influence(encoder):
    states = encoder(IDS, MASK)
    other = np.where(REAL, IDS, 7)
    np.testing.assert_allclose(
        encoder(other, MASK, np.ones_like(IDS)).numpy()[REAL], states.numpy()[REAL], atol=1e-6
    )
    alone = encoder(IDS[1:, :TOKENS])
    np.testing.assert_allclose(alone, states[1:, :TOKENS], atol=1e-5)


def test_local_attention_sees_half_its_width_on_either_side(encoder):
    states, attentions = encoder.trace(IDS, MASK, np.zeros_like(IDS))
    np.testing.assert_array_equal(states[-1], encoder(IDS, MASK))
    distances = np.abs(np.arange(LENGTH)[:, None] - np.arange(LENGTH))
    for layer, found in enumerate(attentions):
        seen = np.asarray(found)[0] > 0
        expected = distances <= (2 if layer == 1 else LENGTH)
        np.testing.assert_array_equal(seen, np.broadcast_to(expected, seen.shape))
        np.testing.assert_allclose(np.sum(found, -1), 1.0, atol=1e-5)


def gradients(encoder):
    """(states, gradients) of some function of the states, with dropout."""
    weights = tf.constant(np.random.default_rng(3).normal(size=(3, LENGTH, 16)), tf.float32)

    @tf.function
    def run(seed):
        with tf.GradientTape() as tape:
            states = encoder(IDS, MASK, training=True, seed=seed)
            loss = tf.reduce_sum(weights * states)
        return states, tape.gradient(loss, [v.value for v in encoder.trainable_variables])

    states, found = run(tf.constant(SEED))
    return states, [np.asarray(tf.convert_to_tensor(gradient)) for gradient in found]


def test_recomputing_changes_nothing(encoder):
    frugal = built(recompute=True)
    for mine, theirs in zip(frugal.trainable_variables, encoder.trainable_variables, strict=True):
        mine.assign(theirs)
    states, expected = gradients(encoder)
    again, found = gradients(frugal)
    np.testing.assert_allclose(again, states, atol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
    assert not np.allclose(states, encoder(IDS, MASK), atol=1e-2)  # something is dropped


@pytest.mark.parametrize("function", ["gated_gelu", "layer_norm"])
def test_gradients_are_those_of_the_formulas(function):
    x, other = (tf.constant(RNG.normal(size=(5, 6)), tf.float32) for _ in range(2))
    weights = tf.constant(RNG.normal(size=(5, 6)), tf.float32)
    if function == "gated_gelu":
        ours, inputs = gated_gelu, (x, other)
        plain = lambda x, gate: tf.nn.gelu(x) * gate  # noqa: E731
    else:
        ours, inputs = (lambda x, g: scaled_layer_norm(x, g, epsilon=1e-5)), (x, other[0])

        def plain(x, gamma):
            mean, variance = tf.nn.moments(x, -1, keepdims=True)
            return (x - mean) / tf.sqrt(variance + 1e-5) * gamma

    results = []
    for run in (ours, plain):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = run(*inputs)
            loss = tf.reduce_sum(y * weights)
        results.append([y, *tape.gradient(loss, inputs)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_half_precision(encoder):
    half = built(dtype="mixed_bfloat16")
    for mine, theirs in zip(half.trainable_variables, encoder.trainable_variables, strict=True):
        mine.assign(theirs)
    states = half(IDS, MASK)
    assert states.dtype == tf.bfloat16
    assert {v.dtype for v in half.trainable_variables} == {"float32"}
    np.testing.assert_allclose(states.numpy()[REAL], encoder(IDS, MASK).numpy()[REAL], atol=0.15)


def test_initial_values():
    config = dataclasses.replace(
        CONFIG, hidden_size=128, intermediate_size=344, initializer_range=0.02
    )
    network = Encoder(config, name="electra")
    network.build()
    for variable in network.trainable_variables:
        name, value = variable.path, variable.numpy()
        if name.endswith("gamma"):
            assert (value == 1).all()
        elif "embeddings_project" not in name:
            # A normal distribution that is cut off at two deviations has .88 of the deviation.
            residual = 1 / np.sqrt(2 * 3) if "/output/" in name else 1
            assert np.abs(value).max() <= 0.04 * residual, name
            assert value.std() == pytest.approx(0.0176 * residual, rel=0.1), name


@pytest.mark.parametrize(
    "variant", [{}, {"two_tower_generator": True}, {"disentangled_embeddings": True}], ids=str
)
def test_both_networks_of_a_pair_are_modern(variant):
    pair = build_pair(CONFIG, generator_hidden_size=0.5, **variant)
    towers = [layer for layer in pair.generator.layers if isinstance(layer, Encoder)]
    for network in (pair.encoder, *towers):
        assert network.config.encoder == "modern" and network.config.local_attention == 4
        gated = network.blocks[0]
        assert tuple(gated.gate.kernel.shape) == tuple(gated.intermediate.kernel.shape)
    for tower in towers:
        assert tower.config.intermediate_size == 8 * 3  # of a hidden size of 8
        assert tower.embeddings_project is not None and not tower.embeddings_project.use_bias
        assert (tower.embeddings is pair.encoder.embeddings) == (
            "disentangled_embeddings" not in variant
        )
    everything = pair.generator.trainable_variables + pair.discriminator.trainable_variables
    biases = {v.path for v in everything if v.path.endswith("bias") or v.path.endswith("beta")}
    head = "cloze_predictions" if len(towers) > 1 else "generator_predictions"
    assert biases == {"discriminator_predictions/logit/bias", f"{head}/output_bias"}


def test_a_directed_tower_sees_one_side_and_what_is_near():
    tower = built(direction="left_to_right")
    _, attentions = tower.trace(IDS, np.ones_like(MASK), np.zeros_like(IDS))
    rows, columns = np.indices((LENGTH, LENGTH))
    for layer, found in enumerate(attentions):
        near = (rows - columns <= 2) | (layer != 1)
        np.testing.assert_array_equal(np.asarray(found)[0, 0] > 0, (columns <= rows) & near)


@pytest.mark.parametrize("size, hidden, inner", [("small", 256, 680), ("base", 768, 2048),
                                                ("large", 1024, 2728)])  # fmt: skip
def test_sizes_are_about_those_of_bert(size, hidden, inner):
    hparams = {"model_size": size, "max_seq_length": 4096}
    network = PretrainingConfig("m", "d", encoder="modern", **hparams).network()
    assert (network.hidden_size, network.embedding_size) == (hidden, hidden)
    assert network.intermediate_size == inner
    assert network == FinetuningConfig("m", "d", encoder="modern", model_size=size).network()
    if size == "small":
        other = PretrainingConfig("m", "d", encoder="bert", embedding_size=256).network()
        counts = []
        for config in (network, other):
            encoder = Encoder(config, name="electra")
            encoder.build()
            counts.append(count_parameters(encoder) - count_parameters(encoder.embeddings))
        assert counts[0] == pytest.approx(counts[1], rel=0.01)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_parameters_that_the_page_names(size):
    counts = []
    for encoder in ("bert", "modern"):
        config = PretrainingConfig("m", "d", encoder=encoder, model_size=size)
        network = dataclasses.replace(config.network(), embedding_size=config.network().hidden_size)
        counts.append(sum(map(math.prod, encoder_shapes(network).values())))
    assert f"| {size} | {counts[0]:,} | {counts[1]:,} |" in PAGE


def test_the_table_of_shapes_is_what_is_built():
    for config in (CONFIG, dataclasses.replace(CONFIG, embedding_size=8)):
        network = built(config)
        found = {v.path.removeprefix("electra/"): v.shape for v in network.trainable_variables}
        assert found == encoder_shapes(config)


@pytest.mark.parametrize(
    "hparams, keyword",
    [
        ({"model_hparam_overrides": {"local_attention": 64}}, "Only the encoder modern"),
        ({"encoder": "modern", "copy_positions": 64, "init_checkpoint": "m"}, "rotary"),
        ({"encoder": "modern", "max_seq_length": 8193}, "max_position_embeddings = 8192"),
        (
            {"encoder": "modern", "model_hparam_overrides": {"num_attention_heads": 256}},
            "even number",
        ),
        (
            {"encoder": "modern", "model_hparam_overrides": {"global_rope_theta": 0.5}},
            "global_rope_theta",
        ),
        (
            {
                "encoder": "modern",
                "generator_hidden_size": 0.2,
                "model_hparam_overrides": {"hidden_size": 130, "num_attention_heads": 1},
            },
            None,
        ),
        (
            {
                "encoder": "modern",
                "generator_hidden_size": 0.5,
                "model_hparam_overrides": {"hidden_size": 130, "num_attention_heads": 1},
            },
            "into even parts",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(hparams, keyword):
    if keyword is None:
        PretrainingConfig("m", "d", **hparams)
        return
    with pytest.raises(UserError, match=keyword):
        PretrainingConfig("m", "d", **hparams)


def test_other_encoders_are_stored_as_before():
    stored = dataclasses.replace(CONFIG, encoder="bert").to_dict()
    assert not {"global_attention_every", "local_attention"} & stored.keys()
    assert TransformerConfig(**CONFIG.to_dict()) == CONFIG
