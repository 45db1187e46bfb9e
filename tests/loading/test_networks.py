"""Networks built from a checkpoint alone compute what the official program computed with it."""

import numpy as np
import pytest
import tensorflow as tf

from electra_tf2.errors import UserError
from electra_tf2.loading.networks import (
    build_discriminator,
    build_encoder,
    build_generator,
    open_noise,
)
from tests.inference import official_models as official

WITH_DISCRIMINATOR = [name for name in official.NAMES if name != "masked_lm"]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", WITH_DISCRIMINATOR)
def test_discriminator(name):
    source = official.source(name)
    discriminator = build_discriminator(source)
    ids, mask, segments = official.inputs(name, "expect/disc_input_ids")
    logits = discriminator(ids, mask, segments)
    noise = open_noise(source, "float32", discriminator.encoder)
    assert (noise is not None) == (name == "electric")
    there = mask > 0
    if noise:  # in training the generator reads the text before tokens are replaced
        proposed = noise.generator(*official.inputs(name, "batch0/input_ids"))
        log_probs = tf.gather(tf.nn.log_softmax(proposed), ids, batch_dims=2)
        logits += log_probs + np.log(noise.mask_prob / (1 - noise.mask_prob))
        # TF 1.15's sigmoid: small probabilities are multiples of 2**-25, some ulps off.
        expected = official.arrays(name)["expect/disc_probs"][there]
        np.testing.assert_allclose(tf.sigmoid(logits).numpy()[there], expected, atol=2.0**-22)
    else:
        expected = official.arrays(name)["expect/disc_probs"]
        assert_close(tf.sigmoid(logits).numpy()[there], expected[there])
    states = build_encoder(source)(ids, mask, segments)
    assert_close(states.numpy()[there], official.arrays(name)["expect/disc_sequence_output"][there])


@pytest.mark.parametrize("name", official.NAMES)
@pytest.mark.parametrize("shared", [False, True])
def test_generator(name, shared):
    source = official.source(name)
    encoder = build_encoder(source) if shared else None
    generator = build_generator(source, encoder=encoder)
    ids = "batch0/input_ids" if name == "electric" else "batch0/masked_input_ids"
    positions = official.arrays(name)["batch0/masked_lm_positions"]
    logits = generator(*official.inputs(name, ids), positions=positions)
    used = official.arrays(name)["batch0/masked_lm_weights"] > 0
    assert_close(logits.numpy()[used], official.arrays(name)["expect/mlm_logits"][used])
    own_table = name == "untied_embeddings"
    if shared:
        assert (generator.head.embeddings is encoder.embeddings) != own_table


def test_networks_that_a_checkpoint_lacks():
    with pytest.raises(UserError, match="holds no discriminator") as caught:
        build_discriminator(official.source("masked_lm"))
    assert "generator_predictions" in caught.value.received
    source = official.source("electra_train")
    for name in [n for n in source.pretrained.arrays if n.startswith("generator_predictions/")]:
        del source.pretrained.arrays[name]
    with pytest.raises(UserError, match="holds no generator"):
        build_generator(source)


def test_missing_and_misshapen_variables_are_named():
    source = official.source("electra_train")
    arrays = source.pretrained.arrays
    del arrays["electra/layer_1/attention/query/kernel"]
    arrays["electra/layer_0/intermediate/bias"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match="lacks parts of the network") as caught:
        build_encoder(source)
    assert "electra/layer_1/attention/query/kernel is missing" in caught.value.received
    assert "electra/layer_0/intermediate/bias has shape (3,)" in caught.value.received


def test_weights_of_a_training_that_diverged():
    source = official.source("electra_train")
    source.pretrained.arrays["electra/layer_1/output/bias"][3] = np.nan
    with pytest.raises(UserError, match="not finite") as caught:
        build_encoder(source)
    assert caught.value.received == "electra/layer_1/output/bias"


def test_weights_are_in_memory_once():
    source = official.source("electra_train")
    arrays = source.pretrained.arrays
    before = {name: array.copy() for name, array in arrays.items()}
    encoder = build_encoder(source)
    (kernel,) = (v for v in encoder.variables if v.path.endswith("layer_1/intermediate/kernel"))
    array = arrays["electra/layer_1/intermediate/kernel"]
    held = np.asarray(memoryview(tf.convert_to_tensor(kernel.value)))
    assert np.shares_memory(array, held)
    kernel.assign(tf.zeros_like(kernel))
    for name, array in arrays.items():  # what becomes of the variables doesn't reach the arrays
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("phases, share", [(None, 0.15), ([{}, {"mask_prob": 0.25}], 0.25)])
def test_the_noise_has_the_share_that_training_ended_with(phases, share, monkeypatch):
    source = official.source("electric")
    stored = {"electric_objective": True, "mask_prob": 0.15, "phases": phases}
    monkeypatch.setattr(type(source), "hparams", lambda self: stored)
    noise = open_noise(source, "float32", build_discriminator(source).encoder)
    assert noise.mask_prob == share
