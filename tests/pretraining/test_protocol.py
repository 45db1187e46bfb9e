"""Calling networks by the protocol: arguments, shapes, draws, names, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.pretraining.protocol import DiscriminatorNetwork, GeneratorNetwork, named_variables
from tests.pretraining.batches import sequences
from tests.pretraining.networks import (
    LENGTH,
    VOCAB,
    UnigramGenerator,
    convolution_discriminator,
    dropout_seed,
    embedding_layer,
    unigram_generator,
)

INPUTS = sequences([LENGTH, 7, 9], LENGTH, vocab_size=VOCAB)
POSITIONS = tf.constant([[3, 1], [2, 2], [0, 5]])


@pytest.fixture(scope="module")
def pair():
    keras.utils.set_random_seed(0)
    embedding = embedding_layer()
    return unigram_generator(embedding), convolution_discriminator(embedding)


class Recorder(keras.Model):
    """Keeps the arguments of its last call; has one weight and returns zeros.

    Args:
        shape: function from token ids to the shape of the output.
        dtype: of the output.
    """

    def __init__(self, shape, output_dtype="float32"):
        super().__init__()
        self.shape, self.output_dtype = shape, output_dtype
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")
        self.built = True
        self.seen = None

    def answer(self, tokens, **seen):
        self.seen = {"first": tokens, **seen}
        return tf.cast(tf.zeros(self.shape(tokens)) + self.bias, self.output_dtype)


class TakesAll(Recorder):
    def call(self, tokens, input_mask, segment_ids, positions=None, training=None, seed=None):
        return self.answer(
            tokens,
            input_mask=input_mask,
            segment_ids=segment_ids,
            positions=positions,
            training=training,
            seed=seed,
        )


class TakesTokens(Recorder):
    def call(self, tokens):
        return self.answer(tokens)


class TakesMore(Recorder):
    def call(self, tokens, extra=3, *, training=False, **kwargs):
        assert extra == 3 and not kwargs
        return self.answer(tokens, training=training)


class AsksForMore(Recorder):
    def call(self, tokens, lengths, attention_mask=None):
        return self.answer(tokens)


class TakesNamesOnly(Recorder):
    def call(self, *, input_ids):
        return self.answer(input_ids)


class TakesOtherNames(Recorder):
    def call(self, token_ids, padding_mask, token_type_ids, attention_mask=None):
        return self.answer(
            token_ids, padding_mask=padding_mask, segments=token_type_ids, mask=attention_mask
        )


def at_positions(tokens):
    return (3, 2, VOCAB)


def everywhere(tokens):
    return (3, LENGTH, VOCAB)


def test_a_network_gets_what_its_call_names():
    model, seed = TakesAll(at_positions), dropout_seed()
    GeneratorNetwork(model).logits(INPUTS, POSITIONS, training=True, seed=seed)
    expected = {"first": INPUTS.input_ids, "positions": POSITIONS, "training": True, "seed": seed}
    expected |= {name: getattr(INPUTS, name) for name in ("input_mask", "segment_ids")}
    assert model.seen.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(model.seen[name], value)


def test_a_network_gets_no_more_than_that():
    model = TakesTokens(everywhere)
    GeneratorNetwork(model).logits(INPUTS, POSITIONS, training=True, seed=dropout_seed())
    assert model.seen.keys() == {"first"}
    model = TakesMore(everywhere)
    GeneratorNetwork(model).logits(INPUTS, POSITIONS, training=True, seed=dropout_seed())
    assert model.seen["training"] is True


def test_names_of_other_libraries():
    model = TakesOtherNames(everywhere)
    GeneratorNetwork(model).logits(INPUTS, POSITIONS, training=False, seed=None)
    np.testing.assert_array_equal(model.seen["first"], INPUTS.input_ids)
    np.testing.assert_array_equal(model.seen["segments"], INPUTS.segment_ids)
    for name in ("padding_mask", "mask"):
        np.testing.assert_array_equal(model.seen[name], INPUTS.input_mask)
    names = ("token_ids", "padding_mask")
    inputs = {name: keras.Input((LENGTH,), dtype="int32", name=name) for name in names}
    product = inputs["token_ids"] * inputs["padding_mask"]
    model = keras.Model(inputs, keras.ops.cast(product, "float32"))
    logits = DiscriminatorNetwork(model).logits(INPUTS, training=False, seed=None)
    np.testing.assert_array_equal(logits, INPUTS.input_ids)


def test_token_ids_come_by_position():
    with pytest.raises(UserError, match="asks for arguments") as error:
        GeneratorNetwork(TakesNamesOnly(everywhere))
    assert "no argument by position" in error.value.received


def test_positions_are_the_generator_s():
    inputs = [keras.Input((None,), dtype="int32", name=name) for name in ("input_ids", "positions")]
    model = keras.Model(inputs, keras.ops.cast(inputs[0] + inputs[1], "float32"))
    with pytest.raises(UserError, match="inputs that the protocol does not have") as error:
        DiscriminatorNetwork(model)
    assert error.value.received == "positions"


def test_logits_without_a_gradient_are_refused():
    ids = keras.Input((LENGTH,), dtype="int32")
    with pytest.raises(UserError, match="wrong shape or type") as error:
        DiscriminatorNetwork(keras.Model(ids, 2 * ids)).logits(INPUTS, training=False, seed=None)
    assert "int32" in error.value.received


@pytest.mark.parametrize("kind", ["tensor", "list", "dict"])
@pytest.mark.parametrize("names", [["tokens"], ["input_ids"], ["input_mask", "input_ids"]])
def test_inputs_of_a_functional_model(kind, names):
    tensors = {name: keras.Input((LENGTH,), dtype="int32", name=name) for name in names}
    first = keras.ops.cast(tensors[names[0]], "float32")
    total = keras.layers.Dense(LENGTH)(first)
    if len(names) == 2:
        total = total + 100.0 * keras.ops.cast(tensors["input_ids"], "float32")
    inputs = {"tensor": tensors[names[0]], "list": list(tensors.values()), "dict": tensors}[kind]
    if len(names) == 2 and kind == "tensor":
        inputs = tuple(tensors.values())
    model = keras.Model(inputs, total)
    model.set_weights([np.eye(LENGTH), np.zeros(LENGTH)])
    logits = DiscriminatorNetwork(model).logits(INPUTS, training=False, seed=None)
    ids, mask = (t.numpy().astype(np.float32) for t in (INPUTS.input_ids, INPUTS.input_mask))
    np.testing.assert_allclose(logits, mask + 100 * ids if len(names) == 2 else ids)


def test_generators_with_and_without_positions_give_the_same(pair):
    generator, _ = pair
    model = keras.Sequential([generator.embedding, generator.dropout, generator.logits])
    model(np.zeros((1, LENGTH), np.int32))
    without, with_positions = GeneratorNetwork(model), GeneratorNetwork(generator)
    assert with_positions.takes_positions
    assert not without.takes_positions
    arguments = {"training": False, "seed": None}
    logits = without.logits(INPUTS, POSITIONS, **arguments)
    assert logits.shape == (3, 2, VOCAB)
    expected = with_positions.logits(INPUTS, POSITIONS, **arguments)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert without.logits(INPUTS, None, **arguments).shape == (3, LENGTH, VOCAB)


def test_a_last_axis_of_one_is_dropped(pair):
    _, discriminator = pair
    logits = DiscriminatorNetwork(discriminator).logits(INPUTS, training=False, seed=None)
    expected = discriminator([INPUTS.input_ids, INPUTS.input_mask])
    assert expected.shape == (3, LENGTH, 1)
    np.testing.assert_array_equal(logits, expected[..., 0])


def test_logits_become_float32():
    shape = lambda tokens: (3, LENGTH)  # noqa: E731
    model = TakesTokens(shape, output_dtype="bfloat16")
    logits = DiscriminatorNetwork(model).logits(INPUTS, training=False, seed=None)
    assert logits.dtype == tf.float32
    model = TakesTokens(everywhere, output_dtype="bfloat16")
    logits = GeneratorNetwork(model).logits(INPUTS, POSITIONS, training=False, seed=None)
    assert logits.dtype == tf.float32


def test_keras_dropout_draws_from_the_seed(pair):
    _, model = pair
    network = DiscriminatorNetwork(model)
    states = {v.path: v.numpy() for v in model.non_trainable_variables}
    assert len(states) == 2  # the seed generators of two Dropout layers

    def run(training=True, **kwargs):
        return network.logits(INPUTS, training=training, seed=dropout_seed(**kwargs)).numpy()

    first = run(step=4)
    np.testing.assert_array_equal(first, run(step=4))
    for other in (run(step=5), run(step=4, seed=1), run(training=False)):
        assert np.abs(first - other).max() > 1e-4
    np.testing.assert_array_equal(run(training=False), run(training=False, step=1))
    for variable in model.non_trainable_variables:
        np.testing.assert_array_equal(variable, states[variable.path])


def test_every_dropout_layer_draws_its_own_numbers():
    ids = keras.Input((LENGTH,), dtype="int32")
    ones = keras.ops.ones_like(keras.ops.cast(ids, "float32"))
    drops = [keras.layers.Dropout(0.5)(ones) for _ in range(2)]
    model = keras.Model(ids, keras.ops.stack(drops, -1))
    network = GeneratorNetwork(model)
    kept = network.logits(INPUTS, None, training=True, seed=dropout_seed()).numpy() > 0
    assert 0.3 < kept.mean() < 0.7
    assert 0.2 < np.mean(kept[..., 0] == kept[..., 1]) < 0.8


class SeedAndKerasDropout(keras.Model):
    """Draws from its `seed`, and through a Keras layer as well."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)
        self.built = True

    def call(self, input_ids, training=False, seed=None):
        noise = tf.random.stateless_uniform(tf.shape(input_ids), seed)
        return self.dropout(1.0 + noise, training=training)


