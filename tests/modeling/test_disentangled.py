"""A discriminator that reads the generator's embeddings and trains only what it adds to them."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.modeling.electra import build_pair, count_parameters
from electra_tf2.pretraining.replaced_token_detection import Options, ReplacedTokenDetection
from tests.modeling.test_pair import CONFIG, ELECTRA, IDS, LENGTH, SMALL, VOCAB
from tests.modeling.test_pair import variables as variables_of
from tests.pretraining.batches import masking, randomness, sequences

TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")


@pytest.fixture(scope="module")
def pair():
    return build_pair(CONFIG, generator_hidden_size=0.5, disentangled_embeddings=True)


def test_each_network_has_its_own_variables(pair):
    paths = [v.path for v in variables_of(pair)]
    assert len(set(paths)) == len(paths)
    assert {path.split("/")[0] for path in paths} == ELECTRA | SMALL
    tables = [p for p in paths if "/embeddings/" in p and "layer_norm" not in p]
    expected = {f"generator/embeddings/{name}" for name in TABLES}
    assert set(tables) == expected | {f"electra/embeddings/{name}_delta" for name in TABLES}
    assert all(path.startswith(("electra/", "disc")) for path in paths_of(pair.discriminator))
    shared = build_pair(CONFIG, generator_hidden_size=0.5)
    for ours, theirs in zip(pair[1:], shared[1:], strict=True):
        assert count_parameters(ours) == count_parameters(theirs)
    both = count_parameters(pair.generator, pair.discriminator)
    added = count_parameters(shared.encoder.embeddings)
    assert both == count_parameters(shared.generator, shared.discriminator) + added


def paths_of(model):
    return [v.path for v in model.trainable_variables]


def test_the_discriminator_reads_sums(pair):
    """At first the generator's tables; then what is added is added."""
    base, own = pair.generator.encoder.embeddings, pair.encoder.embeddings
    segments = np.arange(2 * LENGTH).reshape(2, LENGTH) % 2
    np.testing.assert_array_equal(own(IDS, segments), base(IDS, segments))
    stream = np.random.default_rng(0)
    for name in TABLES:
        delta = getattr(own, f"{name}_delta")
        assert not np.any(delta.numpy())
        delta.assign(stream.normal(size=delta.shape))
        expected = getattr(base, name).numpy() + delta.numpy()
        np.testing.assert_array_equal(own.table(name), expected)
    np.testing.assert_array_equal(own.words(IDS), own.table("word_embeddings").numpy()[IDS])
    assert np.abs(own(IDS, segments) - base(IDS, segments)).max() > 0.1


@pytest.mark.parametrize("loss", ["generator", "discriminator"])
def test_each_loss_trains_its_own_tables(pair, loss):
    """The discriminator's loss gives the generator nothing at all, and the other way round."""
    weights = Options(gen_weight=float(loss == "generator"), disc_weight=float(loss != "generator"))
    objective = ReplacedTokenDetection(
        pair.generator, pair.discriminator, masking(2, mask_prob=0.25), weights
    )
    inputs = sequences([LENGTH] * 4, LENGTH, vocab_size=VOCAB)
    prepared, _ = objective.prepare(inputs._asdict(), randomness())
    named = objective.named_variables()
    with tf.GradientTape() as tape:
        numerators, _ = objective.compute(prepared, randomness(), training=True)
        total = tf.add_n([objective.loss_weights[n] * numerators[n] for n in numerators])
    zero = tf.UnconnectedGradients.ZERO
    variables = [v.value for v in named.values()]
    gradients = tape.gradient(total, variables, unconnected_gradients=zero)
    largest = {
        name: np.abs(tf.convert_to_tensor(gradient)).max()
        for name, gradient in zip(named, gradients, strict=True)
    }
    trained = {name for name, value in largest.items() if value > 0}
    assert trained == {name for name in named if name.startswith("gen") == (loss == "generator")}


def test_albert_style_layers_go_with_it():
    config = CONFIG.to_dict() | {"encoder": "albert"}
    pair = build_pair(
        type(CONFIG)(**config), generator_hidden_size=0.5, disentangled_embeddings=True
    )
    paths = [v.path for v in variables_of(pair)]
    assert {"electra/shared_layer/output/kernel", "generator/shared_layer/output/kernel"} < {*paths}
    assert pair.discriminator(IDS).shape == (2, LENGTH)


@pytest.mark.parametrize(
    "variant",
    [
        {"with_discriminator": False},
        {"uniform_generator": True},
        {"untied_generator": False},
        {"two_tower_generator": True},
        {"untied_generator_embeddings": True},
    ],
    ids=str,
)
def test_pairs_without_common_embeddings_are_refused(variant):
    with pytest.raises(ValueError, match="would share"):
        build_pair(CONFIG, disentangled_embeddings=True, **variant)


def test_a_file_of_the_discriminator_alone_is_refused(pair, tmp_path):
    with pytest.raises(ValueError, match="generator's embeddings"):
        pair.discriminator.save(tmp_path / "discriminator.keras")
