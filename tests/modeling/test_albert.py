"""The ALBERT-style encoder: one block for all passes, factorized embeddings, counts."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from configure_pretraining import PretrainingConfig
from electra_tf2.hparams.record import parse_hparams
from electra_tf2.modeling.config import TransformerConfig, generator_config
from electra_tf2.modeling.electra import build_pair, count_parameters, describe_parameters
from electra_tf2.modeling.encoder import Encoder
from electra_tf2.randomness import SITES_PER_BLOCK, site_seed

PAGE = (Path(__file__).parents[2] / "docs" / "albert.md").read_text(encoding="utf-8")
PASSES = 2
CONFIG = TransformerConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=PASSES,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=8,
    max_position_embeddings=12,
    initializer_range=0.2,
    encoder="albert",
)
IDS = np.random.default_rng(2).integers(5, 40, (4, 9)).astype(np.int32)
SEED = np.array([11, 5 << 24], np.int64)


def built(config, **arguments):
    encoder = Encoder(config, name="electra", **arguments)
    encoder.build()
    return encoder


@pytest.fixture(scope="module")
def shared():
    return built(CONFIG)


@pytest.fixture(scope="module")
def stack(shared):
    """An ordinary encoder; each of its layers has the weights of the shared one."""
    encoder = built(dataclasses.replace(CONFIG, encoder="bert"))
    ours = {v.path: v for v in shared.trainable_variables}
    for variable in encoder.trainable_variables:
        variable.assign(ours[shared_path(variable.path)])
    return encoder


def shared_path(path):
    return re.sub(r"layer_\d+", "shared_layer", path)


def gradients(encoder, seed):
    """(states, variable path -> gradient) of some function of the states, with dropout."""
    weights = tf.constant(np.random.default_rng(3).normal(size=(4, 9, 16)), tf.float32)

    @tf.function
    def run(seed):
        with tf.GradientTape() as tape:
            states = encoder(IDS, training=True, seed=seed)
            loss = tf.reduce_sum(weights * states)
        variables = [v.value for v in encoder.trainable_variables]
        return states, tape.gradient(loss, variables, unconnected_gradients="zero")

    states, found = run(tf.constant(seed))
    found = [np.asarray(tf.convert_to_tensor(gradient)) for gradient in found]
    paths = [v.path for v in encoder.trainable_variables]
    return states, dict(zip(paths, found, strict=True))


def test_there_is_one_layer_of_weights(shared):
    paths = [v.path for v in shared.trainable_variables]
    assert len(set(paths)) == len(paths)
    tops = {path.split("/")[1] for path in paths}
    assert tops == {"embeddings", "embeddings_project", "shared_layer"}
    assert "electra/shared_layer/attention/query/kernel" in paths
    assert len(shared.blocks) == PASSES


@pytest.fixture(scope="module")
def shared_gradients(shared):
    return gradients(shared, SEED)


def test_the_gradient_is_the_sum_over_the_passes_of_a_stack(shared_gradients, stack):
    """The passes drop what the layers of the stack drop: each has a seed of its own."""
    states, ours = shared_gradients
    expected, theirs = gradients(stack, SEED)
    np.testing.assert_allclose(states, expected, atol=1e-6)
    summed = {}
    for path, gradient in theirs.items():
        summed[shared_path(path)] = summed.get(shared_path(path), 0.0) + gradient
    assert summed.keys() == ours.keys()
    for path, gradient in summed.items():
        np.testing.assert_allclose(ours[path], gradient, rtol=1e-4, atol=1e-4, err_msg=path)


def test_the_passes_do_not_drop_the_same(shared):
    """The same block on the same states, once as the first pass and once as the second."""
    states = tf.ones([2, 9, 16])
    mask = tf.zeros([2, 1, 1, 9])
    passes = [shared.blocks[0](states, mask, seed=site_seed(tf.constant(SEED), site))
              for site in (1, 1 + SITES_PER_BLOCK)]  # fmt: skip
    assert not np.allclose(*passes)


def test_recomputing_gives_the_same_gradients(shared, shared_gradients):
    frugal = built(CONFIG, recompute=True)
    for mine, theirs in zip(frugal.trainable_variables, shared.trainable_variables, strict=True):
        mine.assign(theirs)
    _, expected = shared_gradients
    _, found = gradients(frugal, SEED)
    for path, gradient in expected.items():
        np.testing.assert_allclose(found[path], gradient, rtol=1e-4, atol=1e-5, err_msg=path)


def embedding_parameters(config):
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    return (rows + 2) * config.embedding_size


def encoder_parameters(config):
    """By hand: tables and LayerNorm, projection, and the blocks that there are."""
    hidden, inner, embedding = config.hidden_size, config.intermediate_size, config.embedding_size
    block = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    project = embedding * hidden + hidden if embedding != hidden else 0
    blocks = {"albert": 1, "bert": config.num_hidden_layers}[config.encoder]
    return embedding_parameters(config) + project + blocks * block


def test_parameters_of_a_pair_are_counted_once():
    pair = build_pair(CONFIG, generator_hidden_size=0.5)
    small = generator_config(CONFIG, hidden_fraction=0.5, layers_fraction=1.0)
    embeddings, kept = embedding_parameters(CONFIG), encoder_parameters(CONFIG)
    discriminator = kept + 16 * 16 + 16 + 16 + 1
    generator = encoder_parameters(small) + 8 * 8 + 8 + 2 * 8 + 40
    assert count_parameters(pair.encoder) == kept
    assert count_parameters(pair.discriminator) == discriminator
    assert count_parameters(pair.generator) == generator
    total = discriminator + generator - embeddings
    assert count_parameters(pair.generator, pair.discriminator) == total
    assert describe_parameters(pair) == (
        f"{total:,} parameters ({generator:,} generator, {discriminator:,} discriminator, "
        f"{embeddings:,} of these in both); {kept:,} in the encoder, "
        "2 passes through one layer"
    )


def test_parameters_of_pairs_that_share_all_or_nothing():
    stack = dataclasses.replace(CONFIG, encoder="bert")
    both = describe_parameters(build_pair(stack, untied_generator=False))
    assert "of these in both" in both and "passes" not in both
    assert "generator" not in describe_parameters(build_pair(stack, uniform_generator=True))
    assert "in both" not in describe_parameters(build_pair(stack, uniform_generator=True))
    assert "discriminator" not in describe_parameters(build_pair(stack, with_discriminator=False))


def test_the_command_of_the_page():
    (text,) = re.findall(r"^python run_pretraining.py .*? --hparams '(.*)'$", PAGE, re.M)
    network = PretrainingConfig("alectra", "data", **parse_hparams(text)).network()
    assert (network.encoder, network.hidden_size, network.embedding_size) == ("albert", 768, 128)


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_parameters_that_the_page_names(size):
    counts = []
    for encoder in ("bert", "albert"):
        network = PretrainingConfig("m", "d", encoder=encoder, model_size=size).network()
        counts.append(encoder_parameters(network))
        if size == "small":
            assert count_parameters(built(network)) == counts[-1]
    assert f"| {size} | {counts[0]:,} | {counts[1]:,} |" in PAGE


@pytest.mark.parametrize("size, hidden", [("small", 256), ("base", 768), ("large", 1024)])
def test_embeddings_are_factorized_at_every_size(size, hidden):
    network = PretrainingConfig("m", "d", encoder="albert", model_size=size).network()
    assert (network.encoder, network.embedding_size) == ("albert", 128)
    assert network.hidden_size == hidden
    own = PretrainingConfig("m", "d", encoder="albert", model_size=size, embedding_size=64)
    assert own.network().embedding_size == 64
    debug = PretrainingConfig("m", "d", encoder="albert", model_size=size, debug=True).network()
    assert (debug.encoder, debug.num_hidden_layers) == ("albert", 3)


def test_both_networks_of_a_pair_share_their_layers():
    pair = build_pair(CONFIG, generator_hidden_size=0.5)
    towers = build_pair(CONFIG, generator_hidden_size=0.5, two_tower_generator=True).generator
    for encoder in (pair.encoder, pair.generator.encoder, towers.left_to_right):
        assert len({id(block) for block in encoder.blocks}) == 1
    assert pair.generator.encoder.embeddings is pair.encoder.embeddings
    assert pair.generator.encoder.blocks[0] is not pair.encoder.blocks[0]


def test_half_precision():
    states = built(CONFIG, dtype="mixed_bfloat16")(IDS)
    assert states.dtype == tf.bfloat16