def test_a_model_may_take_a_seed_and_use_keras_dropout():
    network = DiscriminatorNetwork(SeedAndKerasDropout())
    run = lambda step: network.logits(INPUTS, training=True, seed=dropout_seed(step)).numpy()  # noqa: E731
    first = run(1)
    np.testing.assert_array_equal(first, run(1))
    assert 0 < np.mean(first == 0) < 1
    assert np.mean((first == 0) != (run(2) == 0)) > 0.1


def test_names_of_variables(pair):
    generator, discriminator = pair
    named = named_variables({"generator": generator, "discriminator": discriminator})
    assert list(named) == sorted(named)
    assert {id(v) for v in named.values()} == {
        id(v) for model in pair for v in model.trainable_variables
    }
    shared = [name for name, v in named.items() if v is generator.embedding.embeddings]
    assert len(shared) == 1
    assert all(name.endswith(variable.path) for name, variable in named.items())


def test_equal_paths_are_told_apart():
    def model():
        layers = [keras.Input((LENGTH,)), keras.layers.Dense(LENGTH, name="same")]
        return keras.Sequential(layers, name="model")

    named = named_variables({"generator": model(), "discriminator": model()})
    assert list(named) == [
        "discriminator/model/same/bias",
        "discriminator/model/same/kernel",
        "generator/model/same/bias",
        "generator/model/same/kernel",
    ]


