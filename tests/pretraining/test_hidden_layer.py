"""A discriminator whose states are taken from a layer inside a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.protocol import DiscriminatorNetwork
from electra_tf2.pretraining.replaced_token_detection import ReplacedTokenDetection
from tests.pretraining.batches import masking, sequences
from tests.pretraining.networks import (
    LENGTH,
    VOCAB,
    WIDTH,
    dropout_seed,
    embedding_layer,
    unigram_generator,
)

INPUTS = sequences([LENGTH, 7, 9], LENGTH, vocab_size=VOCAB)


def functional():
    """A language model: embedding, convolution, dropout, states, vocabulary."""
    ids = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCAB, 8, name="table")(ids)
    x = keras.layers.Conv1D(6, 3, padding="same", name="states")(x)
    x = keras.layers.Dropout(0.5, name="after")(x)
    return keras.Model(ids, keras.layers.Dense(VOCAB, name="vocabulary")(x), name="whole")


class Subclassed(keras.Model):
    """The same, with the layers one level down."""

    def __init__(self):
        super().__init__(name="whole")
        layers = [keras.layers.Embedding(VOCAB, 8, name="table")]
        layers.append(keras.layers.Conv1D(6, 3, padding="same", name="states"))
        self.body = keras.Sequential(layers, name="body")
        self.vocabulary = keras.layers.Dense(VOCAB, name="vocabulary")
        self(np.zeros((1, LENGTH), np.int32))

    def call(self, input_ids, input_mask=None):
        return tf.nn.softmax(self.vocabulary(self.body(input_ids)))


def layer_of(model, name):
    return next(layer for layer in model._flatten_layers() if layer.name == name)


def logits(network, training=False, **kwargs):
    seed = dropout_seed(**kwargs) if training else None
    return network.logits(INPUTS, training=training, seed=seed).numpy()


@pytest.mark.parametrize("make", [functional, Subclassed])
def test_the_head_stands_upon_the_layers_output(make):
    model = make()
    network = DiscriminatorNetwork(model, "states")
    states = layer_of(model, "states")(layer_of(model, "table")(INPUTS.input_ids))
    expected = tf.matmul(states, network.head.kernel)[..., 0]
    found = logits(network)
    assert found.shape == (3, LENGTH)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "call" not in vars(layer_of(model, "states"))
    # The model itself is what it was.
    assert model(INPUTS.input_ids).shape == (3, LENGTH, VOCAB)


@pytest.mark.parametrize("make", [functional, Subclassed])
def test_what_comes_after_the_layer_is_not_trained(make):
    model = make()
    network = DiscriminatorNetwork(model, "states")
    layer = layer_of(model, "vocabulary")
    assert {id(v) for v in network.unused} == {id(v) for v in layer.trainable_variables}
    generator = unigram_generator(embedding_layer())
    task = ReplacedTokenDetection(generator, model, masking(2), discriminator_layer="states")
    named = task.named_variables()
    assert not any("vocabulary" in name for name in named)
    assert {name for name in named if "replaced_token_head" in name} == {
        "replaced_token_head/bias",
        "replaced_token_head/kernel",
    }
    variables = list(named.values())
    with tf.GradientTape() as tape:
        result = task(INPUTS.input_ids, step=0)
    gradients = tape.gradient(result.loss, [v.value for v in variables])
    for name, gradient in zip(named, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, name


def test_layers_that_the_generator_trains_stay():
    """The vocabulary layer is unused in the discriminator, but the generator's logits too."""
    model = functional()
    ids = keras.Input((LENGTH,), dtype="int32")
    embedded = keras.layers.Embedding(VOCAB, 6, name="own")(ids)
    generator = keras.Model(ids, layer_of(model, "vocabulary")(embedded))
    task = ReplacedTokenDetection(generator, model, masking(2), discriminator_layer="states")
    assert any("vocabulary/kernel" in name for name in task.named_variables())


def test_dropout_from_the_seed():
    network = DiscriminatorNetwork(functional(), "after")
    first = logits(network, training=True)
    np.testing.assert_array_equal(first, logits(network, training=True))
    assert (first != logits(network, training=True, step=1)).any()
    assert (first != logits(network)).any()


def test_the_first_of_several_outputs_and_the_last_of_several_calls():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.table = keras.layers.Embedding(VOCAB, WIDTH)
            self.layer = keras.layers.MultiHeadAttention(2, 4, name="attention")
            self(np.zeros((1, LENGTH), np.int32))

        def call(self, tokens):
            x = self.table(tokens)
            for _ in range(2):
                x = self.layer(x, x, return_attention_scores=True)[0]
            return x

    model = Twice()
    network = DiscriminatorNetwork(model, "attention")
    expected = tf.matmul(model(INPUTS.input_ids), network.head.kernel)[..., 0]
    np.testing.assert_allclose(logits(network), expected, rtol=1e-4, atol=1e-6)


class WithTwins(keras.Model):
    """Two layers of one name, one that never runs, and one that gives one vector a row."""

    def __init__(self):
        super().__init__(name="twins")
        self.first = keras.Sequential([keras.layers.Embedding(VOCAB, 4, name="table")], name="a")
        self.second = keras.Sequential([keras.layers.Embedding(VOCAB, 4, name="table")], name="b")
        self.pooled = keras.layers.GlobalAveragePooling1D(name="pooled")
        self.idle = keras.layers.Dense(2, name="idle")
        self.idle.build((None, 4))
        self(np.zeros((1, LENGTH), np.int32))

    def call(self, tokens):
        return self.pooled(self.first(tokens) + self.second(tokens))


def test_a_layer_by_its_path():
    """Where a name alone would not do."""
    model = WithTwins()
    network = DiscriminatorNetwork(model, model.second.layers[0].path)
    states = model.second(INPUTS.input_ids)
    expected = tf.matmul(states, network.head.kernel)[..., 0]
    np.testing.assert_allclose(logits(network), expected, rtol=1e-5, atol=1e-6)


LAYERS = {
    "missing": ("no layer of that name", "missing", "pooled"),
    "table": ("several layers of that name", "table", "/a/table, "),
    "idle": ("wrong shape", "nothing", "another layer"),
    "pooled": ("wrong shape", "shape (1, 4)", "[batch, length, width]"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_are_refused(name):
    what, received, remedy = LAYERS[name]
    with pytest.raises(UserError, match=what) as error:
        DiscriminatorNetwork(WithTwins(), name)
    assert received in error.value.received
    assert remedy in error.value.remedy
    assert "discriminator" in error.value.what
