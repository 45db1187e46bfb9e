"""Models whose discriminator adds to the generator's embeddings are opened with the sums."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.export.huggingface import ExportOptions, export_huggingface
from electra_tf2.export.keras_file import export_keras
from electra_tf2.export.saved_model import export_saved_model
from electra_tf2.loading.disentangled import folded, shared_shapes, unfolded
from electra_tf2.loading.networks import build_discriminator, build_encoder, build_generator
from electra_tf2.loading.pretrained import open_pretrained
from electra_tf2.loading.source import open_source
from electra_tf2.modeling.electra import build_pair
from finetune.model import FinetuningModel
from finetune.run.pretrained_model import initialize
from tests.export.test_huggingface_export import own_model
from tests.formats.huggingface_models import NETWORK

# Keras, of NumPy's latest rules.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

INPUTS = [
    np.array([[2, 10, 17, 12, 3], [2, 20, 4, 3, 0]], np.int32),
    np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], np.int32),
    np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], np.int32),
]
POSITIONS = np.array([[1, 2], [2, 0]], np.int32)
THERE = INPUTS[1] > 0


def add_to_embeddings(weights):
    stream = np.random.default_rng(3)
    for name in weights:
        if "_delta" in name or "embeddings/layer_norm" in name:
            weights[name] += stream.normal(scale=0.05, size=weights[name].shape).astype("f")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's folder and weights, and what its pair computes: states, logits of both."""
    folder = tmp_path_factory.mktemp("disentangled")
    folder, weights = own_model(
        folder / "model", change=add_to_embeddings, disentangled_embeddings=True
    )
    pair = build_pair(NETWORK, generator_hidden_size=0.5, disentangled_embeddings=True)
    for network in (pair.generator, pair.discriminator):
        for variable in network.trainable_variables:
            variable.assign(weights[variable.path])
    expected = {
        "encoder": pair.encoder(*INPUTS),
        "discriminator": pair.discriminator(*INPUTS),
        "generator": pair.generator(*INPUTS, positions=POSITIONS),
    }
    return folder, weights, {name: value.numpy() for name, value in expected.items()}


def assert_same(found, expected, there=...):
    assert np.abs(np.asarray(expected)).max() > 0.01
    np.testing.assert_allclose(np.asarray(found)[there], expected[there], rtol=0, atol=1e-6)


def check_networks(path, expected, *, together=False):
    """Builds the networks of a folder; the generator shares what it can with the encoder."""
    source = open_source(str(path))
    encoder = build_encoder(source)
    assert_same(encoder(*INPUTS), expected["encoder"], THERE)
    assert_same(build_discriminator(source)(*INPUTS), expected["discriminator"], THERE)
    generator = build_generator(source, encoder=encoder if together else None)
    assert_same(generator(*INPUTS, positions=POSITIONS), expected["generator"])


@pytest.mark.parametrize("together", [False, True])
def test_networks_of_a_checkpoint(model, together):
    folder, _, expected = model
    check_networks(folder, expected, together=together)


def test_fine_tuning_begins_with_the_sums(model):
    folder, weights, _ = model
    tuned = FinetuningModel([], NETWORK)
    tuned.build()
    found = initialize(tuned, open_pretrained(folder), need_heads=False, allow_partial=False)
    assert found.keys() == tuned.named_variables().keys()
    name = "embeddings/word_embeddings"
    total = weights[f"generator/{name}"] + weights[f"electra/{name}_delta"]
    np.testing.assert_array_equal(found[f"electra/{name}"], total)


def test_exports(model, tmp_path):
    folder, _, expected = model
    export_huggingface(str(folder), str(tmp_path / "theirs"), ExportOptions())
    check_networks(tmp_path / "theirs", expected)

    export_keras(str(folder), str(tmp_path / "keras"))
    for name in ("encoder", "discriminator"):
        network = keras.models.load_model(tmp_path / "keras" / f"{name}.keras")
        assert_same(network(*INPUTS), expected[name], THERE)
    generator = keras.models.load_model(tmp_path / "keras" / "generator.keras")
    assert_same(generator(*INPUTS, positions=POSITIONS), expected["generator"])


@pytest.mark.slow
def test_a_saved_model(model, tmp_path):
    folder, _, expected = model
    export_saved_model(str(folder), str(tmp_path / "saved"))
    signatures = tf.saved_model.load(str(tmp_path / "saved")).signatures
    named = dict(
        zip(("input_ids", "input_mask", "segment_ids"), map(tf.constant, INPUTS), strict=True)
    )
    probabilities = signatures["detect_ids"](**named)["probabilities"]
    assert_same(probabilities, tf.sigmoid(expected["discriminator"]).numpy(), THERE)
    logits = signatures["generate_ids"](**named, positions=tf.constant(POSITIONS))["logits"]
    assert_same(logits, expected["generator"])


def test_weights_are_taken_apart_again(model):
    """To train further; a model that shares its embeddings gives the generator a copy."""
    _, weights, _ = model
    shapes = {name: array.shape for name, array in weights.items()}
    again = unfolded(folded(weights), shapes)
    assert again.keys() == weights.keys()
    for name, array in weights.items():
        np.testing.assert_allclose(again[name], array, atol=1e-7, err_msg=name)

    shared = {name: np.ones(shape) for name, shape in shared_shapes(shapes).items()}
    assert not any(name.startswith("generator/embeddings/") for name in shared)
    parts = unfolded(shared, shapes)
    assert {name: array.shape for name, array in parts.items()} == shapes
    for name, array in parts.items():
        assert np.all(array == (0 if name.endswith("_delta") else 1)), name


def test_what_does_not_add_up_is_left_to_be_missed():
    table, delta = (f"{n}/embeddings/word_embeddings" for n in ("generator", "electra"))
    delta += "_delta"
    for arrays in ({delta: np.ones(3)}, {delta: np.ones(3), table: np.ones(2)}):
        assert folded(arrays).keys() == arrays.keys()
    plain = {"electra/embeddings/word_embeddings": np.ones(3), "x_delta": np.ones(3)}
    assert folded(plain) == unfolded(plain, {"x": (3,)}) == plain
    assert unfolded(plain | {table: np.ones(2)}, {delta: (3,)}).keys() == {*plain, table}