def test_a_frozen_layer_is_not_trained(pair):
    generator, _ = pair
    generator.logits.trainable = False
    try:
        named = named_variables({"generator": generator})
    finally:
        generator.logits.trainable = True
    assert list(named.values()) == [generator.embedding.embeddings]


def batch_normalized(trainable):
    ids = keras.Input((LENGTH,), dtype="int32")
    layer = keras.layers.BatchNormalization(name="statistics")
    layer.trainable = trainable
    return keras.Model(ids, layer(keras.layers.Embedding(VOCAB, 1)(ids)))


def unknown_input():
    inputs = {name: keras.Input((LENGTH,), name=name) for name in ("input_ids", "lengths")}
    return keras.Model(inputs, inputs["input_ids"] + inputs["lengths"])


def spectrally_normalized():
    ids = keras.Input((LENGTH,), dtype="int32")
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(1), name="statistics")
    return keras.Model(ids, layer(keras.layers.Embedding(VOCAB, 1)(ids)))


REFUSED_MODELS = {
    "not built": (lambda: UnigramGenerator(embedding_layer()), "has no variables yet"),
    "unknown argument": (lambda: AsksForMore(everywhere), "lengths"),
    "unknown input": (unknown_input, "lengths"),
    "batch normalization": (lambda: batch_normalized(True), "statistics"),
    "spectral normalization": (spectrally_normalized, "statistics"),
}
OUTPUTS = {
    "generator rank 2": (GeneratorNetwork, lambda tokens: (3, VOCAB), "(3, 15)"),
    "generator length": (GeneratorNetwork, lambda tokens: (3, 5, VOCAB), "(3, 5, 15)"),
    "discriminator rank 1": (DiscriminatorNetwork, lambda tokens: (3,), "(3,)"),
    "discriminator classes": (DiscriminatorNetwork, lambda tokens: (3, LENGTH, 2), "(3, 12, 2)"),
    "discriminator per row": (DiscriminatorNetwork, lambda tokens: (3, 1), "(3, 1)"),
    "discriminator batch": (DiscriminatorNetwork, lambda tokens: (4, LENGTH), "(4, 12)"),
}


@pytest.mark.parametrize("row", REFUSED_MODELS)
@pytest.mark.parametrize("network", [GeneratorNetwork, DiscriminatorNetwork])
def test_models_that_are_refused(row, network):
    make, message = REFUSED_MODELS[row]
    with pytest.raises(UserError) as error:
        network(make())
    assert message in str(error.value)
    assert ("generator" if network is GeneratorNetwork else "discriminator") in error.value.what
    assert error.value.where and error.value.received and error.value.remedy


def test_batch_normalization_that_stays_as_it_is():
    model = batch_normalized(False)
    logits = DiscriminatorNetwork(model).logits(INPUTS, training=True, seed=dropout_seed())
    np.testing.assert_array_equal(logits, model(INPUTS.input_ids)[..., 0])


def logits_of(network, model):
    positions = [POSITIONS] if network is GeneratorNetwork else []
    return network(model).logits(INPUTS, *positions, training=False, seed=None)


@pytest.mark.parametrize("row", OUTPUTS)
def test_outputs_of_the_wrong_shape_are_refused(row):
    network, shape, message = OUTPUTS[row]
    with pytest.raises(UserError, match="output has the wrong shape") as error:
        logits_of(network, TakesTokens(shape))
    assert message in error.value.received
    assert "TakesTokens.call" in error.value.where
    assert "Return logits of shape [batch" in error.value.remedy


def test_rows_of_another_length_are_refused(pair):
    _, discriminator = pair
    inputs = sequences([5], 7, vocab_size=VOCAB)
    with pytest.raises(UserError, match="rows of another length") as error:
        DiscriminatorNetwork(discriminator).logits(inputs, training=False, seed=None)
    assert "'discriminator'" in error.value.where
    assert error.value.received == f"rows of 7 tokens for inputs of {LENGTH}"


def test_an_output_that_is_nothing_is_refused():
    class Nothing(TakesTokens):
        def call(self, tokens):
            self.answer(tokens)

    with pytest.raises(UserError, match="nothing"):
        logits_of(GeneratorNetwork, Nothing(everywhere))


def test_positions_that_are_not_kept_to_are_refused():
    """A generator that takes positions has to answer for those."""
    with pytest.raises(UserError, match="output has the wrong shape"):
        logits_of(GeneratorNetwork, TakesAll(everywhere))


@pytest.mark.parametrize("network", [GeneratorNetwork, DiscriminatorNetwork])
def test_an_output_that_is_no_tensor_is_refused(network):
    class Several(TakesTokens):
        def call(self, tokens):
            return {"logits": self.answer(tokens)}

    with pytest.raises(UserError, match="dict"):
        logits_of(network, Several(everywhere))
